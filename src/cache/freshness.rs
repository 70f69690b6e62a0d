//! Bounded staleness: whether the sources of changes that a policy depends on have been heard of lately.
//!
//! A source attests times: everything that was committed before such a time has been applied here. While the
//! newest of these times is at most `max_staleness` old, all values are served. After that only those are
//! that were stored within `max_staleness`. The others are withheld, not removed: once the source has caught
//! up they are served again.
//!
//! A reader looks here before it looks for invalidations. So if it sees a new time, it also sees everything
//! that was invalidated before the source attested it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Cache;
use super::policies::{Governed, Policies};
use super::policy::WhileLost;
use crate::clock::Now;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// How fresh the values under one policy are.
#[derive(Debug)]
pub(crate) struct Freshness {
    /// Until when all values are served, in monotonic milliseconds.
    until: AtomicU64,
    /// Reads that missed because the value was withheld.
    withheld: AtomicU64,
}

/// The newest time that each source has attested, in monotonic milliseconds.
#[derive(Debug, Default)]
pub(super) struct Attested(Mutex<BTreeMap<String, u64>>);

/// What a source has attested, and what follows for the policies that depend on it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Attestation {
    /// The age of the newest attested time, in milliseconds; `None` if it has never attested one.
    pub age_ms: Option<u64>,
    /// Whether values are withheld now.
    pub is_withheld: bool,
    /// Reads that missed because a value was withheld.
    pub withheld_misses: u64,
}

impl Freshness {
    /// Values under a policy that depends on no source are always served.
    pub(super) fn new(is_dependent: bool) -> Self {
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
}

impl Attested {
    /// The newest time attested by all sources of a policy, plus its bound.
    fn apply(known: &BTreeMap<String, u64>, governed: &Governed) {
        let policy = &governed.policy;
        if !policy.is_bounded() {
            return;
        }
        let oldest = policy.depends_on.iter().map(|source| known.get(source).copied()).min().flatten();
        let until = oldest.map_or(0, |proven| proven.saturating_add(millis(policy.max_staleness)));
        governed.freshness.until.store(until, Ordering::Release);
    }
}

impl Cache {
    /// Everything that was committed at a source before this monotonic millisecond has been applied here.
    /// Attested times never go back.
    pub fn attest(&self, source: &str, proven_ms: u64) {
        let mut known = self.attested.0.lock();
        let newest = known.entry(source.to_owned()).or_default();
        *newest = proven_ms.max(*newest);
        self.policies.with(|policies| policies.all().for_each(|governed| Attested::apply(&known, governed)));
    }

    /// Gives these policies what is attested already.
    pub(super) fn attest_all(&self, policies: &Policies) {
        let known = self.attested.0.lock();
        policies.all().for_each(|governed| Attested::apply(&known, governed));
    }

    /// What a source has attested.
    pub fn attestation(&self, source: &str, now: Now) -> Attestation {
        let age_ms = self.attested.0.lock().get(source).map(|proven| now.millis.saturating_sub(*proven));
        self.policies.with(|policies| {
            let dependent = || {
                policies.all().filter(|governed| {
                    governed.policy.is_bounded()
                        && governed.policy.depends_on.iter().any(|name| name == source)
                })
            };
            Attestation {
                age_ms,
                is_withheld: dependent().any(|governed| !governed.freshness.is_fresh(now)),
                withheld_misses: dependent()
                    .map(|governed| governed.freshness.withheld.load(Ordering::Relaxed))
                    .sum(),
            }
        })
    }
}

impl super::policy::Policy {
    /// Whether values are withheld if the sources are late.
    pub(super) fn is_bounded(&self) -> bool {
        !self.depends_on.is_empty() && !self.max_staleness.is_zero() && self.while_lost != WhileLost::Serve
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
