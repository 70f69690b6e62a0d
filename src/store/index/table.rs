//! One small hash table of slots, in two or three pages of its own: open addressing, each slot at the first
//! free place from its home on (Knuth, TAOCP 6.4, Algorithms L and R).
//!
//! It has pages of its own because those of the allocator are shared with longer-lived data and would not be
//! given back. A full table is replaced by a larger one; the index splits a full one of those in two. With
//! one size, all tables would be half empty at the same time, since hashes fill them evenly.

use std::io;

use memmap2::MmapMut;
use prefetch_index::prefetch_index;

use crate::store::index::slot::Slot;

/// At most [`Size::slots`] of them.
pub(crate) struct Table {
    /// Words of 8 bytes: slots with all bits inverted, so that 0 is no slot.
    bytes: MmapMut,
    pub(crate) len: usize,
}

/// The number of places of a table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Size {
    Small,
    Large,
}

impl Size {
    /// The smallest size that has room for more than so many slots, if there is one.
    pub(crate) fn of(slots: usize) -> Size {
        if slots < Size::Small.slots() { Size::Small } else { Size::Large }
    }

    const fn places(self) -> usize {
        match self {
            Size::Small => 1024,
            Size::Large => 1536,
        }
    }

    /// Slots of a full table: with more than three quarters of its places taken, a miss reads more than one
    /// line of the processor's cache.
    pub(crate) const fn slots(self) -> usize {
        self.places() / 4 * 3
    }
}

impl Table {
    /// # Errors
    /// If the system has no memory to give.
    pub(crate) fn new(size: Size) -> io::Result<Table> {
        Ok(Table { bytes: MmapMut::map_anon(size.places() * size_of::<u64>())?, len: 0 })
    }

    /// A table of this size with the same slots.
    ///
    /// # Errors
    /// If the system has no memory to give.
    pub(crate) fn resized(&self, size: Size) -> io::Result<Table> {
        let mut table = Table::new(size)?;
        self.iter().for_each(|slot| table.insert(slot));
        Ok(table)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len >= self.places() / 4 * 3
    }

    pub(crate) fn size(&self) -> Size {
        if self.places() > Size::Small.places() { Size::Large } else { Size::Small }
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The slot with this tag whose item `is_it`.
    pub(crate) fn find(&self, tag: u64, mut is_it: impl FnMut(Slot) -> bool) -> Option<Slot> {
        let mut at = self.home(tag);
        loop {
            let slot = self.read(at)?;
            if slot.tag() == tag && is_it(slot) {
                return Some(slot);
            }
            at = self.after(at);
        }
    }

    /// Prefetches the place that [`Table::find`] looks at first.
    pub(crate) fn prefetch(&self, tag: u64) {
        prefetch_index(&self.bytes[..], self.home(tag) * size_of::<u64>());
    }

    /// Adds a new slot; the table must not be full.
    pub(crate) fn insert(&mut self, slot: Slot) {
        assert!(!self.is_full());
        let mut at = self.home(slot.tag());
        while self.read(at).is_some() {
            at = self.after(at);
        }
        self.write(at, Some(slot));
        self.len += 1;
    }

    /// Removes a slot. Those after it move up if that brings them nearer to their homes.
    pub(crate) fn remove(&mut self, slot: Slot) {
        let mut hole = self.place_of(slot);
        // The number of places from the hole to `at`.
        let (mut at, mut distance) = (hole, 0);
        loop {
            (at, distance) = (self.after(at), distance + 1);
            let Some(slot) = self.read(at) else { break };
            if self.distance(self.home(slot.tag()), at) >= distance {
                self.write(hole, Some(slot));
                (hole, distance) = (at, 0);
            }
        }
        self.write(hole, None);
        self.len -= 1;
    }

    /// Replaces a slot by another with the same tag.
    pub(crate) fn replace(&mut self, from: Slot, to: Slot) {
        let at = self.place_of(from);
        self.write(at, Some(to));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Slot> {
        (0..self.places()).filter_map(|at| self.read(at))
    }

    fn place_of(&self, slot: Slot) -> usize {
        let mut at = self.home(slot.tag());
        loop {
            match self.read(at).expect("the slot is in the table") {
                found if found == slot => return at,
                _ => at = self.after(at),
            }
        }
    }

    fn read(&self, at: usize) -> Option<Slot> {
        let (words, _) = self.bytes.as_chunks();
        let word = u64::from_le_bytes(words[at]);
        (word != 0).then_some(Slot(!word))
    }

    fn write(&mut self, at: usize, slot: Option<Slot>) {
        let word = slot.map_or(0, |slot| !slot.0);
        self.bytes.as_chunks_mut().0[at] = word.to_le_bytes();
    }

    fn places(&self) -> usize {
        self.bytes.len() / size_of::<u64>()
    }

    /// The place of this part of the range of tags.
    fn home(&self, tag: u64) -> usize {
        (tag as usize % (1 << PLACE_BITS) * self.places()) >> PLACE_BITS
    }

    /// The next place, in a circle.
    fn after(&self, at: usize) -> usize {
        if at + 1 == self.places() { 0 } else { at + 1 }
    }

    /// The number of places from `from` to `to`.
    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.places() - from }
    }
}

/// Bits of a tag that choose its home: more than a table has places, so that each has nearly as many.
pub(crate) const PLACE_BITS: u32 = 12;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::store::index::slot::Place;
    use crate::store::item::key::KeyHash;

    #[test]
    fn a_table_finds_the_slots_that_it_holds_and_no_others() {
        // Hashes that pile up at the end of the table and wrap around.
        let slot = |n: u64| {
            Slot::new(
                KeyHash::new(n * n % 700 * 4 + 4_000),
                Place::Log((n % 5) as u16, (n % 131_072) as usize * 8),
            )
        };
        for size in [Size::Small, Size::Large] {
            let mut table = Table::new(size).expect("three pages");
            let mut held = HashSet::new();
            for n in 0..40_000 {
                let slot = slot(n * 7_919 % 3_000);
                if held.remove(&slot.0) {
                    table.remove(slot);
                } else if !table.is_full() {
                    table.insert(slot);
                    held.insert(slot.0);
                }
                assert_eq!(table.find(slot.tag(), |found| found == slot).is_some(), held.contains(&slot.0));
                assert_eq!(table.len, held.len());
            }
            assert!(table.size() == size && table.len > size.slots() / 2);
            let table = table.resized(Size::Large).expect("three pages");
            assert!(
                held.iter().all(|slot| table.find(Slot(*slot).tag(), |found| found.0 == *slot).is_some())
            );
            assert!(table.iter().all(|slot| held.remove(&slot.0)) && held.is_empty());
        }
    }
}
