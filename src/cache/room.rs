//! Who makes room: stores before they store, sweeps whatever is over, and whoever lowers the limit.
//!
//! Each step works in one shard, under its lock alone, and on one segment at most.

use super::Cache;
use crate::clock::Now;
use crate::store::budget::Wanted;
use crate::store::budget::WhenFull;
use crate::sync::Ordering;

impl Cache {
    /// Throws away what has expired or was flushed, and what is above a limit that was lowered: at most one segment
    /// under each lock; true if there may be more, so that the caller can let others work before it goes on.
    pub fn sweep(&self, now: Now) -> bool {
        self.shadow.sweep(now);
        let mut is_more = false;
        for hash in self.hashes() {
            is_more |= self.in_shard(hash, now, |shard, at| shard.sweep(at));
        }
        let is_over = self.budget.used() > self.budget.limit();
        is_more | (is_over && self.reclaim(0, now))
    }

    /// Another limit for the memory of items, in bytes. What is above it goes step by step, by stores and sweeps.
    ///
    /// False, and nothing changes, if it is less than an eighth or more than eight times the limit of the beginning:
    /// segments and shards were made for that, and their number bounds the work of a step.
    pub fn set_memory_bytes(&self, bytes: usize) -> bool {
        let first = self.config.memory_bytes;
        let is_possible = (first / MEMORY_FACTOR..=first.saturating_mul(MEMORY_FACTOR)).contains(&bytes);
        if is_possible {
            self.budget.set_limit(bytes);
        }
        is_possible
    }

    /// The limit for the memory of items, and what of it is charged now, both in bytes.
    pub fn memory_bytes(&self) -> (usize, usize) {
        (self.budget.limit(), self.budget.used())
    }

    /// Makes room before a store: one step where little is left, and more of them before a large value, to which others
    /// like it leave that room until what is returned is dropped.
    pub(super) fn make_room(&self, hash: u64, value_bytes: usize, now: Now) -> Option<Wanted<'_>> {
        if !self.budget.admits(value_bytes) {
            return None;
        }
        let wanted = self.budget.want(value_bytes);
        let mut steps = 1 + value_bytes / (self.budget.segment_bytes / 8);
        while steps > 0 && self.budget.is_tight(wanted.as_ref()) {
            let gave = self.reclaim(hash, now);
            // Of those that may not evict, a few that have nothing are enough to ask.
            steps = if gave || self.config.when_full == WhenFull::Evict { steps - 1 } else { 0 };
        }
        wanted
    }

    /// One step towards more room, in the shard of this hash or, if that holds less than its share, in one of the next
    /// that holds more; false if none of them had anything to give.
    fn reclaim(&self, hash: u64, now: Now) -> bool {
        let (share, shards) = (self.budget.share(), self.shards.len());
        let others =
            (0..shards.min(SHARDS_ASKED)).map(|_| self.rotor.fetch_add(1, Ordering::Relaxed) % shards);
        std::iter::once(self.shard_of(hash)).chain(others).any(|shard| {
            let (gave, left) = self.policies.with(|policies| {
                let mut shard = self.shards[shard].lock();
                let gave = shard.reclaim(share, &self.at(policies.general_governed(), policies, now));
                (gave, shard.take_left())
            });
            left.into_iter().for_each(|left| self.deal_with(left));
            gave
        })
    }
}

/// Other shards that one step asks for room at most, whatever their number is.
const SHARDS_ASKED: usize = 16;
/// By how much the limit may be lowered or raised.
const MEMORY_FACTOR: usize = 8;
