//! Watchers of events, and a queue of lines for each.
//!
//! No worker waits for a watcher: a queue holds a limited number of bytes. Lines that do not fit are counted,
//! and the watcher receives the number later. An event without watchers costs one load.
//!
//! The server sends the queued lines; it leaves a waker while there are none.

use std::io::Write;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;

use super::events::{Event, Topics};

/// All watchers of a server.
#[derive(Debug)]
pub struct Watchers {
    /// Events that were lost before they became a line.
    dropped: AtomicU64,
    /// Lines added to a queue.
    sent: AtomicU64,
    /// Lines that did not fit in a queue.
    skipped: AtomicU64,
    /// Events that became lines.
    written: AtomicU64,
    queue_bytes_max: usize,
    state: Mutex<State>,
    /// The union of all watched topics.
    topics: AtomicU8,
    /// The wall clock, as time since 1970.
    wall: fn() -> Duration,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the last line or watcher, which orders all lines.
    last: u64,
    queues: Vec<Queue>,
}

/// The queue of a watcher.
#[derive(Debug)]
struct Queue {
    lines: Vec<u8>,
    number: u64,
    /// Lines skipped since the last queued one.
    skipped: u64,
    topics: Topics,
    waker: Option<Waker>,
}

impl Watchers {
    /// No watchers. Each later one gets a queue of this many bytes.
    pub fn new(queue_bytes_max: usize, wall: fn() -> Duration) -> Self {
        Watchers {
            dropped: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            written: AtomicU64::new(0),
            queue_bytes_max,
            state: Mutex::default(),
            topics: AtomicU8::new(0),
            wall,
        }
    }

    /// The union of all watched topics.
    pub fn topics(&self) -> Topics {
        Topics(self.topics.load(Ordering::Relaxed))
    }

    /// Adds a watcher and returns its number; `None` if there are [`WATCHERS_MAX`] already.
    pub fn watch(&self, topics: Topics) -> Option<u64> {
        let mut state = self.state.lock();
        if state.queues.len() >= WATCHERS_MAX {
            return None;
        }
        state.last += 1;
        let number = state.last;
        state.queues.push(Queue { lines: Vec::new(), number, skipped: 0, topics, waker: None });
        self.update_topics(&state);
        Some(number)
    }

    /// Removes a watcher.
    pub fn leave(&self, number: u64) {
        let mut state = self.state.lock();
        state.queues.retain(|queue| queue.number != number);
        self.update_topics(&state);
    }

    /// Adds the event to the queue of each watcher of its topic.
    pub fn publish(&self, event: &Event) {
        let mut wakers = Vec::new();
        let mut state = self.state.lock();
        let wall = (self.wall)();
        let State { last, queues } = &mut *state;
        *last += 1;
        let (seconds, micros) = (wall.as_secs(), wall.subsec_micros());
        let line = format!("ts={seconds}.{micros:06} gid={last} {event}\n");
        self.written.fetch_add(1, Ordering::Relaxed);
        for queue in queues.iter_mut().filter(|queue| queue.topics.has(event.topic())) {
            if queue.skipped > 0 || queue.lines.len() + line.len() > self.queue_bytes_max {
                queue.skipped += 1;
                self.skipped.fetch_add(1, Ordering::Relaxed);
            } else {
                queue.lines.extend_from_slice(line.as_bytes());
                self.sent.fetch_add(1, Ordering::Relaxed);
            }
            wakers.extend(queue.waker.take());
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Counts events that will never become lines.
    pub fn lost(&self, events: u64) {
        self.dropped.fetch_add(events, Ordering::Relaxed);
    }

    /// Takes a watcher's queued lines, with the number of skipped ones at the end. If there are none,
    /// returns `None` and keeps the waker.
    pub fn take(&self, number: u64, waker: &Waker) -> Option<Vec<u8>> {
        let mut state = self.state.lock();
        let queue = state.queues.iter_mut().find(|queue| queue.number == number)?;
        if queue.lines.is_empty() && queue.skipped == 0 {
            queue.waker = Some(waker.clone());
            return None;
        }
        let mut lines = std::mem::take(&mut queue.lines);
        let skipped = std::mem::take(&mut queue.skipped);
        if skipped > 0 {
            writeln!(lines, "skipped={skipped}").expect("memory takes what is written");
        }
        Some(lines)
    }

    /// Passes on every count with its name in `stats`.
    pub fn each(&self, mut emit: impl FnMut(&str, u64)) {
        emit("log_worker_dropped", self.dropped.load(Ordering::Relaxed));
        emit("log_worker_written", self.written.load(Ordering::Relaxed));
        emit("log_watcher_skipped", self.skipped.load(Ordering::Relaxed));
        emit("log_watcher_sent", self.sent.load(Ordering::Relaxed));
        emit("log_watchers", self.state.lock().queues.len() as u64);
    }

    /// `stats reset`
    pub fn reset(&self) {
        for count in [&self.dropped, &self.sent, &self.skipped, &self.written] {
            count.store(0, Ordering::Relaxed);
        }
    }

    fn update_topics(&self, state: &State) {
        let all = state.queues.iter().fold(0, |all, queue| all | queue.topics.0);
        self.topics.store(all, Ordering::Relaxed);
    }
}

/// The default size of a queue, as in memcached.
pub const WATCHER_BYTES_DEFAULT: usize = 256 * 1024;
/// The limit on watchers, as in memcached.
pub const WATCHERS_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Topic;

    fn watchers(queue_bytes_max: usize) -> Watchers {
        Watchers::new(queue_bytes_max, || Duration::new(5, 30_320_999))
    }

    fn received(watchers: &Watchers, number: u64) -> String {
        let lines = watchers.take(number, Waker::noop()).unwrap_or_default();
        String::from_utf8(lines).unwrap()
    }

    const FETCHED: Event = Event::Fetched { key: b"k", connection: 7, value_bytes: None };
    const DELETED: Event = Event::Deleted { key: b"k", verb: "md", value_bytes: 2 };

    #[test]
    fn each_watcher_receives_its_topics() {
        let watchers = watchers(1000);
        let fetches = Topics::default().with(Topic::Fetches);
        let first = watchers.watch(fetches).unwrap();
        let second = watchers.watch(fetches.with(Topic::Deletions)).unwrap();
        watchers.publish(&FETCHED);
        watchers.publish(&DELETED);
        let fetched = "ts=5.030320 gid=3 type=item_get key=k status=not_found clsid=0 cfd=7 size=0\n";
        let deleted = "ts=5.030320 gid=4 type=deleted key=k cmd=md clsid=1 size=2\n";
        assert_eq!(received(&watchers, first), fetched);
        assert_eq!(received(&watchers, second), [fetched, deleted].concat());
        assert_eq!(received(&watchers, second), "");
        assert!(watchers.topics().has(Topic::Deletions) && !watchers.topics().has(Topic::Evictions));
        watchers.leave(second);
        assert_eq!(watchers.topics(), fetches);
    }

    #[test]
    fn skipped_lines_are_counted_and_reported() {
        let watchers = watchers(75);
        let number = watchers.watch(Topics::default().with(Topic::Deletions)).unwrap();
        (0..3).for_each(|_| watchers.publish(&DELETED));
        let line = "type=deleted key=k cmd=md clsid=1 size=2\n";
        assert_eq!(received(&watchers, number), format!("ts=5.030320 gid=2 {line}skipped=2\n"));
        watchers.publish(&DELETED);
        assert_eq!(received(&watchers, number), format!("ts=5.030320 gid=5 {line}"));
    }

    #[test]
    fn watchers_are_limited() {
        let watchers = watchers(1);
        let numbers: Vec<_> = (0..WATCHERS_MAX).map(|_| watchers.watch(Topics::default())).collect();
        assert!(numbers.iter().all(Option::is_some) && watchers.watch(Topics::default()).is_none());
        watchers.leave(numbers[3].unwrap());
        assert!(watchers.watch(Topics::default()).is_some());
    }
}
