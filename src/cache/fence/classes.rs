//! The classes of keys, and which of their sets answer a miss. A class is the keys of a policy, or those that
//! begin alike.
//!
//! A class starts with [`Takes::Repeats`] and moves to [`Takes::Every`] after 1,000 sets that each had a
//! miss. A set without a miss shows that the class is also written without a delete, and moves it back for an
//! hour. A set without a miss that repeats a value shows that values are refreshed, and moves the class to
//! [`Takes::None`] for an hour.
//!
//! The state of a class is one number, so that threads need no lock: the mode (2 bits), the number of sets
//! that each had a miss (14), and the monotonic second in which the mode may change again (32).

use std::hash::{BuildHasher, Hasher};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::FixedState;
use memchr::memchr;
use parking_lot::Mutex;

use super::judgment::{Answers, Takes};
use crate::cache::invalidation::groups::DELIMITER;
use crate::cache::policies::{LoadTime, Policies};
use crate::clock::Now;

/// The classes of all keys; names that collide share one.
pub(crate) struct Classes {
    cells: Box<[Cell]>,
    /// The end of the time in which nothing is known of any class, in monotonic milliseconds.
    cold_until: u64,
    /// The beginning of the keys of each class, as of the last one that was recorded.
    names: Mutex<Vec<Box<[u8]>>>,
}

#[derive(Default)]
struct Cell {
    refused: AtomicU64,
    sets: AtomicU64,
    state: AtomicU64,
}

/// A class in which sets were judged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClassCounts {
    /// The beginning of its keys; empty for keys without a delimiter.
    pub name: Box<[u8]>,
    /// The longest time that a load of its keys takes, as far as that is known.
    pub load_time: LoadTime,
    /// Which sets answer a miss: `every`, `repeats` or `none`.
    pub mode: &'static str,
    /// Sets that were judged.
    pub sets: u64,
    /// Those of them that were refused.
    pub refused: u64,
}

impl Takes {
    fn name(self) -> &'static str {
        match self {
            Takes::Every => "every",
            Takes::Repeats => "repeats",
            Takes::None => "none",
        }
    }
}

impl Classes {
    pub(crate) fn new() -> Self {
        let cells = (0..CLASSES).map(|_| Cell::default()).collect();
        Classes { cells, cold_until: COLD_MS, names: Mutex::new(vec![Box::default(); CLASSES]) }
    }

    /// The class of a key; `prefix` is that of its policy, if it has one.
    pub(crate) fn of(&self, key: &[u8], prefix: Option<&[u8]>) -> u8 {
        let mut hasher = FixedState::default().build_hasher();
        hasher.write(name(key, prefix));
        (hasher.finish() >> 56) as u8
    }

    pub(crate) fn takes(&self, class: u8, now: Now) -> Takes {
        if now.millis < self.cold_until {
            return Takes::None;
        }
        mode(self.cell(class).state.load(Ordering::Relaxed), now)
    }

    /// Learns from a set that was judged.
    pub(crate) fn judged(&self, class: u8, answers: Answers, now: Now) {
        let state = &self.cell(class).state;
        let before = state.load(Ordering::Relaxed);
        let after = learned(before, answers, now);
        if after != before {
            // If another thread changes the state at the same time, this set is disregarded: others like it
            // will follow.
            let _ = state.compare_exchange(before, after, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Counts a set that may have answered a miss.
    pub(crate) fn count(&self, class: u8, is_refused: bool, key: &[u8], prefix: Option<&[u8]>) {
        let cell = self.cell(class);
        if cell.sets.fetch_add(1, Ordering::Relaxed).is_multiple_of(NAMED_EVERY) {
            self.names.lock()[usize::from(class)] = name(key, prefix).into();
        }
        if is_refused {
            cell.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counts of each class in which a set was judged.
    pub(crate) fn counts(&self, policies: &Policies, now: Now) -> Vec<ClassCounts> {
        let names = self.names.lock();
        let classes = names.iter().zip(0_u8..=u8::MAX).map(|(name, class)| ClassCounts {
            name: name.clone(),
            load_time: policies.load_time_of(name),
            mode: self.takes(class, now).name(),
            sets: self.cell(class).sets.load(Ordering::Relaxed),
            refused: self.cell(class).refused.load(Ordering::Relaxed),
        });
        classes.filter(|class| class.sets > 0).collect()
    }

    pub(crate) fn reset_counts(&self) {
        for cell in &self.cells {
            cell.sets.store(0, Ordering::Relaxed);
            cell.refused.store(0, Ordering::Relaxed);
        }
    }

    fn cell(&self, class: u8) -> &Cell {
        &self.cells[usize::from(class)]
    }
}

/// The beginning of the keys of a class.
fn name<'k>(key: &'k [u8], prefix: Option<&'k [u8]>) -> &'k [u8] {
    let first = || &key[..memchr(DELIMITER, key).map_or(0, |end| end + 1)];
    prefix.unwrap_or_else(first)
}

fn mode(state: u64, now: Now) -> Takes {
    match (state & MODE, is_bound(state, now)) {
        (TAKES_EVERY, _) => Takes::Every,
        (TAKES_NONE, true) => Takes::None,
        (_, _) => Takes::Repeats,
    }
}

/// Whether the mode may not change yet.
fn is_bound(state: u64, now: Now) -> bool {
    u64::from(now.seconds()) < state >> UNTIL.start
}

fn learned(state: u64, answers: Answers, now: Now) -> u64 {
    let bound = |mode: u64| u64::from(now.seconds() + BOUND_SECONDS) << UNTIL.start | mode;
    let is_bound = is_bound(state, now);
    match (answers, mode(state, now)) {
        (Answers::Miss | Answers::Late, Takes::Repeats) if !is_bound => {
            let clean = (state >> CLEAN.start & 0x3fff) + 1;
            if clean >= CLEAN_SETS { TAKES_EVERY } else { clean << CLEAN.start | TAKES_REPEATS }
        }
        (Answers::Miss | Answers::Late, _) => state,
        (Answers::Repeat, _) => renewed(state, bound(TAKES_NONE)),
        (Answers::Nothing, Takes::None) => state,
        (Answers::Nothing, Takes::Every | Takes::Repeats) => renewed(state, bound(TAKES_REPEATS)),
    }
}

/// The new state, or the old one if that has the same mode for almost as long: most sets must not write.
fn renewed(old: u64, new: u64) -> u64 {
    let is_same =
        old & MODE == new & MODE && (new >> UNTIL.start) - (old >> UNTIL.start).min(new >> UNTIL.start) < 60;
    if is_same { old } else { new }
}

const CLASSES: usize = 256;
/// The load time as long as nothing is known.
const COLD_MS: u64 = 1_000;
const BOUND_SECONDS: u32 = 3_600;
const CLEAN_SETS: u64 = 1_000;
/// The name of a class is recorded once for so many sets.
const NAMED_EVERY: u64 = 1_024;
const MODE: u64 = 3;
const TAKES_REPEATS: u64 = 0;
const TAKES_EVERY: u64 = 1;
const TAKES_NONE: u64 = 2;
/// Bits of a state.
const CLEAN: Range<u32> = 2..16;
const UNTIL: Range<u32> = 16..48;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;

    struct Fixture {
        class: u8,
        classes: Classes,
        clock: Clock,
    }

    impl Fixture {
        fn new() -> Self {
            let classes = Classes::new();
            let fixture = Fixture { class: classes.of(b"user:1", None), classes, clock: Clock::manual() };
            fixture.clock.advance(Duration::from_millis(COLD_MS));
            fixture
        }

        fn sets(&self, answers: Answers, times: u64) -> Takes {
            (0..times).for_each(|_| self.classes.judged(self.class, answers, self.clock.now()));
            self.classes.takes(self.class, self.clock.now())
        }
    }

    #[test]
    fn a_class_is_the_prefix_of_the_policy_or_what_stands_before_the_first_delimiter() {
        let classes = Classes::new();
        assert_eq!(classes.of(b"user:1:a", None), classes.of(b"user:2", None));
        assert_ne!(classes.of(b"user:1", None), classes.of(b"user:1", Some(b"user:1")));
        assert_eq!(classes.of(b"a", None), classes.of(b"b", None));
    }

    #[test]
    fn a_thousand_sets_with_a_miss_each_are_trusted() {
        let fixture = Fixture::new();
        assert_eq!(fixture.sets(Answers::Miss, CLEAN_SETS - 1), Takes::Repeats);
        assert_eq!(fixture.sets(Answers::Late, 1), Takes::Every);
    }

    #[test]
    fn a_set_without_a_miss_is_remembered_for_an_hour() {
        let fixture = Fixture::new();
        assert_eq!(fixture.sets(Answers::Miss, CLEAN_SETS), Takes::Every);
        assert_eq!(fixture.sets(Answers::Nothing, 1), Takes::Repeats);
        assert_eq!(fixture.sets(Answers::Miss, 2 * CLEAN_SETS), Takes::Repeats);
        fixture.clock.advance(Duration::from_secs(3_600));
        assert_eq!(fixture.sets(Answers::Miss, CLEAN_SETS), Takes::Every);
    }

    #[test]
    fn a_repeated_value_is_remembered_for_an_hour_and_then_the_class_begins_anew() {
        let fixture = Fixture::new();
        assert_eq!(fixture.sets(Answers::Repeat, 1), Takes::None);
        assert_eq!(fixture.sets(Answers::Nothing, 1), Takes::None);
        fixture.clock.advance(Duration::from_secs(1_800));
        assert_eq!(fixture.sets(Answers::Repeat, 1), Takes::None);
        fixture.clock.advance(Duration::from_secs(1_800));
        assert_eq!(fixture.sets(Answers::Miss, 1), Takes::None, "it was seen again half an hour ago");
        fixture.clock.advance(Duration::from_secs(1_800));
        assert_eq!(fixture.sets(Answers::Miss, CLEAN_SETS - 1), Takes::Repeats);
        assert_eq!(fixture.sets(Answers::Miss, 1), Takes::Every);
    }

    #[test]
    fn nothing_is_known_right_after_the_start() {
        let (classes, clock) = (Classes::new(), Clock::manual());
        assert_eq!(classes.takes(7, clock.now()), Takes::None);
        clock.advance(Duration::from_millis(COLD_MS));
        assert_eq!(classes.takes(7, clock.now()), Takes::Repeats);
    }
}
