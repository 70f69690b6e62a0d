//! A bounded log of evicted items, filled only while a client watches evictions.
//!
//! Shards record them under their locks; watchers take them later.

use std::collections::VecDeque;

use crate::store::evicted::Evicted;
use crate::sync::Mutex;

/// Evictions that were not taken yet.
#[derive(Default)]
pub(super) struct Evictions(Mutex<Log>);

#[derive(Default)]
struct Log {
    evicted: VecDeque<Evicted>,
    /// How many did not fit.
    lost: u64,
}

impl Evictions {
    #[cold]
    #[inline(never)]
    pub(super) fn add(&self, evicted: Vec<Evicted>) {
        let mut log = self.0.lock();
        let room = EVICTED_MAX - log.evicted.len();
        log.lost += evicted.len().saturating_sub(room) as u64;
        log.evicted.extend(evicted.into_iter().take(room));
    }

    /// Evictions since the last call, and how many more did not fit.
    pub(super) fn take(&self) -> (impl Iterator<Item = Evicted> + use<>, u64) {
        let Log { evicted, lost } = std::mem::take(&mut *self.0.lock());
        (evicted.into_iter(), lost)
    }
}

/// Evicted values that wait to be taken at most.
pub const EVICTED_MAX: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Cache, Config, Draft, Mode};
    use crate::clock::Clock;
    use crate::store::expiry::Expiry;

    fn cache() -> Cache {
        Cache::with_seed(Config { memory_bytes: 8 << 20, ..Config::default() }, [7; 32])
    }

    /// Stores more than fits; returns how many values had to go.
    fn fill(cache: &Cache, value_bytes: usize) -> u64 {
        let (mut session, now) = (cache.session(), Clock::manual().now());
        let before = cache.counts().evictions;
        for n in 0..(16 << 20) / value_bytes {
            let name = n.to_string();
            let key = cache.key(name.as_bytes()).unwrap();
            cache.store(&key, Mode::Set, Draft::new(&vec![0; value_bytes]), &mut session, now);
        }
        cache.counts().evictions - before
    }

    #[test]
    fn evicted_values_small_and_large_are_collected_while_somebody_wants_to_know() {
        let cache = cache();
        assert!(fill(&cache, 1000) > 0 && cache.take_evicted().0.next().is_none());
        cache.begin_collecting();
        cache.begin_collecting();
        cache.end_collecting();
        let evictions = fill(&cache, 100_000) + fill(&cache, 1000);
        let (evicted, lost) = cache.take_evicted();
        let evicted: Vec<Evicted> = evicted.collect();
        assert_eq!((evicted.len() as u64, lost), (evictions, 0));
        for value_bytes in [1000, 100_000] {
            assert!(evicted.iter().any(|evicted| evicted.value_bytes == value_bytes), "{value_bytes}");
        }
        cache.end_collecting();
        assert!(fill(&cache, 1000) > 0 && cache.take_evicted().0.next().is_none());
    }

    #[test]
    fn so_many_are_kept_and_the_others_counted() {
        let (cache, expiry) = (cache(), Expiry::NEVER);
        let one = Evicted {
            accessed: Clock::manual().now().tick(),
            expiry,
            is_fetched: false,
            key: b"k"[..].into(),
            value_bytes: 1,
        };
        cache.evictions.add(vec![one.clone(); EVICTED_MAX]);
        assert_eq!(cache.take_evicted().1, 0);
        cache.evictions.add(vec![one; EVICTED_MAX + 1]);
        let (evicted, lost) = cache.take_evicted();
        assert_eq!((evicted.count(), lost), (EVICTED_MAX, 1));
    }
}
