//! The times of the misses of a record, oldest first: pairs of a time and a count, joined if there are too
//! many.

use super::{EVERY, LAPSED_MAX, MISSES_MAX, Record, ahead};

impl<const PAIRS: usize> Record<PAIRS> {
    pub(super) fn drop_oldest(&mut self, pairs: usize, second: u32) {
        for pair in 0..pairs {
            self.lapse(self.counts[pair], second);
        }
        self.times.copy_within(pairs.., 0);
        self.counts.copy_within(pairs.., 0);
        self.used -= pairs as u8;
        self.loads = self.loads.min(self.misses() - self.taken[EVERY]);
    }

    /// Counts the oldest misses, all of the same time, as lapsed unless they are answered.
    pub(super) fn lapse(&mut self, count: u16, second: u32) {
        let unanswered = count - count.min(self.taken[EVERY]);
        if unanswered > 0 {
            self.lapsed = self.lapsed.saturating_add(unanswered).min(LAPSED_MAX);
            self.lapsed_second = second;
            if self.old > 0 {
                self.lapsed_old = self.lapsed_old.saturating_add(unanswered).min(self.lapsed);
            }
        }
        self.misses -= count;
        self.old = self.old.saturating_sub(count);
        for taken in self.taken.iter_mut().chain(&mut self.old_taken) {
            *taken = taken.saturating_sub(count);
        }
    }

    /// Adds a miss, and returns its time, which is not before that of the miss before: threads read the clock
    /// before they lock the shard.
    pub(super) fn push(&mut self, now: u32) -> u32 {
        let used = self.used();
        let newest = used.checked_sub(1).map(|newest| self.times[newest]);
        let now = newest.filter(|newest| ahead(now, *newest) <= 0).unwrap_or(now);
        if self.misses == MISSES_MAX {
            // No server has so many loads of one key at a time. The newest miss stands for all that follow.
            self.times[used - 1] = now;
            return now;
        }
        self.misses += 1;
        if newest == Some(now) && self.old < self.misses - 1 {
            self.counts[used - 1] += 1;
            return now;
        }
        let place = if used == PAIRS { self.join() } else { used };
        (self.times[place], self.counts[place]) = (now, 1);
        self.used = place as u8 + 1;
        now
    }

    /// Joins the two neighboring times that are closest, both before or both after the newest invalidation.
    /// Returns the place that is free then.
    pub(super) fn join(&mut self) -> usize {
        let border = self.border();
        let gap = |pair: &usize| ahead(self.times[pair + 1], self.times[*pair]);
        let pair =
            (0..PAIRS - 1).filter(|pair| pair + 1 != border).min_by_key(gap).expect("more than two pairs");
        self.counts[pair + 1] += self.counts[pair];
        self.times[pair..].rotate_left(1);
        self.counts[pair..].rotate_left(1);
        PAIRS - 1
    }

    /// The place of the first time after the newest invalidation.
    pub(super) fn border(&self) -> usize {
        let mut older = self.old;
        let is_older = |count: &&u16| {
            let is_older = older > 0;
            older = older.saturating_sub(**count);
            is_older
        };
        self.counts[..self.used()].iter().take_while(is_older).count()
    }
}
