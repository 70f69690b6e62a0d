//! Room for large requests that are being received, over all connections (`--receive-limit`).
//!
//! A connection whose request does not fit into the ordinary buffer asks for all the memory of this request
//! before it reads on, and waits in a queue if that would exceed the limit. So a connection that has room
//! never waits for more: there is no deadlock. While others wait, a request has a limited time to arrive
//! ([`patience`]); then its connection is closed, and the next in the queue receives.
//!
//! Ordinary requests need no room, and never wait.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Now;
use crate::metrics::Metrics;

/// The room of all connections.
pub(super) struct Receiving {
    limit: usize,
    metrics: Arc<Metrics>,
    requests: Mutex<Requests>,
}

#[derive(Default)]
struct Requests {
    /// The requests that have room, by number.
    admitted: BTreeMap<u64, Admitted>,
    last: u64,
    /// The others, in order.
    queue: VecDeque<Waiting>,
    taken: usize,
}

struct Admitted {
    bytes: usize,
    /// When it must have arrived, in monotonic milliseconds; only counted while others wait.
    deadline: Option<u64>,
    is_overdue: bool,
    waker: Waker,
}

struct Waiting {
    bytes: usize,
    number: u64,
    waker: Waker,
}

/// The room of one connection, which is returned when this is dropped.
pub(super) struct Room<'r> {
    /// The number of the request that has room or waits for it; 0 for none.
    number: AtomicU64,
    receiving: &'r Receiving,
}

impl Receiving {
    pub(super) fn new(limit: usize, metrics: Arc<Metrics>) -> Receiving {
        Receiving { limit, metrics, requests: Mutex::default() }
    }

    /// The room of a new connection, which has no request yet.
    pub(super) fn room(&self) -> Room<'_> {
        Room { number: AtomicU64::new(0), receiving: self }
    }

    /// If requests wait for room, those that take too long to arrive lose theirs.
    pub(super) fn close_slow(&self, now: Now) {
        let mut requests = self.requests.lock();
        let is_short = !requests.queue.is_empty();
        for request in requests.admitted.values_mut() {
            if !is_short {
                request.deadline = None;
                continue;
            }
            let deadline = *request.deadline.get_or_insert(now.after(patience(request.bytes)));
            if now.millis >= deadline && !request.is_overdue {
                request.is_overdue = true;
                request.waker.wake_by_ref();
            }
        }
    }

    /// Admits requests from the head of the queue while there is room.
    fn admit(&self, requests: &mut Requests) {
        while let Some(next) =
            requests.queue.pop_front_if(|next| requests.taken.saturating_add(next.bytes) <= self.limit)
        {
            let Waiting { bytes, number, waker } = next;
            requests.taken += bytes;
            waker.wake_by_ref();
            requests.admitted.insert(number, Admitted { bytes, deadline: None, is_overdue: false, waker });
        }
        self.metrics.receive_bytes.store(requests.taken as u64, Ordering::Relaxed);
    }
}

impl Room<'_> {
    /// Whether a request has room or waits for it.
    pub(super) fn is_asked_for(&self) -> bool {
        self.number() != 0
    }

    /// Asks for room in the first call, and is ready once the request has it. A request above the limit
    /// waits until it is the only one.
    pub(super) fn poll_take(&self, context: &Context<'_>, bytes: usize) -> Poll<()> {
        let mut requests = self.receiving.requests.lock();
        if !self.is_asked_for() {
            requests.last += 1;
            self.number.store(requests.last, Ordering::Relaxed);
            let (bytes, waker) = (bytes.min(self.receiving.limit), context.waker().clone());
            let number = requests.last;
            requests.queue.push_back(Waiting { bytes, number, waker });
            self.receiving.admit(&mut requests);
            if !requests.admitted.contains_key(&self.number()) {
                self.receiving.metrics.receive_waits.fetch_add(1, Ordering::Relaxed);
            }
        }
        if requests.admitted.contains_key(&self.number()) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether the request has taken too long, and others wait. The task that asked for the room is woken.
    pub(super) fn is_overdue(&self) -> bool {
        let is_overdue = |number| {
            let requests = self.receiving.requests.lock();
            requests.admitted.get(&number).is_some_and(|request| request.is_overdue)
        };
        self.is_asked_for() && is_overdue(self.number())
    }

    /// Returns the room.
    pub(super) fn give_back(&self) {
        let number = self.number.swap(0, Ordering::Relaxed);
        if number == 0 {
            return;
        }
        let mut requests = self.receiving.requests.lock();
        match requests.admitted.remove(&number) {
            Some(request) => requests.taken -= request.bytes,
            None => requests.queue.retain(|waiting| waiting.number != number),
        }
        self.receiving.admit(&mut requests);
    }

    fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// The time that a request of this length may take to arrive: [`PATIENCE`], and a second for each MiB.
pub(super) fn patience(bytes: usize) -> Duration {
    PATIENCE + Duration::from_millis((bytes as u64 * 1000) >> 20)
}

/// The time that every large request may take to arrive while others wait for its room.
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Bell(AtomicBool);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// One connection.
    struct Asking<'r> {
        bell: Arc<Bell>,
        room: Room<'r>,
    }

    impl Asking<'_> {
        fn of(receiving: &Receiving) -> Asking<'_> {
            Asking { bell: Arc::default(), room: receiving.room() }
        }

        fn has(&self, bytes: usize) -> bool {
            let waker = Waker::from(Arc::clone(&self.bell));
            self.room.poll_take(&Context::from_waker(&waker), bytes).is_ready()
        }

        fn is_woken(&self) -> bool {
            self.bell.0.swap(false, Ordering::Relaxed)
        }
    }

    fn receiving() -> (Receiving, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::new(1, 1));
        (Receiving::new(LIMIT, Arc::clone(&metrics)), metrics)
    }

    fn at(millis: u64) -> Now {
        Now { millis, unix: 0 }
    }

    #[test]
    fn requests_wait_in_order_for_the_room_of_others() {
        let (receiving, metrics) = receiving();
        let [one, two, three, four] = [(); 4].map(|()| Asking::of(&receiving));
        assert!(one.has(60) && !two.has(50) && !three.has(10), "a smaller one does not overtake");
        assert!(one.has(60), "asking again takes nothing more");
        assert_eq!(metrics.receive_bytes.load(Ordering::Relaxed), 60);
        one.room.give_back();
        assert!(two.is_woken() && three.is_woken() && two.has(50) && three.has(10));
        assert!(!four.has(99));
        drop(two);
        assert!(!four.is_woken());
        drop(three);
        assert!(four.is_woken() && four.has(99));
        four.room.give_back();
        assert_eq!(metrics.receive_bytes.load(Ordering::Relaxed), 0);
        assert_eq!(metrics.receive_waits.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_request_above_the_limit_is_received_alone() {
        let (receiving, metrics) = receiving();
        let [one, two, three] = [(); 3].map(|()| Asking::of(&receiving));
        assert!(one.has(1) && !two.has(LIMIT * 9) && !three.has(1));
        one.room.give_back();
        assert!(two.has(LIMIT * 9) && !three.has(1));
        assert_eq!(metrics.receive_bytes.load(Ordering::Relaxed), LIMIT as u64);
        two.room.give_back();
        assert!(three.has(1));
    }

    #[test]
    fn a_connection_that_hangs_up_leaves_the_queue() {
        let (receiving, _) = receiving();
        let [one, two, three] = [(); 3].map(|()| Asking::of(&receiving));
        assert!(one.has(LIMIT) && !two.has(LIMIT) && !three.has(LIMIT));
        drop(two);
        drop(one);
        assert!(three.has(LIMIT));
    }

    #[test]
    fn slow_requests_lose_their_room_only_while_others_wait() {
        let (receiving, _) = receiving();
        let [slow, other] = [(); 2].map(|()| Asking::of(&receiving));
        assert!(slow.has(LIMIT) && slow.is_woken());
        (0..9_000).step_by(250).for_each(|millis| receiving.close_slow(at(millis)));
        assert!(!slow.room.is_overdue(), "nobody waits");
        assert!(!other.has(1));
        receiving.close_slow(at(10_000));
        receiving.close_slow(at(11_999));
        assert!(!slow.room.is_overdue() && !slow.is_woken());
        receiving.close_slow(at(12_000));
        assert!(slow.room.is_overdue() && slow.is_woken() && !other.room.is_overdue());
        slow.room.give_back();
        assert!(!slow.room.is_overdue() && other.has(1));
    }

    #[test]
    fn a_longer_request_may_take_longer() {
        assert_eq!([0, 1 << 20, 100 << 20].map(|bytes| patience(bytes).as_secs()), [2, 3, 102]);
    }

    const LIMIT: usize = 100;
}
