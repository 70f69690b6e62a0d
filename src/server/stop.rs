//! Whether the server is to stop, and how: told once, heard by everybody.

use std::future::Future;
use std::pin::pin;
use std::sync::OnceLock;
use std::task::Poll;

use tokio::sync::Notify;

use crate::protocol::Shutdown;

/// The first word counts.
#[derive(Default)]
pub(super) struct Stop {
    how: OnceLock<Shutdown>,
    told: Notify,
}

impl Stop {
    pub(super) fn tell(&self, how: Shutdown) {
        // Who comes later stops the same server.
        let _ = self.how.set(how);
        self.told.notify_waiters();
    }

    pub(super) fn is_told(&self) -> bool {
        self.how.get().is_some()
    }

    /// Resolves once it is told. Whoever waits beside something else that makes progress all the time is asked again each
    /// time; after the first it costs a look.
    pub(super) async fn told(&self) -> Shutdown {
        // It hears what is told from now on.
        let mut told = pin!(self.told.notified());
        let mut is_listening = false;
        std::future::poll_fn(|context| {
            if let Some(how) = self.how.get() {
                return Poll::Ready(*how);
            }
            // A task has one waker for its life.
            if !is_listening {
                is_listening = true;
                let _ = told.as_mut().poll(context);
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_hears_it_and_who_comes_later_too() {
        let stop = Stop::default();
        let tell = async { stop.tell(Shutdown::Graceful) };
        let (first, second, ()) = tokio::join!(stop.told(), stop.told(), tell);
        stop.tell(Shutdown::AtOnce);
        assert_eq!([first, second, stop.told().await], [Shutdown::Graceful; 3]);
        assert!(stop.is_told());
    }
}
