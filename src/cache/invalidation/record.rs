//! When many items were invalidated at once: those of a tag or a prefix, or all of a shard.
//!
//! A *hard* invalidation leaves nothing. A *soft* one leaves stale copies, for a time that begins with the
//! first invalidation that applies to them. Of consecutive soft invalidations only two are remembered: items
//! between them count from the later one. When all copies of the earlier one have expired, it becomes a hard
//! one, and the later one takes its place; so no copy lives for more than twice its time, however often it is
//! invalidated.

use std::time::Duration;

use crate::clock::Now;
use crate::store::item::seq::Seq;
use crate::store::tick::Tick;

/// How much an invalidation leaves.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Depth {
    /// Nothing.
    #[default]
    Hard,
    /// Stale copies, for a while.
    Soft,
}

/// An invalidation of many items.
#[derive(Clone, Copy)]
pub(crate) struct Invalidation {
    pub(crate) depth: Depth,
    /// After that time all copies have expired.
    pub(crate) kept: Duration,
    pub(crate) now: Now,
}

/// The effect of invalidations on an item, by its `as_of`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Effect {
    None,
    /// It is a stale copy since then.
    Soft(Tick),
    Hard,
}

/// The invalidations of one group.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Invalidations {
    hard: Seq,
    /// One of the soft invalidations, whose copies may still exist, and the newest.
    soft: [Seq; 2],
    /// When these were.
    soft_ticks: [Tick; 2],
}

impl Invalidations {
    /// Only a hard invalidation with this sequence number is known.
    pub(crate) fn at(hard: Seq) -> Self {
        Invalidations { hard, ..Invalidations::default() }
    }

    pub(crate) fn add(&mut self, seq: Seq, Invalidation { depth, kept, now }: Invalidation) {
        if depth == Depth::Hard {
            self.hard = seq;
            return;
        }
        let tick = Tick::not_before(now.millis);
        if tick >= self.soft_ticks[0].after(kept) {
            self.hard = self.hard.max(self.soft[0]);
            (self.soft[0], self.soft_ticks[0]) = (self.soft[1], self.soft_ticks[1]);
        }
        if self.soft[0] <= self.hard {
            (self.soft[0], self.soft_ticks[0]) = (seq, tick);
        }
        (self.soft[1], self.soft_ticks[1]) = (seq, tick);
    }

    #[inline]
    pub(crate) fn effect(&self, as_of: Seq) -> Effect {
        if as_of <= self.hard {
            Effect::Hard
        } else if as_of <= self.soft[0] {
            Effect::Soft(self.soft_ticks[0])
        } else if as_of <= self.soft[1] {
            Effect::Soft(self.soft_ticks[1])
        } else {
            Effect::None
        }
    }

    /// Whether a soft invalidation counts, beside the hard one.
    pub(crate) fn is_soft(&self) -> bool {
        self.soft[1] > self.hard
    }

    /// The newest hard invalidation.
    pub(crate) fn hard(&self) -> Seq {
        self.hard
    }

    pub(crate) fn newest(&self) -> Seq {
        self.hard.max(self.soft[1])
    }
}

impl Effect {
    /// The effect of two invalidations together.
    pub(crate) fn and(self, other: Effect) -> Effect {
        match (self, other) {
            (Effect::Hard, _) | (_, Effect::Hard) => Effect::Hard,
            (Effect::Soft(one), Effect::Soft(other)) => Effect::Soft(one.min(other)),
            (Effect::None, cover) | (cover, Effect::None) => cover,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::tick::TICKS_PER_SECOND;

    const KEPT: Duration = Duration::from_secs(10);

    fn soft(clock: &Clock) -> Invalidation {
        Invalidation { depth: Depth::Soft, kept: KEPT, now: clock.now() }
    }

    fn later(tick: Tick, seconds: u64) -> Tick {
        tick.after(Duration::from_secs(seconds))
    }

    fn soft_at(number: u32) -> Effect {
        Effect::Soft(Tick::from_number(number))
    }

    fn seq(number: u64) -> Seq {
        Seq::new(number).unwrap()
    }

    #[test]
    fn a_copy_counts_from_the_first_invalidation_that_applies() {
        let (clock, mut record) = (Clock::manual(), Invalidations::default());
        let start = clock.now().tick();
        for point in [10, 20, 30] {
            record.add(seq(point), soft(&clock));
            clock.advance(Duration::from_secs(4));
        }
        assert_eq!(record.effect(seq(9)), Effect::Soft(start));
        assert_eq!(record.effect(seq(11)), Effect::Soft(later(start, 8)), "what lay between is not known");
        assert_eq!(record.effect(seq(31)), Effect::None);
    }

    #[test]
    fn a_hard_invalidation_leaves_nothing_and_later_ones_start_again() {
        let (clock, mut record) = (Clock::manual(), Invalidations::default());
        record.add(seq(10), soft(&clock));
        record.add(seq(20), Invalidation { depth: Depth::Hard, ..soft(&clock) });
        assert_eq!((record.effect(seq(9)), record.effect(seq(19))), (Effect::Hard, Effect::Hard));
        clock.advance(Duration::from_secs(4));
        record.add(seq(30), soft(&clock));
        assert_eq!(record.effect(seq(21)), Effect::Soft(clock.now().tick()));
        assert_eq!((record.effect(seq(19)), record.newest()), (Effect::Hard, seq(30)));
    }

    #[test]
    fn repeated_invalidations_do_not_keep_a_copy_for_ever() {
        let (clock, mut record) = (Clock::manual(), Invalidations::default());
        let start = clock.now().tick();
        record.add(seq(10), soft(&clock));
        // As of 11, stored a moment later; invalidated every second since.
        let mut longest = Duration::ZERO;
        for point in 1..60 {
            clock.advance(Duration::from_secs(1));
            record.add(seq(10 + 2 * point), soft(&clock));
            match record.effect(seq(11)) {
                Effect::Hard => break,
                Effect::Soft(since) => {
                    longest = Duration::from_secs(u64::from(since.since(start)) / TICKS_PER_SECOND)
                }
                Effect::None => panic!("it was invalidated"),
            }
        }
        assert!(longest <= KEPT, "{longest:?}");
        assert_eq!((record.effect(seq(9)), record.effect(seq(11))), (Effect::Hard, Effect::Hard));
        assert_ne!(record.effect(seq(10 + 2 * 19)), Effect::Hard, "what came lately is a copy still");
    }

    #[test]
    fn an_invalidation_covers_what_is_as_of_its_own_number() {
        let (clock, mut record) = (Clock::manual(), Invalidations::at(seq(10)));
        let start = clock.now().tick();
        record.add(seq(20), soft(&clock));
        clock.advance(Duration::from_secs(4));
        record.add(seq(30), soft(&clock));
        let covers = [10, 11, 20, 21, 30, 31].map(|number| record.effect(seq(number)));
        let (first, second) = (Effect::Soft(start), Effect::Soft(later(start, 4)));
        assert_eq!(covers, [Effect::Hard, first, first, second, second, Effect::None]);
    }

    #[test]
    fn the_later_of_two_soft_invalidations_becomes_the_earlier_one_once_that_is_old() {
        let (clock, mut record) = (Clock::manual(), Invalidations::default());
        let start = clock.now().tick();
        for number in [10, 20, 30] {
            record.add(seq(number), soft(&clock));
            clock.advance(Duration::from_secs(5));
        }
        assert_eq!(
            (record.effect(seq(10)), record.effect(seq(20))),
            (Effect::Hard, Effect::Soft(later(start, 5)))
        );
    }

    #[test]
    fn a_soft_invalidation_counts_from_the_next_tick() {
        let (clock, mut record) = (Clock::manual(), Invalidations::default());
        clock.advance(Duration::from_millis(1));
        record.add(seq(10), soft(&clock));
        assert_eq!(record.effect(seq(9)), Effect::Soft(Tick::not_before(1)));
    }

    #[test]
    fn the_harder_and_the_earlier_of_two_covers_counts() {
        assert_eq!(soft_at(7).and(soft_at(5)), soft_at(5));
        assert_eq!((Effect::None.and(soft_at(5)), soft_at(5).and(Effect::None)), (soft_at(5), soft_at(5)));
        assert_eq!(
            (Effect::Hard.and(soft_at(5)), Effect::None.and(Effect::Hard)),
            (Effect::Hard, Effect::Hard)
        );
    }
}
