//! The void clock: one counter that orders every void, every lease and every value.
//!
//! A [`Seq`] has 48 bits, is never reused and never wraps: at ten million a second the upper half lasts 162 days
//! times the distance to its end, and a process starts in the lower half, at a random point.

use std::fmt;

use super::sync::{AtomicU64, Ordering};

/// A point on the void clock.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Seq(u64);

/// The counter itself.
#[derive(Debug)]
pub struct SeqClock {
    start: Seq,
    last: AtomicU64,
}

impl Seq {
    /// Before every point that a clock can give.
    pub const ZERO: Seq = Seq(0);

    /// The point with this number, if it fits in [`SEQ_BITS`] bits.
    pub fn new(number: u64) -> Option<Seq> {
        (number >> SEQ_BITS == 0).then_some(Seq(number))
    }

    /// Its number, which is also the CAS unique that clients see.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl SeqClock {
    /// A clock that starts at a point below 2^47 taken from `random`.
    pub fn new(random: u64) -> Self {
        let start = (random >> 17).max(1);
        SeqClock { start: Seq(start), last: AtomicU64::new(start) }
    }

    /// A clock that goes on above the last point of another one.
    pub fn above(last: Seq) -> Self {
        SeqClock { start: last, last: AtomicU64::new(last.number()) }
    }

    /// A point that nobody else has or will have.
    pub fn fresh(&self) -> Seq {
        // Whoever takes a later point sees what was done before an earlier one was taken: see `broad`.
        let seq = self.last.fetch_add(1, Ordering::AcqRel) + 1;
        assert!(seq >> SEQ_BITS == 0, "the void clock is spent: 2^47 points used");
        Seq(seq)
    }

    /// The last point given out.
    pub fn last(&self) -> Seq {
        Seq(self.last.load(Ordering::Acquire))
    }

    /// The point before the first one given out.
    pub fn start(&self) -> Seq {
        self.start
    }
}

/// Bits of a [`Seq`]: small enough to share a token's 64 with its certificate, and a header's with its neighbours.
pub const SEQ_BITS: u32 = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_rise_and_start_in_the_lower_half() {
        let clock = SeqClock::new(u64::MAX);
        assert!(clock.start().number() < 1 << 47);
        let (first, second) = (clock.fresh(), clock.fresh());
        assert!(clock.start() < first && first < second && second == clock.last());
    }

    #[test]
    fn a_number_of_49_bits_is_no_point() {
        assert_eq!(Seq::new((1 << 48) - 1).map(Seq::number), Some((1 << 48) - 1));
        assert_eq!(Seq::new(1 << 48), None);
    }
}
