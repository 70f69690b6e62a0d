//! The storage engine of one shard: a log of segments. It stores items and knows nothing of leases or
//! invalidations.
//!
//! An index of small tables finds an item. Small items are stored in the log, large ones have pages of their
//! own. Memory is taken from a budget that all shards share, and is charged to the byte: segments,
//! tables, ghosts and large items.
//!
//! | file | what |
//! |---|---|
//! | `index/` | from a hash to a place |
//! | `item/` | items and their parts: key, tags, description, layout in memory |
//! | `log/` | segments and their queues |
//! | `large` | items that are too large for the log |
//! | `changes` | the newest change in each part of a shard, for copies of items |
//! | `dead` | which items are removed, and when |
//! | `describing` | new descriptions of items |
//! | `ends` | when items end: the order of eviction |
//! | `ghosts` | the uses of items that were removed lately |
//! | `reclaim` | eviction and packing |
//! | `sweep` | removal of expired and invalidated items |
//! | `removal` | the reasons and the counts of removals |
//! | `tags_in_use` | the tags that items bear, counted over all shards |
//! | `expiry`, `tick` | when items end, and the unit of their times |
//! | `listing` | all items, table by table |
//! | `oracle/` | histories played against a plain map, for tests and fuzzers |
//!
//! Time and randomness come as arguments. No operation rehashes, copies or walks over more than one segment
//! or table.

pub(crate) mod budget;
pub(crate) mod changes;
pub(crate) mod counts;
mod dead;
mod describing;
mod ends;
pub(crate) mod evicted;
pub(crate) mod expiry;
mod ghosts;
mod index;
pub(crate) mod item;
mod large;
mod listing;
mod log;
#[cfg(any(test, fuzzing))]
mod oracle;
mod reclaim;
mod removal;
mod sweep;
pub(crate) mod tags_in_use;
pub(crate) mod tick;

use std::sync::Arc;

use bytes::Bytes;

use self::budget::{Budget, WhenFull};
use self::changes::OwnChanges;
use self::counts::{Counts, SizeCounts};
use self::ends::{Ends, Mean, Size};
use self::evicted::Evicted;
use self::ghosts::Ghosts;
use self::index::{Index, slot::Place};
use self::item::key::{Key, KeyHash, Keys};
use self::item::packed::{Packed, PackedMut};
use self::item::shape::Shape;
use self::item::tags::Tags;
use self::item::uses::Uses;
use self::large::{Entry, Large};
use self::log::{Log, place_bytes_max};
use self::removal::Removal;
use self::tags_in_use::TagsInUse;

use crate::pages::Payload;
use crate::store::tick::Tick;

pub(crate) use self::dead::Dead;
pub(crate) use self::index::slot::Slot;
pub(crate) use self::item::Item;
pub use self::item::item_bytes;
pub(crate) use self::item::meta::Meta;
pub(crate) use self::listing::Listed;
#[cfg(fuzzing)]
pub use self::oracle::check as check_history;

/// There is no room for an item. The item that was stored under its key stays, unless it was evicted to make
/// room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NoRoom;

/// The items of one shard.
pub(crate) struct Engine {
    budget: Arc<Budget>,
    changes: OwnChanges,
    counts: Counts,
    ends: Ends,
    /// Items that were evicted since the list was last taken, if evictions are watched.
    pub(crate) evicted: Vec<Evicted>,
    /// The number of watchers of evictions.
    pub(crate) eviction_watchers: usize,
    ghosts: Ghosts,
    index: Index,
    pub(crate) keys: Keys,
    large: Large,
    /// Whether a round of the sweep is under way that looks at every item.
    pub(crate) is_looking: bool,
    log: Log,
    /// Large values that were removed, to be dropped after the unlock.
    pub(crate) removed_values: Vec<Bytes>,
    /// The segment and the large item at which the sweep continues.
    sweep_segment: u16,
    sweep_large: usize,
    tags_in_use: Arc<TagsInUse>,
    when_full: WhenFull,
}

impl Engine {
    pub(crate) fn new(
        budget: Arc<Budget>,
        shard_bytes: usize,
        tags_in_use: Arc<TagsInUse>,
        keys: Keys,
        when_full: WhenFull,
        changes: OwnChanges,
    ) -> Self {
        let (ghosts, index) = (Ghosts::new(shard_bytes), Index::new());
        budget.charge(ghosts.bytes() + index.bytes());
        Engine {
            changes,
            counts: Counts::default(),
            ends: Ends::new(shard_bytes),
            evicted: Vec::new(),
            eviction_watchers: 0,
            ghosts,
            index,
            keys,
            is_looking: false,
            large: Large::default(),
            log: Log::new(Arc::clone(&budget)),
            removed_values: Vec::new(),
            sweep_segment: 0,
            sweep_large: 0,
            tags_in_use,
            when_full,
            budget,
        }
    }

    pub(crate) fn find(&self, key: &Key) -> Option<Slot> {
        self.index.find(key.hash, |slot| self.head(slot).key() == key.bytes)
    }

    /// Prefetches the index slot of this hash.
    pub(crate) fn prefetch_slot(&self, hash: KeyHash) {
        self.index.prefetch(hash);
    }

    /// Prefetches an item with this hash: most likely the right one, as no key is compared.
    pub(crate) fn prefetch_item(&self, hash: KeyHash) {
        if let Some(Place::Log(number, offset)) = self.index.find(hash, |_| true).map(Slot::place) {
            self.log.prefetch(number, offset);
        }
    }

    /// Stores an item in place of the one that was found under its key.
    ///
    /// # Errors
    /// If there is no room.
    pub(crate) fn insert(
        &mut self,
        key: &Key,
        found: Option<Slot>,
        meta: Meta,
        tags: Tags,
        value: Payload<'_>,
        tick: Tick,
    ) -> Result<(), NoRoom> {
        self.counts.total_items += 1;
        if found.is_none_or(|slot| self.head(slot).is_stale()) {
            self.counts.sizes[SizeCounts::class(value.len())].fills += 1;
        }
        if let Some(slot) = found {
            return self.replace(key, slot, meta, tags, value, tick);
        }
        self.append(key, meta, tags, value, None, tick)
    }

    /// Replaces the value, the tags and the description of an item, in its place if they fit there. This
    /// counts as a use.
    ///
    /// # Errors
    /// If there is no room.
    pub(crate) fn replace(
        &mut self,
        key: &Key,
        slot: Slot,
        meta: Meta,
        tags: Tags,
        value: Payload<'_>,
        tick: Tick,
    ) -> Result<(), NoRoom> {
        let shape = Shape::new(&meta, tags, key.bytes.len(), value.len());
        if let Place::Log(number, offset) = slot.place()
            && shape.place() <= self.log.item(number, offset).place()
        {
            self.changes.raise(key.hash.bits());
            self.rewrite((number, offset), shape, &meta, tags, &value, tick);
            return Ok(());
        }
        if !self.budget.admits(value.len()) {
            return Err(NoRoom);
        }
        // The old item goes before the new one comes, and its tags stay in use.
        let in_use = Arc::clone(&self.tags_in_use);
        let _held = in_use.hold(tags);
        let uses = self.head(slot).uses().more();
        match self.when_full {
            // Otherwise the old item might be the one that is evicted to make room.
            WhenFull::Evict => {
                self.discard(slot, Removal::Removed, tick);
                self.append(key, meta, tags, value, Some(uses), tick)
            }
            // Nothing moves in between, and the old item stays if there is no room beside it.
            WhenFull::Refuse => {
                self.append(key, meta, tags, value, Some(uses), tick)?;
                self.discard(slot, Removal::Removed, tick);
                Ok(())
            }
        }
    }

    /// Counts a use.
    pub(crate) fn used(&mut self, slot: Slot, tick: Tick) {
        match slot.place() {
            Place::Large(number) => self.large.get_mut(number).read(tick, &self.ends),
            Place::Log(number, offset) => self.log.item_mut(number, offset).read(tick, self.ends.stamp()),
        }
    }

    /// Counts a read of this item; returns it as it was before.
    #[inline(always)]
    pub(crate) fn hit(&mut self, slot: Slot, tick: Tick) -> Item<'_> {
        let (before, head, shared) = match slot.place() {
            Place::Large(number) => {
                let entry = self.large.get_mut(number);
                let Item { accessed, end, is_fetched, .. } = Item::new(entry.head(), None);
                entry.read(tick, &self.ends);
                ((accessed, end, is_fetched), entry.head(), Some(&entry.value))
            }
            Place::Log(number, offset) => {
                let mut head = self.log.item_mut(number, offset);
                let Item { accessed, end, is_fetched, .. } = Item::new(head.view(), None);
                head.read(tick, self.ends.stamp());
                ((accessed, end, is_fetched), head.into_view(), None)
            }
        };
        let (accessed, end, is_fetched) = before;
        let item = Item { accessed, end, is_fetched, head, shared };
        self.counts.sizes[SizeCounts::class(item.value_bytes())].hits += 1;
        item
    }

    pub(crate) fn item(&self, slot: Slot) -> Item<'_> {
        let shared = match slot.place() {
            Place::Large(number) => Some(&self.large.get(number).value),
            Place::Log(..) => None,
        };
        Item::new(self.head(slot), shared)
    }

    pub(crate) fn tags(&self, slot: Slot) -> Tags<'_> {
        self.head(slot).tags()
    }

    /// The description of an item.
    #[inline(always)]
    pub(crate) fn meta(&self, slot: Slot) -> Meta {
        self.head(slot).meta()
    }

    /// Adds an item with so many uses, or a new one.
    fn append(
        &mut self,
        key: &Key,
        meta: Meta,
        tags: Tags,
        value: Payload<'_>,
        uses: Option<Uses>,
        tick: Tick,
    ) -> Result<(), NoRoom> {
        self.with_index(|index| index.reserve(key.hash))?;
        let shape = Shape::new(&meta, tags, key.bytes.len(), value.len());
        let tight = shape.place();
        let (place, bytes) = if tight > place_bytes_max(self.budget.segment_bytes) {
            let value = self.charge_large(value.into_run(), tags, tick)?;
            let (entry, mean) = (Entry::new(&meta, tags, key.bytes, value), self.mean());
            let uses = uses.unwrap_or_else(|| self.uses_before(key, entry.size()));
            let bytes = entry.bytes();
            (Place::Large(self.large.insert(entry, uses, &self.ends, mean).ok_or(NoRoom)?), bytes)
        } else {
            let uses = uses.unwrap_or_else(|| self.uses_before(key, Size::Small(tight)));
            let (number, offset) = self.reserve(uses, tight, tick)?;
            let segment = self.log.segment_mut(number);
            segment.expiries.add(meta.removed_at, tight, tick);
            segment.stale += if meta.is_stale { tight } else { 0 };
            let mut item = segment.item_mut(offset);
            item.write(tight, shape, &meta, tags, key.bytes, &value);
            item.set_uses(uses, self.ends.stamp());
            (Place::Log(number, offset), tight)
        };
        self.index.insert(Slot::new(key.hash, place));
        self.tags_in_use.add(tags);
        self.counts.bytes += bytes as u64;
        self.counts.items += 1;
        self.counts.stale += u64::from(meta.is_stale);
        Ok(())
    }

    /// The mean size of the items in the log.
    fn mean(&self) -> Mean {
        let bytes = self.counts.bytes as usize - self.large.bytes;
        Mean::new(bytes, self.counts.items as usize - self.large.len())
    }

    /// Replaces an item in its place.
    fn rewrite(
        &mut self,
        (number, offset): (u16, usize),
        shape: Shape,
        meta: &Meta,
        tags: Tags,
        value: &[u8],
        tick: Tick,
    ) {
        self.tags_in_use.add(tags);
        let segment = self.log.segment_mut(number);
        let mut item = segment.item_mut(offset);
        let old = item.view();
        self.tags_in_use.subtract(old.tags());
        let (before, was_stale, uses) = (old.tight(), old.is_stale(), old.uses().more());
        item.rewrite(shape, meta, tags, value);
        item.set_uses(uses, self.ends.stamp());
        let after = shape.place();
        segment.live = segment.live + after - before;
        segment.expiries.add(meta.removed_at, after, tick);
        self.counts.bytes = self.counts.bytes + after as u64 - before as u64;
        self.counts.stale = self.counts.stale + u64::from(meta.is_stale) - u64::from(was_stale);
    }

    /// Changes the index, and charges its growth. That is at most one table, and stores keep more than that
    /// free.
    fn with_index<R>(&mut self, change: impl FnOnce(&mut Index) -> R) -> R {
        let before = self.index.bytes();
        let result = change(&mut self.index);
        let after = self.index.bytes();
        if after > before {
            self.budget.charge(after - before);
        } else {
            self.budget.discharge(before - after);
        }
        result
    }

    #[inline(always)]
    fn head(&self, slot: Slot) -> Packed<'_> {
        match slot.place() {
            Place::Large(number) => self.large.get(number).head(),
            Place::Log(number, offset) => self.log.item(number, offset),
        }
    }

    fn head_mut(&mut self, slot: Slot) -> PackedMut<'_> {
        match slot.place() {
            Place::Large(number) => self.large.get_mut(number).head_mut(),
            Place::Log(number, offset) => self.log.item_mut(number, offset),
        }
    }

    /// The bytes of an item, as they are counted.
    fn bytes_of(&self, slot: Slot) -> usize {
        match slot.place() {
            Place::Large(number) => self.large.get(number).bytes(),
            Place::Log(number, offset) => self.log.item(number, offset).tight(),
        }
    }
}
