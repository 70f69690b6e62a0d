//! Throwing away what is over before anybody asks for it.
//!
//! A step looks through one segment and some large items at most. Segments in which much has ended come first; others
//! in which anything has get their turn one by one, so that in the end everything is found.

use super::index::Place;
use super::{Engine, Over, Slot};

impl Engine {
    /// One step; true if there is more that should not wait.
    pub(crate) fn sweep(&mut self, over: Over) -> bool {
        let is_more = self.sweep_large(over);
        if self.sweep_due(over) {
            return true;
        }
        let is_trickle = |engine: &Self, number| {
            let segment = engine.log.segment(number);
            let soonest = segment.expiries.soonest();
            (soonest != 0 && soonest <= over.second && segment.swept < over.second) || segment.live == 0
        };
        if let Some(number) = self.next_segment(is_trickle) {
            self.look_through(number, over);
        }
        is_more
    }

    /// Looks through a segment in which enough is over that it pays; false if there is none.
    pub(super) fn sweep_due(&mut self, over: Over) -> bool {
        let is_due = |engine: &Self, number| {
            let segment = engine.log.segment(number);
            let enough = (segment.used / DUE_PART).max(1);
            segment.is_flushed
                || (segment.swept < over.second && segment.expiries.is_due(over.second, enough))
        };
        let found = self.next_segment(is_due);
        if let Some(number) = found {
            self.look_through(number, over);
        }
        found.is_some()
    }

    /// The next segment like this, round all of them.
    fn next_segment(&mut self, is_like: impl Fn(&Self, u16) -> bool) -> Option<u16> {
        let numbers = self.log.numbers();
        let from = usize::from(self.sweep_segment);
        let mut round = (0..numbers).map(|step| ((from + step) % numbers) as u16);
        let found = round.find(|number| self.log.is_held(*number) && is_like(self, *number))?;
        self.sweep_segment = found;
        Some(found)
    }

    /// Throws away what is over in a segment, and the segment if nothing is left.
    fn look_through(&mut self, number: u16, over: Over) {
        let mut segment = self.log.lift(number);
        (segment.expiries, segment.is_flushed, segment.swept) = (Default::default(), false, over.second);
        let mut offset = 0;
        while let Some((item, next)) = segment.next(offset) {
            let (is_dead, tight) = (item.is_dead(), item.tight());
            match over.verdict(item) {
                _ if is_dead => {}
                Ok(gone) => segment.expiries.add(gone, tight, over.second),
                Err(why) => {
                    let slot = Slot::new(self.keys.hash(item.key()), Place::Log(number, offset));
                    self.gone(slot, item, why, over.second);
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

    fn sweep_large(&mut self, over: Over) -> bool {
        let (numbers, next) = self.large.some(self.sweep_large, LARGE_STEP);
        for number in numbers {
            if let Some(why) = over.exit(self.large.get(number).head()) {
                self.exit_large(number, why, over.second);
            }
        }
        self.sweep_large = next;
        next != 0
    }
}

/// A segment is looked through when this part of it has ended.
const DUE_PART: usize = 16;
/// Large items that one step looks at.
const LARGE_STEP: usize = 128;
