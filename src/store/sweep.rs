//! The sweep: the removal of expired and invalidated items that no command asks for.
//!
//! A step looks through at most one segment and some large items. Segments in which much has expired come
//! first; others in which any item has expired follow one by one, so that in the end every item is found.

use super::index::slot::Place;
use super::log::segment::Segment;
use super::removal::Removal;
use super::{Dead, Engine, Slot};
use crate::store::tick::TICKS_PER_SECOND;

impl Engine {
    /// Has the sweep look for invalidated items everywhere.
    pub(crate) fn mark_all(&mut self) {
        (self.is_looking, self.sweep_large) = (true, 0);
        self.log.segments_mut().for_each(|segment| segment.is_marked = true);
    }

    /// One step; true if the next one should follow at once.
    pub(crate) fn sweep(&mut self, dead: Dead) -> bool {
        let is_more = self.sweep_large(dead);
        if self.sweep_due(dead) {
            return true;
        }
        self.is_looking &= is_more;
        let is_trickle = |segment: &Segment| {
            (segment.expiries.soonest().is_past(dead.tick) && is_rested(segment, dead)) || segment.live == 0
        };
        if let Some(number) = self.next_segment(is_trickle) {
            self.look_through(number, dead, Copies::Keep);
        }
        is_more
    }

    /// Looks through a segment that is marked or in which enough has expired; false if there is none.
    pub(super) fn sweep_due(&mut self, dead: Dead) -> bool {
        let is_due = |segment: &Segment| {
            let enough = (segment.used / DUE_PART).max(1);
            segment.is_marked || (is_rested(segment, dead) && segment.expiries.is_due(dead.tick, enough))
        };
        let found = self.next_segment(is_due);
        if let Some(number) = found {
            self.look_through(number, dead, Copies::Keep);
        }
        found.is_some()
    }

    /// Removes the stale copies of one segment that has enough of them; false if there is none.
    pub(super) fn remove_copies(&mut self, dead: Dead) -> bool {
        let enough = (self.budget.segment_bytes / DUE_PART).max(1);
        let found = self.next_segment(|segment| segment.stale >= enough);
        if let Some(number) = found {
            self.look_through(number, dead, Copies::Remove);
        }
        found.is_some()
    }

    /// The next such segment, in a round of all segments.
    fn next_segment(&mut self, is_like: impl Fn(&Segment) -> bool) -> Option<u16> {
        let from = usize::from(self.sweep_segment).min(self.log.numbers());
        let mut round = (from..self.log.numbers()).chain(0..from).map(|number| number as u16);
        let found = round.find(|number| self.log.held_segment(*number).is_some_and(&is_like))?;
        self.sweep_segment = found;
        Some(found)
    }

    /// Removes the expired and invalidated items of a segment, and the segment if nothing is left.
    fn look_through(&mut self, number: u16, dead: Dead, copies: Copies) {
        let mut segment = self.log.lift(number);
        (segment.expiries, segment.is_marked, segment.swept) = (Default::default(), false, dead.tick);
        segment.stale = 0;
        let mut offset = 0;
        while let Some((item, next)) = segment.next(offset) {
            let (is_dead, tight) = (item.is_dead(), item.tight());
            let verdict = dead.verdict(item).and_then(|end| match dead.is_copy(item, end) {
                true if copies == Copies::Remove => Err(Removal::Removed),
                is_copy => Ok((end, is_copy)),
            });
            match verdict {
                _ if is_dead => {}
                Ok((end, is_copy)) => {
                    segment.expiries.add(end, tight, dead.tick);
                    segment.stale += if is_copy { tight } else { 0 };
                }
                Err(why) => {
                    let slot = Slot::new(self.keys.hash(item.key()), Place::Log(number, offset));
                    self.discard_with_segment(slot, (item, tight), why, dead.tick);
                    segment.item_mut(offset).kill();
                    segment.live -= tight;
                }
            }
            offset = next;
        }
        let is_empty = segment.live == 0;
        self.log.lower(number, segment);
        if is_empty {
            self.log.close(number);
        }
    }

    fn sweep_large(&mut self, dead: Dead) -> bool {
        let (numbers, next) = self.large.some(self.sweep_large, LARGE_STEP);
        for number in numbers {
            if let Some(why) = dead.removal(self.large.get(number).head()) {
                self.discard_large(number, why, dead.tick);
            }
        }
        self.sweep_large = next;
        next != 0
    }
}

/// Whether a segment was not looked through within the last second.
fn is_rested(segment: &Segment, dead: Dead) -> bool {
    u64::from(dead.tick.since(segment.swept)) >= TICKS_PER_SECOND
}

/// The treatment of stale copies that the sweep meets.
#[derive(Clone, Copy, PartialEq)]
enum Copies {
    Keep,
    Remove,
}

/// A segment is looked through once this part of it has expired.
const DUE_PART: usize = 16;
/// Large items that one step examines.
const LARGE_STEP: usize = 128;

#[cfg(test)]
mod tests {
    use super::super::budget::WhenFull;
    use crate::store::oracle::Pair;

    #[test]
    fn a_few_expired_items_are_removed_when_no_segment_is_due() {
        let mut pair = Pair::new(1 << 20, WhenFull::Evict);
        for number in 0..100 {
            pair.insert(format!("{number}").as_bytes(), &[1; 100], 300 + number, 0);
        }
        for (seconds, expired) in [(299, 0), (1, 1), (3, 4)] {
            pair.second += seconds;
            // They lie in as many segments as there are queues.
            (0..3).for_each(|_| _ = pair.sweep());
            assert_eq!((pair.engine.counts().items, pair.engine.counts().expired), (100 - expired, expired));
        }
    }

    #[test]
    fn expired_large_items_are_removed_in_steps() {
        let mut pair = Pair::new(16 << 20, WhenFull::Evict);
        for number in 0..300 {
            assert!(pair.insert(format!("{number}").as_bytes(), &[1; 5_000], 5, 0));
        }
        pair.second += 5;
        let steps = [(); 3].map(|()| (pair.sweep(), pair.engine.counts().items));
        assert_eq!(steps, [(true, 172), (true, 44), (false, 0)]);
    }
}
