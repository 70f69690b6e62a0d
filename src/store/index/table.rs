//! One small hash table of slots, in two pages of its own: open addressing, each slot at the first free place
//! from its home on (Knuth, TAOCP 6.4, Algorithms L and R).
//!
//! It has pages of its own because those of the allocator are shared with longer-lived data and would not be
//! given back. It never grows: the index splits a full table in two.

use std::io;

use memmap2::MmapMut;
use prefetch_index::prefetch_index;

use crate::store::index::slot::Slot;

/// At most [`TABLE_SLOTS`] slots.
pub(crate) struct Table {
    /// Words of 8 bytes: slots with all bits inverted, so that 0 is no slot.
    bytes: MmapMut,
    pub(crate) len: usize,
}

impl Table {
    /// # Errors
    /// If the system has no memory to give.
    pub(crate) fn new() -> io::Result<Table> {
        Ok(Table { bytes: MmapMut::map_anon(TABLE_BYTES)?, len: 0 })
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len == TABLE_SLOTS
    }

    /// The slot with this tag whose item `is_it`.
    pub(crate) fn find(&self, tag: u64, mut is_it: impl FnMut(Slot) -> bool) -> Option<Slot> {
        let mut at = home(tag);
        loop {
            let slot = self.read(at)?;
            if slot.tag() == tag && is_it(slot) {
                return Some(slot);
            }
            at = (at + 1) % PLACES;
        }
    }

    /// Prefetches the place that [`Table::find`] looks at first.
    pub(crate) fn prefetch(&self, tag: u64) {
        prefetch_index(&self.bytes[..], home(tag) * size_of::<u64>());
    }

    /// Adds a new slot; the table must not be full.
    pub(crate) fn insert(&mut self, slot: Slot) {
        assert!(!self.is_full());
        let mut at = home(slot.tag());
        while self.read(at).is_some() {
            at = (at + 1) % PLACES;
        }
        self.write(at, Some(slot));
        self.len += 1;
    }

    /// Removes a slot. Those after it move up if that brings them nearer to their homes.
    pub(crate) fn remove(&mut self, slot: Slot) {
        let mut hole = self.place_of(slot);
        let mut at = hole;
        loop {
            at = (at + 1) % PLACES;
            let Some(slot) = self.read(at) else { break };
            if distance(home(slot.tag()), at) >= distance(hole, at) {
                self.write(hole, Some(slot));
                hole = at;
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
        (0..PLACES).filter_map(|at| self.read(at))
    }

    fn place_of(&self, slot: Slot) -> usize {
        let mut at = home(slot.tag());
        loop {
            match self.read(at).expect("the slot is in the table") {
                found if found == slot => return at,
                _ => at = (at + 1) % PLACES,
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
}

fn home(tag: u64) -> usize {
    tag as usize % PLACES
}

/// The number of places from `from` to `to`.
fn distance(from: usize, to: usize) -> usize {
    to.wrapping_sub(from) % PLACES
}

/// Bits of a tag that choose its home.
pub(crate) const PLACE_BITS: u32 = 10;
const PLACES: usize = 1 << PLACE_BITS;
pub(crate) const TABLE_BYTES: usize = PLACES * size_of::<u64>();
/// Slots of a full table: with more than three quarters of its places taken, a miss reads more than one line
/// of the processor's cache.
pub(crate) const TABLE_SLOTS: usize = PLACES / 4 * 3;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::store::index::slot::Place;
    use crate::store::item::key::KeyHash;

    #[test]
    fn a_table_finds_the_slots_that_it_holds_and_no_others() {
        let mut table = Table::new().expect("two pages");
        let mut held = HashSet::new();
        // Hashes that pile up at the end of the table and wrap around.
        let slot = |n: u64| {
            Slot::new(
                KeyHash::new(n * n % 700 + 1_000),
                Place::Log((n % 5) as u16, (n % 131_072) as usize * 8),
            )
        };
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
        assert!(table.iter().all(|slot| held.remove(&slot.0)) && held.is_empty());
    }
}
