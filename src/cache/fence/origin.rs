//! The address that connections come from, and whether they are shared: by a pool, by a proxy, or by threads.
//!
//! The misses of a connection that belongs to one worker show which miss a set answers. There they are a
//! second line behind the records of keys: they may refuse a set, and never permit one. The misses of a
//! shared connection show nothing. It is recognized by requests that no single worker sends.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Now;

/// An address that connections come from.
#[derive(Debug, Default)]
pub struct Origin {
    /// When its connections no longer count as shared, in monotonic milliseconds.
    shared_until: AtomicU64,
}

impl Origin {
    pub(crate) fn is_shared(&self, now: Now) -> bool {
        now.millis < self.shared_until.load(Ordering::Relaxed)
    }

    /// Records a sign that its connections are shared.
    pub(crate) fn shares(&self, now: Now) {
        self.shared_until.store(now.millis + SHARED_MS, Ordering::Relaxed);
    }
}

/// How long the connections of an address count as shared after a sign of it.
const SHARED_MS: u64 = 3_600_000;
