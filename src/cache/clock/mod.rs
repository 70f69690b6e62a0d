//! The logical clock: one counter that orders every invalidation, every lease and every value.

pub(crate) mod ages;

use crate::store::item::seq::Seq;
use crate::sync::{AtomicU64, Ordering};

/// The counter itself.
#[derive(Debug)]
pub struct LogicalClock {
    start: Seq,
    last: AtomicU64,
}

impl LogicalClock {
    /// A clock that starts below 2^47, at a number taken from `random`.
    pub fn new(random: u64) -> Self {
        LogicalClock::above(at((random >> 17).max(1)))
    }

    /// A clock that goes on above the last number of another one.
    pub fn above(last: Seq) -> Self {
        LogicalClock { start: last, last: AtomicU64::new(last.number()) }
    }

    /// The next number; no other caller has it or will have it.
    pub fn next(&self) -> Seq {
        // A thread that takes a later number sees what was done before an earlier one was taken: see
        // `groups`.
        let number = self.last.fetch_add(1, Ordering::AcqRel) + 1;
        Seq::new(number).expect("2^47 sequence numbers are used up")
    }

    /// The last number given out.
    pub fn last(&self) -> Seq {
        at(self.last.load(Ordering::Acquire))
    }

    /// The number before the first one given out.
    pub fn start(&self) -> Seq {
        self.start
    }
}

fn at(number: u64) -> Seq {
    Seq::new(number).expect("the counter stays below 2^48")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_rise_and_start_in_the_lower_half() {
        let clock = LogicalClock::new(u64::MAX);
        assert!(clock.start().number() < 1 << 47);
        let (first, second) = (clock.next(), clock.next());
        assert!(clock.start() < first && first < second && second == clock.last());
    }
}
