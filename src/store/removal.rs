//! The removal of items: the reasons, the counts, and the ghosts of items that clients removed.

use super::Engine;
use super::ends::Size;
use super::evicted::Evicted;
use super::expiry::Expiry;
use super::ghosts::Ghost;
use super::index::slot::{Place, Slot};
use super::item::key::Key;
use super::item::packed::Packed;
use super::item::uses::Uses;
use crate::store::tick::{TICKS_PER_SECOND, Tick};

/// The facts of a removed item that are counted.
pub(super) struct RemovedItem {
    accessed: Tick,
    bytes: usize,
    expires: bool,
    is_fetched: bool,
    is_stale: bool,
}

/// The reason for the removal of an item.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Removal {
    Evicted,
    Expired,
    /// By a client, by an invalidation, or as a stale copy.
    Removed,
}

impl Engine {
    /// Removes an item for a client. An item that was used leaves a ghost: it will come back.
    pub(crate) fn remove(&mut self, key: &Key, slot: Slot, tick: Tick) {
        let uses = self.head(slot).uses();
        if uses != Uses::NONE {
            self.ghosts.put(key.hash, self.bytes_of(slot), Ghost { uses, is_deleted: true });
        }
        self.discard(slot, Removal::Removed, tick);
    }

    /// The uses of a new item of this size: those that it had if it comes back.
    pub(super) fn uses_before(&mut self, key: &Key, size: Size) -> Uses {
        let Some((ghost, is_young)) = self.ghosts.take(key.hash) else { return Uses::NONE };
        self.counts.ghost_hits += 1;
        if is_young && !ghost.is_deleted {
            self.ends.returned(ghost.uses, size);
        }
        ghost.uses.returned()
    }

    /// Removes an expired item.
    pub(crate) fn expired(&mut self, slot: Slot, tick: Tick) {
        self.discard(slot, Removal::Expired, tick);
    }

    /// Removes an item for any reason.
    pub(super) fn discard(&mut self, slot: Slot, why: Removal, tick: Tick) {
        let removed = RemovedItem::new(self.head(slot), self.bytes_of(slot));
        if why == Removal::Evicted && self.eviction_watchers > 0 {
            let value_bytes = self.item(slot).value().len();
            self.evicted.extend(Evicted::new(self.head(slot), value_bytes));
        }
        self.unlink(slot);
        self.tags_in_use.subtract(self.head(slot).tags());
        self.count_removal(removed, why, tick);
        match slot.place() {
            Place::Large(number) => self.removed_values.push(self.large.remove(number).value),
            Place::Log(number, offset) => self.log.kill(number, offset),
        }
    }

    pub(super) fn count_removal(&mut self, item: RemovedItem, why: Removal, tick: Tick) {
        let (counts, unfetched) = (&mut self.counts, u64::from(!item.is_fetched));
        counts.bytes -= item.bytes as u64;
        counts.items -= 1;
        counts.stale -= u64::from(item.is_stale);
        match why {
            Removal::Evicted => {
                counts.evictions += 1;
                counts.evicted_unfetched += unfetched;
                counts.evicted_nonzero += u64::from(item.expires);
                let age_seconds = tick.since(item.accessed) / TICKS_PER_SECOND as u32;
                counts.evicted(age_seconds);
                counts.last_evicted = (tick, age_seconds);
            }
            Removal::Expired => {
                counts.expired += 1;
                counts.expired_unfetched += unfetched;
            }
            Removal::Removed => {}
        }
    }
}

impl Evicted {
    /// `None` for a stale copy, which most clients could not read any more.
    pub(super) fn new(item: Packed, value_bytes: usize) -> Option<Evicted> {
        let (accessed, expiry, is_fetched) = (item.accessed(), item.meta().expiry, item.is_fetched());
        (!item.is_stale()).then(|| Evicted {
            accessed,
            expiry,
            is_fetched,
            key: item.key().into(),
            value_bytes,
        })
    }
}

impl RemovedItem {
    pub(super) fn new(item: Packed, bytes: usize) -> Self {
        RemovedItem {
            accessed: item.accessed(),
            bytes,
            expires: item.removed_at() != Expiry::NEVER,
            is_fetched: item.is_fetched(),
            is_stale: item.is_stale(),
        }
    }
}
