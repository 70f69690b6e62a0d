//! The newest version of a database's row that any client sent, by key: what is older is not stored.
//!
//! An invalidation says that a value is old; a version says how old. So a reader of a replica that lags
//! cannot bring an old row back, even with a fresh lease. Versions are numbers of the client's, never
//! compared across keys.
//!
//! The table is small. A version that has to go before its time leaves a floor in a cell that it shares with
//! few others: while it is alone there, only its own key is refused what is older, and from then on any key
//! of the cell.

use std::collections::VecDeque;

use hashbrown::HashTable;

use crate::store::item::key::KeyHash;

/// The versions of one shard.
pub(crate) struct Versions {
    bytes: usize,
    bytes_max: usize,
    floors: Box<[Floor]>,
    /// Versions that had to go before their time.
    pub(crate) forgotten: u64,
    /// Hash and end of what was sent, in that order; only the last of a key counts.
    order: VecDeque<(KeyHash, u32)>,
    table: HashTable<Entry>,
}

/// The newest version of the key with this hash.
#[derive(Clone, Copy)]
struct Entry {
    hash: KeyHash,
    /// Until when it is remembered, in monotonic seconds.
    until: u32,
    version: u64,
}

/// Versions that were forgotten.
#[derive(Clone, Copy, Default)]
struct Floor {
    /// Bits of the hash of their key; 0 where there were several.
    key: u32,
    until: u32,
    version: u64,
}

impl Versions {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let floors = (bytes_max / 2 / size_of::<Floor>()).max(1);
        Versions {
            bytes: 0,
            bytes_max: bytes_max / 2,
            floors: vec![Floor::default(); floors].into_boxed_slice(),
            forgotten: 0,
            order: VecDeque::new(),
            table: HashTable::new(),
        }
    }

    /// Whether a version may be stored; if so, none below it may, until then. `now` and `until` are monotonic
    /// seconds.
    pub(crate) fn admit(&mut self, hash: KeyHash, version: u64, now: u32, until: u32) -> bool {
        self.drop_ended(now);
        let is_older = match self.table.find(hash.bits(), |entry| entry.hash == hash) {
            Some(entry) => version < entry.version,
            None => self.floors[self.floor_of(hash)].refuses(hash, version, now),
        };
        if !is_older {
            self.remember(hash, version, now, until);
        }
        !is_older
    }

    fn remember(&mut self, hash: KeyHash, version: u64, now: u32, until: u32) {
        if let Some(entry) = self.table.find_mut(hash.bits(), |entry| entry.hash == hash) {
            entry.version = version;
            if entry.until == until {
                return;
            }
            entry.until = until;
        } else {
            self.bytes += ENTRY_BYTES;
            self.table.insert_unique(hash.bits(), Entry { hash, until, version }, |entry| entry.hash.bits());
        }
        self.order.push_back((hash, until));
        self.bytes += PLACE_BYTES;
        while self.bytes > self.bytes_max && self.drop_oldest(now) {}
    }

    /// Makes this the newest version of a key, until then; false if it is known already, or a newer one is.
    /// The floors, which keys share, are no evidence here: an invalidation must not be left out.
    pub(crate) fn supersede(&mut self, hash: KeyHash, version: u64, now: u32, until: u32) -> bool {
        self.drop_ended(now);
        let known = self.table.find(hash.bits(), |entry| entry.hash == hash);
        if known.is_some_and(|entry| version <= entry.version) {
            return false;
        }
        self.remember(hash, version, now, until);
        true
    }

    /// All that is remembered: hash of a key, version, and until when.
    pub(crate) fn each(&self) -> impl Iterator<Item = (KeyHash, u64, u32)> {
        self.table.iter().map(|entry| (entry.hash, entry.version, entry.until))
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
        if let Ok(found) =
            self.table.find_entry(hash.bits(), |entry| entry.hash == hash && entry.until == until)
        {
            let (entry, _) = found.remove();
            self.bytes -= ENTRY_BYTES;
            if until > now {
                self.forgotten += 1;
                let floor = self.floor_of(hash);
                self.floors[floor].raise(entry, now);
            }
        }
        true
    }

    fn floor_of(&self, hash: KeyHash) -> usize {
        ((u64::from((hash.bits() >> FLOOR_SHIFT) as u16) * self.floors.len() as u64) >> 16) as usize
    }
}

impl Floor {
    fn refuses(self, hash: KeyHash, version: u64, now: u32) -> bool {
        now < self.until && version < self.version && (self.key == 0 || self.key == fingerprint(hash))
    }

    fn raise(&mut self, entry: Entry, now: u32) {
        let key = fingerprint(entry.hash);
        *self = match now < self.until {
            false => Floor { key, until: entry.until, version: entry.version },
            true => Floor {
                key: if self.key == key { key } else { 0 },
                until: self.until.max(entry.until),
                version: self.version.max(entry.version),
            },
        };
    }
}

fn fingerprint(hash: KeyHash) -> u32 {
    hash.bits() as u32 | 1
}

/// With its share of a table that is half full.
const ENTRY_BYTES: usize = 2 * (size_of::<Entry>() + 1);
/// In an order that has grown to twice its need.
const PLACE_BYTES: usize = 2 * size_of::<(KeyHash, u32)>();
/// Bits of the hash that do not choose the shard.
const FLOOR_SHIFT: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::item::key::Keys;

    fn hash(n: u64) -> KeyHash {
        Keys::new(7).hash(&n.to_le_bytes())
    }

    #[test]
    fn an_older_version_is_refused_for_as_long_as_it_is_remembered() {
        let (mut versions, one, two) = (Versions::new(1 << 20), hash(1), hash(2));
        assert!(versions.admit(one, 5, 100, 160) && versions.admit(one, 5, 100, 160));
        assert!(!versions.admit(one, 4, 159, 219) && versions.admit(two, 1, 159, 219));
        assert!(versions.admit(one, 4, 160, 220), "it was forgotten in time");
        assert!(versions.admit(one, 9, 161, 221) && !versions.admit(one, 8, 220, 280), "sent again");
        assert_eq!(versions.forgotten, 0);
    }

    /// 300 of 300 older rows came in after 3,000 other versions had been sent: what the table had forgotten
    /// was as good as never sent.
    #[test]
    fn a_version_that_was_forgotten_still_refuses_what_is_older() {
        let mut versions = Versions::new(256 << 10);
        for n in 0..3_000 {
            assert!(versions.admit(hash(n), 5, 100, 160) && versions.bytes <= 128 << 10);
        }
        assert!(versions.forgotten > 1_000, "{}", versions.forgotten);
        assert!((0..3_000).all(|n| !versions.admit(hash(n), 4, 159, 219)));
        let others = (10_000..11_000).filter(|n| !versions.admit(hash(*n), 1, 101, 161)).count();
        assert!(others < 50, "{others} of 1,000 other keys were refused");
        assert!((0..3_000).all(|n| versions.admit(hash(n), 5, 159, 219)), "it is as new as the newest");
    }

    #[test]
    fn a_key_whose_versions_come_all_the_time_takes_no_more_than_its_room() {
        let (mut versions, key) = (Versions::new(20_000), hash(1));
        for now in 100..10_000 {
            assert!(versions.admit(key, now.into(), now, now + 60));
            assert!(!versions.admit(key, u64::from(now) - 1, now, now + 60) && versions.order.len() <= 61);
        }
        assert_eq!(versions.forgotten, 0);
    }

    /// There is one floor, and room for no version: each is forgotten at once.
    #[test]
    fn a_floor_keeps_the_newest_version_and_the_longest_time_until_that_has_passed() {
        let mut versions = Versions::new(1);
        let [one, two, three] = [1, 2, 3].map(hash);
        assert!(versions.admit(one, 9, 100, 160) && versions.admit(two, 3, 100, 130));
        assert!(!versions.admit(three, 8, 159, 219), "two keys share the floor now");
        assert!(versions.admit(three, 1, 160, 220), "the floor has passed");
        assert!(versions.admit(two, 0, 161, 221), "the floor is that of the third key alone");
    }
}
