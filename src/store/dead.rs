//! The items that are removed without a command: expired and invalidated ones.

use super::expiry::Expiry;
use super::item::packed::Packed;
use super::item::seq::Seq;
use super::item::tags::Tags;
use super::removal::Removal;
use super::tick::Tick;

/// Decides which items are dead, and therefore removed: those that expire at `tick` or before, those whose
/// sequence number is at most `floor` (not the floor of eviction), and others that were invalidated.
#[derive(Clone, Copy)]
pub(crate) struct Dead<'a> {
    pub(crate) floor: Seq,
    pub(crate) tick: Tick,
    /// Until when an invalidated item is kept as a stale copy, [`Expiry::PAST`] if it is not kept; `None` for
    /// an item that was not invalidated.
    pub(crate) copy_until: &'a CopyUntil<'a>,
}

/// Called with the sequence number of an item, its key and its tags.
type CopyUntil<'a> = dyn Fn(Seq, &[u8], Tags) -> Option<Expiry> + 'a;

impl Dead<'_> {
    /// The reason to remove an item, if there is one.
    pub(super) fn removal(self, item: Packed) -> Option<Removal> {
        self.verdict(item).err()
    }

    /// Whether an item that is kept until `end` is a stale copy. That includes items that no command has
    /// found since they became stale: they are invalidated or expired, but not marked as stale yet.
    pub(super) fn is_copy(self, item: Packed, end: Expiry) -> bool {
        item.is_stale() || end != item.removed_at() || item.expiry().is_past(self.tick)
    }

    /// Until when an item is kept, or the reason to remove it.
    pub(super) fn verdict(self, item: Packed) -> Result<Expiry, Removal> {
        let (as_of, removed_at) = (item.as_of(), item.removed_at());
        if as_of <= self.floor {
            return Err(Removal::Removed);
        }
        if removed_at.is_past(self.tick) {
            return Err(Removal::Expired);
        }
        match (self.copy_until)(as_of, item.key(), item.tags()) {
            None => Ok(removed_at),
            Some(end) if end.is_past(self.tick) => Err(Removal::Removed),
            Some(end) => Ok(removed_at.first(end)),
        }
    }
}
