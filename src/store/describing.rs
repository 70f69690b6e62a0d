//! New descriptions of items, which may take more room than the former ones.

use super::index::slot::{Place, Slot};
use super::item::key::Key;
use super::removal::Removal;
use super::{Engine, Meta, NoRoom};
use crate::store::tick::Tick;

impl Engine {
    /// Replaces the description of an item, and returns its slot. An item in the log may have to move for
    /// that. If there is no room, it is kept no longer than it is served; or, if the description has a CAS
    /// unique or flags, the item is removed: then `None`.
    pub(crate) fn set_meta(&mut self, key: &Key, slot: Slot, meta: Meta, tick: Tick) -> Option<Slot> {
        self.changes.raise(key.hash.bits());
        let (was_stale, removed_at) = (self.head(slot).is_stale(), self.head(slot).removed_at());
        match slot.place() {
            Place::Large(number) => {
                let (before, after) = self.large.set_meta(number, &meta);
                self.counts.bytes = self.counts.bytes + after as u64 - before as u64;
            }
            Place::Log(number, offset) => {
                let segment = self.log.segment_mut(number);
                if !segment.item_mut(offset).set_meta(&meta) {
                    return self.move_for_meta(key, slot, meta, tick);
                }
                if removed_at != meta.removed_at || was_stale != meta.is_stale {
                    let bytes = segment.item(offset).tight();
                    segment.expiries.add(meta.removed_at, bytes, tick);
                    segment.stale += if meta.is_stale && !was_stale { bytes } else { 0 };
                }
            }
        }
        self.counts.stale = self.counts.stale + u64::from(meta.is_stale) - u64::from(was_stale);
        Some(slot)
    }

    /// Moves an item of the log to a place with room for its new description.
    #[cold]
    fn move_for_meta(&mut self, key: &Key, slot: Slot, meta: Meta, tick: Tick) -> Option<Slot> {
        let head = self.head(slot);
        let (tags, value, used) = (head.tags().to_list(), head.value().to_vec(), head.used());
        let moved = self.replace(key, slot, meta, tags.tags(), value.into(), tick);
        let slot = self.find(key)?;
        let shorter = Meta { removed_at: meta.expiry, ..meta };
        match moved {
            Ok(()) => self.head_mut(slot).set_used(used),
            Err(NoRoom) if self.head(slot).has_room_for(&shorter) => {
                return self.set_meta(key, slot, shorter, tick);
            }
            Err(NoRoom) => {
                self.discard(slot, Removal::Removed, tick);
                return None;
            }
        }
        Some(slot)
    }
}
