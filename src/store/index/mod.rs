//! The place of each item: small hash tables of places, which split when they are full.
//!
//! A [`Slot`] holds 31 bits of its key's hash, and tables hash by nothing else. So a table that grows or
//! splits reads no keys, and it never holds more than [`TABLE_SLOTS`]: no insert moves more than that. Which
//! table a hash belongs to is found by a directory of some of its bits (extendible hashing, Fagin et al.,
//! TODS 1979).
//!
//! The index holds no keys: its callers compare them.

pub(crate) mod slot;
mod table;

use crate::store::NoRoom;
use crate::store::index::slot::{Slot, TAG_BITS, TAG_MASK};
use crate::store::index::table::{Size, Table};
use crate::store::item::key::KeyHash;

/// The slots of one shard.
pub(crate) struct Index {
    bits: u32,
    /// Bytes that tables and directory take.
    bytes: usize,
    /// For each value of so many bits of a hash, the number of its table.
    directory: Vec<u32>,
    /// Numbers of tables that were joined with others, to be used again.
    free: Vec<u32>,
    slots: usize,
    /// Bytes of the tables.
    table_bytes: usize,
    tables: Vec<Option<Part>>,
}

/// A table of those hashes that agree in the `depth` lowest bits of the directory's.
struct Part {
    depth: u32,
    table: Table,
}

impl Index {
    /// # Panics
    /// If the system has no memory to give.
    pub(crate) fn new() -> Self {
        let table = Table::new(Size::Small).expect("the system has memory for the first table");
        let mut index = Index {
            bits: 0,
            bytes: 0,
            directory: vec![0],
            free: Vec::new(),
            slots: 0,
            table_bytes: table.bytes(),
            tables: vec![Some(Part { depth: 0, table })],
        };
        index.measure();
        index
    }

    /// The slot of this hash whose item `is_it`.
    pub(crate) fn find(&self, hash: KeyHash, is_it: impl FnMut(Slot) -> bool) -> Option<Slot> {
        let tag = hash.bits() & TAG_MASK;
        self.part(self.number(tag)).table.find(tag, is_it)
    }

    /// Prefetches the place that [`Index::find`] looks at first.
    pub(crate) fn prefetch(&self, hash: KeyHash) {
        let tag = hash.bits() & TAG_MASK;
        self.part(self.number(tag)).table.prefetch(tag);
    }

    /// Makes room for one more slot of this hash.
    ///
    /// # Errors
    /// If the system has no memory to give, or if more keys share bits of their hashes than tables can hold.
    pub(crate) fn reserve(&mut self, hash: KeyHash) -> Result<(), NoRoom> {
        let tag = hash.bits() & TAG_MASK;
        while self.part(self.number(tag)).table.is_full() {
            self.grow(tag).ok_or(NoRoom)?;
        }
        Ok(())
    }

    /// Adds a new slot, for which room was made.
    pub(crate) fn insert(&mut self, slot: Slot) {
        self.slots += 1;
        self.part_mut(self.number(slot.tag())).table.insert(slot);
    }

    /// Removes a slot.
    pub(crate) fn remove(&mut self, slot: Slot) {
        self.slots -= 1;
        let number = self.number(slot.tag());
        let table = &mut self.part_mut(number).table;
        table.remove(slot);
        if table.len <= SHRUNK_SLOTS_MAX {
            self.shrink(slot.tag());
        }
    }

    /// Replaces the slot of an item that has moved.
    pub(crate) fn relocate(&mut self, from: Slot, to: Slot) {
        self.part_mut(self.number(from.tag())).table.replace(from, to);
    }

    /// The slots of the table at a position of a listing, and the position of the next table. A position is
    /// the directory's bits in reverse: so the halves of a table that is split follow each other in its
    /// place, and of tables that are joined, only the slots from the position on are returned.
    pub(crate) fn table_at(&self, position: u32) -> (impl Iterator<Item = Slot>, Option<u32>) {
        let Part { depth, table } =
            self.part(self.number(u64::from(backwards(position)) << table::PLACE_BITS));
        let span = 1 << (BITS_MAX - depth);
        let next = position / span * span + span;
        let is_ahead = move |slot: &Slot| backwards((slot.tag() >> table::PLACE_BITS) as u32) >= position;
        (table.iter().filter(is_ahead), (next < 1 << BITS_MAX).then_some(next))
    }

    /// Bytes that tables and directory take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn iter(&self) -> impl Iterator<Item = Slot> {
        self.tables.iter().flatten().flat_map(|part| part.table.iter())
    }

    /// Adds its bytes up, after each change of the tables.
    fn measure(&mut self) {
        self.bytes = self.table_bytes
            + self.tables.capacity() * size_of::<Option<Part>>()
            + (self.directory.capacity() + self.free.capacity()) * size_of::<u32>();
    }

    fn number(&self, tag: u64) -> u32 {
        self.directory[(tag >> table::PLACE_BITS) as usize & (self.directory.len() - 1)]
    }

    fn part(&self, number: u32) -> &Part {
        self.tables[number as usize].as_ref().expect("the directory names tables that are there")
    }

    fn part_mut(&mut self, number: u32) -> &mut Part {
        self.tables[number as usize].as_mut().expect("the directory names tables that are there")
    }

    /// Makes room in the full table of a tag: first by a larger one, then by two.
    #[cold]
    fn grow(&mut self, tag: u64) -> Option<()> {
        let number = self.number(tag);
        match self.part(number).table.size() {
            Size::Small => self.resize(number, Size::Large),
            Size::Large => self.split(tag),
        }
    }

    fn resize(&mut self, number: u32, size: Size) -> Option<()> {
        let part = self.part_mut(number);
        let table = part.table.resized(size).ok()?;
        let (before, after) = (part.table.bytes(), table.bytes());
        part.table = table;
        self.table_bytes = self.table_bytes + after - before;
        self.measure();
        Some(())
    }

    /// Splits the table of a tag in two by one more bit of its hashes.
    fn split(&mut self, tag: u64) -> Option<()> {
        let number = self.number(tag);
        let depth = self.part(number).depth;
        let table = &self.part(number).table;
        let is_high = |slot: &Slot| is_high(slot.tag(), depth);
        let highs = table.iter().filter(is_high).count();
        let mut low = Table::new(Size::of(table.len - highs)).ok()?;
        let mut high = Table::new(Size::of(highs)).ok()?;
        table.iter().for_each(|slot| if is_high(&slot) { &mut high } else { &mut low }.insert(slot));
        if depth == self.bits {
            if depth == BITS_MAX {
                return None;
            }
            self.directory.extend_from_within(..);
            self.bits += 1;
        }
        self.table_bytes = self.table_bytes + low.bytes() + high.bytes() - self.part(number).table.bytes();
        let depth = depth + 1;
        *self.part_mut(number) = Part { depth, table: low };
        let other = self.free.pop().unwrap_or_else(|| {
            self.tables.push(None);
            (self.tables.len() - 1) as u32
        });
        self.tables[other as usize] = Some(Part { depth, table: high });
        self.direct(tag | 1 << (depth - 1 + table::PLACE_BITS), depth, other);
        self.measure();
        Some(())
    }

    /// Gives up memory of the table of a tag, which has few slots. Without memory for a smaller table, it
    /// stays as it is.
    #[inline(never)]
    fn shrink(&mut self, tag: u64) {
        let number = self.number(tag);
        if self.slots == 0 {
            return self.begin_again(number);
        }
        if self.part(number).table.size() == Size::Large {
            _ = self.resize(number, Size::Small);
        }
        self.join(tag);
    }

    /// Joins the table of a tag with the one that it was split from, if both are nearly empty.
    fn join(&mut self, tag: u64) {
        let number = self.number(tag);
        let Part { depth, table } = self.part(number);
        let (depth, len) = (*depth, table.len);
        if depth == 0 || len > JOINED_SLOTS_MAX {
            return;
        }
        let buddy = self.number(tag ^ 1 << (depth - 1 + table::PLACE_BITS));
        let Part { depth: other_depth, table: other } = self.part(buddy);
        if *other_depth != depth || len + other.len > JOINED_SLOTS_MAX {
            return;
        }
        let emptied = self.tables[buddy as usize].take().expect("it was there");
        self.free.push(buddy);
        let kept = self.part_mut(number);
        kept.depth -= 1;
        emptied.table.iter().for_each(|slot| kept.table.insert(slot));
        self.table_bytes -= emptied.table.bytes();
        self.direct(tag, depth - 1, number);
        self.measure();
    }

    /// Keeps one empty table of all.
    fn begin_again(&mut self, number: u32) {
        if self.tables.len() == 1 {
            return;
        }
        let mut part =
            self.tables[number as usize].take().expect("the directory names tables that are there");
        (part.depth, self.bits, self.slots, self.table_bytes) = (0, 0, 0, part.table.bytes());
        (self.directory, self.free, self.tables) = (vec![0], Vec::new(), vec![Some(part)]);
        self.measure();
    }

    /// Assigns the hashes that agree with `tag` in so many bits to this table.
    fn direct(&mut self, tag: u64, depth: u32, number: u32) {
        let first = (tag >> table::PLACE_BITS) as usize & ((1 << depth) - 1);
        self.directory.iter_mut().skip(first).step_by(1 << depth).for_each(|entry| *entry = number);
    }
}

/// The directory's bits in reverse order.
fn backwards(bits: u32) -> u32 {
    bits.reverse_bits() >> (u32::BITS - BITS_MAX)
}

/// The bit by which a table of this depth is split.
fn is_high(tag: u64, depth: u32) -> bool {
    tag >> (depth + table::PLACE_BITS) & 1 == 1
}

/// A large table with at most so many slots is replaced by a small one, which it fills by half.
const SHRUNK_SLOTS_MAX: usize = Size::Small.slots() / 2;
/// Two tables with at most so many slots together are joined: a quarter of a full small one.
const JOINED_SLOTS_MAX: usize = Size::Small.slots() / 4;
/// Bits of a tag for the directory.
const BITS_MAX: u32 = TAG_BITS - table::PLACE_BITS;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::index::slot::Place;

    fn slot(number: u64) -> Slot {
        Slot::new(KeyHash::new(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 7), Place::Log(0, 0))
    }

    /// All tables of an index are about equally full, and split at about the same time. With one size of
    /// tables they were half as full afterwards: up to 21.3 bytes, and 15.4 on average.
    #[test]
    fn a_slot_takes_at_most_16_bytes_and_13_on_average_however_many_there_are() {
        let (mut index, mut shares) = (Index::new(), Vec::new());
        for number in 1..=40_000 {
            let hash = KeyHash::new(slot(number).tag());
            index.reserve(hash).expect("the system has memory");
            index.insert(slot(number));
            shares.push(index.bytes() as f64 / number as f64);
        }
        // Counts that grow by a constant factor, so that each phase has the same weight.
        let counts = (0..500).map(|step| 4_000.0 * f64::powf(10.0, f64::from(step) / 500.0));
        let shares: Vec<f64> = counts.map(|count| shares[count as usize]).collect();
        let (most, mean) = (shares.iter().copied().fold(0.0, f64::max), shares.iter().sum::<f64>() / 500.0);
        assert!(most < 16.0 && mean < 13.0, "{most}, {mean}");
    }

    #[test]
    fn tables_that_empty_give_their_memory_back_and_lose_no_slot() {
        let mut index = Index::new();
        let empty = index.bytes();
        for number in 0..28_000 {
            index.reserve(KeyHash::new(slot(number).tag())).expect("the system has memory");
            index.insert(slot(number));
        }
        let full = index.bytes();
        for number in 0..28_000 {
            index.remove(slot(number));
            let left = 27_999 - number;
            if left % 1_000 == 0 {
                assert!(
                    (number + 1..28_000).all(|n| index.find(KeyHash::new(slot(n).tag()), |_| true).is_some())
                );
                assert_eq!(index.iter().count() as u64, left);
            }
            if left == 10_000 {
                assert!(index.bytes() < full * 3 / 4, "{} of {full}", index.bytes());
            }
        }
        assert_eq!(index.bytes(), empty);
    }
}
