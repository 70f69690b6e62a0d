//! State that a snapshot preserves beside the live values: a flush that is not due yet, hold-offs, versions
//! of rows, and misses that a set may still answer. Keys are known by their hashes alone, so the hash seed
//! goes with them.
//!
//! Leases and tokens are not preserved: a connection ends with its process, and a token is valid in that
//! process only.

use super::{Cache, Draft};
use crate::clock::Now;
use crate::store::item::key::{Key, KeyHash};
use crate::store::item::seq::Seq;

/// The link from a cache to the one before it: its hash seed and its place on the logical clock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lineage {
    /// The seed that keys were hashed with; as secret as the values.
    pub hash_seed: u64,
    /// The last sequence number of its logical clock.
    pub last: Seq,
}

/// Protection of keys from fills. Keys are known by their hashes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Guard {
    /// Every key is held off.
    AllHeldOff {
        /// Until then, in monotonic milliseconds.
        until: u64,
    },
    /// Any key may have been missed, and its set is refused.
    AllMissed {
        /// Until then, in monotonic milliseconds.
        until: u64,
    },
    /// Keys that share a cell with this one are held off.
    CellHeldOff {
        /// Its hash.
        hash: KeyHash,
        /// Until then, in monotonic milliseconds.
        until: u64,
    },
    /// Keys that share a cell with this one may have been missed, and their sets are refused.
    CellMissed {
        /// Its hash.
        hash: KeyHash,
        /// Until then, in monotonic milliseconds.
        until: u64,
    },
    /// One key is.
    HeldOff {
        /// Its hash.
        hash: KeyHash,
        /// Until then, in monotonic milliseconds.
        until: u64,
    },
    /// A key was missed, and loads of it may be running.
    Missed {
        /// Its hash.
        hash: KeyHash,
        /// Until then its sets are refused, in monotonic milliseconds.
        until: u64,
        /// Misses that no set has answered.
        lapsed: u16,
        /// How many of them are older than the newest invalidation of the key.
        lapsed_old: u16,
    },
    /// No version of its row below this one may be stored.
    Version {
        /// The hash of its key.
        hash: KeyHash,
        /// Until then, in monotonic seconds.
        until: u32,
        /// The newest known version.
        version: u64,
    },
}

impl Guard {
    /// The hash of the key or of one of the keys that it concerns; `None` if it concerns all.
    pub(super) fn hash(self) -> Option<KeyHash> {
        match self {
            Guard::AllHeldOff { .. } | Guard::AllMissed { .. } => None,
            Guard::CellHeldOff { hash, .. }
            | Guard::CellMissed { hash, .. }
            | Guard::HeldOff { hash, .. }
            | Guard::Missed { hash, .. }
            | Guard::Version { hash, .. } => Some(hash),
        }
    }
}

impl Cache {
    /// The link to the next cache; see [`Cache::after`].
    pub fn lineage(&self) -> Lineage {
        Lineage { hash_seed: self.keys.seed(), last: self.last_seq() }
    }

    /// Shows everything that protects keys from fills.
    pub fn guards(&self, now: Now, mut show: impl FnMut(Guard)) {
        self.hashes().for_each(|hash| self.in_shard(hash, now, |shard, at| shard.guards(at, &mut show)));
    }

    /// Protects keys from fills. A hash is one of a cache with the same hash seed.
    pub fn guard(&self, guard: Guard, now: Now) {
        self.sessions.foreign_until_now(&self.clock);
        let set = |hash| self.in_shard(hash, now, |shard, at| shard.guard(guard, at));
        match guard.hash() {
            None => self.hashes().for_each(set),
            Some(hash) => set(hash),
        }
    }

    /// Brings back a value of a former cache, with the sequence number that it had there; false if there is
    /// no room.
    ///
    /// # Panics
    /// If that number is above those that [`Cache::after`] was made for.
    pub fn restore(&self, key: &Key, draft: Draft, as_of: Seq, now: Now) -> bool {
        assert!(as_of <= self.clock.start(), "what this cache stores is newer than all that it restores");
        // The sample of the miss-ratio curve begins empty, as that of every new cache.
        self.write(
            key,
            Some(draft.value.len()),
            now,
            |_| false,
            |shard, at| shard.restore(key, as_of, draft, at),
        )
    }
}
