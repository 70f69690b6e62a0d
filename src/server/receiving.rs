//! Room for large requests that are being received, over all connections (`--receive-limit`).
//!
//! A connection whose request does not fit into the ordinary buffer asks for all the memory of this request
//! before it reads on, and waits in a queue if that would exceed the limit. So a connection that has room
//! never waits for more: there is no deadlock. While others wait, a request must make progress, and has a
//! limited time to arrive ([`patience`]); otherwise its connection is closed, and the next in the queue
//! receives. A quarter of the room is for requests of at most 64 KiB, so that none of them waits for large
//! ones.
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
    metrics: Arc<Metrics>,
    requests: Mutex<Requests>,
}

struct Requests {
    /// The requests that have room, by number.
    admitted: BTreeMap<u64, Admitted>,
    last: u64,
    /// Short requests, and long ones.
    lanes: [Lane; 2],
}

/// Requests of like length.
struct Lane {
    limit: usize,
    /// Those that have no room yet, in order.
    queue: VecDeque<Waiting>,
    taken: usize,
}

struct Admitted {
    bytes: usize,
    /// Whether all of it has arrived, so that only its answers are to be read.
    has_arrived: bool,
    /// When its progress was last judged, in monotonic milliseconds, and what had arrived then; only counted
    /// while others wait.
    judged: Option<(u64, usize)>,
    lane: usize,
    received: usize,
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

/// The room of one request, which is returned when this is dropped.
pub(super) struct Room {
    /// The number of the request that has room or waits for it; 0 for none.
    number: AtomicU64,
    receiving: Arc<Receiving>,
}

impl Receiving {
    pub(super) fn new(limit: usize, metrics: Arc<Metrics>) -> Receiving {
        let lane = |limit| Lane { limit, queue: VecDeque::new(), taken: 0 };
        let lanes = [lane(limit / SHORT_PART), lane(limit - limit / SHORT_PART)];
        Receiving { metrics, requests: Mutex::new(Requests { admitted: BTreeMap::new(), last: 0, lanes }) }
    }

    /// The room of a request, which has not asked for it yet.
    pub(super) fn room(self: &Arc<Self>) -> Room {
        Room { number: AtomicU64::new(0), receiving: Arc::clone(self) }
    }

    /// If requests wait for room, those that take too long to arrive lose theirs.
    pub(super) fn close_slow(&self, now: Now) {
        let mut requests = self.requests.lock();
        let Requests { admitted, lanes, .. } = &mut *requests;
        for request in admitted.values_mut() {
            if lanes[request.lane].queue.is_empty() {
                (request.deadline, request.judged) = (None, None);
            } else if request.is_slow(now) && !request.is_overdue {
                request.is_overdue = true;
                request.waker.wake_by_ref();
            }
        }
    }

    /// Admits requests from the heads of the queues while there is room.
    fn admit(&self, requests: &mut Requests) {
        for (number_of_lane, lane) in requests.lanes.iter_mut().enumerate() {
            let Lane { limit, queue, taken } = lane;
            while let Some(next) = queue.pop_front_if(|next| taken.saturating_add(next.bytes) <= *limit) {
                let Waiting { bytes, number, waker } = next;
                *taken += bytes;
                waker.wake_by_ref();
                requests.admitted.insert(number, Admitted::new(bytes, number_of_lane, waker));
            }
        }
        let taken: usize = requests.lanes.iter().map(|lane| lane.taken).sum();
        self.metrics.receive_bytes.store(taken as u64, Ordering::Relaxed);
    }
}

impl Room {
    /// Whether a request has room or waits for it.
    fn is_asked_for(&self) -> bool {
        self.number() != 0
    }

    /// Asks for room in the first call, and is ready once the request has it. A request above the limit
    /// waits until it is the only one.
    pub(super) fn poll_take(&self, context: &Context<'_>, bytes: usize) -> Poll<()> {
        let mut requests = self.receiving.requests.lock();
        if !self.is_asked_for() {
            requests.last += 1;
            self.number.store(requests.last, Ordering::Relaxed);
            let (number, waker) = (requests.last, context.waker().clone());
            let lane = &mut requests.lanes[usize::from(bytes > SHORT_BYTES_MAX)];
            lane.queue.push_back(Waiting { bytes: bytes.min(lane.limit), number, waker });
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

    /// Records that so many bytes of the request have arrived.
    pub(super) fn progress(&self, bytes: usize) {
        self.change(|request| request.received += bytes);
    }

    /// Records that all of it has arrived.
    pub(super) fn arrived(&self) {
        self.change(|request| request.has_arrived = true);
    }

    fn change(&self, change: impl FnOnce(&mut Admitted)) {
        if self.is_asked_for()
            && let Some(request) = self.receiving.requests.lock().admitted.get_mut(&self.number())
        {
            change(request);
        }
    }

    /// Returns the room.
    fn give_back(&self) {
        let number = self.number.swap(0, Ordering::Relaxed);
        if number == 0 {
            return;
        }
        let mut requests = self.receiving.requests.lock();
        match requests.admitted.remove(&number) {
            Some(request) => requests.lanes[request.lane].taken -= request.bytes,
            None => requests.lanes.iter_mut().for_each(|lane| lane.forget(number)),
        }
        self.receiving.admit(&mut requests);
    }

    fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }
}

impl Lane {
    fn forget(&mut self, number: u64) {
        self.queue.retain(|waiting| waiting.number != number);
    }
}

impl Admitted {
    fn new(bytes: usize, lane: usize, waker: Waker) -> Self {
        Admitted {
            bytes,
            has_arrived: false,
            judged: None,
            lane,
            received: 0,
            deadline: None,
            is_overdue: false,
            waker,
        }
    }

    /// Whether it makes too little progress, or takes too long altogether.
    fn is_slow(&mut self, now: Now) -> bool {
        let deadline = *self.deadline.get_or_insert(now.after(patience(self.bytes)));
        let (since, received) = *self.judged.get_or_insert((now.millis, self.received));
        if now.millis < since + JUDGED_EVERY_MS {
            return now.millis >= deadline;
        }
        self.judged = Some((now.millis, self.received));
        let has_stalled = self.received - received < PROGRESS_BYTES_MIN.min(self.bytes / 8);
        (has_stalled && !self.has_arrived) || now.millis >= deadline
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// The time that a request of this length may take to arrive: [`PATIENCE`], and a second for each MiB.
pub(super) fn patience(bytes: usize) -> Duration {
    PATIENCE + Duration::from_millis((bytes as u64 * 1000) >> 20)
}

/// Longer requests share three quarters of the room, the others a quarter.
const SHORT_BYTES_MAX: usize = 64 << 10;
const SHORT_PART: usize = 4;
/// How often the progress of a request is judged while others wait, and the least that must have arrived
/// since, unless that is more than an eighth of the request.
const JUDGED_EVERY_MS: u64 = 500;
const PROGRESS_BYTES_MIN: usize = 64 << 10;
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
    struct Asking {
        bell: Arc<Bell>,
        room: Room,
    }

    impl Asking {
        fn of(receiving: &Arc<Receiving>) -> Asking {
            Asking { bell: Arc::default(), room: receiving.room() }
        }

        /// Whether it has room for so many MiB.
        fn has(&self, mebibytes: usize) -> bool {
            self.has_bytes(mebibytes << 20)
        }

        fn has_bytes(&self, bytes: usize) -> bool {
            let waker = Waker::from(Arc::clone(&self.bell));
            self.room.poll_take(&Context::from_waker(&waker), bytes).is_ready()
        }

        fn is_woken(&self) -> bool {
            self.bell.0.swap(false, Ordering::Relaxed)
        }
    }

    fn receiving() -> (Arc<Receiving>, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::new(1, 1));
        // Three quarters of it are for long requests.
        (Arc::new(Receiving::new((LIMIT << 20) * 4 / 3, Arc::clone(&metrics))), metrics)
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
        assert_eq!(metrics.receive_bytes.load(Ordering::Relaxed), 60 << 20);
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
        assert_eq!(metrics.receive_bytes.load(Ordering::Relaxed), (LIMIT as u64) << 20);
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
    fn stalled_requests_lose_their_room_only_while_others_wait() {
        let (receiving, _) = receiving();
        let [slow, other] = [(); 2].map(|()| Asking::of(&receiving));
        assert!(slow.has(LIMIT) && slow.is_woken());
        (0..9_000).step_by(250).for_each(|millis| receiving.close_slow(at(millis)));
        assert!(!slow.room.is_overdue(), "nobody waits");
        assert!(!other.has(1));
        receiving.close_slow(at(10_000));
        receiving.close_slow(at(10_499));
        assert!(!slow.room.is_overdue() && !slow.is_woken());
        receiving.close_slow(at(10_500));
        assert!(slow.room.is_overdue() && slow.is_woken() && !other.room.is_overdue());
        slow.room.give_back();
        assert!(!slow.room.is_overdue() && other.has(1));
    }

    /// One byte now and then is no progress; 128 KiB a second are, until the whole time is over.
    #[test]
    fn requests_that_make_progress_have_their_whole_time() {
        for (bytes, end) in [(1, 500), (PROGRESS_BYTES_MIN, 102_000)] {
            let (receiving, _) = receiving();
            let [slow, other] = [(); 2].map(|()| Asking::of(&receiving));
            assert!(slow.has(LIMIT) && !other.has(1));
            let ended = (0..200_000).step_by(250).find(|millis| {
                slow.room.progress(bytes / 2 + 1);
                receiving.close_slow(at(*millis));
                slow.room.is_overdue()
            });
            assert_eq!(ended, Some(end));
        }
    }

    /// A line of a megabyte had arrived, and its answers were sent to a slow reader: that is no stall.
    #[test]
    fn a_request_that_has_arrived_has_its_whole_time_for_its_answers() {
        let (receiving, _) = receiving();
        let [answered, other] = [(); 2].map(|()| Asking::of(&receiving));
        assert!(answered.has(LIMIT) && !other.has(1));
        answered.room.arrived();
        let ended = (0..200_000).step_by(250).find(|millis| {
            receiving.close_slow(at(*millis));
            answered.room.is_overdue()
        });
        assert_eq!(ended, Some(102_000));
    }

    /// Twenty clients that stopped in the middle of a megabyte held up a value of 20 kB for three seconds,
    /// and a thousand for three minutes.
    #[test]
    fn short_requests_do_not_wait_for_long_ones() {
        let (receiving, _) = receiving();
        let [long, waiting, short] = [(); 3].map(|()| Asking::of(&receiving));
        assert!(long.has(LIMIT) && !waiting.has(1) && short.has_bytes(SHORT_BYTES_MAX));
        receiving.close_slow(at(0));
        receiving.close_slow(at(600));
        assert!(long.room.is_overdue() && !short.room.is_overdue(), "no short request waits");
    }

    #[test]
    fn a_longer_request_may_take_longer() {
        assert_eq!([0, 1 << 20, 100 << 20].map(|bytes| patience(bytes).as_secs()), [2, 3, 102]);
    }

    const LIMIT: usize = 100;
}
