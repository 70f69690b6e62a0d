//! When many items were invalidated at once: those of a tag or a prefix, or all of a shard.
//!
//! A *hard* invalidation leaves nothing. A *soft* one leaves stale copies, for a time that begins with the first
//! invalidation that applies to them. Of consecutive soft invalidations only two are remembered: items between them count
//! from the later one. When all copies of the earlier one have expired, it becomes a hard one, and the later one takes its
//! place; so no copy lives for more than twice its time, however often it is invalidated.

use std::time::Duration;

use crate::clock::Now;
use crate::store::expiry::seconds_after;
use crate::store::seq::Seq;

/// How much an invalidation leaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Depth {
    /// Nothing.
    Hard,
    /// Stale copies, for a while.
    Soft,
}

/// An invalidation of many items.
#[derive(Clone, Copy)]
pub(crate) struct Void {
    pub(crate) depth: Depth,
    /// After so many seconds all copies have expired.
    pub(crate) kept_seconds: u32,
    pub(crate) now: Now,
}

/// The effect of invalidations on an item, by its `as_of`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Cover {
    None,
    /// It is a stale copy since this monotonic second.
    Soft(u32),
    Hard,
}

/// The invalidations of one group.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Voided {
    hard: Seq,
    /// One of the soft invalidations, whose copies may still exist, and the newest.
    soft: [Seq; 2],
    /// When these were, in monotonic seconds.
    soft_seconds: [u32; 2],
}

impl Voided {
    /// Only a hard invalidation with this sequence number is known.
    pub(crate) fn at(hard: Seq) -> Self {
        Voided { hard, ..Voided::default() }
    }

    pub(crate) fn void(&mut self, seq: Seq, Void { depth, kept_seconds, now }: Void) {
        if depth == Depth::Hard {
            self.hard = seq;
            return;
        }
        let second = seconds_after(now, Duration::ZERO);
        if second >= self.soft_seconds[0].saturating_add(kept_seconds) {
            self.hard = self.hard.max(self.soft[0]);
            (self.soft[0], self.soft_seconds[0]) = (self.soft[1], self.soft_seconds[1]);
        }
        if self.soft[0] <= self.hard {
            (self.soft[0], self.soft_seconds[0]) = (seq, second);
        }
        (self.soft[1], self.soft_seconds[1]) = (seq, second);
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

    /// The newest hard invalidation.
    pub(crate) fn hard(&self) -> Seq {
        self.hard
    }

    pub(crate) fn newest(&self) -> Seq {
        self.hard.max(self.soft[1])
    }
}

impl Cover {
    /// The effect of two invalidations together.
    pub(crate) fn and(self, other: Cover) -> Cover {
        match (self, other) {
            (Cover::Hard, _) | (_, Cover::Hard) => Cover::Hard,
            (Cover::Soft(one), Cover::Soft(other)) => Cover::Soft(one.min(other)),
            (Cover::None, cover) | (cover, Cover::None) => cover,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    const KEPT: u32 = 10;

    fn soft(clock: &Clock) -> Void {
        Void { depth: Depth::Soft, kept_seconds: KEPT, now: clock.now() }
    }

    fn seq(number: u64) -> Seq {
        Seq::new(number).unwrap()
    }

    #[test]
    fn a_copy_counts_from_the_first_void_that_covers_it() {
        let (clock, mut voided) = (Clock::manual(), Voided::default());
        let start = clock.now().seconds();
        for point in [10, 20, 30] {
            voided.void(seq(point), soft(&clock));
            clock.advance(Duration::from_secs(4));
        }
        assert_eq!(voided.cover(seq(9)), Cover::Soft(start));
        assert_eq!(voided.cover(seq(11)), Cover::Soft(start + 8), "what lay between is not known");
        assert_eq!(voided.cover(seq(31)), Cover::None);
    }

    #[test]
    fn a_hard_void_leaves_nothing_and_what_comes_later_begins_anew() {
        let (clock, mut voided) = (Clock::manual(), Voided::default());
        voided.void(seq(10), soft(&clock));
        voided.void(seq(20), Void { depth: Depth::Hard, ..soft(&clock) });
        assert_eq!((voided.cover(seq(9)), voided.cover(seq(19))), (Cover::Hard, Cover::Hard));
        clock.advance(Duration::from_secs(4));
        voided.void(seq(30), soft(&clock));
        assert_eq!(voided.cover(seq(21)), Cover::Soft(clock.now().seconds()));
        assert_eq!((voided.cover(seq(19)), voided.newest()), (Cover::Hard, seq(30)));
    }

    #[test]
    fn repeated_voids_do_not_keep_a_copy_for_ever() {
        let (clock, mut voided) = (Clock::manual(), Voided::default());
        let start = clock.now().seconds();
        voided.void(seq(10), soft(&clock));
        // As of 11, stored a moment later; invalidated every second since.
        let mut longest = 0;
        for point in 1..60 {
            clock.advance(Duration::from_secs(1));
            voided.void(seq(10 + 2 * point), soft(&clock));
            match voided.cover(seq(11)) {
                Cover::Hard => break,
                Cover::Soft(since) => longest = since - start,
                Cover::None => panic!("it was voided"),
            }
        }
        assert!(longest <= KEPT, "{longest}");
        assert_eq!((voided.cover(seq(9)), voided.cover(seq(11))), (Cover::Hard, Cover::Hard));
        assert_ne!(voided.cover(seq(10 + 2 * 19)), Cover::Hard, "what came lately is a copy still");
    }

    #[test]
    fn an_invalidation_covers_what_is_as_of_its_own_number() {
        let (clock, mut voided) = (Clock::manual(), Voided::at(seq(10)));
        let start = clock.now().seconds();
        voided.void(seq(20), soft(&clock));
        clock.advance(Duration::from_secs(4));
        voided.void(seq(30), soft(&clock));
        let covers = [10, 11, 20, 21, 30, 31].map(|number| voided.cover(seq(number)));
        let (first, second) = (Cover::Soft(start), Cover::Soft(start + 4));
        assert_eq!(covers, [Cover::Hard, first, first, second, second, Cover::None]);
    }

    #[test]
    fn the_later_of_two_soft_invalidations_becomes_the_earlier_one_once_that_is_old() {
        let (clock, mut voided) = (Clock::manual(), Voided::default());
        let start = clock.now().seconds();
        for number in [10, 20, 30] {
            voided.void(seq(number), soft(&clock));
            clock.advance(Duration::from_secs(5));
        }
        assert_eq!((voided.cover(seq(10)), voided.cover(seq(20))), (Cover::Hard, Cover::Soft(start + 5)));
    }

    #[test]
    fn a_soft_invalidation_counts_from_the_next_whole_second() {
        let (clock, mut voided) = (Clock::manual(), Voided::default());
        clock.advance(Duration::from_millis(1));
        voided.void(seq(10), soft(&clock));
        assert_eq!(voided.cover(seq(9)), Cover::Soft(clock.now().seconds() + 1));
    }

    #[test]
    fn the_harder_and_the_earlier_of_two_covers_counts() {
        assert_eq!(Cover::Soft(7).and(Cover::Soft(5)), Cover::Soft(5));
        assert_eq!(
            (Cover::None.and(Cover::Soft(5)), Cover::Soft(5).and(Cover::None)),
            (Cover::Soft(5), Cover::Soft(5))
        );
        assert_eq!(
            (Cover::Hard.and(Cover::Soft(5)), Cover::None.and(Cover::Hard)),
            (Cover::Hard, Cover::Hard)
        );
    }
}
