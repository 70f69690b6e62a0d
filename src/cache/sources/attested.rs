//! The times that sources attest, and the policies that depend on them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cache::Cache;
use crate::cache::policies::{Governed, Policies};
use crate::clock::Now;
use crate::sync::Mutex;

/// The newest time that each source has attested, in monotonic milliseconds.
#[derive(Debug, Default)]
pub(in crate::cache) struct Attested(Mutex<BTreeMap<String, u64>>);

/// The newest time that a source has attested, and the state of the policies that depend on it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Attestation {
    /// The age of the newest attested time, in milliseconds; `None` if it has never attested one.
    pub age_ms: Option<u64>,
    /// Whether values are withheld now.
    pub is_withheld: bool,
    /// Reads that missed because a value was withheld.
    pub withheld_misses: u64,
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
        governed.freshness.set_until(until);
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
    pub(in crate::cache) fn attest_all(&self, policies: &Policies) {
        let known = self.attested.0.lock();
        policies.all().for_each(|governed| Attested::apply(&known, governed));
    }

    /// The newest time that a source has attested, and its effect.
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
                withheld_misses: dependent().map(|governed| governed.freshness.withheld()).sum(),
            }
        })
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
