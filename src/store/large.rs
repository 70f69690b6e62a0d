//! Large items: each value in memory of its own, so that it is received, kept and sent without a copy.
//!
//! They are evicted one by one, in the order of their ends. That order is a heap which is put right when an
//! item comes up: a use only notes the floor. Their bytes stay charged until the last reader drops them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use bytes::Bytes;

use super::budget::Budget;
use super::ends::{Ends, Mean, Size};
use super::index::slot::LARGE_MAX;
use super::item::meta::Meta;
use super::item::packed::{Packed, PackedMut};
use super::item::shape::Shape;
use super::item::tags::Tags;
use super::item::uses::Uses;
use crate::pages::Run;
use crate::store::tick::Tick;

/// The large items of one shard.
#[derive(Default)]
pub(super) struct Large {
    /// Bytes of keys and values held.
    pub(super) bytes: usize,
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    /// The items by their ends. An end may be later by now; entries of removed items are outdated.
    order: BinaryHeap<Reverse<Place>>,
    /// Distinguishes the item of an entry of `order` from one that has the same number later.
    stamp: u64,
}

/// When an item ends, in the bits of a number that is not negative; its number, and its stamp.
type Place = (u64, u32, u64);

/// One large item.
pub(super) struct Entry {
    /// Bytes charged for it.
    pub(super) charged: usize,
    /// Header and key, as in the log.
    head: Box<[u8]>,
    /// The floor of eviction at its last use.
    floor: f64,
    stamp: u64,
    pub(super) value: Bytes,
}

/// A value that is charged for.
pub(super) struct Charged {
    /// The bytes charged, those of the item around it included.
    bytes: usize,
    value: Bytes,
}

/// Memory that is charged until it is dropped.
struct Memory {
    budget: Arc<Budget>,
    bytes: usize,
    value: Run,
}

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        &self.value
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.budget.discharge(self.bytes);
    }
}

/// The value as shared bytes, if the budget has room for it.
pub(super) fn charged(value: Run, tags: Tags, budget: &Arc<Budget>) -> Result<Charged, Run> {
    let bytes = value.memory_bytes() + tags.packed().len() + ENTRY_OVERHEAD_BYTES;
    if !budget.try_charge(bytes) {
        return Err(value);
    }
    let memory = Memory { budget: Arc::clone(budget), bytes, value };
    Ok(Charged { bytes, value: Bytes::from_owner(memory) })
}

impl Entry {
    pub(super) fn new(meta: &Meta, tags: Tags, key: &[u8], charged: Charged) -> Self {
        let head = head(meta, tags, key);
        Entry { charged: charged.bytes, head, floor: 0.0, stamp: 0, value: charged.value }
    }

    pub(super) fn head(&self) -> Packed<'_> {
        Packed(&self.head)
    }

    pub(super) fn head_mut(&mut self) -> PackedMut<'_> {
        PackedMut(&mut self.head)
    }

    /// Replaces the description. The value is left alone: only the head is written anew, if it has no room.
    fn set_meta(&mut self, meta: &Meta) {
        let old = self.head();
        if old.has_room_for(meta) {
            self.head_mut().set_meta(meta);
            return;
        }
        let mut head = head(meta, old.tags(), old.key());
        PackedMut(&mut head).set_used(old.used());
        self.head = head;
    }

    /// Sets its uses; the last of them is now.
    pub(super) fn set_uses(&mut self, uses: Uses, ends: &Ends) {
        self.head_mut().set_uses(uses, ends.stamp());
        self.floor = ends.floor();
    }

    /// Counts a read.
    #[inline(always)]
    pub(super) fn read(&mut self, tick: Tick, ends: &Ends) {
        self.head_mut().read(tick, ends.stamp());
        self.floor = ends.floor();
    }

    pub(super) fn end(&self, ends: &Ends, mean: Mean) -> f64 {
        self.floor + ends.life(self.head().uses(), self.size(), mean)
    }

    /// The memory that it takes.
    pub(super) fn size(&self) -> Size {
        Size::Large(self.charged)
    }

    /// Bytes of key and value.
    pub(super) fn bytes(&self) -> usize {
        self.head.len() + self.value.len()
    }
}

impl Large {
    /// Adds an item that was used now, and returns its number; `None` if there are too many items.
    pub(super) fn insert(&mut self, mut entry: Entry, uses: Uses, ends: &Ends, mean: Mean) -> Option<u32> {
        let number = match self.free.pop() {
            Some(number) => number,
            None if self.entries.len() == LARGE_MAX => return None,
            None => {
                self.entries.push(None);
                (self.entries.len() - 1) as u32
            }
        };
        self.stamp += 1;
        entry.stamp = self.stamp;
        entry.set_uses(uses, ends);
        self.bytes += entry.bytes();
        let end = entry.end(ends, mean);
        self.entries[number as usize] = Some(entry);
        self.order.push(Reverse((end.to_bits(), number, self.stamp)));
        if self.order.len() > self.len() * 2 + ORDER_SLACK {
            let Large { entries, order, .. } = self;
            order.retain(|Reverse((_, number, stamp))| is_current(entries, *number, *stamp));
        }
        Some(number)
    }

    /// Replaces the description of an item; returns the bytes of the item before, and now.
    pub(super) fn set_meta(&mut self, number: u32, meta: &Meta) -> (usize, usize) {
        let entry = self.get_mut(number);
        let before = entry.bytes();
        entry.set_meta(meta);
        let after = entry.bytes();
        self.bytes = self.bytes + after - before;
        (before, after)
    }

    pub(super) fn remove(&mut self, number: u32) -> Entry {
        let entry = self.entries[number as usize].take().expect("the item is held");
        self.bytes -= entry.bytes();
        self.free.push(number);
        if self.len() == 0 {
            *self = Large { stamp: self.stamp, ..Large::default() };
        }
        entry
    }

    pub(super) fn get(&self, number: u32) -> &Entry {
        self.entries[number as usize].as_ref().expect("the item is held")
    }

    pub(super) fn get_mut(&mut self, number: u32) -> &mut Entry {
        self.entries[number as usize].as_mut().expect("the item is held")
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// The numbers of the items among `most` places from the `from`th on, and the next place; 0 after the
    /// last.
    pub(super) fn some(&self, from: usize, most: usize) -> (Vec<u32>, usize) {
        let end = self.entries.len().min(from.saturating_add(most));
        let found = (from..end).filter(|number| self.entries[*number].is_some()).map(|number| number as u32);
        (found.collect(), if end == self.entries.len() { 0 } else { end })
    }

    /// The item that ends first, and its end. It puts so many ends right at most, and then takes the first
    /// of them as it is.
    pub(super) fn first_end(&mut self, ends: &Ends, mean: Mean) -> Option<(f64, u32)> {
        for corrected in 0.. {
            let Reverse((end, number, stamp)) = *self.order.peek()?;
            let entry = self.entries.get(number as usize).and_then(Option::as_ref);
            let Some(entry) = entry.filter(|entry| entry.stamp == stamp) else {
                self.order.pop();
                continue;
            };
            let now = entry.end(ends, mean);
            if now <= f64::from_bits(end) || corrected >= CORRECTED_MAX {
                return Some((now, number));
            }
            self.order.pop();
            self.order.push(Reverse((now.to_bits(), number, stamp)));
        }
        None
    }

    /// The end by which an item is in the order.
    #[cfg(test)]
    pub(super) fn noted_end(&self, number: u32) -> f64 {
        let is_it = |Reverse(place): &&Reverse<Place>| place.1 == number;
        f64::from_bits(self.order.iter().find(is_it).expect("it is in the order").0.0)
    }

    /// When the item was last read or stored that ends first, as far as is known.
    pub(super) fn first_access(&self) -> Option<Tick> {
        let Reverse((_, number, stamp)) = self.order.peek()?;
        is_current(&self.entries, *number, *stamp).then(|| self.get(*number).head().accessed())
    }
}

fn head(meta: &Meta, tags: Tags, key: &[u8]) -> Box<[u8]> {
    let shape = Shape::new(meta, tags, key.len(), 0);
    let mut head = vec![0; shape.place()].into_boxed_slice();
    PackedMut(&mut head).write_large(shape, meta, tags, key);
    head
}

fn is_current(entries: &[Option<Entry>], number: u32, stamp: u64) -> bool {
    let entry = entries.get(number as usize).and_then(Option::as_ref);
    entry.is_some_and(|entry| entry.stamp == stamp)
}

/// The entry, its two allocations, its place in the order, and the room that these tables have left: about
/// 250 bytes were measured.
const ENTRY_OVERHEAD_BYTES: usize = size_of::<Option<Entry>>() + 200;
/// Outdated entries of the order are removed once there are so many more entries than items.
const ORDER_SLACK: usize = 16;
/// The most ends that one search puts right.
pub(super) const CORRECTED_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use crate::store::budget::WhenFull;
    use crate::store::item::meta::Meta;
    use crate::store::oracle::Pair;

    /// The value was copied, under the lock of its shard. Where nothing may be evicted there was often no
    /// room for the copy, and the item was removed.
    #[test]
    fn a_new_description_of_a_large_item_copies_no_value_and_needs_no_room() {
        for when_full in [WhenFull::Evict, WhenFull::Refuse] {
            let mut pair = Pair::new(1 << 20, when_full);
            let keys = pair.engine.keys.clone();
            let key = keys.key(b"large").expect("it is short");
            assert!(pair.insert(b"large", &[1; 300_000], 9, 0));
            let budget = std::sync::Arc::clone(&pair.engine.budget);
            let others = budget.limit() - budget.used();
            budget.charge(others);
            let slot = pair.find(b"large").expect("there was room");
            pair.engine.used(slot, pair.tick());
            let (at, meta) = (pair.engine.item(slot).value().as_ptr(), pair.engine.meta(slot));
            for meta in [
                Meta { removed_at: pair.expiry(100), ..meta },
                Meta { is_stale: true, chosen: 7, removed_at: pair.expiry(200), ..meta },
            ] {
                let slot = pair.find(b"large").expect("it stays");
                pair.set_meta(&key, slot, meta);
                let slot = pair.find(b"large").expect("it stays");
                let item = pair.engine.item(slot);
                assert_eq!((item.meta(), item.value().as_ptr(), item.is_fetched), (meta, at, true));
            }
            budget.discharge(others);
            pair.check();
        }
    }
}
