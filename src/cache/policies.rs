//! Which policy a key is under: that of the longest prefix it begins with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::Cache;
use super::fence::LoadTimes;
use super::policy::{Implicit, Policy};
use super::sources::freshness::Freshness;

/// The policies of a cache.
#[derive(Clone, Debug)]
pub struct Policies {
    /// Of keys that no prefix fits. What is learned there is learned from all keys.
    default: Governed,
    /// The longest time for which a soft invalidation keeps stale copies, in seconds.
    longest_kept: Duration,
    /// The longest first.
    prefixes: Vec<(Box<[u8]>, Governed)>,
}

/// A policy, and what was learned of the keys under it.
#[derive(Clone, Debug)]
pub(crate) struct Governed {
    /// `lease_max_age` and `load_time_max`, in milliseconds.
    lease_max_age_ms: u32,
    load_time_max_ms: u32,
    pub(crate) freshness: Arc<Freshness>,
    pub(crate) learned: Arc<LoadTimes>,
    pub(crate) policy: Policy,
    /// Of its keys; none if it is the general one.
    pub(crate) prefix: Option<Box<[u8]>>,
}

/// How long loads of some keys take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LoadTime {
    /// How long one is expected to take at most, in milliseconds.
    pub max_ms: u32,
    /// Loads that were timed lately.
    pub samples: u64,
}

impl PartialEq for Policies {
    fn eq(&self, other: &Self) -> bool {
        self.general() == other.general() && self.prefixes().eq(other.prefixes())
    }
}

impl Eq for Policies {}

impl Policies {
    /// One for all keys but those that begin with one of the prefixes, whatever these end in.
    pub fn new(default: Policy, prefixes: impl IntoIterator<Item = (Box<[u8]>, Policy)>) -> Self {
        let mut prefixes: Vec<_> = prefixes.into_iter().collect();
        prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        let all = prefixes.iter().map(|(_, policy)| policy).chain([&default]);
        let longest_kept = all.map(Policy::kept).max().unwrap_or_default();
        let prefixes = prefixes.into_iter();
        let prefixes = prefixes.map(|(prefix, policy)| (prefix.clone(), Governed::new(policy, Some(prefix))));
        Policies { prefixes: prefixes.collect(), default: Governed::new(default, None), longest_kept }
    }

    /// Goes on with what others have learned.
    fn learned_from(mut self, others: &Policies) -> Self {
        self.default.learned = Arc::clone(&others.default.learned);
        for (prefix, governed) in &mut self.prefixes {
            if let Some((_, other)) = others.prefixes.iter().find(|(other, _)| other == prefix) {
                governed.learned = Arc::clone(&other.learned);
            }
        }
        self
    }

    /// The policy of a key with what was learned there.
    #[inline]
    pub(crate) fn governed(&self, key: &[u8]) -> &Governed {
        self.find(key).map_or(&self.default, |(_, governed)| governed)
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Governed> {
        self.prefixes.iter().map(|(_, governed)| governed).chain([&self.default])
    }

    pub(crate) fn general_governed(&self) -> &Governed {
        &self.default
    }

    /// How long loads take of keys that begin so.
    pub(crate) fn load_time_of(&self, key: &[u8]) -> LoadTime {
        self.load_time(self.governed(key).prefix.as_deref())
    }

    /// How long loads take under a policy: the general one, or that of this prefix.
    pub fn load_time(&self, prefix: Option<&[u8]>) -> LoadTime {
        let named = prefix.and_then(|prefix| self.prefixes.iter().find(|(other, _)| **other == *prefix));
        let governed = named.map_or(&self.default, |(_, governed)| governed);
        LoadTime { max_ms: governed.load_time_ms(self), samples: governed.learned.count() }
    }

    pub(crate) fn longest_kept(&self) -> Duration {
        self.longest_kept
    }

    /// The policy of a key.
    #[inline]
    pub fn of(&self, key: &[u8]) -> &Policy {
        &self.governed(key).policy
    }

    /// The prefix of the policy that a key is under, if it is not the general one.
    pub fn prefix_of(&self, key: &[u8]) -> Option<&[u8]> {
        self.find(key).map(|(prefix, _)| &**prefix)
    }

    /// The policy of keys that no prefix fits.
    pub fn general(&self) -> &Policy {
        &self.default.policy
    }

    /// The others, with their prefixes, the longest first.
    pub fn prefixes(&self) -> impl Iterator<Item = (&[u8], &Policy)> {
        self.prefixes.iter().map(|(prefix, governed)| (&**prefix, &governed.policy))
    }

    #[inline]
    fn find(&self, key: &[u8]) -> Option<&(Box<[u8]>, Governed)> {
        self.prefixes.iter().find(|(prefix, _)| key.starts_with(prefix))
    }
}

impl Governed {
    fn new(policy: Policy, prefix: Option<Box<[u8]>>) -> Self {
        let ms = |span: Duration| u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
        Governed {
            lease_max_age_ms: ms(policy.lease_max_age),
            load_time_max_ms: ms(policy.load_time_max).max(u32::from(!policy.load_time_max.is_zero())),
            freshness: Arc::new(Freshness::new(policy.is_bounded())),
            learned: Arc::default(),
            policy,
            prefix,
        }
    }

    /// How long a load takes at most, in milliseconds: what the operator says, else what was learned here or
    /// of all keys.
    #[inline]
    pub(crate) fn load_time_ms(&self, policies: &Policies) -> u32 {
        if self.load_time_max_ms > 0 {
            return self.load_time_max_ms;
        }
        let known = self.learned.known_ms().or_else(|| policies.default.learned.known_ms());
        known.unwrap_or(LOAD_TIME_MS_DEFAULT).max(LOAD_TIME_MS_MIN).min(self.lease_max_age_ms)
    }
}

/// The policies of now. Those of the beginning are looked at for less, and most servers know no others.
pub(crate) struct Decided {
    first: Policies,
    last: ArcSwap<Policies>,
    /// How many times others were decided.
    times: AtomicU64,
}

impl Decided {
    pub(crate) fn new(first: Policies) -> Self {
        Decided { last: ArcSwap::from_pointee(first.clone()), first, times: AtomicU64::new(0) }
    }

    pub(crate) fn decide(&self, policies: Policies) {
        self.last.store(Arc::new(policies.learned_from(&self.now())));
        self.times.fetch_add(1, Ordering::AcqRel);
    }

    /// How many times others were decided. Policies that are looked at after this number was read hold until
    /// it changes, or later ones are decided already.
    #[inline]
    pub(crate) fn times(&self) -> u64 {
        self.times.load(Ordering::Acquire)
    }

    pub(crate) fn now(&self) -> Arc<Policies> {
        self.last.load_full()
    }

    #[inline]
    pub(crate) fn with<R>(&self, act: impl FnOnce(&Policies) -> R) -> R {
        let last = (self.times() > 0).then(|| self.last.load());
        // Called in one place, it is part of its caller.
        act(match &last {
            Some(last) => last,
            None => &self.first,
        })
    }
}

impl Cache {
    /// The policies as of now.
    pub fn policies(&self) -> Arc<Policies> {
        self.policies.now()
    }

    /// Other policies, from now on. What is stored stays as it is.
    pub fn set_policies(&self, policies: Policies) {
        self.attest_all(&policies);
        self.policies.decide(policies);
    }

    /// Whether stores of a key by clients without leases are checked against their misses.
    pub fn is_fenced(&self, key: &[u8]) -> bool {
        self.policies.with(|policies| policies.of(key).implicit != Implicit::Off)
    }

    /// Shows the prefix of the policy that a key is under, unless that is the general one.
    pub fn show_prefix(&self, key: &[u8], show: impl FnMut(&[u8])) {
        self.policies.with(|policies| policies.prefix_of(key).into_iter().for_each(show));
    }
}

/// Until enough loads were timed.
const LOAD_TIME_MS_DEFAULT: u32 = 1_000;
const LOAD_TIME_MS_MIN: u32 = 20;

impl Default for Policies {
    fn default() -> Self {
        Policy::default().into()
    }
}

impl From<Policy> for Policies {
    fn from(policy: Policy) -> Self {
        Policies::new(policy, [])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_decides() {
        let policy = |seconds| Policy { stale: Duration::from_secs(seconds), ..Policy::default() };
        let prefixes = [(b"a:"[..].into(), policy(1)), (b"a:b:"[..].into(), policy(2))];
        let policies = Policies::new(policy(0), prefixes);
        for (key, seconds) in [(&b"a:b:c"[..], 2), (b"a:b", 1), (b"a", 0), (b"b:a:", 0)] {
            assert_eq!(*policies.of(key), policy(seconds), "{key:?}");
        }
    }
}
