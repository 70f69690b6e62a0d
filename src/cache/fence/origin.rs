//! Whether the connections of one address are shared: by a pool, by a proxy, or by threads.
//!
//! A connection that one worker has for itself shows which miss a set answers. There the connection's own
//! misses are a second line behind the records of keys: they may refuse a set, and never permit one. A shared
//! connection shows nothing, and is recognized by what a lone worker does not do.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Now;

/// An address that connections come from.
#[derive(Debug, Default)]
pub struct Origin {
    /// Until when its connections are taken for shared ones, in monotonic milliseconds.
    shared_until: AtomicU64,
}

impl Origin {
    pub(crate) fn is_shared(&self, now: Now) -> bool {
        now.millis < self.shared_until.load(Ordering::Relaxed)
    }

    /// One of its connections did what a lone worker does not do.
    pub(crate) fn shares(&self, now: Now) {
        self.shared_until.store(now.millis + SHARED_MS, Ordering::Relaxed);
    }
}

/// For how long an address is taken for shared after a sign of it.
const SHARED_MS: u64 = 3_600_000;
