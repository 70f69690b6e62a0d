//! How items leave, and what is counted and remembered of them.

use super::Engine;
use super::evicted::Evicted;
use super::expiry::Expiry;
use super::index::slot::{Place, Slot};
use super::item::key::Key;
use super::item::packed::Packed;
use super::log::segment::Queue;

/// The counts of a removed item.
pub(super) struct Departed {
    accessed: u32,
    bytes: usize,
    is_fetched: bool,
    is_stale: bool,
}

/// Why an item goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Removal {
    Evicted,
    Expired,
    Removed,
}

impl Engine {
    /// Takes an item out that a client wants gone. What had been used is remembered: it will come back.
    pub(crate) fn remove(&mut self, key: &Key, slot: Slot, second: u32) {
        if self.head(slot).uses() > 0 || self.queue(slot) == Queue::Main {
            self.ghosts.put(key.hash, self.bytes_of(slot));
        }
        self.discard(slot, Removal::Removed, second);
    }

    /// Throws away an item whose time has passed.
    pub(crate) fn expired(&mut self, slot: Slot, second: u32) {
        self.discard(slot, Removal::Expired, second);
    }

    /// Takes an item out.
    pub(super) fn discard(&mut self, slot: Slot, why: Removal, second: u32) {
        let departed = Departed::new(self.head(slot), self.bytes_of(slot));
        if why == Removal::Evicted && self.collectors > 0 {
            let value_bytes = self.item(slot).value().len();
            self.evicted.extend(Evicted::new(self.head(slot), value_bytes));
        }
        self.count_exit(departed, why, second);
        self.with_index(|index| index.remove(slot));
        match slot.place() {
            Place::Large(number) => self.garbage.push(self.large.remove(number).value),
            Place::Log(number, offset) => self.log.kill(number, offset),
        }
    }

    pub(super) fn count_exit(&mut self, item: Departed, why: Removal, second: u32) {
        let (counts, unfetched) = (&mut self.counts, u64::from(!item.is_fetched));
        counts.bytes -= item.bytes as u64;
        counts.items -= 1;
        counts.stale -= u64::from(item.is_stale);
        match why {
            Removal::Evicted => {
                counts.evictions += 1;
                counts.evicted_unfetched += unfetched;
                counts.evicted(second.saturating_sub(item.accessed));
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
    /// `None` for a stale copy, which was gone for most already.
    pub(super) fn new(item: Packed, value_bytes: usize) -> Option<Evicted> {
        let (accessed, expiry, is_fetched) = (item.accessed(), Expiry(item.meta().expiry), item.is_fetched());
        (!item.is_stale()).then(|| Evicted {
            accessed,
            expiry,
            is_fetched,
            key: item.key().into(),
            value_bytes,
        })
    }
}

impl Departed {
    pub(super) fn new(item: Packed, bytes: usize) -> Self {
        Departed {
            accessed: item.accessed(),
            bytes,
            is_fetched: item.is_fetched(),
            is_stale: item.is_stale(),
        }
    }
}
