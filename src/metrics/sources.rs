//! Sources of events: their state, what became of their events, and how late these were applied.

use std::array;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::latencies::{Histogram, Latency};

/// The statuses of all sources, in the order of the configuration.
#[derive(Debug, Default)]
pub struct Sources(Mutex<Vec<Arc<SourceStatus>>>);

/// One source.
#[derive(Debug)]
pub struct SourceStatus {
    /// Its kind in the configuration: `postgres` or `http`.
    pub kind: &'static str,
    /// Its name in the configuration.
    pub name: String,
    behind: AtomicU64,
    counts: [AtomicU64; COUNTS],
    delay: Histogram,
    state: AtomicU8,
    texts: Mutex<Texts>,
}

#[derive(Clone, Debug, Default)]
struct Texts {
    error: Option<String>,
    position: Option<String>,
}

/// The state of the connection to a source, and of reading it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SourceState {
    /// It failed, or was not attached yet.
    Down,
    /// It is attached, and events wait to be read.
    Behind,
    /// It is attached, and everything was read.
    Live,
}

/// A count that each source has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SourceCount {
    /// Events that a rule applied to.
    Applied,
    /// Dead letters that were written.
    DeadLetters,
    /// Dead letters that could not be written.
    DeadLettersLost,
    /// Events that had come before.
    Duplicate,
    /// Interruptions in which events were lost.
    Gaps,
    /// Names that were invalidated.
    Invalidations,
    /// Names that were merged with the same name of another event.
    Merged,
    /// Events that could not be applied.
    Poison,
    /// Values that were read between a change and the invalidation of their key.
    ReadsBetween,
    /// Failures after which the source was attached again.
    Reconnects,
    /// Events that were applied later than the limit for the log.
    Slow,
    /// Prefixes that were invalidated in place of many below them.
    Storms,
    /// Events that no rule is for.
    Unmatched,
}

impl SourceCount {
    /// All of them, in the order of the variants.
    pub const ALL: [SourceCount; COUNTS] = [
        SourceCount::Applied,
        SourceCount::DeadLetters,
        SourceCount::DeadLettersLost,
        SourceCount::Duplicate,
        SourceCount::Gaps,
        SourceCount::Invalidations,
        SourceCount::Merged,
        SourceCount::Poison,
        SourceCount::ReadsBetween,
        SourceCount::Reconnects,
        SourceCount::Slow,
        SourceCount::Storms,
        SourceCount::Unmatched,
    ];

    /// Its name in `stats events`.
    pub fn name(self) -> &'static str {
        match self {
            SourceCount::Applied => "applied",
            SourceCount::DeadLetters => "dead_letters",
            SourceCount::DeadLettersLost => "dead_letters_lost",
            SourceCount::Duplicate => "duplicate",
            SourceCount::Gaps => "gaps",
            SourceCount::Invalidations => "invalidations",
            SourceCount::Merged => "merged",
            SourceCount::Poison => "poison",
            SourceCount::ReadsBetween => "reads_between",
            SourceCount::Reconnects => "reconnects",
            SourceCount::Slow => "slow",
            SourceCount::Storms => "storms",
            SourceCount::Unmatched => "unmatched",
        }
    }
}

impl SourceState {
    /// All of them.
    pub const ALL: [SourceState; 3] = [SourceState::Down, SourceState::Behind, SourceState::Live];

    /// Its name in `stats events`.
    pub fn name(self) -> &'static str {
        match self {
            SourceState::Down => "down",
            SourceState::Behind => "behind",
            SourceState::Live => "live",
        }
    }
}

impl Sources {
    /// Adds a source.
    pub fn add(&self, source: Arc<SourceStatus>) {
        self.0.lock().push(source);
    }

    /// The one with this name.
    pub fn of(&self, name: &str) -> Option<Arc<SourceStatus>> {
        self.0.lock().iter().find(|source| source.name == name).cloned()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<SourceStatus>> {
        self.0.lock().clone()
    }
}

impl SourceStatus {
    /// A source that is not attached yet.
    pub fn new(name: &str, kind: &'static str) -> Self {
        SourceStatus {
            kind,
            name: name.to_owned(),
            behind: AtomicU64::new(UNKNOWN),
            counts: array::from_fn(|_| AtomicU64::new(0)),
            delay: Histogram::default(),
            state: AtomicU8::new(0),
            texts: Mutex::default(),
        }
    }

    /// Adds to a count.
    pub fn add(&self, count: SourceCount, more: u64) {
        self.counts[count as usize].fetch_add(more, Ordering::Relaxed);
    }

    /// A count.
    pub fn count(&self, count: SourceCount) -> u64 {
        self.counts[count as usize].load(Ordering::Relaxed)
    }

    /// Records how long after its commit an event was applied.
    pub fn add_delay(&self, delay: Duration) {
        self.delay.add(delay);
    }

    /// The time from commit to application, as a histogram.
    pub fn delays(&self) -> Latency {
        self.delay.read()
    }

    /// Its state.
    pub fn state(&self) -> SourceState {
        match self.state.load(Ordering::Relaxed) {
            0 => SourceState::Down,
            1 => SourceState::Behind,
            _ => SourceState::Live,
        }
    }

    /// Sets its state.
    pub fn set_state(&self, state: SourceState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// How much waits to be read, in the source's own unit, if it is known.
    pub fn behind(&self) -> Option<u64> {
        Some(self.behind.load(Ordering::Relaxed)).filter(|behind| *behind != UNKNOWN)
    }

    /// Sets how much waits to be read.
    pub fn set_behind(&self, behind: Option<u64>) {
        self.behind.store(behind.unwrap_or(UNKNOWN), Ordering::Relaxed);
    }

    /// The last position that was saved.
    pub fn position(&self) -> Option<String> {
        self.texts.lock().position.clone()
    }

    /// Sets the last position.
    pub fn set_position(&self, position: String) {
        self.texts.lock().position = Some(position);
    }

    /// The last failure, while the source is down.
    pub fn error(&self) -> Option<String> {
        self.texts.lock().error.clone()
    }

    /// Sets or clears the last failure.
    pub fn set_error(&self, error: Option<String>) {
        self.texts.lock().error = error;
    }
}

const COUNTS: usize = SourceCount::Unmatched as usize + 1;
const UNKNOWN: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_has_a_place_of_its_own() {
        assert!(SourceCount::ALL.iter().enumerate().all(|(nth, count)| *count as usize == nth));
        let status = SourceStatus::new("db", "postgres");
        status.add(SourceCount::Gaps, 2);
        assert_eq!((status.count(SourceCount::Gaps), status.count(SourceCount::Applied)), (2, 0));
        assert_eq!((status.state(), status.behind()), (SourceState::Down, None));
        for state in [SourceState::Down, SourceState::Behind, SourceState::Live] {
            status.set_state(state);
            assert_eq!(status.state(), state);
        }
    }
}
