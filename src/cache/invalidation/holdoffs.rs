//! Keys that may not be filled until a time: `delete <key> <seconds>`.
//!
//! The table of a shard grows up to a limit. A hold-off that finds no place in a full table holds off a
//! *cell* of keys instead: the keys of the shard whose hashes agree in some bits, one in [`CELLS`] of all
//! keys. Forgetting it would let a stale value in.

use hashbrown::HashTable;

use crate::clock::Now;
use crate::store::item::key::KeyHash;

/// The hold-offs of one shard.
pub(crate) struct Holdoffs {
    /// For each cell until when its keys are held off, in monotonic seconds. Empty until one is needed.
    cells: Box<[u32]>,
    keys: HashTable<Holdoff>,
    keys_max: usize,
    /// No sooner is it worth looking for hold-offs that have ended, in monotonic milliseconds.
    next_look: u64,
    place: Place,
    /// Hold-offs that found no place of their own.
    pub(crate) shared: u64,
}

/// Which shard it is, and of how many.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) index: usize,
    pub(crate) shards: usize,
}

/// The hold-off of the key with this hash.
#[derive(Clone, Copy)]
struct Holdoff {
    hash: KeyHash,
    /// Until when, in monotonic milliseconds.
    until: u64,
}

/// A hold-off, as another process needs to know it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Listed {
    /// The hash of the key, or of one in the cell.
    pub(crate) hash: KeyHash,
    /// Whether it holds off all keys of a cell.
    pub(crate) is_cell: bool,
    /// Until when, in monotonic milliseconds.
    pub(crate) until: u64,
}

impl Holdoffs {
    /// Bytes of the cells of all shards.
    pub(crate) const CELL_BYTES: usize = CELLS * size_of::<u32>();

    /// The hold-offs of one shard. Those of single keys take so many bytes at most.
    pub(crate) fn new(bytes_max: usize, place: Place) -> Self {
        Holdoffs {
            cells: Box::default(),
            keys: HashTable::new(),
            keys_max: (bytes_max / HOLDOFF_BYTES).max(1),
            next_look: 0,
            place,
            shared: 0,
        }
    }

    /// Holds a key off until `until`, in monotonic milliseconds; the longer of two wins.
    pub(crate) fn add(&mut self, hash: KeyHash, until: u64, now: Now) {
        if let Some(known) = self.keys.find_mut(hash.bits(), |known| known.hash == hash) {
            known.until = until.max(known.until);
            return;
        }
        if self.keys.len() == self.keys.capacity().min(self.keys_max) && now.millis >= self.next_look {
            self.drop_ended(now);
        }
        if self.keys.len() < self.keys_max {
            self.keys.insert_unique(hash.bits(), Holdoff { hash, until }, |known| known.hash.bits());
        } else {
            self.shared += 1;
            self.add_cell(hash, until);
        }
    }

    /// Holds off all keys that share a cell with this one.
    pub(crate) fn add_cell(&mut self, hash: KeyHash, until: u64) {
        let cell = self.cell_of(hash);
        let cells = self.cells();
        cells[cell] = cells[cell].max(second_after(until));
    }

    /// Holds every key off.
    pub(crate) fn add_all(&mut self, until: u64) {
        self.cells().iter_mut().for_each(|cell| *cell = (*cell).max(second_after(until)));
    }

    /// All that have not ended.
    pub(crate) fn all(&self, now: Now) -> impl Iterator<Item = Listed> {
        let own = self.keys.iter().map(|&Holdoff { hash, until }| Listed { hash, is_cell: false, until });
        let Place { index, shards } = self.place;
        let cells = self.cells.iter().enumerate().map(move |(cell, second)| {
            let hash = KeyHash::new(((cell * shards + index) as u64) << KeyHash::SHARD_SHIFT);
            Listed { hash, is_cell: true, until: u64::from(*second) * 1000 }
        });
        own.chain(cells).filter(move |listed| now.millis < listed.until)
    }

    /// Ends a key's own hold-off; true if it had one.
    pub(crate) fn end(&mut self, hash: KeyHash) -> bool {
        self.keys.find_entry(hash.bits(), |known| known.hash == hash).map(|known| known.remove()).is_ok()
    }

    /// Keys that are held off one by one.
    pub(crate) fn count(&self, now: Now) -> usize {
        self.keys.iter().filter(|known| now.millis < known.until).count()
    }

    /// Until when the key is held off, in monotonic milliseconds, if it is.
    pub(crate) fn until(&self, hash: KeyHash, now: Now) -> Option<u64> {
        if self.keys.is_empty() && self.cells.is_empty() {
            return None;
        }
        let own = self.keys.find(hash.bits(), |known| known.hash == hash).map_or(0, |known| known.until);
        let cell = self.cells.get(self.cell_of(hash)).map_or(0, |second| u64::from(*second) * 1000);
        Some(own.max(cell)).filter(|until| now.millis < *until)
    }

    fn drop_ended(&mut self, now: Now) {
        self.keys.retain(|known| now.millis < known.until);
        if self.keys.len() == self.keys_max {
            self.next_look = now.millis + LOOK_EVERY_MS;
        } else if self.keys.len() > self.keys.capacity() / 2 {
            // Or each of the next ones would find the table full again.
            let more = (self.keys_max - self.keys.len()).min(self.keys.len());
            self.keys.reserve(more, |known| known.hash.bits());
        }
    }

    fn cells(&mut self) -> &mut [u32] {
        if self.cells.is_empty() {
            self.cells = vec![0; CELLS / self.place.shards].into_boxed_slice();
        }
        &mut self.cells
    }

    /// The low bits choose the shard: see [`KeyHash::SHARD_SHIFT`].
    fn cell_of(&self, hash: KeyHash) -> usize {
        (hash.bits() >> KeyHash::SHARD_SHIFT) as usize / self.place.shards
    }
}

fn second_after(millis: u64) -> u32 {
    u32::try_from(millis.div_ceil(1000)).unwrap_or(u32::MAX)
}

/// Cells over all shards.
pub const CELLS: usize = 1 << (u64::BITS - KeyHash::SHARD_SHIFT);
/// With its share of a table that is half full.
const HOLDOFF_BYTES: usize = 2 * (size_of::<Holdoff>() + 1);
/// How often a full table is searched for hold-offs that have ended.
const LOOK_EVERY_MS: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { index: 3, shards: 8 };

    /// Room for so many keys.
    fn holdoffs(keys: usize) -> Holdoffs {
        Holdoffs::new(keys * HOLDOFF_BYTES, PLACE)
    }

    fn at(millis: u64) -> Now {
        Now { millis, unix: 0 }
    }

    /// The hash of a key of the shard; each has a cell of its own.
    fn hash(n: u64) -> KeyHash {
        KeyHash::new((n * PLACE.shards as u64 + PLACE.index as u64) << KeyHash::SHARD_SHIFT | n)
    }

    #[test]
    fn the_longer_of_two_wins_and_a_set_ends_it() {
        let mut holdoffs = holdoffs(10);
        holdoffs.add(hash(1), 9_000, at(0));
        holdoffs.add(hash(1), 5_000, at(0));
        let until = |holdoffs: &Holdoffs, millis| holdoffs.until(hash(1), at(millis));
        assert_eq!((until(&holdoffs, 8_999), until(&holdoffs, 9_000)), (Some(9_000), None));
        assert_eq!((holdoffs.count(at(8_999)), holdoffs.count(at(9_000))), (1, 0));
        assert_eq!(holdoffs.until(hash(2), at(0)), None);
        assert!(holdoffs.end(hash(1)) && !holdoffs.end(hash(1)));
        assert_eq!(until(&holdoffs, 0), None);
    }

    /// `delete k0 11` to `delete k9999 11`: no fill of any key was kept for eleven seconds.
    #[test]
    fn what_finds_no_place_holds_off_its_cell_and_no_other_key() {
        let mut holdoffs = holdoffs(10);
        (0..12).for_each(|n| holdoffs.add(hash(n), 1_500 + n, at(0)));
        assert_eq!((holdoffs.count(at(0)), holdoffs.shared), (10, 2));
        for n in 0..10 {
            assert_eq!(holdoffs.until(hash(n), at(0)), Some(1_500 + n));
        }
        for n in [10, 11] {
            assert_eq!(holdoffs.until(hash(n), at(1_999)), Some(2_000), "ends are rounded up");
            assert_eq!(holdoffs.until(hash(n), at(2_000)), None);
            assert!(!holdoffs.end(hash(n)), "others may be held off by it");
        }
        assert!((12..CELLS as u64 / 8).all(|n| holdoffs.until(hash(n), at(0)).is_none()));
    }

    #[test]
    fn ended_ones_make_room() {
        let mut holdoffs = holdoffs(100);
        for n in 0..10_000 {
            holdoffs.add(KeyHash::new(hash(n % 8_000).bits() + n), n * 10 + 500, at(n * 10));
        }
        assert_eq!(holdoffs.shared, 0, "fifty are held off at a time");
    }

    /// Its memory grows with what is held off at a time, not with what ever was.
    #[test]
    fn a_table_is_searched_for_ended_ones_before_it_grows() {
        let mut holdoffs = holdoffs(10_000);
        (0..10_000).for_each(|n| holdoffs.add(KeyHash::new(n), n * 10 + 500, at(n * 10)));
        assert!(holdoffs.keys.capacity() < 250, "{}", holdoffs.keys.capacity());
    }

    #[test]
    fn a_full_table_is_searched_for_ended_ones_now_and_then() {
        let mut holdoffs = holdoffs(10);
        (0..11).for_each(|n| holdoffs.add(hash(n), 1_000, at(950)));
        holdoffs.add(hash(11), 5_000, at(1_040));
        assert_eq!(holdoffs.shared, 2, "all were looked at a moment ago");
        holdoffs.add(hash(12), 5_000, at(1_050));
        assert_eq!((holdoffs.shared, holdoffs.count(at(1_050))), (2, 1));
    }

    #[test]
    fn the_longer_of_a_key_and_its_cell_wins() {
        let mut holdoffs = holdoffs(10);
        holdoffs.add(hash(1), 5_000, at(0));
        holdoffs.add(hash(2), 9_000, at(0));
        holdoffs.add_all(7_000);
        holdoffs.add_all(6_000);
        let untils = [1, 2, 3].map(|n| holdoffs.until(hash(n), at(0)));
        assert_eq!(untils, [Some(7_000), Some(9_000), Some(7_000)]);
    }

    #[test]
    fn a_cache_with_another_number_of_shards_holds_the_same_keys_off() {
        let mut holdoffs = holdoffs(1);
        (0..3).for_each(|n| holdoffs.add(hash(n), 1_000, at(0)));
        let of_four = Place { index: PLACE.index, shards: 4 };
        let mut others = Holdoffs::new(0, of_four);
        for Listed { hash, is_cell, until } in holdoffs.all(at(0)) {
            match is_cell {
                true => others.add_cell(hash, until),
                false => others.add(hash, until, at(0)),
            }
        }
        assert!((0..3).all(|n| others.until(hash(n), at(0)) == Some(1_000)));
        assert_eq!((others.all(at(0)).count(), others.all(at(1_000)).count()), (3, 0));
    }
}
