//! The roll call: whether every thread of a server still takes turns. Its watchdog asks for it.

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;

/// Who calls.
#[derive(Default)]
pub(super) struct Heartbeat(watch::Sender<Option<UnboundedSender<()>>>);

/// Who answers: a thread.
pub(super) struct Responder(watch::Receiver<Option<UnboundedSender<()>>>);

impl Heartbeat {
    /// Resolves once so many threads have answered; never if another call is begun.
    pub(super) async fn check(&self, threads: usize) {
        let (answer, mut answers) = unbounded_channel();
        // The sender here keeps the channel open, whoever else has one.
        self.0.send_replace(Some(answer.clone()));
        for _ in 0..threads {
            answers.recv().await;
        }
    }

    pub(super) fn responder(&self) -> Responder {
        Responder(self.0.subscribe())
    }
}

impl Responder {
    /// Waits for a call.
    pub(super) async fn requested(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
        self.0.mark_changed();
    }

    /// Answers the last call, if that was not done.
    pub(super) fn answer(&mut self) {
        if self.0.has_changed().unwrap_or(false)
            && let Some(answer) = &*self.0.borrow_and_update()
        {
            // Who called may have given up.
            let _ = answer.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn a_call_is_over_once_everybody_has_answered_it() {
        let heartbeat = Heartbeat::default();
        let (mut one, mut other) = (heartbeat.responder(), heartbeat.responder());
        one.answer();
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..2 {
            let mut call = pin!(heartbeat.check(2));
            assert!(call.as_mut().poll(&mut context).is_pending());
            assert!(pin!(one.requested()).poll(&mut context).is_ready());
            one.answer();
            one.answer();
            assert!(call.as_mut().poll(&mut context).is_pending(), "one thread answers for itself alone");
            assert!(pin!(one.requested()).poll(&mut context).is_pending());
            other.answer();
            assert!(call.as_mut().poll(&mut context).is_ready());
        }
    }
}
