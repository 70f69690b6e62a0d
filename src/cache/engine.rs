//! The naive engine of one shard: a map and a queue. It stores items and knows nothing of leases or voids.
//!
//! Items live in a slab; an index of hashes finds them, a doubly linked queue through them gives the eviction order
//! (CLOCK: a used item gets one more round), and an ordered set of times finds what has ended.
//!
//! Deliberately absent: the byte limit. It is shared by all shards, so the cache decides who has to go and when.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashTable;

use super::budget::Budget;
use super::key::Key;
use super::seq::Seq;

/// What is stored under a key, beside its bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Meta {
    /// The CAS unique and the freshness stamp in one.
    pub(crate) as_of: Seq,
    /// When it stops being served, in monotonic seconds; 0 for never.
    pub(crate) expiry: u32,
    pub(crate) flags: u32,
    /// When it is thrown away for good: its expiry, or later where a stale copy is kept; 0 for never.
    pub(crate) gone: u32,
    /// Voided already, and kept only as a stale copy.
    pub(crate) is_stale: bool,
    /// When it was stored, in monotonic seconds.
    pub(crate) stored: u32,
}

/// An item as it is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item<'a> {
    pub(crate) meta: &'a Meta,
    pub(crate) value: &'a Bytes,
}

/// The number of a place in the slab; good until the next change of the shard.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Slot(u32);

/// The items of one shard.
pub(crate) struct Engine {
    budget: Arc<Budget>,
    counts: Counts,
    free: Vec<Slot>,
    index: HashTable<Slot>,
    places: Vec<Place>,
    /// When items are gone for good, soonest first.
    timetable: BTreeSet<(u32, Slot)>,
    /// The queue's ends: the newest and the next to be evicted.
    head: Slot,
    tail: Slot,
}

/// What a shard's engine has done and holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Bytes charged for what is held.
    pub bytes: u64,
    /// Items that had to go for want of memory.
    pub evictions: u64,
    /// Items that were thrown away because their time had passed, and how many of them nobody ever read.
    pub expired: u64,
    /// See `expired`.
    pub expired_unfetched: u64,
    /// Items held.
    pub items: u64,
    /// Evicted items that nobody ever read.
    pub evicted_unfetched: u64,
    /// Stale copies among `items`, not counting those whose time has passed unseen.
    pub stale: u64,
    /// Items stored since the start.
    pub total_items: u64,
}

struct Place {
    hash: u64,
    is_fetched: bool,
    is_used: bool,
    key: Box<[u8]>,
    meta: Meta,
    newer: Slot,
    older: Slot,
    value: Bytes,
}

impl std::ops::Add for Counts {
    type Output = Counts;

    fn add(self, other: Counts) -> Counts {
        Counts {
            bytes: self.bytes + other.bytes,
            evicted_unfetched: self.evicted_unfetched + other.evicted_unfetched,
            evictions: self.evictions + other.evictions,
            expired: self.expired + other.expired,
            expired_unfetched: self.expired_unfetched + other.expired_unfetched,
            items: self.items + other.items,
            stale: self.stale + other.stale,
            total_items: self.total_items + other.total_items,
        }
    }
}

impl Engine {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Engine {
            budget,
            counts: Counts::default(),
            free: Vec::new(),
            index: HashTable::new(),
            places: Vec::new(),
            timetable: BTreeSet::new(),
            head: NOWHERE,
            tail: NOWHERE,
        }
    }

    pub(crate) fn find(&self, key: &Key) -> Option<Slot> {
        let is_key = |slot: &Slot| *self.place(*slot).key == *key.bytes;
        self.index.find(key.hash, is_key).copied()
    }

    /// Stores an item, in the place of the one that was there.
    pub(crate) fn insert(&mut self, key: &Key, meta: Meta, value: Bytes) {
        self.counts.total_items += 1;
        if let Some(slot) = self.find(key) {
            self.replace(slot, meta, value);
        } else {
            self.append(key, meta, value);
        }
    }

    /// Gives an item new bytes and a new description; it keeps its place in the queue.
    pub(crate) fn replace(&mut self, slot: Slot, meta: Meta, value: Bytes) {
        self.set_meta(slot, meta);
        let old = self.place(slot).value.len();
        self.charge(value.len(), old);
        let place = self.place_mut(slot);
        place.value = value;
        place.is_used = true;
        place.is_fetched = false;
    }

    pub(crate) fn set_meta(&mut self, slot: Slot, meta: Meta) {
        let old = std::mem::replace(&mut self.place_mut(slot).meta, meta);
        self.counts.stale -= u64::from(old.is_stale);
        self.counts.stale += u64::from(meta.is_stale);
        if old.gone != meta.gone {
            self.untime(slot, old.gone);
            self.time(slot, meta.gone);
        }
    }

    pub(crate) fn remove(&mut self, slot: Slot) {
        self.unlink(slot);
        let place = self.place(slot);
        let (hash, meta, bytes) = (place.hash, place.meta, cost(place.key.len(), place.value.len()));
        self.untime(slot, meta.gone);
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == slot) {
            entry.remove();
        }
        let place = self.place_mut(slot);
        (place.key, place.value) = (Box::default(), Bytes::new());
        self.free.push(slot);
        self.charge(0, bytes);
        self.counts.items -= 1;
        self.counts.stale -= u64::from(meta.is_stale);
        if self.counts.items == 0 {
            // A shard whose last item went gives its tables back: expiry is meant to free memory.
            (self.places, self.free, self.index) = (Vec::new(), Vec::new(), HashTable::new());
        }
    }

    /// Evicts one item, an ended one if there is any; false if there is none at all.
    pub(crate) fn evict(&mut self, second: u32) -> bool {
        if self.expire(second, 1) == 1 {
            return true;
        }
        while self.tail != NOWHERE && std::mem::take(&mut self.place_mut(self.tail).is_used) {
            let slot = self.tail;
            self.unlink(slot);
            self.link(slot);
        }
        let slot = self.tail;
        if slot == NOWHERE {
            return false;
        }
        self.counts.evictions += 1;
        self.counts.evicted_unfetched += u64::from(!self.place(slot).is_fetched);
        self.remove(slot);
        true
    }

    /// Throws away what is gone for good at `second`, at most `most` items; returns how many.
    pub(crate) fn expire(&mut self, second: u32, most: usize) -> usize {
        let mut done = 0;
        while done < most
            && let Some((gone, slot)) = self.timetable.first().copied()
            && gone <= second
        {
            self.expired(slot);
            done += 1;
        }
        done
    }

    /// Throws away an item whose time has passed.
    pub(crate) fn expired(&mut self, slot: Slot) {
        self.counts.expired += 1;
        self.counts.expired_unfetched += u64::from(!self.place(slot).is_fetched);
        self.remove(slot);
    }

    /// Throws away what is void, among at most `most` places from the `from`th on; returns how far it came, if not
    /// to the end.
    pub(crate) fn clear(&mut self, floor: Seq, from: usize, most: usize) -> Option<usize> {
        let end = self.places.len().min(from + most);
        for place in from..end {
            let slot = Slot(place as u32);
            if self.counts.items > 0 && self.is_held(slot) && self.place(slot).meta.as_of <= floor {
                self.remove(slot);
            }
        }
        (end < self.places.len()).then_some(end)
    }

    /// Counts a use, for eviction.
    pub(crate) fn used(&mut self, slot: Slot) {
        let place = self.place_mut(slot);
        place.is_used = true;
        place.is_fetched = true;
    }

    pub(crate) fn item(&self, slot: Slot) -> Item<'_> {
        let place = self.place(slot);
        Item { meta: &place.meta, value: &place.value }
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    fn append(&mut self, key: &Key, meta: Meta, value: Bytes) {
        let place = Place {
            hash: key.hash,
            is_fetched: false,
            is_used: false,
            key: key.bytes.into(),
            meta,
            newer: NOWHERE,
            older: NOWHERE,
            value,
        };
        self.charge(cost(place.key.len(), place.value.len()), 0);
        let slot = self.occupy(place);
        self.link(slot);
        self.time(slot, meta.gone);
        let places = &self.places;
        self.index.insert_unique(key.hash, slot, |slot| places[slot.0 as usize].hash);
        self.counts.items += 1;
        self.counts.stale += u64::from(meta.is_stale);
    }

    /// Whether there is an item in the place: every key has at least one byte.
    fn is_held(&self, slot: Slot) -> bool {
        !self.place(slot).key.is_empty()
    }

    fn occupy(&mut self, place: Place) -> Slot {
        if let Some(slot) = self.free.pop() {
            *self.place_mut(slot) = place;
            return slot;
        }
        self.places.push(place);
        Slot(u32::try_from(self.places.len() - 1).expect("a shard holds fewer than 2^32 items"))
    }

    fn charge(&mut self, more: usize, less: usize) {
        self.counts.bytes = self.counts.bytes + more as u64 - less as u64;
        self.budget.charge(more, less);
    }

    fn time(&mut self, slot: Slot, gone: u32) {
        if gone != 0 {
            self.timetable.insert((gone, slot));
        }
    }

    fn untime(&mut self, slot: Slot, gone: u32) {
        self.timetable.remove(&(gone, slot));
    }

    fn link(&mut self, slot: Slot) {
        let head = std::mem::replace(&mut self.head, slot);
        let place = self.place_mut(slot);
        (place.newer, place.older) = (NOWHERE, head);
        match head {
            NOWHERE => self.tail = slot,
            head => self.place_mut(head).newer = slot,
        }
    }

    fn unlink(&mut self, slot: Slot) {
        let Place { newer, older, .. } = *self.place(slot);
        match newer {
            NOWHERE => self.head = older,
            newer => self.place_mut(newer).older = older,
        }
        match older {
            NOWHERE => self.tail = newer,
            older => self.place_mut(older).newer = newer,
        }
    }

    fn place(&self, slot: Slot) -> &Place {
        &self.places[slot.0 as usize]
    }

    fn place_mut(&mut self, slot: Slot) -> &mut Place {
        &mut self.places[slot.0 as usize]
    }
}

/// Bytes that an item is charged: its key and value, and what the slab, the index, the timetable and the allocator
/// take for it.
pub(crate) fn cost(key_len: usize, value_len: usize) -> usize {
    key_len + value_len + ITEM_OVERHEAD_BYTES
}

const NOWHERE: Slot = Slot(u32::MAX);
/// The place itself, twice 16 bytes that the allocator adds, and 32 for the index, the timetable and the slack of
/// the growing tables.
pub(crate) const ITEM_OVERHEAD_BYTES: usize = size_of::<Place>() + 64;

#[cfg(test)]
mod tests {
    use super::super::key::Keys;
    use super::*;

    fn meta(gone: u32) -> Meta {
        Meta { as_of: Seq::ZERO, expiry: gone, flags: 0, gone, is_stale: false, stored: 0 }
    }

    struct Fixture {
        engine: Engine,
        keys: Keys,
    }

    impl Fixture {
        fn new() -> Self {
            let budget = Arc::new(Budget::new(1 << 20));
            Fixture { engine: Engine::new(budget), keys: Keys::new(1) }
        }

        fn put(&mut self, key: &str, gone: u32) {
            self.engine.insert(
                &self.keys.key(key.as_bytes()).unwrap(),
                meta(gone),
                Bytes::from_static(b"12345"),
            );
        }

        fn slot(&self, key: &str) -> Option<Slot> {
            self.engine.find(&self.keys.key(key.as_bytes()).unwrap())
        }

        fn charged(&self) -> (u64, usize) {
            (self.engine.counts.bytes, self.engine.budget.used())
        }
    }

    #[test]
    fn what_is_charged_is_given_back() {
        let mut fixture = Fixture::new();
        fixture.put("a", 0);
        fixture.put("bb", 9);
        fixture.put("a", 7);
        let bytes = cost(1, 5) + cost(2, 5);
        assert_eq!(fixture.charged(), (bytes as u64, bytes));
        fixture.engine.remove(fixture.slot("a").unwrap());
        fixture.engine.remove(fixture.slot("bb").unwrap());
        assert_eq!(fixture.charged(), (0, 0));
        assert!(fixture.engine.timetable.is_empty() && fixture.engine.tail == NOWHERE);
    }

    #[test]
    fn the_oldest_unused_item_is_evicted_first() {
        let mut fixture = Fixture::new();
        for key in ["a", "b", "c"] {
            fixture.put(key, 0);
        }
        fixture.engine.used(fixture.slot("a").unwrap());
        assert!(fixture.engine.evict(0));
        assert!(fixture.slot("a").is_some() && fixture.slot("b").is_none() && fixture.slot("c").is_some());
        assert!(fixture.engine.evict(0) && fixture.engine.evict(0) && !fixture.engine.evict(0));
        assert_eq!(fixture.engine.counts().evictions, 3);
    }

    #[test]
    fn an_ended_item_is_evicted_before_any_other() {
        let mut fixture = Fixture::new();
        fixture.put("a", 0);
        fixture.put("b", 5);
        assert!(fixture.engine.evict(5));
        assert!(fixture.slot("a").is_some() && fixture.slot("b").is_none());
        assert_eq!(fixture.engine.counts().expired_unfetched, 1);
    }

    #[test]
    fn expiry_does_at_most_what_it_was_allowed() {
        let mut fixture = Fixture::new();
        for n in 0..100 {
            fixture.put(&format!("k{n}"), 5);
        }
        assert_eq!(fixture.engine.expire(4, 1_000), 0);
        assert_eq!(fixture.engine.expire(5, 64), 64);
        assert_eq!(fixture.engine.expire(5, 64), 36);
        assert_eq!(fixture.charged(), (0, 0));
    }
}
