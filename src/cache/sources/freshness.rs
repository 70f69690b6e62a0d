//! Bounded staleness: whether the sources that a policy depends on have attested a time lately.
//!
//! A source attests times: everything that was committed before such a time has been applied here. While the
//! newest of these times is at most `max_staleness` old, all values are served. After that only those are
//! that were stored within `max_staleness`. The others are withheld, not removed: once the source has caught
//! up they are served again.
//!
//! A reader looks here before it looks for invalidations. So if it sees a new time, it also sees everything
//! that was invalidated before the source attested it.

use crate::clock::Now;
use crate::sync::{AtomicU64, Ordering};

/// How fresh the values under one policy are.
#[derive(Debug)]
pub(crate) struct Freshness {
    /// Until when all values are served, in monotonic milliseconds.
    until: AtomicU64,
    /// Reads that missed because the value was withheld.
    withheld: AtomicU64,
}

impl Freshness {
    /// Values under a policy that depends on no source are always served.
    pub(crate) fn new(is_dependent: bool) -> Self {
        let until = if is_dependent { 0 } else { u64::MAX };
        Freshness { until: AtomicU64::new(until), withheld: AtomicU64::new(0) }
    }

    /// Whether all values are served.
    #[inline(always)]
    pub(crate) fn is_fresh(&self, now: Now) -> bool {
        now.millis <= self.until.load(Ordering::Acquire)
    }

    pub(crate) fn count_withheld(&self) {
        self.withheld.fetch_add(1, Ordering::Relaxed);
    }

    /// Serves all values until this monotonic millisecond.
    pub(super) fn set_until(&self, until_ms: u64) {
        self.until.store(until_ms, Ordering::Release);
    }

    /// Reads that missed because the value was withheld.
    pub(super) fn withheld(&self) -> u64 {
        self.withheld.load(Ordering::Relaxed)
    }
}
