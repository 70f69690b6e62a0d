//! The shutdown request, which all threads see.

use std::sync::OnceLock;

use tokio::sync::Notify;

use crate::protocol::Shutdown;

/// Only the first request counts.
#[derive(Default)]
pub(super) struct ShutdownRequest {
    how: OnceLock<Shutdown>,
    requested: Notify,
}

impl ShutdownRequest {
    pub(super) fn request(&self, how: Shutdown) {
        // A later request stops the same server.
        let _ = self.how.set(how);
        self.requested.notify_waiters();
    }

    pub(super) fn is_requested(&self) -> bool {
        self.how.get().is_some()
    }

    /// Resolves once a shutdown is requested.
    pub(super) async fn requested(&self) -> Shutdown {
        loop {
            // Registered before the check, so that no request is missed between the check and the wait.
            let requested = self.requested.notified();
            if let Some(how) = self.how.get() {
                return *how;
            }
            requested.await;
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
    async fn earlier_and_later_waiters_see_the_request() {
        let shutdown = ShutdownRequest::default();
        let request = async { shutdown.request(Shutdown::Graceful) };
        let (first, second, ()) = tokio::join!(shutdown.requested(), shutdown.requested(), request);
        shutdown.request(Shutdown::AtOnce);
        assert_eq!([first, second, shutdown.requested().await], [Shutdown::Graceful; 3]);
        assert!(shutdown.is_requested());
    }

    /// An embedder may poll the same future from different tasks: the last one is woken.
    #[test]
    fn the_last_task_that_polled_is_woken() {
        let shutdown = ShutdownRequest::default();
        let mut requested = pin!(shutdown.requested());
        let (first, last) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
        for bell in [&first, &last] {
            let waker = Waker::from(Arc::clone(bell));
            assert!(requested.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        shutdown.request(Shutdown::Graceful);
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
