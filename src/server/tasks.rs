//! The tasks of one worker thread: they are woken when the server stops, and waited for.
//!
//! tokio's sets of tasks and its `Notify` take about 150 bytes for each task where this takes 16.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::{mem, thread};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The tasks of a worker thread that have not ended.
#[derive(Default)]
pub(super) struct Tasks {
    /// Notified when one has ended.
    ended: Notify,
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    all: Vec<Place>,
    /// The first free place; places after the last one are free, too.
    free: u32,
    has_panicked: bool,
    taken: usize,
}

enum Place {
    /// The next free one.
    Free(u32),
    Taken(Waker),
}

/// One of these tasks, until it is dropped.
pub(super) struct Task {
    place: u32,
    tasks: Arc<Tasks>,
}

impl Tasks {
    /// A task that is not polled yet.
    pub(super) fn begin(self: &Arc<Tasks>) -> Task {
        let mut places = self.places.lock();
        let (place, taken) = (places.free, Place::Taken(Waker::noop().clone()));
        if place as usize == places.all.len() {
            places.all.push(taken);
            places.free += 1;
        } else {
            match mem::replace(&mut places.all[place as usize], taken) {
                Place::Free(next) => places.free = next,
                Place::Taken(_) => unreachable!("the place is free"),
            }
        }
        places.taken += 1;
        Task { place, tasks: Arc::clone(self) }
    }

    /// Wakes all of them.
    pub(super) fn wake(&self) {
        self.places.lock().all.iter().for_each(|place| {
            if let Place::Taken(waker) = place {
                waker.wake_by_ref();
            }
        });
    }

    /// Never resolves.
    ///
    /// # Panics
    /// If one of them has panicked.
    pub(super) async fn panicked(&self) -> Infallible {
        loop {
            self.ended.notified().await;
            self.are_done();
        }
    }

    /// Resolves once none is left.
    ///
    /// # Panics
    /// If one of them has panicked.
    pub(super) async fn ended(&self) {
        loop {
            let ended = self.ended.notified();
            if self.are_done() {
                return;
            }
            ended.await;
        }
    }

    fn are_done(&self) -> bool {
        let places = self.places.lock();
        assert!(!places.has_panicked, "connections do not panic");
        places.taken == 0
    }
}

impl Task {
    /// Has the current task woken by [`Tasks::wake`].
    pub(super) async fn register(&self) {
        poll_fn(|context| {
            let mut places = self.tasks.places.lock();
            places.all[self.place as usize] = Place::Taken(context.waker().clone());
            Poll::Ready(())
        })
        .await
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let mut places = self.tasks.places.lock();
        let next = mem::replace(&mut places.free, self.place);
        places.all[self.place as usize] = Place::Free(next);
        places.taken -= 1;
        places.has_panicked |= thread::panicking();
        let is_news = places.taken == 0 || places.has_panicked;
        drop(places);
        if is_news {
            self.tasks.ended.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake};

    use super::*;

    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn registered_tasks_are_woken_until_they_end() {
        let (tasks, bell) = (Arc::new(Tasks::default()), Arc::new(Bell::default()));
        let waker = Waker::from(Arc::clone(&bell));
        let mut begun: Vec<_> = (0..5).map(|_| tasks.begin()).collect();
        tasks.wake();
        for task in &begun {
            assert!(pin!(task.register()).poll(&mut Context::from_waker(&waker)).is_ready());
        }
        tasks.wake();
        assert_eq!(bell.0.load(Ordering::Relaxed), 5, "the first time none was registered");
        begun.swap_remove(1);
        begun.swap_remove(2);
        tasks.wake();
        assert_eq!(bell.0.load(Ordering::Relaxed), 8);
        drop(begun);
        assert_eq!(Arc::strong_count(&bell), 2, "no waker is kept");
    }

    #[test]
    fn places_are_used_again() {
        let tasks = Arc::new(Tasks::default());
        let mut begun: Vec<_> = (0..5).map(|_| tasks.begin()).collect();
        for round in 0..100 {
            begun.swap_remove(round % 5);
            begun.swap_remove(round % 4);
            begun.extend([tasks.begin(), tasks.begin()]);
        }
        assert_eq!(tasks.places.lock().all.len(), 5);
    }

    #[test]
    fn a_worker_waits_for_the_end_of_its_last_task() {
        let tasks = Arc::new(Tasks::default());
        let (one, other) = (tasks.begin(), tasks.begin());
        let mut context = Context::from_waker(Waker::noop());
        let mut ended = pin!(tasks.ended());
        assert!(ended.as_mut().poll(&mut context).is_pending());
        drop(one);
        assert!(ended.as_mut().poll(&mut context).is_pending());
        drop(other);
        assert!(
            ended.as_mut().poll(&mut context).is_ready() && pin!(tasks.ended()).poll(&mut context).is_ready()
        );
    }

    /// A worker does not go on after a connection has panicked: the cache may be in any state.
    #[tokio::test]
    #[should_panic(expected = "connections do not panic")]
    async fn a_panic_of_a_task_ends_its_worker() {
        let tasks = Arc::new(Tasks::default());
        let (task, other) = (tasks.begin(), tasks.begin());
        let panics = tokio::spawn(async move {
            let _task = task;
            panic!("as a test");
        });
        assert!(panics.await.is_err());
        tasks.panicked().await;
        drop(other);
    }
}
