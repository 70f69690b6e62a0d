//! The heartbeat: checks for systemd's watchdog that every thread of a server still makes progress.

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;

/// The side that checks all threads.
#[derive(Default)]
pub(super) struct Heartbeat(watch::Sender<Option<UnboundedSender<()>>>);

/// The side of one thread, which answers.
pub(super) struct Responder(watch::Receiver<Option<UnboundedSender<()>>>);

impl Heartbeat {
    /// Resolves once this many threads have answered; never if another check begins meanwhile.
    pub(super) async fn check(&self, threads: usize) {
        let (answer, mut answers) = unbounded_channel();
        // The sender here keeps the channel open.
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
    /// Waits for the next check.
    pub(super) async fn requested(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
        self.0.mark_changed();
    }

    /// Answers the last check, unless it has been answered.
    pub(super) fn answer(&mut self) {
        if self.0.has_changed().unwrap_or(false)
            && let Some(answer) = &*self.0.borrow_and_update()
        {
            // The caller may no longer wait.
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
    fn a_check_ends_when_every_thread_has_answered() {
        let heartbeat = Heartbeat::default();
        let (mut one, mut other) = (heartbeat.responder(), heartbeat.responder());
        one.answer();
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..2 {
            let mut check = pin!(heartbeat.check(2));
            assert!(check.as_mut().poll(&mut context).is_pending());
            assert!(pin!(one.requested()).poll(&mut context).is_ready());
            one.answer();
            one.answer();
            assert!(check.as_mut().poll(&mut context).is_pending(), "two answers of one thread count once");
            assert!(pin!(one.requested()).poll(&mut context).is_pending());
            other.answer();
            assert!(check.as_mut().poll(&mut context).is_ready());
        }
    }
}
