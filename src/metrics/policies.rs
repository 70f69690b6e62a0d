//! Lease counts for each policy that has a prefix.
//!
//! Keys under no such policy are not counted here: they are the rest of the server's totals.

use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

use super::Count;

/// Counts by the prefix of the policy.
#[derive(Debug, Default)]
pub struct ByPolicy(DashMap<Box<[u8]>, [AtomicU64; TOLD.len()]>);

impl ByPolicy {
    /// Adds one under the policy of a prefix, if the count is one of [`TOLD`].
    pub fn add(&self, prefix: &[u8], count: Count) {
        let Some(nth) = TOLD.iter().position(|counted| *counted == count) else { return };
        if let Some(counts) = self.0.get(prefix) {
            counts[nth].fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.0.entry(prefix.into()).or_default()[nth].fetch_add(1, Ordering::Relaxed);
    }

    /// The counts of a prefix.
    pub fn of(&self, prefix: &[u8]) -> [u64; TOLD.len()] {
        let counts = self.0.get(prefix);
        std::array::from_fn(|nth| counts.as_ref().map_or(0, |counts| counts[nth].load(Ordering::Relaxed)))
    }

    /// Sets everything to zero.
    pub fn reset(&self) {
        self.0.clear();
    }
}

/// The counts that are kept for each policy.
pub const TOLD: [Count; 14] = [
    Count::ImplicitFills,
    Count::ImplicitObserved,
    Count::ImplicitRefused,
    Count::LeaseFilled,
    Count::LeaseGranted,
    Count::LeaseHotMiss,
    Count::LeaseRefusedSuperseded,
    Count::LeaseRefusedUnknown,
    Count::LeaseRefusedInvalidated,
    Count::LeaseReleased,
    Count::StaleServed,
    Count::UnfencedSets,
    Count::VersionsRefused,
    Count::InvalidatedKey,
];
