//! When something that covers many items was voided: a tag, a prefix, or all of a shard.
//!
//! A *hard* void leaves nothing. A *soft* one leaves stale copies, for a time that begins with the first void that
//! covers them. Of soft voids that come one after the other only the first and the last are known: what lay between them
//! counts from the last.

use std::time::Duration;

use super::expiry::seconds_after;
use super::seq::Seq;
use crate::clock::Now;

/// What a void leaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Depth {
    /// Nothing.
    Hard,
    /// Stale copies, for a while.
    Soft,
}

/// What a void means for something that is as of a point.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Cover {
    None,
    /// It is a stale copy since this monotonic second.
    Soft(u32),
    Hard,
}

/// The voids of one name.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Voided {
    hard: Seq,
    /// The first and the last of the soft voids that follow one another.
    soft: [Seq; 2],
    /// When these were, in monotonic seconds.
    soft_seconds: [u32; 2],
}

impl Voided {
    /// All that is known is that this point covers it.
    pub(crate) fn at(hard: Seq) -> Self {
        Voided { hard, ..Voided::default() }
    }

    pub(crate) fn void(&mut self, seq: Seq, depth: Depth, now: Now) {
        let second = seconds_after(now, Duration::ZERO);
        match depth {
            Depth::Hard => self.hard = seq,
            Depth::Soft if self.soft[0] > self.hard && second <= self.soft_seconds[1] + PAUSE_SECONDS => {
                (self.soft[1], self.soft_seconds[1]) = (seq, second);
            }
            Depth::Soft => (self.soft, self.soft_seconds) = ([seq; 2], [second; 2]),
        }
    }

    #[inline]
    pub(crate) fn cover(&self, as_of: Seq) -> Cover {
        if as_of <= self.hard {
            Cover::Hard
        } else if as_of <= self.soft[0] {
            Cover::Soft(self.soft_seconds[0])
        } else if as_of <= self.soft[1] {
            Cover::Soft(self.soft_seconds[1])
        } else {
            Cover::None
        }
    }

    /// The newest hard void.
    pub(crate) fn hard(&self) -> Seq {
        self.hard
    }

    pub(crate) fn newest(&self) -> Seq {
        self.hard.max(self.soft[1])
    }
}

impl Cover {
    /// What two voids mean together.
    pub(crate) fn and(self, other: Cover) -> Cover {
        match (self, other) {
            (Cover::Hard, _) | (_, Cover::Hard) => Cover::Hard,
            (Cover::Soft(one), Cover::Soft(other)) => Cover::Soft(one.min(other)),
            (Cover::None, cover) | (cover, Cover::None) => cover,
        }
    }
}

/// After such a pause no copy is left of what a soft void covered, and the next one is a first one.
const PAUSE_SECONDS: u32 = 3_600;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn seq(number: u64) -> Seq {
        Seq::new(number).unwrap()
    }

    #[test]
    fn a_copy_counts_from_the_first_void_that_covers_it() {
        let (clock, mut voided) = (Clock::manual(), Voided::default());
        let start = clock.now().seconds();
        for point in [10, 20, 30] {
            voided.void(seq(point), Depth::Soft, clock.now());
            clock.advance(Duration::from_secs(4));
        }
        assert_eq!(voided.cover(seq(9)), Cover::Soft(start));
        assert_eq!(voided.cover(seq(11)), Cover::Soft(start + 8), "what lay between is not known");
        assert_eq!(voided.cover(seq(31)), Cover::None);
    }

    #[test]
    fn a_hard_void_leaves_nothing_and_what_comes_later_begins_anew() {
        let (clock, mut voided) = (Clock::manual(), Voided::default());
        voided.void(seq(10), Depth::Soft, clock.now());
        voided.void(seq(20), Depth::Hard, clock.now());
        assert_eq!((voided.cover(seq(9)), voided.cover(seq(19))), (Cover::Hard, Cover::Hard));
        clock.advance(Duration::from_secs(4));
        voided.void(seq(30), Depth::Soft, clock.now());
        assert_eq!(voided.cover(seq(21)), Cover::Soft(clock.now().seconds()));
        assert_eq!((voided.cover(seq(19)), voided.newest()), (Cover::Hard, seq(30)));
    }

    #[test]
    fn after_a_pause_a_soft_void_is_a_first_one() {
        let (clock, mut voided) = (Clock::manual(), Voided::default());
        voided.void(seq(10), Depth::Soft, clock.now());
        clock.advance(Duration::from_secs(PAUSE_SECONDS.into()) + Duration::from_secs(1));
        voided.void(seq(20), Depth::Soft, clock.now());
        assert_eq!(voided.cover(seq(9)), Cover::Soft(clock.now().seconds()));
    }
}
