//! The newest version of a database's row that anybody spoke of, by key: what is older is not stored any more.
//!
//! A void tells that a value is old; a version tells how old. So a reader of a replica that lags cannot bring an old row back,
//! even with a fresh lease. Versions are numbers of the client's, never compared across keys.
//!
//! Deliberately absent: safety that rests on it alone. The table is small, and a version that had to go before its time is
//! counted.

use std::collections::VecDeque;

use hashbrown::HashTable;

use super::key::Key;

/// The versions of one shard.
pub(crate) struct Versions {
    bytes: usize,
    bytes_max: usize,
    /// Versions that had to go before their time.
    pub(crate) forgotten: u64,
    /// Hash and end of what was spoken of, in that order; only the last of a key counts.
    order: VecDeque<(u64, u32)>,
    table: HashTable<Entry>,
}

struct Entry {
    hash: u64,
    key: Box<[u8]>,
    /// Until when it is remembered, in monotonic seconds.
    until: u32,
    version: u64,
}

impl Versions {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Versions { bytes: 0, bytes_max, forgotten: 0, order: VecDeque::new(), table: HashTable::new() }
    }

    /// Whether a version may be stored; if so, none below it may, until then. `now` and `until` are monotonic seconds.
    pub(crate) fn admit(&mut self, key: &Key, version: u64, now: u32, until: u32) -> bool {
        self.drop_ended(now);
        let found = self.table.find_mut(key.hash, |entry| *entry.key == *key.bytes);
        if let Some(entry) = found {
            if version < entry.version {
                return false;
            }
            entry.version = version;
            if entry.until == until {
                return true;
            }
            entry.until = until;
        } else {
            let entry = Entry { hash: key.hash, key: key.bytes.into(), until, version };
            self.bytes += entry.bytes();
            self.table.insert_unique(key.hash, entry, |entry| entry.hash);
        }
        self.order.push_back((key.hash, until));
        self.bytes += PLACE_BYTES;
        while self.bytes > self.bytes_max && self.drop_oldest(now) {}
        true
    }

    /// What is remembered: key, version, and until when.
    pub(crate) fn told(&self) -> impl Iterator<Item = (Key<'_>, u64, u32)> {
        self.table
            .iter()
            .map(|entry| (Key { bytes: &entry.key, hash: entry.hash }, entry.version, entry.until))
    }

    fn drop_ended(&mut self, now: u32) {
        while self.order.front().is_some_and(|(_, until)| *until <= now) {
            self.drop_oldest(now);
        }
    }

    /// False if nothing is left.
    fn drop_oldest(&mut self, now: u32) -> bool {
        let Some((hash, until)) = self.order.pop_front() else { return false };
        self.bytes -= PLACE_BYTES;
        if let Ok(found) = self.table.find_entry(hash, |entry| entry.hash == hash && entry.until == until) {
            let (entry, _) = found.remove();
            self.bytes -= entry.bytes();
            self.forgotten += u64::from(until > now);
        }
        true
    }
}

impl Entry {
    /// With its share of a table that is half full.
    fn bytes(&self) -> usize {
        2 * size_of::<Entry>() + self.key.len()
    }
}

/// In an order that has grown to twice its need.
const PLACE_BYTES: usize = 2 * size_of::<(u64, u32)>();

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::key::Keys;

    #[test]
    fn an_older_version_is_refused_for_as_long_as_it_is_remembered() {
        let (keys, mut versions) = (Keys::new(7), Versions::new(1 << 20));
        let (one, two) = (keys.key(b"one").unwrap(), keys.key(b"two").unwrap());
        assert!(versions.admit(&one, 5, 100, 160) && versions.admit(&one, 5, 100, 160));
        assert!(!versions.admit(&one, 4, 159, 219) && versions.admit(&two, 1, 159, 219));
        assert!(versions.admit(&one, 4, 160, 220), "it was forgotten in time");
        assert!(versions.admit(&one, 9, 161, 221) && !versions.admit(&one, 8, 220, 280), "spoken of again");
        assert_eq!(versions.forgotten, 0);
    }

    #[test]
    fn a_full_table_forgets_the_oldest_and_counts_that() {
        let (keys, mut versions) = (Keys::new(7), Versions::new(10_000));
        for n in 0..1_000_u64 {
            assert!(versions.admit(&keys.key(&n.to_le_bytes()).unwrap(), 5, 100, 160));
            assert!(versions.bytes <= 10_000);
        }
        let held = versions.table.len() as u64;
        assert!(held > 50 && versions.forgotten == 1_000 - held);
        assert!(!versions.admit(&keys.key(&999_u64.to_le_bytes()).unwrap(), 4, 100, 160));
        assert!(versions.admit(&keys.key(&0_u64.to_le_bytes()).unwrap(), 4, 100, 160));
    }

    #[test]
    fn a_key_that_is_spoken_of_all_the_time_takes_no_more_than_its_room() {
        let (keys, mut versions) = (Keys::new(7), Versions::new(10_000));
        let key = keys.key(b"hot").unwrap();
        for now in 100..10_000 {
            assert!(versions.admit(&key, now.into(), now, now + 60));
            assert!(!versions.admit(&key, u64::from(now) - 1, now, now + 60) && versions.order.len() <= 61);
        }
        assert_eq!(versions.forgotten, 0);
    }
}
