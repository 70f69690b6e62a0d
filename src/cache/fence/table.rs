//! The records of one shard: a table of fixed size. It forgets the record that matters least, and remembers
//! that it did.
//!
//! A record that is removed while loads of its key may be running closes a cell. A new record copies the cell
//! of its key. So only keys of that cell, one in thousands, are refused, for as long as a load takes.

use prefetch_index::prefetch_index;

use super::record::{Record, Touch, tick};
use crate::clock::Now;
use crate::store::item::key::KeyHash;
use crate::store::item::seq::Seq;

/// The records of one shard, and the cells that stand for forgotten ones.
pub(crate) struct Table {
    /// The bits of a hash from here on select its cell. They follow those that select the shard: see
    /// [`KeyHash::SHARD_SHIFT`].
    cell_shift: u32,
    cells: Box<[Cell]>,
    /// Whether any cell was ever used.
    has_forgotten: bool,
    sets: Box<[Set]>,
}

/// The records of keys whose hashes agree in some bits. The hashes fill one cache line of the processor, the
/// only one that is read for most keys.
#[derive(Clone)]
#[repr(align(64))]
struct Set {
    hashes: [KeyHash; WAYS],
    /// For each record, the time from which on only its lapsed misses matter, in wrapping milliseconds.
    ends: [u32; WAYS],
    records: [Record; WAYS],
}

/// The misses of a key or cell, as another table or process needs to know them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Forgotten {
    /// When the last load must have ended, in monotonic milliseconds.
    pub(crate) closed_until: u64,
    /// The hash of the key, or of one in the cell.
    pub(crate) hash: KeyHash,
    /// Invalidations up to this sequence number are accounted for.
    pub(crate) marked: Seq,
    /// The number of unanswered misses, and how many of them are older than the newest invalidation.
    pub(crate) lapsed: u16,
    pub(crate) lapsed_old: u16,
    /// Whether it stands for all keys of a cell.
    pub(crate) is_cell: bool,
}

/// The misses that were forgotten of the keys whose hashes agree in some bits.
#[derive(Clone, Copy, Default)]
struct Cell {
    /// The earlier and the later one, so that each ends even if misses are forgotten all the time: see
    /// [`Cell::close`].
    closures: [Closure; 2],
    /// The misses of the key that was forgotten last: see [`Forgotten`].
    hash: KeyHash,
    marked: Seq,
    lapsed: u16,
    lapsed_old: u16,
}

/// A time in which a cell refuses sets of keys that were invalidated.
#[derive(Clone, Copy, Default)]
struct Closure {
    /// When the loads of all misses that were forgotten must have ended, in monotonic milliseconds.
    until: u64,
    /// Invalidations after this sequence number count: the least `marked` of the keys that were forgotten.
    /// Zero if an earlier one counts, too; then every set is refused.
    since: Seq,
}

impl Cell {
    /// Closes the cell, in addition to what closes it already.
    ///
    /// The later closure takes up what is forgotten while the earlier one lasts, and then becomes the earlier
    /// one. So each takes up misses for one load time at most, and ends another one later, however long keys
    /// go on being forgotten.
    fn close(&mut self, closure: Closure, now: Now) {
        let [earlier, later] = &mut self.closures;
        if closure.until <= now.millis {
            return;
        }
        if later.until <= now.millis {
            *later = closure;
        } else if earlier.until <= now.millis {
            *earlier = std::mem::replace(later, closure);
        } else {
            *later = later.and(closure);
        }
    }

    /// The closures that have not ended, as one.
    fn closure(&self, now: Now) -> Option<Closure> {
        self.closures.into_iter().filter(|closure| closure.until > now.millis).reduce(Closure::and)
    }
}

impl Closure {
    fn and(self, other: Closure) -> Closure {
        Closure { until: self.until.max(other.until), since: self.since.min(other.since) }
    }
}

/// A record in its place.
pub(crate) struct Entry<'t> {
    ends: &'t mut u32,
    pub(crate) record: &'t mut Record,
}

impl Entry<'_> {
    /// Must be called after a change; `is_answered` if no load of the key may be running.
    pub(crate) fn settle(&mut self, is_answered: bool, touch: Touch) {
        *self.ends = if is_answered { tick(touch.now) } else { self.record.ends(touch.load_time) };
    }
}

impl Set {
    fn way(&self, hash: KeyHash) -> Option<usize> {
        self.hashes.iter().position(|known| *known == hash)
    }

    fn entry(&mut self, way: usize) -> Entry<'_> {
        Entry { ends: &mut self.ends[way], record: &mut self.records[way] }
    }

    /// The way of the record that matters least.
    fn least(&self, now: u32) -> usize {
        let rank =
            |way: &usize| (self.hashes[*way] != KeyHash::NONE, self.ends[*way].wrapping_sub(now) as i32);
        (0..WAYS).min_by_key(rank).expect("a set has ways")
    }
}

impl Table {
    /// The size of the tables of all shards together, in bytes, if their full size is divided by `part`.
    pub(crate) fn bytes(shards: usize, part: usize) -> usize {
        let (cells, sets) = parts(shards * part);
        shards * (cells * size_of::<Cell>() + sets * size_of::<Set>())
    }

    /// The table of one of so many shards, if the full size of all is divided by `part`. All are powers of
    /// two.
    pub(crate) fn new(shards: usize, part: usize) -> Self {
        let record = Record::new(Seq::ZERO, Now { millis: 0, unix: 0 });
        let empty = Set { hashes: [KeyHash::NONE; WAYS], ends: [0; WAYS], records: [record; WAYS] };
        let (cells, sets) = parts(shards * part);
        Table {
            cell_shift: KeyHash::SHARD_SHIFT + shards.ilog2(),
            cells: vec![Cell::default(); cells].into_boxed_slice(),
            has_forgotten: false,
            sets: vec![empty; sets].into_boxed_slice(),
        }
    }

    /// Prefetches the hashes of a key's set.
    pub(crate) fn prefetch(&self, hash: KeyHash) {
        prefetch_index(&self.sets[..], self.set_of(hash));
    }

    /// The record of a key, if it has one, or if its cell applies to it.
    #[inline]
    pub(crate) fn find(&mut self, hash: KeyHash, touch: Touch) -> Option<Entry<'_>> {
        let set = self.set_of(hash);
        if let Some(way) = self.sets[set].way(hash) {
            return Some(self.sets[set].entry(way));
        }
        let record = self.recall(hash, touch)?;
        let (way, _) = self.insert(hash, record, touch);
        Some(self.sets[set].entry(way))
    }

    /// The record of a key, made if there is none. If that removed another record and so cut off the sample
    /// of a load, returns how long it was timed, in milliseconds.
    ///
    /// Invalidations up to `last` do not concern a new record.
    #[inline]
    pub(crate) fn find_or_make(
        &mut self,
        hash: KeyHash,
        last: Seq,
        touch: Touch,
    ) -> (Entry<'_>, Option<u32>) {
        let set = self.set_of(hash);
        if let Some(way) = self.sets[set].way(hash) {
            return (self.sets[set].entry(way), None);
        }
        let record = self.recall(hash, touch).unwrap_or_else(|| Record::new(last, touch.now));
        let (way, cut) = self.insert(hash, record, touch);
        (self.sets[set].entry(way), cut)
    }

    /// Passes every key and every cell of which a set may still be refused.
    pub(crate) fn each(&self, now: Now, mut show: impl FnMut(Forgotten)) {
        for set in &self.sets {
            for way in (0..WAYS).filter(|way| set.hashes[*way] != KeyHash::NONE) {
                forgotten(set.hashes[way], &set.records[way], set.ends[way], now)
                    .into_iter()
                    .for_each(&mut show);
            }
        }
        for cell in self.cells.iter().filter(|cell| cell.hash != KeyHash::NONE) {
            let Cell { hash, marked, lapsed, lapsed_old, .. } = *cell;
            let forgotten = Forgotten { hash, marked, lapsed, lapsed_old, ..Forgotten::default() };
            if lapsed > 0 {
                show(forgotten);
            }
            if let Some(Closure { until: closed_until, .. }) = cell.closure(now) {
                for hash in self.parts_of_cell(hash) {
                    show(Forgotten { closed_until, hash, is_cell: true, ..forgotten });
                }
            }
        }
    }

    /// Takes over what another table passed.
    pub(crate) fn restore(&mut self, known: Forgotten, touch: Touch) {
        let mut record = Record::new(known.marked, touch.now);
        let until = known.closed_until.max(touch.now.millis) as u32;
        record.close((known.lapsed, known.lapsed_old), known.lapsed_old > 0, until, touch.now);
        self.insert(known.hash, record, touch);
    }

    /// Closes the cell of a key whose invalidations are not known.
    pub(crate) fn close_cell(&mut self, hash: KeyHash, until: u64, now: Now) {
        let cell = self.cell_of(hash);
        let cell = &mut self.cells[cell];
        // `each` passes cells that have a hash.
        cell.hash = if cell.hash == KeyHash::NONE { hash } else { cell.hash };
        cell.close(Closure { until, since: Seq::ZERO }, now);
        self.has_forgotten = true;
    }

    /// Closes every cell.
    pub(crate) fn close_all(&mut self, until: u64, now: Now) {
        self.cells.iter_mut().for_each(|cell| cell.close(Closure { until, since: Seq::ZERO }, now));
        self.has_forgotten = true;
    }

    /// Puts a record in the place of the one that matters least; returns its way, and the sample that this
    /// cuts off.
    #[inline(never)]
    fn insert(&mut self, hash: KeyHash, record: Record, touch: Touch) -> (usize, Option<u32>) {
        let set = self.set_of(hash);
        let way = self.sets[set].least(tick(touch.now));
        let Set { hashes, ends, records } = &mut self.sets[set];
        let old_hash = std::mem::replace(&mut hashes[way], hash);
        let mut old = std::mem::replace(&mut records[way], record);
        let old_ends = std::mem::replace(&mut ends[way], record.ends(touch.load_time));
        if old_hash == KeyHash::NONE {
            return (way, None);
        }
        if let Some(forgotten) = forgotten(old_hash, &old, old_ends, touch.now) {
            self.remember(forgotten, touch.now);
        }
        (way, old.end_sample(touch.now))
    }

    #[cold]
    fn remember(&mut self, forgotten: Forgotten, now: Now) {
        let cell = self.cell_of(forgotten.hash);
        let cell = &mut self.cells[cell];
        let Forgotten { closed_until: until, hash, marked, lapsed, lapsed_old, .. } = forgotten;
        *cell = Cell { hash, marked, lapsed, lapsed_old, ..*cell };
        let since = if lapsed_old > 0 { Seq::ZERO } else { marked };
        cell.close(Closure { until, since }, now);
        self.has_forgotten = true;
    }

    /// A record that copies the cell of a key; `None` if the cell does not apply to it.
    #[inline]
    fn recall(&mut self, hash: KeyHash, touch: Touch) -> Option<Record> {
        if !self.has_forgotten {
            return None;
        }
        let cell = self.cell_of(hash);
        let cell = &mut self.cells[cell];
        let is_same = cell.hash == hash && cell.lapsed > 0;
        let closure = cell.closure(touch.now);
        if !is_same && closure.is_none() {
            return None;
        }
        let lapsed = if is_same { (cell.lapsed, cell.lapsed_old) } else { (0, 0) };
        let Closure { until, since } =
            closure.unwrap_or(Closure { until: touch.now.millis, since: cell.marked });
        let mut record = Record::new(since, touch.now);
        record.close(lapsed, since == Seq::ZERO || lapsed.1 > 0, until as u32, touch.now);
        record.is_copy = true;
        if is_same {
            (cell.lapsed, cell.lapsed_old) = (0, 0);
        }
        Some(record)
    }

    fn set_of(&self, hash: KeyHash) -> usize {
        ((u64::from((hash.bits() >> SET_SHIFT) as u16) * self.sets.len() as u64) >> 16) as usize
    }

    fn cell_of(&self, hash: KeyHash) -> usize {
        (hash.bits() >> self.cell_shift) as usize & (self.cells.len() - 1)
    }

    /// One hash in each of the smallest cells, which the largest tables have, that are parts of the cell of
    /// this hash.
    fn parts_of_cell(&self, hash: KeyHash) -> impl Iterator<Item = KeyHash> + use<> {
        let end = self.cell_shift + self.cells.len().ilog2();
        let parts = 1_u64 << (KeyHash::SHARD_SHIFT + CELLS.ilog2()).saturating_sub(end);
        (0..parts).map(move |part| KeyHash::new(hash.bits() & !((parts - 1) << end) | part << end))
    }
}

/// The misses that a removed record leaves behind, if it leaves any; `ends` is in wrapping milliseconds.
fn forgotten(hash: KeyHash, record: &Record, ends: u32, now: Now) -> Option<Forgotten> {
    if record.is_mere_copy() {
        return None;
    }
    let left = ends.wrapping_sub(tick(now)) as i32;
    // A load that a set has answered in one mode may still be running in another.
    let lapsed = record.unanswered().max(u16::from(left > 0 && record.has_old()));
    if left <= 0 && lapsed == 0 {
        return None;
    }
    let lapsed_old = if record.has_old() { lapsed } else { 0 };
    let closed_until = if left > 0 { now.millis + left as u64 } else { 0 };
    Some(Forgotten {
        closed_until,
        hash,
        marked: record.marked(),
        lapsed,
        lapsed_old,
        ..Forgotten::default()
    })
}

/// The number of cells and of sets in one of `shares` equal shares.
fn parts(shares: usize) -> (usize, usize) {
    let cells = (CELLS / shares).max(1);
    let sets = (BYTES / shares).saturating_sub(cells * size_of::<Cell>()) / size_of::<Set>();
    (cells, sets.max(2))
}

const WAYS: usize = 8;
/// Over all shards; 2.1 MiB hold about 11,500 records, depending on the number of shards. See
/// docs/design/figures.md for how often good fills are refused because that is not enough.
#[cfg(not(shuttle))]
const BYTES: usize = 17 << 17;
#[cfg(not(shuttle))]
const CELLS: usize = 1 << 13;
/// The model checker makes many tables.
#[cfg(shuttle)]
const BYTES: usize = 8 << 10;
#[cfg(shuttle)]
const CELLS: usize = 1 << 5;
/// Bits of the hash that select neither the shard nor the slot of an item.
const SET_SHIFT: u32 = 24;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::ops::Range;

    use super::*;
    use crate::cache::fence::judgment::{Judged, Reader, Takes, Verdict};

    /// A server took over with another `-m`, and sets of keys that were invalidated while they were loaded
    /// were stored: a cell had other keys there, or was only a part of that which was closed.
    #[test]
    fn what_a_closed_cell_contains_is_closed_in_tables_of_any_other_size() {
        let now = Now { millis: 1_000, unix: 0 };
        let mut random = 1_u64;
        let mut hash = || {
            random = random.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x7f4a_7c15);
            KeyHash::new(random ^ random >> 29)
        };
        let (closed, others) = ([(); 40].map(|()| hash()), [(); 20_000].map(|()| hash()));
        let caches = [(4, 4), (4, 2), (8, 1), (16, 1), (64, 1), (1024, 1)];
        for (from, to) in caches.into_iter().flat_map(|from| caches.map(|to| (from, to))) {
            let new = |(shards, part)| (0..shards).map(|_| Table::new(shards, part)).collect::<Vec<_>>();
            let is_closed = |hash: KeyHash, tables: &[Table]| {
                let table = &tables[hash.shard(tables.len())];
                table.cells[table.cell_of(hash)].closure(now).is_some()
            };
            let (mut old, mut young) = (new(from), new(to));
            closed.iter().for_each(|hash| {
                old[hash.shard(from.0)].close_cell(*hash, 2_000, now);
            });
            old.iter().for_each(|table| {
                table.each(now, |Forgotten { hash, closed_until, is_cell, .. }| {
                    assert!(is_cell);
                    young[hash.shard(to.0)].close_cell(hash, closed_until, now);
                });
            });
            let count = |tables: &[Table]| others.iter().filter(|hash| is_closed(**hash, tables)).count();
            assert!(others.iter().all(|hash| is_closed(*hash, &young) || !is_closed(*hash, &old)));
            // No more than necessary: a quarter of the cells may contain four times as many keys.
            assert!(count(&old) > 40 && count(&young) <= count(&old) * 5, "{from:?} to {to:?}");
        }
    }

    /// A table with one cell and two sets, in which all keys of a test compete for one set.
    struct Fixture {
        /// The newest invalidation of each key.
        invalidated: HashMap<u64, Seq>,
        now: Now,
        seq: u64,
        table: Table,
    }

    impl Fixture {
        fn new() -> Self {
            let table = Table::new(1, CELLS);
            assert_eq!((table.cells.len(), table.sets.len()), (1, 2));
            Fixture { invalidated: HashMap::new(), now: Now { millis: 1_000, unix: 0 }, seq: 1, table }
        }

        fn touch(&self) -> Touch {
            Touch { now: self.now, load_time: LOAD_MS, max_age: 60 }
        }

        fn next(&mut self) -> Seq {
            self.seq += 1;
            Seq::new(self.seq).expect("it is small")
        }

        fn invalidate(&mut self, key: u64) {
            let seq = self.next();
            self.invalidated.insert(key, seq);
        }

        fn miss(&mut self, key: u64) {
            let (last, touch) = (self.next(), self.touch());
            let (mut entry, _) = self.table.find_or_make(hash(key), last, touch);
            entry.record.age(touch);
            if self.invalidated.get(&key).is_some_and(|newest| *newest > entry.record.marked()) {
                entry.record.invalidate(last);
            }
            entry.record.miss(Reader::Loads, touch, last);
            entry.settle(false, touch);
        }

        fn set(&mut self, key: u64, value: u64) -> Verdict {
            let (seq, touch) = (self.next(), self.touch());
            let mut entry = self.table.find(hash(key), touch).expect("the key was missed");
            entry.record.age(touch);
            if self.invalidated.get(&key).is_some_and(|newest| *newest > entry.record.marked()) {
                entry.record.invalidate(seq);
            }
            let Judged { verdict, .. } = entry.record.set(Takes::Repeats, || value << 20);
            let is_answered = entry.record.is_answered(Takes::Repeats);
            entry.settle(is_answered, touch);
            verdict
        }

        /// A millisecond later, these keys are missed, too.
        fn miss_others(&mut self, keys: Range<u64>) {
            self.now.millis += 1;
            keys.for_each(|key| self.miss(key));
        }

        fn has_record(&self, key: u64) -> bool {
            self.table.sets[0].way(hash(key)).is_some()
        }
    }

    const LOAD_MS: u32 = 100;
    const OLD: u64 = 1;
    const NEW: u64 = 2;

    fn hash(key: u64) -> KeyHash {
        KeyHash::new(key << SET_SHIFT)
    }

    /// Ann misses a key and reads its row. The row changes, the key is deleted, and Bob misses it: the record
    /// accounts for the delete, and from now on only the record shows that Ann's miss is older. Then the
    /// record is forgotten, and so is that of another key of its cell, which takes the cell. Ann's late set
    /// was stored once: nothing showed the delete.
    #[test]
    fn a_cell_stays_closed_to_a_key_whose_old_miss_another_key_hides() {
        let mut fixture = Fixture::new();
        fixture.miss(1);
        fixture.invalidate(1);
        fixture.miss(1);
        fixture.miss_others(10..10 + WAYS as u64);
        assert!(!fixture.has_record(1) && fixture.table.cells[0].hash == hash(1));
        fixture.miss_others(20..21);
        assert_ne!(fixture.table.cells[0].hash, hash(1), "another key has taken the cell");
        assert_eq!(fixture.set(1, OLD), Verdict::Closed);
    }

    /// Ann misses a key and reads its row. The row changes and the key is deleted. Bob, who has missed
    /// nothing, sets the new value, and that takes Ann's miss away if every set answers one; but in this
    /// class only sets that repeat a value do, so that Ann's load may still be running. Then the record is
    /// forgotten. Ann's late set was stored once: the cell said that no miss was left.
    #[test]
    fn a_cell_is_closed_to_a_key_whose_old_miss_is_answered_in_another_mode_only() {
        let mut fixture = Fixture::new();
        fixture.miss(1);
        fixture.invalidate(1);
        assert_eq!(fixture.set(1, NEW), Verdict::Doubtful);
        fixture.miss_others(10..10 + WAYS as u64);
        assert!(!fixture.has_record(1) && fixture.table.cells[0].hash == hash(1));
        assert_eq!(fixture.set(1, OLD), Verdict::Closed);
    }
}
