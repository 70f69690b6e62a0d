//! The copies of one thread: a small table, in which each key has one place.

use std::cell::Cell;
use std::mem::{replace, take};
use std::sync::Arc;

use super::served::{COPY_BYTES_MAX, Served};
use crate::cache::fence::miss_log::Age;
use crate::store::Item;
use crate::store::item::key::{Key, KeyHash};
use crate::store::item::packed::Packed;
use crate::store::tick::{TICKS_PER_SECOND, Tick};
use crate::sync::thread_local;

thread_local! {
    static TABLE: Cell<Option<Box<Table>>> = const { Cell::new(None) };
    /// The places of the table that have a copy, one bit each: most keys have none, and cost their readers no
    /// more than this. A thread begins with all: its first read learns whether everything is to be copied.
    static TAKEN: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// A thread's copies of items of one cache.
pub(in crate::cache) struct Table {
    /// The number of the cache.
    pub(super) cache: u64,
    copies: [Option<HotCopy>; PLACES],
    pub(super) served: Arc<Served>,
    /// The places that have a copy.
    taken: u64,
    /// The key of each place for which the thread has waited last.
    waited_for: [KeyHash; PLACES],
}

/// A copy of an item.
#[derive(Default)]
pub(super) struct HotCopy {
    hash: KeyHash,
    /// As it is packed in its segment.
    bytes: Vec<u8>,
    pub(super) stamp: Stamp,
    /// The greatest age of misses under the policy of the key, in seconds.
    miss_age_max: u32,
    /// Reads that it has served.
    reads: u32,
    /// Grows with each copy that has served [`READS_WORTH`] reads, and shrinks with each that has not.
    worth: u32,
}

/// All that a copy depends on, as it was when the copy was made. None of these numbers ever returns.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Stamp {
    /// The newest change of the key's part of its shard.
    pub(super) change: u64,
    /// The newest invalidation of a group.
    pub(super) groups: u64,
    /// How many times policies were decided.
    pub(super) policies: u64,
    /// Expiry and the time of the last access count in ticks.
    pub(super) tick: Tick,
}

/// The result of a search for a copy.
pub(super) enum Found<'a> {
    /// Of this key, but no read may be served by it.
    Outdated,
    Valid(&'a mut HotCopy),
}

/// Whether this thread may have a copy of the item of a key with this hash.
#[inline(always)]
pub(in crate::cache) fn may_have(hash: KeyHash) -> bool {
    TAKEN.with(Cell::get) & bit(hash) != 0
}

/// Whether this thread has a copy of the item of a key with this hash, valid or not.
pub(super) fn has(hash: KeyHash) -> bool {
    take_out().is_some_and(|table| {
        let has = table.copies[place(hash)].as_ref().is_some_and(|copy| copy.hash == hash);
        put_back(table);
        has
    })
}

/// The table of this thread, until [`put_back`]. A read within another one finds none, and takes the lock.
pub(super) fn take_out() -> Option<Box<Table>> {
    TABLE.try_with(Cell::take).ok().flatten()
}

/// This thread has no copies.
pub(super) fn has_none() {
    TAKEN.with(|taken| taken.set(0));
}

pub(super) fn put_back(table: Box<Table>) {
    TAKEN.with(|taken| taken.set(table.taken));
    // A thread that is ending has no table any more.
    let _ = TABLE.try_with(|place| place.set(Some(table)));
}

impl Table {
    /// An empty one; if everything is to be copied, each place counts as taken.
    pub(super) fn new(cache: u64, served: Arc<Served>, are_all: bool) -> Box<Table> {
        let (copies, waited_for) = ([const { None }; PLACES], [KeyHash::NONE; PLACES]);
        Box::new(Table { cache, copies, served, taken: if are_all { u64::MAX } else { 0 }, waited_for })
    }

    /// The copy of the key with this hash, which was found.
    pub(super) fn item(&self, hash: KeyHash) -> Item<'_> {
        self.copies[place(hash)].as_ref().expect("it was found").item()
    }

    /// The copy of a key, if there is one. Another key's that was not read lately makes room.
    pub(super) fn find(
        &mut self,
        key: &Key,
        tick: Tick,
        is_current: impl FnOnce(&Stamp) -> bool,
    ) -> Option<Found<'_>> {
        let place = place(key.hash);
        let copy = self.copies[place].as_mut()?;
        if copy.hash != key.hash || copy.item().head.key() != key.bytes {
            if tick.since(copy.stamp.tick) > IDLE_TICKS {
                self.remove(place);
            }
            return None;
        }
        if copy.stamp.tick == tick && copy.reads < READS_MAX && is_current(&copy.stamp) {
            // With the first borrow, the copy would count as borrowed in the other branches, too.
            return self.copies[place].as_mut().map(Found::Valid);
        }
        Some(Found::Outdated)
    }

    /// Ends the copy of a key, which the thread has just read under the lock. Returns the reads that it has
    /// served, and whether the item is to be copied again.
    pub(super) fn end(&mut self, hash: KeyHash, has_waited: bool) -> (u32, bool) {
        let place = place(hash);
        match &mut self.copies[place] {
            Some(copy) if copy.hash == hash => {
                let reads = take(&mut copy.reads);
                let is_worth = reads >= READS_WORTH || copy.worth > 0;
                copy.worth = if reads >= READS_WORTH {
                    WORTH_MAX.min(copy.worth + 1)
                } else {
                    copy.worth.saturating_sub(1)
                };
                if !is_worth && !has_waited {
                    self.remove(place);
                }
                (reads, is_worth || has_waited)
            }
            _ => (0, has_waited && replace(&mut self.waited_for[place], hash) == hash),
        }
    }

    /// Copies an item.
    pub(super) fn copy(&mut self, hash: KeyHash, item: Item, stamp: Stamp, miss_age_max: u32) {
        let place = place(hash);
        let copy = self.copies[place].get_or_insert_default();
        if copy.hash != hash {
            (copy.hash, copy.worth) = (hash, 0);
        }
        copy.reads = 0;
        copy.bytes.clear();
        copy.bytes.extend_from_slice(&item.head.0[..item.head.tight()]);
        (copy.stamp, copy.miss_age_max) = (stamp, miss_age_max);
        self.taken |= bit(hash);
    }

    fn remove(&mut self, place: usize) {
        self.copies[place] = None;
        self.taken &= !(1 << place);
    }
}

impl HotCopy {
    pub(super) fn item(&self) -> Item<'_> {
        Item::new(Packed(&self.bytes), None)
    }

    /// Counts a read.
    pub(super) fn read(&mut self) {
        self.reads += 1;
    }

    /// The age of misses of the key.
    pub(super) fn miss_age(&self, now: u32) -> Age {
        Age { max: self.miss_age_max, now }
    }
}

/// Whether an item is small enough to be copied, and has no memory of its own.
pub(super) fn is_small(item: &Item) -> bool {
    item.shared.is_none() && item.head.tight() <= COPY_BYTES_MAX
}

fn place(hash: KeyHash) -> usize {
    hash.bits() as usize % PLACES
}

fn bit(hash: KeyHash) -> u64 {
    1 << place(hash)
}

/// Copies of one thread at most: as many as a word has bits.
const PLACES: usize = u64::BITS as usize;
/// Reads in a row that a copy serves; the next one takes the lock, and counts their uses.
const READS_MAX: u32 = 63;
/// After this time without a new copy, another key may have the place.
const IDLE_TICKS: u32 = TICKS_PER_SECOND as u32;
/// Reads that pay for a copy: an item that is changed more often is better read under the lock.
const READS_WORTH: u32 = 8;
/// Copies in a row that do not pay at most, once others have, before the item is no longer copied.
const WORTH_MAX: u32 = 4;
