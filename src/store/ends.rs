//! When items end: the order of eviction.
//!
//! This is greedy dual by frequency over size (Cherkasova, HPL-98-69, 1998), kept lazily. Only eviction moves
//! its clock, the floor: it is the greatest end of anything that was evicted. An item ends a life after its
//! last use, on this clock. The life grows with the uses of the item, and shrinks with its size. So an item
//! that is no longer used is evicted at some time, however often it was used.
//!
//! The unit is the life of an item of the mean size without a use after its store. A small item has six bits
//! for the floor at its last use, in halves of a unit; a large item has the exact floor.
//!
//! Lives are corrected by class, of small or large items with the same uses: ghosts show which evicted items
//! are stored again soon. A class with more such returns for each evicted byte than the others gets longer
//! lives, until all classes have as many.

use crate::store::item::packed::STAMP_MASK;
use crate::store::item::uses::{USES_CLASSES, Uses};

/// The clock of eviction of one shard, and the lives by which items end.
pub(super) struct Ends {
    /// Nothing that is held ends before it, but for rounding.
    floor: f64,
    /// The floor in halves of a unit, rounded.
    ticks: u64,
    /// The factors of lives by class.
    factors: [f64; CLASSES],
    /// Bytes of each class that were evicted, and items of them that came back soon; both fade.
    evicted: [f64; CLASSES],
    returned: [f64; CLASSES],
    /// Bytes evicted since the factors were last corrected, and those after which they are again.
    evicted_bytes: usize,
    correct_after: usize,
}

/// The memory that an item takes, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Size {
    /// In the log.
    Small(usize),
    /// In pages of its own: all of them, and what else is charged for it.
    Large(usize),
}

/// The size that lives are in proportion to: the mean of the small items of a shard.
#[derive(Clone, Copy)]
pub(super) struct Mean(f64);

impl Mean {
    pub(super) fn new(bytes: usize, items: usize) -> Mean {
        Mean((float(bytes) / float(items.max(1))).max(MEAN_MIN))
    }
}

impl Size {
    pub(super) fn bytes(self) -> usize {
        match self {
            Size::Small(bytes) | Size::Large(bytes) => bytes,
        }
    }

    /// The number of the class of an item of this size.
    fn class(self, uses: Uses) -> usize {
        match self {
            Size::Small(_) => uses.class(),
            Size::Large(_) => USES_CLASSES + uses.class(),
        }
    }
}

impl Ends {
    pub(super) fn new(shard_bytes: usize) -> Ends {
        Ends {
            floor: 0.0,
            ticks: 0,
            factors: FACTORS,
            evicted: [0.0; CLASSES],
            returned: [0.0; CLASSES],
            evicted_bytes: 0,
            correct_after: shard_bytes / CORRECTED_PART,
        }
    }

    pub(super) fn floor(&self) -> f64 {
        self.floor
    }

    /// The factors of lives by class: small items with 0 to 7 uses, the same after a return, and large items
    /// likewise.
    pub(super) fn factors(&self) -> [f64; CLASSES] {
        self.factors
    }

    /// The floor, as small items note it at each use.
    #[inline(always)]
    pub(super) fn stamp(&self) -> u32 {
        self.ticks as u32 & STAMP_MASK
    }

    /// Moves the floor to the end of something that is going to be evicted. Only here do lives change. A
    /// segment without items has no end: its due is infinite.
    pub(super) fn raise(&mut self, end: f64) {
        if end.is_finite() {
            self.floor = self.floor.max(end);
        }
        self.ticks = (self.floor / TICK).round() as u64;
        if self.evicted_bytes > self.correct_after {
            self.correct();
        }
    }

    /// How long an item of this size lives after a use, in units.
    pub(super) fn life(&self, uses: Uses, size: Size, mean: Mean) -> f64 {
        let life = f64::from(uses.count() + 1) * mean.0 / float(size.bytes().max(1));
        (life * self.factors[size.class(uses)]).min(LIFE_MAX)
    }

    /// When a small item ends that was last used at `stamp`.
    pub(super) fn end(&self, uses: Uses, stamp: u32, bytes: usize, mean: Mean) -> f64 {
        let age = (self.ticks as u32).wrapping_sub(stamp) & STAMP_MASK;
        self.ticks.saturating_sub(age.into()) as i64 as f64 * TICK + self.life(uses, Size::Small(bytes), mean)
    }

    /// Counts the eviction of an item.
    pub(super) fn evicted(&mut self, uses: Uses, size: Size) {
        self.evicted[size.class(uses)] += float(size.bytes());
        self.evicted_bytes += size.bytes();
    }

    /// Counts that an item of these uses was stored again soon after its eviction, and has this size now.
    pub(super) fn returned(&mut self, uses: Uses, size: Size) {
        self.returned[size.class(uses)] += 1.0;
    }

    /// Moves each factor towards what makes all classes as likely to be wanted soon after their eviction.
    fn correct(&mut self) {
        let mean = self.returned.iter().sum::<f64>() / self.evicted.iter().sum::<f64>().max(1.0);
        if mean > 0.0 {
            for (class, factor) in self.factors.iter_mut().enumerate() {
                let ratio = (self.returned[class] + PRIOR) / (self.evicted[class] * mean + PRIOR);
                let step = STEP * ratio.ln().clamp(-1.0, 1.0);
                let (least, most) = if class < USES_CLASSES { SMALL_FACTORS } else { LARGE_FACTORS };
                *factor = (*factor * step.exp()).clamp(least, most);
            }
        }
        self.evicted.iter_mut().chain(&mut self.returned).for_each(|count| *count /= 2.0);
        self.evicted_bytes = 0;
    }
}

/// A number of bytes or items. Processors convert signed numbers in one step.
#[inline(always)]
fn float(number: usize) -> f64 {
    number as i64 as f64
}

/// The unit of stamps, in units of life.
const TICK: f64 = 0.5;
/// The longest life: half of what a stamp can tell.
pub(super) const LIFE_MAX: f64 = 16.0;
/// Ends that are closer than this to the floor are not worth a copy.
pub(super) const EARLY: f64 = 0.5;
/// The least mean size, in bytes: otherwise a few tiny items would make a unit of nothing.
const MEAN_MIN: f64 = 64.0;
/// Factors are corrected once this part of a shard was evicted.
const CORRECTED_PART: usize = 8;
/// Classes by size and uses.
pub(super) const CLASSES: usize = 2 * USES_CLASSES;
/// The least and the greatest factors; each changes by at most a fifth at a time.
const SMALL_FACTORS: (f64, f64) = (0.5, 2.0);
/// Large values that are never read again cost other items the most memory, so their lives may become much
/// shorter.
const LARGE_FACTORS: (f64, f64) = (1.0 / 16.0, 1.0);
const STEP: f64 = 0.2;
/// Factors at the start. A small item ends with its segment, on average half a unit early; so that large ones
/// have no advantage, they have half of the life.
const FACTORS: [f64; CLASSES] = {
    let mut factors = [1.0; CLASSES];
    let mut class = USES_CLASSES;
    while class < CLASSES {
        factors[class] = 0.5;
        class += 1;
    }
    factors
};
/// Returns that a class has as if by experience, so that few events do not move it.
const PRIOR: f64 = 10.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(count: u32) -> Uses {
        Uses::from_bits(count)
    }

    #[test]
    fn an_item_lives_by_its_uses_over_its_size() {
        let (ends, mean) = (Ends::new(1 << 20), Mean::new(10_000, 100));
        let life = |count, bytes| ends.life(uses(count), Size::Small(bytes), mean);
        assert_eq!((life(0, 100), life(1, 100), life(3, 400), life(0, 10_000)), (1.0, 2.0, 1.0, 0.01));
        assert_eq!(life(7, 10), LIFE_MAX);
        // Tiny items, or none, do not make a unit of nothing.
        assert_eq!(ends.life(uses(0), Size::Small(64), Mean::new(0, 0)), 1.0);
        // Until its class is known better, a large item has half of the life.
        assert_eq!(ends.life(uses(0), Size::Large(10_000), mean), 0.005);
    }

    #[test]
    fn a_stamp_tells_the_last_use_within_half_a_unit_however_far_the_floor_is() {
        let (mut ends, mean) = (Ends::new(1 << 20), Mean::new(10_000, 100));
        for step in 0..10_000 {
            let (stamp, exact) = (ends.stamp(), ends.floor());
            let mut later = Ends::new(1 << 20);
            later.raise(exact + f64::from(step % 31));
            let end = later.end(uses(0), stamp, 100, mean);
            assert!((end - exact - 1.0).abs() <= 0.25, "{end} of {exact}");
            ends.raise(exact + 0.37);
        }
    }

    #[test]
    fn the_floor_never_goes_back() {
        let mut ends = Ends::new(1 << 20);
        for (end, floor) in [(3.0, 3.0), (2.0, 3.0), (3.5, 3.5)] {
            ends.raise(end);
            assert_eq!(ends.floor(), floor);
        }
    }

    /// Two classes are evicted as much, but one of them is stored again soon three times as often.
    #[test]
    fn a_class_that_is_wanted_again_lives_longer_within_bounds() {
        let pairs = [
            ((0, Size::Small(1_000)), (1, Size::Small(1_000)), (0.5, 2.0)),
            ((0, Size::Large(1_000)), (1, Size::Large(1_000)), (1.0 / 16.0, 1.0)),
            ((0, Size::Large(1_000)), (0, Size::Small(1_000)), (1.0 / 16.0, 2.0)),
        ];
        for (rarely, often, (least, most)) in pairs {
            let mut ends = Ends::new(1 << 20);
            let class = |(count, size): (u32, Size)| size.class(uses(count));
            let mut before = ends.factors();
            for round in 0..200 {
                ends.raise(0.0);
                for number in 0..300 {
                    for (count, size) in [rarely, often] {
                        ends.evicted(uses(count), size);
                    }
                    let back = if number % 4 == 0 { &[rarely, often, often, often][..] } else { &[] };
                    for (count, size) in back {
                        ends.returned(uses(*count), *size);
                    }
                }
                let factors = ends.factors();
                assert!(factors[class(rarely)] <= before[class(rarely)], "round {round}");
                assert!(factors[class(often)] >= before[class(often)], "round {round}");
                assert_eq!(factors[2], 1.0);
                before = factors;
            }
            assert_eq!((before[class(rarely)], before[class(often)]), (least, most));
        }
    }

    #[test]
    fn nothing_is_learnt_if_nothing_comes_back() {
        let mut ends = Ends::new(1 << 20);
        for number in 0..10_000 {
            ends.evicted(uses(number % 8), Size::Small(1_000));
            ends.evicted(uses(number % 8), Size::Large(1_000));
            ends.raise(0.0);
        }
        assert_eq!(ends.factors(), FACTORS);
    }
}
