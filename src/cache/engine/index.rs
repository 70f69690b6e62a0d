//! Where each item lies: small hash tables of places, which split when they are full.
//!
//! A [`Slot`] holds 31 bits of its key's hash, and tables hash by nothing else. So a table that grows or splits reads
//! no keys, and it never holds more than [`TABLE_SLOTS`]: no insert moves more than that. Which table a hash belongs
//! to is told by a directory of some of its bits (extendible hashing, Fagin et al., TODS 1979).
//!
//! Deliberately absent: keys. Whoever asks compares them.

use std::mem;

use hashbrown::HashTable;

/// Where an item lies, and what its key hashes to; good until the next change of the shard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Slot(u64);

/// A place in a segment, or among the large items.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// The number of a large item.
    Large(u32),
    /// Number of the segment and offset in it, in bytes.
    Log(u16, usize),
}

/// The slots of one shard.
pub(super) struct Index {
    /// For each value of so many bits of a hash, the number of its table.
    directory: Vec<u32>,
    bits: u32,
    tables: Vec<Table>,
    /// Bytes of the buckets of all tables.
    slot_bytes: usize,
}

struct Table {
    /// Bits of the directory's that all slots in it agree in.
    depth: u32,
    slots: HashTable<Slot>,
}

impl Slot {
    pub(super) fn new(hash: u64, place: Place) -> Self {
        let place = match place {
            Place::Large(number) => u64::from(LARGE) << OFFSET_BITS | u64::from(number),
            Place::Log(segment, offset) => u64::from(segment) << OFFSET_BITS | (offset / UNIT) as u64,
        };
        Slot((hash & TAG_MASK) << PLACE_BITS | place)
    }

    pub(super) fn place(self) -> Place {
        let (segment, offset) = ((self.0 >> OFFSET_BITS) as u16, self.0 & OFFSET_MASK);
        if segment == LARGE {
            Place::Large(offset as u32)
        } else {
            Place::Log(segment, offset as usize * UNIT)
        }
    }

    /// The bits of the hash that it holds.
    fn tag(self) -> u64 {
        self.0 >> PLACE_BITS
    }

    fn table_hash(&self) -> u64 {
        table_hash(self.tag())
    }
}

impl Index {
    pub(super) fn new() -> Self {
        Index { directory: vec![0], bits: 0, tables: vec![Table::new(0)], slot_bytes: 0 }
    }

    /// The slot of this hash whose item `is_it`.
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(Slot) -> bool) -> Option<Slot> {
        let tag = hash & TAG_MASK;
        let table = &self.tables[self.table(tag)];
        table.slots.find(table_hash(tag), |slot| slot.tag() == tag && is_it(*slot)).copied()
    }

    /// Adds a slot that is not there yet.
    pub(super) fn insert(&mut self, slot: Slot) {
        let tag = slot.tag();
        let mut number = self.table(tag);
        while self.tables[number].is_full() && self.tables[number].depth < DEPTH_MAX {
            self.split(number);
            number = self.table(tag);
        }
        self.change(number, |slots| _ = slots.insert_unique(table_hash(tag), slot, Slot::table_hash));
    }

    /// Takes a slot out.
    pub(super) fn remove(&mut self, slot: Slot) {
        let number = self.table(slot.tag());
        self.change(number, |slots| {
            if let Ok(entry) = slots.find_entry(slot.table_hash(), |other| *other == slot) {
                entry.remove();
            }
            if slots.len() * SPARSE <= slots.capacity() && slots.capacity() > SPARSE_FROM {
                slots.shrink_to(slots.len() * 2, Slot::table_hash);
            }
        });
    }

    /// The item has moved.
    pub(super) fn relocate(&mut self, from: Slot, to: Slot) {
        let number = self.table(from.tag());
        let slot = self.tables[number].slots.find_mut(from.table_hash(), |slot| *slot == from);
        *slot.expect("an item that moves is in the index") = to;
    }

    /// The slots of the table at a position of the round through all of them, and where the next table lies. A
    /// position is the directory's bits read backwards: so the halves of a table that is split lie where it lay.
    pub(super) fn table_at(&self, position: u32) -> (impl Iterator<Item = Slot>, Option<u32>) {
        let bits = position.reverse_bits() >> (u32::BITS - DEPTH_MAX);
        let table = &self.tables[self.directory[bits as usize & (self.directory.len() - 1)] as usize];
        let next = position + (1 << (DEPTH_MAX - table.depth));
        (table.slots.iter().copied(), (next < 1 << DEPTH_MAX).then_some(next))
    }

    /// Bytes that tables and directory take.
    pub(super) fn bytes(&self) -> usize {
        let tables = self.tables.capacity() * size_of::<Table>();
        self.slot_bytes + tables + self.directory.capacity() * size_of::<u32>()
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = Slot> {
        self.tables.iter().flat_map(|table| table.slots.iter().copied())
    }

    fn change(&mut self, number: usize, change: impl FnOnce(&mut HashTable<Slot>)) {
        let slots = &mut self.tables[number].slots;
        let before = slots.allocation_size();
        change(slots);
        self.slot_bytes = self.slot_bytes + slots.allocation_size() - before;
    }

    fn table(&self, tag: u64) -> usize {
        self.directory[(tag >> DIRECTORY_SHIFT) as usize & (self.directory.len() - 1)] as usize
    }

    /// Parts a table in two by one more bit of the hashes in it.
    fn split(&mut self, number: usize) {
        let depth = self.tables[number].depth;
        if depth == self.bits {
            self.directory.extend_from_within(..);
            self.bits += 1;
        }
        let bit = 1 << depth;
        let (mut low, mut high) = (Table::new(depth + 1), Table::new(depth + 1));
        let full = mem::take(&mut self.tables[number].slots);
        self.slot_bytes -= full.allocation_size();
        for slot in full {
            let half = if slot.tag() >> DIRECTORY_SHIFT & bit == 0 { &mut low } else { &mut high };
            half.slots.insert_unique(slot.table_hash(), slot, Slot::table_hash);
        }
        self.slot_bytes += low.slots.allocation_size() + high.slots.allocation_size();
        let other = self.tables.len() as u32;
        for (index, entry) in self.directory.iter_mut().enumerate() {
            if *entry == number as u32 && index as u64 & bit != 0 {
                *entry = other;
            }
        }
        self.tables[number] = low;
        self.tables.push(high);
    }
}

impl Table {
    fn new(depth: u32) -> Self {
        Table { depth, slots: HashTable::new() }
    }

    fn is_full(&self) -> bool {
        self.slots.len() >= TABLE_SLOTS
    }
}

/// hashbrown places by the low bits and compares the top seven first: both come from the tag.
fn table_hash(tag: u64) -> u64 {
    tag | tag << (64 - 7 - PLACE_SHIFT)
}

/// Slots of a table that is full: seven eighths of 1,024 buckets.
const TABLE_SLOTS: usize = 896;
/// A table with this many times more room than slots gives some back, unless it is small anyway.
const SPARSE: usize = 8;
const SPARSE_FROM: usize = 64;
const UNIT: usize = super::item::UNIT;
/// Offsets in units of 8 bytes in a segment of 1 MiB; also the number of a large item.
const OFFSET_BITS: u32 = 17;
const OFFSET_MASK: u64 = (1 << OFFSET_BITS) - 1;
const PLACE_BITS: u32 = OFFSET_BITS + 16;
const TAG_MASK: u64 = (1 << (64 - PLACE_BITS)) - 1;
/// The number that no segment has.
const LARGE: u16 = u16::MAX;
/// Segments that a shard can number.
pub(super) const SEGMENTS_MAX: usize = LARGE as usize;
/// Large items that a shard can number.
pub(super) const LARGE_MAX: usize = 1 << OFFSET_BITS;
/// Bits of a tag that place a slot in its table, then seven to compare, then those of the directory.
const PLACE_SHIFT: u32 = 10;
const DIRECTORY_SHIFT: u32 = PLACE_SHIFT + 7;
/// All the bits of a tag that are left; beyond that tables grow.
const DEPTH_MAX: u32 = 64 - PLACE_BITS - DIRECTORY_SHIFT;
