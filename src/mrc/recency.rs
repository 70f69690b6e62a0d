//! Keys in the order of their last use, with the bytes that were used since then.
//!
//! Each use takes the next place in a row; a tree of sums over the row (Fenwick, 1994) gives the bytes after
//! a place. The gaps of a full row are closed.
//!
//! The choice of the keys and the meaning of their order are those of the shadow.

use hashbrown::HashTable;

use crate::store::expiry::Expiry;
use crate::store::item::key::KeyHash;

/// Keys, by their hashes, with their cost and expiry.
pub(crate) struct Recency {
    /// Bytes of all of them.
    bytes: u64,
    /// All places before this one are empty.
    first: usize,
    index: HashTable<u16>,
    /// The place of the next use.
    next: usize,
    /// From the oldest use to the newest.
    row: Box<[Entry]>,
    /// A Fenwick tree over the bytes in `row`.
    sums: Box<[u64]>,
}

/// One key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Entry {
    /// The cost of the key; 0 if there is no key here.
    pub(crate) bytes: u32,
    pub(crate) expiry: Expiry,
    pub(crate) hash: KeyHash,
}

impl Recency {
    /// Bytes of one place.
    pub(crate) const BYTES: usize =
        ROW * (size_of::<Entry>() + size_of::<u64>()) + KEYS_MAX * 2 * (size_of::<u16>() + 1);

    pub(crate) fn new() -> Self {
        Recency {
            bytes: 0,
            first: 0,
            index: HashTable::with_capacity(KEYS_MAX),
            next: 0,
            row: vec![EMPTY; ROW].into_boxed_slice(),
            sums: vec![0; ROW + 1].into_boxed_slice(),
        }
    }

    /// Makes a key the newest. There must be room for it.
    pub(crate) fn put(&mut self, entry: Entry) {
        self.remove(entry.hash);
        if self.next == ROW {
            self.retain(|_| true);
        }
        self.append(entry);
    }

    /// Removes a key; returns it, and the bytes of the keys that were used after it.
    pub(crate) fn remove(&mut self, hash: KeyHash) -> Option<(Entry, u64)> {
        let place = self.index.find_entry(spread(hash), |place| self.row[usize::from(*place)].hash == hash);
        let place = usize::from(place.ok()?.remove().0);
        let entry = std::mem::replace(&mut self.row[place], EMPTY);
        let newer = self.bytes - self.sum(place + 1);
        self.add(place, u64::from(entry.bytes).wrapping_neg());
        self.bytes -= u64::from(entry.bytes);
        Some((entry, newer))
    }

    /// Removes the key whose last use is the longest ago.
    pub(crate) fn remove_oldest(&mut self) -> Option<Entry> {
        while self.first < self.next {
            let Entry { bytes, hash, .. } = self.row[self.first];
            self.first += 1;
            if bytes > 0 {
                return self.remove(hash).map(|(entry, _)| entry);
            }
        }
        None
    }

    /// Keeps only some keys, and closes the gaps.
    pub(crate) fn retain(&mut self, stays: impl Fn(Entry) -> bool) {
        let old = self.first..std::mem::take(&mut self.next);
        (self.bytes, self.first) = (0, 0);
        self.index.clear();
        self.sums.fill(0);
        for place in old {
            let entry = std::mem::replace(&mut self.row[place], EMPTY);
            if entry.bytes > 0 && stays(entry) {
                self.append(entry);
            }
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= KEYS_MAX
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    fn append(&mut self, entry: Entry) {
        let place = self.next;
        self.next += 1;
        self.row[place] = entry;
        self.bytes += u64::from(entry.bytes);
        self.add(place, entry.bytes.into());
        let row = &self.row;
        let rehash = |place: &u16| spread(row[usize::from(*place)].hash);
        self.index.insert_unique(spread(entry.hash), place as u16, rehash);
    }

    /// Adds to the bytes at a place, or subtracts by wrapping around.
    fn add(&mut self, place: usize, bytes: u64) {
        let mut node = place + 1;
        while node <= ROW {
            self.sums[node] = self.sums[node].wrapping_add(bytes);
            node += node & node.wrapping_neg();
        }
    }

    /// Bytes in the first `places` places.
    fn sum(&self, places: usize) -> u64 {
        let (mut node, mut sum) = (places, 0_u64);
        while node > 0 {
            sum = sum.wrapping_add(self.sums[node]);
            node &= node - 1;
        }
        sum
    }
}

/// The upper bits of the hashes here are all alike, and hashbrown compares those first.
fn spread(hash: KeyHash) -> u64 {
    hash.bits().rotate_left(32)
}

const EMPTY: Entry = Entry { bytes: 0, expiry: Expiry::NEVER, hash: KeyHash::NONE };
/// The greatest number of keys.
#[cfg(not(shuttle))]
pub(crate) const KEYS_MAX: usize = 8192;
/// The model checker builds many of these.
#[cfg(shuttle)]
pub(crate) const KEYS_MAX: usize = 8;
/// Twice the keys: the gaps are closed at most once in as many uses as there are keys.
const ROW: usize = KEYS_MAX * 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> KeyHash {
        KeyHash::new(number)
    }

    fn entry(hash: u64, bytes: u32) -> Entry {
        Entry { bytes, expiry: Expiry::NEVER, hash: key(hash) }
    }

    #[test]
    fn a_removed_key_comes_with_the_bytes_used_after_it() {
        let mut recency = Recency::new();
        for hash in 1..=4 {
            recency.put(entry(hash, 10 * hash as u32));
        }
        recency.put(entry(2, 25));
        assert_eq!((recency.len(), recency.bytes()), (4, 105));
        assert_eq!(recency.remove(key(3)), Some((entry(3, 30), 40 + 25)));
        assert_eq!(recency.remove(key(3)), None);
        assert_eq!(recency.remove_oldest(), Some(entry(1, 10)));
        assert_eq!(recency.remove_oldest(), Some(entry(4, 40)));
        assert_eq!((recency.len(), recency.bytes()), (1, 25));
    }

    #[test]
    fn a_row_whose_gaps_are_closed_keeps_its_order() {
        let mut recency = Recency::new();
        for use_ in 0..ROW as u64 * 3 {
            recency.put(entry(use_ % 100, 1));
        }
        let newest = (ROW as u64 * 3 - 1) % 100;
        assert_eq!(recency.remove(key((newest + 1) % 100)), Some((entry((newest + 1) % 100, 1), 99)));
        recency.retain(|entry| entry.hash == key(newest) || entry.hash.bits() % 2 == 0);
        assert!(recency.remove(key(newest)).is_some_and(|(_, newer)| newer == 0));
    }
}
