//! Which parts an item has, and where each begins.

use std::ops::Range;

use crate::store::item::meta::Meta;
use crate::store::item::tags::Tags;

/// The layout of an item.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(super) key_at: usize,
    /// [`EXTRA`] and [`CHOSEN`].
    pub(super) parts: u8,
    /// 0 if there are none.
    pub(super) tags_len: usize,
    pub(super) value_at: usize,
    pub(super) value_len: usize,
}

impl Shape {
    #[inline(always)]
    pub(crate) fn new(meta: &Meta, tags: Tags, key_len: usize, value_len: usize) -> Self {
        Shape::of(parts_of(meta), tags.packed().len(), key_len, value_len)
    }

    #[inline(always)]
    pub(super) fn of(parts: u8, tags_len: usize, key_len: usize, value_len: usize) -> Self {
        let key_at = tags_at(parts) + if tags_len == 0 { 0 } else { TAGS_LEN_BYTES + tags_len };
        Shape { key_at, parts, tags_len, value_at: key_at + key_len, value_len }
    }

    /// Bytes of the item.
    #[inline(always)]
    pub(crate) fn place(self) -> usize {
        (self.value_at + self.value_len).next_multiple_of(UNIT)
    }

    pub(super) fn tags(self) -> Range<usize> {
        tags_at(self.parts) + TAGS_LEN_BYTES..self.key_at
    }

    pub(super) fn key(self) -> Range<usize> {
        self.key_at..self.value_at
    }

    pub(super) fn value(self) -> Range<usize> {
        self.value_at..self.value_at + self.value_len
    }
}

/// The parts of a head that a description needs beyond the header.
#[inline(always)]
pub(super) fn parts_of(meta: &Meta) -> u8 {
    let is_chosen = meta.chosen != 0;
    let is_extra = is_chosen | (meta.flags != 0) | (meta.removed_at != meta.expiry);
    let (extra, chosen) = (if is_extra { EXTRA } else { 0 }, if is_chosen { CHOSEN } else { 0 });
    extra | chosen
}

/// Where the tags begin, or else the key.
pub(super) fn tags_at(parts: u8) -> usize {
    let bytes = |part: u8, bytes: usize| if parts & part != 0 { bytes } else { 0 };
    HEADER_BYTES + bytes(EXTRA, EXTRA_BYTES) + bytes(CHOSEN, CHOSEN_BYTES)
}

/// The header that every item has.
pub(crate) const HEADER_BYTES: usize = 24;
/// The parts beyond it that a description may need, as the header notes them: client flags and `removed_at`;
/// a CAS unique that the client chose.
pub(super) const EXTRA: u8 = 1 << 7;
pub(super) const CHOSEN: u8 = 1 << 6;
pub(super) const EXTRA_BYTES: usize = 8;
pub(super) const CHOSEN_BYTES: usize = 8;
pub(super) const TAGS_LEN_BYTES: usize = 2;
/// The unit of places, in bytes.
pub(crate) const UNIT: usize = 8;
