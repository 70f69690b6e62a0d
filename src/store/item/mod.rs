//! An item as the cache sees it: its description, its tags and its value.

pub(crate) mod key;
pub(crate) mod meta;
pub(crate) mod packed;
pub(crate) mod seq;
pub(crate) mod shape;
pub(crate) mod tags;
pub(crate) mod uses;

use bytes::Bytes;

use crate::store::expiry::Expiry;
use crate::store::item::meta::Meta;
use crate::store::item::packed::Packed;
use crate::store::item::shape::{HEADER_BYTES, UNIT};
use crate::store::item::tags::Tags;
use crate::store::tick::Tick;

/// An item as it is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item<'a> {
    /// When it was last read or stored before this command.
    pub(crate) accessed: Tick,
    /// When it expires, or is removed if it is stale, as it was before this command.
    pub(crate) end: Expiry,
    /// Whether it had been read before.
    pub(crate) is_fetched: bool,
    /// The packed item: most readers need only some of its fields.
    pub(crate) head: Packed<'a>,
    /// The value, if it has memory of its own.
    pub(crate) shared: Option<&'a Bytes>,
}

impl<'a> Item<'a> {
    #[inline]
    pub(crate) fn new(head: Packed<'a>, shared: Option<&'a Bytes>) -> Self {
        let end = if head.is_stale() { head.removed_at() } else { head.expiry() };
        Item { accessed: head.accessed(), end, is_fetched: head.is_fetched(), head, shared }
    }

    /// The length of the value.
    pub(crate) fn value_bytes(&self) -> usize {
        if let Some(value) = self.shared { value.len() } else { self.head.value_bytes() }
    }

    /// Its description.
    #[inline(always)]
    pub(crate) fn meta(&self) -> Meta {
        self.head.meta()
    }

    /// The tags by which it can be invalidated together with others.
    #[inline(always)]
    pub(crate) fn tags(&self) -> Tags<'a> {
        self.head.tags()
    }

    /// The value.
    #[inline(always)]
    pub(crate) fn value(&self) -> &'a [u8] {
        if let Some(value) = self.shared { value } else { self.head.value() }
    }
}

/// The memory use of an item in bytes, its share of the index included.
pub fn item_bytes(key_bytes: usize, value_bytes: usize) -> usize {
    (HEADER_BYTES + key_bytes + value_bytes).next_multiple_of(UNIT) + INDEX_SHARE_BYTES
}

/// A slot of 8 bytes, and its share of the free places of its table.
const INDEX_SHARE_BYTES: usize = 13;
