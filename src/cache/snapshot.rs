//! What outlives a process: live values, each as of its point, and what keeps stale ones out: a flush that is not due
//! yet, hold-offs, and versions of rows. Hold-offs know the hash of their key alone, so its seed goes with them.
//!
//! Deliberately absent: voids, leases, tokens and notes. No connection outlives its process, and no token of one is
//! genuine in the next.

use std::borrow::Cow;

use super::clock::LogicalClock;
use super::{Cache, Config, Draft, Expiry, HASH_SEED, Key, Seq, Tags, random_seed};
use crate::clock::Now;

/// What a cache must know of the one before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Former {
    /// What keys were hashed with; a secret of whoever has the values.
    pub hash_seed: u64,
    /// The last point of its void clock.
    pub last: Seq,
}

/// What keeps a key from being filled. Keys are known by their hashes.
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
    /// Keys that share a cell with this one may have been missed, and their sets are refused.
    CellMissed {
        /// Its hash.
        hash: u64,
        /// Until then, in monotonic milliseconds.
        until: u64,
    },
    /// One key is.
    HeldOff {
        /// Its hash.
        hash: u64,
        /// Until then, in monotonic milliseconds.
        until: u64,
    },
    /// A key was missed, and loads of it may be running.
    Missed {
        /// Its hash.
        hash: u64,
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
        hash: u64,
        /// Until then, in monotonic seconds.
        until: u32,
        /// The newest that was told.
        version: u64,
    },
}

impl Cache {
    /// An empty cache whose void clock goes on above that of a former one, so that [`Cache::restore`] can bring the values
    /// of that back, and [`Cache::guard`] what kept others out.
    ///
    /// # Panics
    /// If the system has no randomness to give.
    pub fn after(config: Config, former: Former) -> Self {
        let mut seed = random_seed();
        seed[HASH_SEED].copy_from_slice(&former.hash_seed.to_le_bytes());
        Cache::with_clock(config, seed, LogicalClock::above(former.last))
    }

    /// What the next one must know.
    pub fn former(&self) -> Former {
        Former { hash_seed: self.keys.seed(), last: self.last_seq() }
    }

    /// Tells all that keeps keys from being filled.
    pub fn guards(&self, now: Now, mut tell: impl FnMut(Guard)) {
        self.hashes().for_each(|hash| self.in_shard(hash, now, |shard, at| shard.guards(at, &mut tell)));
    }

    /// From now on this keeps keys from being filled. A hash is one of a cache that hashes as this one does.
    pub fn guard(&self, guard: Guard, now: Now) {
        self.sessions.foreign_until_now(&self.clock);
        let set = |hash| self.in_shard(hash, now, |shard, at| shard.guard(guard, at));
        match guard {
            Guard::AllHeldOff { .. } | Guard::AllMissed { .. } => self.hashes().for_each(set),
            Guard::CellMissed { hash, .. }
            | Guard::HeldOff { hash, .. }
            | Guard::Missed { hash, .. }
            | Guard::Version { hash, .. } => set(hash),
        }
    }

    /// Brings a value of a former cache back, as of the point that it had there; false if there is no room for it.
    ///
    /// # Panics
    /// If that point is above those that [`Cache::after`] was made for.
    pub fn restore(&self, key: &Key, draft: Draft, as_of: Seq, now: Now) -> bool {
        assert!(as_of <= self.clock.start(), "what this cache does comes after all that it brings back");
        let _room = self.make_room(key.hash, draft.value.len(), now);
        self.locked(key, now, |shard, at| shard.restore(key, as_of, draft, at))
    }

    /// When everything will be voided (monotonic milliseconds), if a delayed flush is not due yet.
    pub fn flush_due(&self) -> Option<u64> {
        self.shards[0].lock().flush_due()
    }
}

impl<'a> Draft<'a> {
    /// A value that ends at a moment in seconds since 1970, 0 being never; `None` if that has passed.
    pub fn until(value: Cow<'a, [u8]>, flags: u32, exptime_unix: u64, now: Now) -> Option<Self> {
        let expiry = match exptime_unix {
            0 => Expiry::NEVER,
            unix if unix <= now.unix => return None,
            unix => Expiry::after(std::time::Duration::from_secs(unix - now.unix), now),
        };
        Some(Draft { expiry, flags, tags: Tags::NONE, unique: None, version: None, value })
    }
}
