//! Whether the server is to stop, and how: told once, heard by everybody.

use std::sync::OnceLock;

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

    /// Resolves once it is told.
    pub(super) async fn told(&self) -> Shutdown {
        loop {
            // It hears what is told from now on, so that nothing is missed between the look and the wait.
            let told = self.told.notified();
            if let Some(how) = self.how.get() {
                return *how;
            }
            told.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Wake, Waker};

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

    /// An embedder may look at the same future from one task, then from another: the last one is woken.
    #[test]
    fn it_is_the_last_that_asked_who_is_woken() {
        let stop = Stop::default();
        let mut told = pin!(stop.told());
        let (first, last) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
        for bell in [&first, &last] {
            let waker = Waker::from(Arc::clone(bell));
            assert!(told.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        stop.tell(Shutdown::Graceful);
        assert_eq!([&first, &last].map(|bell| bell.0.load(Ordering::Relaxed)), [false, true]);
    }

    #[derive(Default)]
    struct Bell(AtomicBool);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}
