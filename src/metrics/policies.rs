//! What leases did for the keys of each policy that a prefix stands for, as far as it can be told of a key.
//!
//! Deliberately absent: the keys under no such policy. They are the rest of what the whole server counts.

use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

use super::Count;

/// Counts by the prefix of the policy.
#[derive(Debug, Default)]
pub struct ByPolicy(DashMap<Box<[u8]>, [AtomicU64; TOLD.len()]>);

impl ByPolicy {
    /// Counts one thing under the policy of a prefix, if it is one of those that are [`TOLD`].
    pub fn add(&self, prefix: &[u8], count: Count) {
        let Some(nth) = TOLD.iter().position(|told| *told == count) else { return };
        if let Some(counts) = self.0.get(prefix) {
            counts[nth].fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.0.entry(prefix.into()).or_default()[nth].fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted under a prefix.
    pub fn of(&self, prefix: &[u8]) -> [u64; TOLD.len()] {
        let counts = self.0.get(prefix);
        std::array::from_fn(|nth| counts.as_ref().map_or(0, |counts| counts[nth].load(Ordering::Relaxed)))
    }

    /// Begins again.
    pub fn reset(&self) {
        self.0.clear();
    }
}

/// What is told of each policy.
pub const TOLD: [Count; 14] = [
    Count::ImplicitFills,
    Count::ImplicitObserved,
    Count::ImplicitRefused,
    Count::LeaseFilled,
    Count::LeaseGranted,
    Count::LeaseHotMiss,
    Count::LeaseRefusedSuperseded,
    Count::LeaseRefusedUnknown,
    Count::LeaseRefusedVoided,
    Count::LeaseReleased,
    Count::StaleServed,
    Count::UnfencedSets,
    Count::VersionsRefused,
    Count::VoidsKey,
];
