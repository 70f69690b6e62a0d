//! All items of a shard, a table of the index at a time.

use super::{Engine, Item, Slot};
use crate::store::tick::Tick;

/// An item with its key and its use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listed<'a> {
    pub(crate) accessed: Tick,
    pub(crate) bytes: usize,
    pub(crate) is_fetched: bool,
    pub(crate) item: Item<'a>,
    pub(crate) key: &'a [u8],
}

impl Engine {
    /// Shows the items of the table at this position; returns the position of the next table.
    pub(crate) fn list(&self, position: u32, mut show: impl FnMut(Listed)) -> Option<u32> {
        let (slots, next) = self.index.table_at(position);
        slots.for_each(|slot| show(self.listed(slot)));
        next
    }

    /// An item with its key and its use.
    pub(crate) fn listed(&self, slot: Slot) -> Listed<'_> {
        let head = self.head(slot);
        Listed {
            accessed: head.accessed(),
            bytes: self.bytes_of(slot),
            is_fetched: head.is_fetched(),
            item: self.item(slot),
            key: head.key(),
        }
    }
}
