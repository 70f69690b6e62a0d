//! A slot of the index: the place of an item and 31 bits of its key's hash, in one word.

use crate::store::item::key::KeyHash;
use crate::store::item::shape::UNIT;

/// The place of an item and bits of its key's hash; valid until the next change of the shard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Slot(pub(crate) u64);

/// A place in a segment, or among the large items.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    /// The number of a large item.
    Large(u32),
    /// Number of the segment and offset in it, in bytes.
    Log(u16, usize),
}

impl Slot {
    pub(crate) fn new(hash: KeyHash, place: Place) -> Self {
        let place = match place {
            Place::Large(number) => u64::from(LARGE) << OFFSET_BITS | u64::from(number),
            Place::Log(segment, offset) => u64::from(segment) << OFFSET_BITS | (offset / UNIT) as u64,
        };
        Slot((hash.bits() & TAG_MASK) << PLACE_BITS | place)
    }

    pub(crate) fn place(self) -> Place {
        let (segment, offset) = ((self.0 >> OFFSET_BITS) as u16, self.0 & OFFSET_MASK);
        if segment == LARGE {
            Place::Large(offset as u32)
        } else {
            Place::Log(segment, offset as usize * UNIT)
        }
    }

    /// The bits of the hash that it holds.
    pub(crate) fn tag(self) -> u64 {
        self.0 >> PLACE_BITS
    }
}

/// Offsets in units of 8 bytes in a segment of 1 MiB; also the number of a large item.
const OFFSET_BITS: u32 = 17;
const OFFSET_MASK: u64 = (1 << OFFSET_BITS) - 1;
const PLACE_BITS: u32 = OFFSET_BITS + 16;
/// Bits of a hash that a slot holds.
pub(crate) const TAG_BITS: u32 = 64 - PLACE_BITS;
pub(crate) const TAG_MASK: u64 = (1 << TAG_BITS) - 1;
/// In place of the number of a segment; no segment has it.
const LARGE: u16 = u16::MAX;
/// Segments that a shard can number.
pub(crate) const SEGMENTS_MAX: usize = LARGE as usize;
/// Large items that a shard can number.
pub(crate) const LARGE_MAX: usize = (1 << OFFSET_BITS) - 1;
