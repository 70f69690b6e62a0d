//! What outlives a process: live values, each as of its point, and a flush that is not due yet.
//!
//! Deliberately absent: voids, leases, tokens, notes and hold-offs. No connection outlives its process, and no token of
//! one is genuine in the next.

use std::borrow::Cow;

use super::seq::SeqClock;
use super::{Cache, Config, Draft, Expiry, Key, Seq, Tags, random_seed};
use crate::clock::Now;

impl Cache {
    /// An empty cache whose void clock goes on above `last`, the last point of a former one, so that
    /// [`Cache::restore`] can bring the values of that back.
    ///
    /// # Panics
    /// If the system has no randomness to give.
    pub fn above(config: Config, last: Seq) -> Self {
        Cache::with_clock(config, random_seed(), SeqClock::above(last))
    }

    /// Brings a value of a former cache back, as of the point that it had there; false if there is no room for it.
    ///
    /// # Panics
    /// If that point is above those that [`Cache::above`] was made for.
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
