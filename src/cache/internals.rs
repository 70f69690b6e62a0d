//! The private side of [`Cache`]: locking a shard, following up a change, making room.

use std::iter;
use std::ops::{DerefMut, Range};
use std::sync::Arc;

use super::Cache;
use super::clock::LogicalClock;
use super::clock::ages::Ages;
use super::config::Config;
use super::copies::CopiesOf;
use super::evictions::Evictions;
use super::fence::{Classes, Sessions};
use super::invalidation::groups::Groups;
use super::invalidation::holdoffs::Place;
use super::lease::token::Mint;
use super::lease::waiters::Waiters;
use super::policies::{Decided, Governed, Policies};
use super::shard::sizes::Sizes;
use super::shard::{At, Leftovers, Shard};
use super::sources::{Attested, Positions};
use crate::clock::Now;
use crate::mrc::Shadow;
use crate::store::budget::{Budget, Layout, Wanted, WhenFull};
use crate::store::changes::OwnChanges;
use crate::store::item::key::{Key, KeyHash, Keys};
use crate::store::tags_in_use::TagsInUse;
use crate::store::{Engine, item_bytes};
use crate::sync::{AtomicU64, AtomicUsize, Mutex, Ordering};

impl Cache {
    pub(super) fn with_clock(config: Config, seed: [u8; 32], clock: LogicalClock) -> Self {
        let keys = Keys::new(word(&seed, HASH_SEED.start));
        let Layout { segment_bytes, shards } = Layout::new(config.memory_bytes);
        let budget = Arc::new(Budget::new(config.memory_bytes, shards, segment_bytes));
        let tags_in_use = Arc::new(TagsInUse::new(config.tag_bytes(), keys.clone()));
        let sizes = Sizes {
            hold_off_bytes: config.hold_off_bytes() / shards,
            guards_part: config.guards_part(),
            version_bytes: config.version_bytes() / shards,
        };
        let mut changes = Vec::new();
        let shard = |index| {
            let own = OwnChanges::default();
            changes.push(own.shared());
            let (shard_bytes, in_use) = (config.memory_bytes / shards, Arc::clone(&tags_in_use));
            let engine =
                Engine::new(Arc::clone(&budget), shard_bytes, in_use, keys.clone(), config.when_full, own);
            Mutex::new(Shard::new(engine, Place { index, shards }, sizes))
        };
        Cache {
            ages: Ages::new(&clock),
            groups: Groups::new(config.groups_max(), shards, keys.clone(), Arc::clone(&tags_in_use)),
            classes: Classes::new(),
            clock,
            evictions: Evictions::default(),
            mint: Mint::new(seed[16..].try_into().expect("sixteen bytes")),
            session_ids: AtomicU64::new(1),
            attested: Attested::default(),
            positions: Positions::default(),
            policies: Decided::new(config.policies.clone()),
            rotor: AtomicUsize::new(0),
            sessions: Sessions::default(),
            shadow: Shadow::new(),
            shards: (0..shards).map(shard).collect(),
            copies: CopiesOf::new(changes.into(), config.copies),
            waiters: Waiters::new(),
            budget,
            config,
            keys,
        }
    }

    /// Changes a key under the lock of its shard. Before, it makes room for a value of so many bytes, if the
    /// change brings one; after, it brings the sample of the miss-ratio curve up to date.
    #[inline(always)]
    pub(super) fn write<R>(
        &self,
        key: &Key,
        value_bytes: Option<usize>,
        now: Now,
        is_change: impl FnOnce(&R) -> bool,
        act: impl FnOnce(&mut Shard, &At) -> R,
    ) -> R {
        let _room = value_bytes.map(|value_bytes| self.make_room(key.hash, value_bytes, now));
        let result = self.locked(key, now, act);
        self.follow(key, is_change(&result), now);
        result
    }

    /// Does one thing with a key under the lock of its shard.
    #[inline(always)]
    pub(super) fn locked<R>(&self, key: &Key, now: Now, act: impl FnOnce(&mut Shard, &At) -> R) -> R {
        self.policies.with(|policies| {
            self.locked_under(key.hash, &self.at(policies.governed(key.bytes), policies, now), act)
        })
    }

    /// Does one thing under the lock of the shard that a hash belongs to.
    pub(super) fn in_shard<R>(&self, hash: KeyHash, now: Now, act: impl FnOnce(&mut Shard, &At) -> R) -> R {
        self.policies.with(|policies| {
            self.locked_under(hash, &self.at(policies.general_governed(), policies, now), act)
        })
    }

    /// As [`Cache::locked`]; `act` learns whether another thread had the lock.
    #[inline(always)]
    pub(super) fn locked_to_read<R>(
        &self,
        key: &Key,
        now: Now,
        act: impl FnOnce(&mut Shard, &At, bool) -> R,
    ) -> R {
        self.policies.with(|policies| {
            let at = self.at(policies.governed(key.bytes), policies, now);
            self.ages.tick(&self.clock, now);
            let shard = &self.shards[self.shard_of(key.hash)];
            let must_wait = shard.is_locked();
            self.under(shard.lock(), &at, |shard, at| act(shard, at, must_wait))
        })
    }

    #[inline(always)]
    fn locked_under<R>(&self, hash: KeyHash, at: &At, act: impl FnOnce(&mut Shard, &At) -> R) -> R {
        self.ages.tick(&self.clock, at.now);
        self.under(self.shards[self.shard_of(hash)].lock(), at, act)
    }

    /// Does one thing with a locked shard, and what it leaves after the unlock.
    #[inline(always)]
    fn under<R>(
        &self,
        mut shard: impl DerefMut<Target = Shard>,
        at: &At,
        act: impl FnOnce(&mut Shard, &At) -> R,
    ) -> R {
        shard.tick(at);
        let result = act(&mut shard, at);
        let left = shard.take_leftovers();
        drop(shard);
        if let Some(left) = left {
            self.finish(left);
        }
        result
    }

    /// Finishes, once a shard is unlocked, what it left to be done: drops, records of evictions, wake-ups.
    #[inline(never)]
    fn finish(&self, Leftovers { evicted, removed_values, woken }: Leftovers) {
        drop(removed_values);
        if !evicted.is_empty() {
            self.evictions.add(evicted);
        }
        woken.into_iter().for_each(|hash| self.waiters.wake(hash));
    }

    /// Shows the miss-ratio curve's sample what a key holds, if that has changed and the key is in the
    /// sample.
    #[inline(always)]
    pub(super) fn follow(&self, key: &Key, has_changed: bool, now: Now) {
        if has_changed && self.shadow.follows(key.hash) {
            self.follow_change(key, now);
        }
    }

    #[cold]
    fn follow_change(&self, key: &Key, now: Now) {
        let held =
            self.peek(key, now, |value| (item_bytes(key.bytes.len(), value.bytes.len()), value.expiry));
        self.shadow.changed(key.hash, held, self.budget.limit(), now);
    }

    pub(super) fn shard_of(&self, hash: KeyHash) -> usize {
        hash.shard(self.shards.len())
    }

    /// For each shard a hash that belongs to it.
    pub(super) fn hashes(&self) -> impl Iterator<Item = KeyHash> {
        (0..self.shards.len() as u64).map(|shard| KeyHash::new(shard << KeyHash::SHARD_SHIFT))
    }

    fn at<'a>(&'a self, governed: &'a Governed, policies: &'a Policies, now: Now) -> At<'a> {
        let policy = &governed.policy;
        At {
            ages: &self.ages,
            groups: &self.groups,
            classes: &self.classes,
            clock: &self.clock,
            governed,
            lease_window: policy.lease_window,
            mint: &self.mint,
            now,
            policies,
            policy,
            sessions: &self.sessions,
            tick: now.tick(),
            value_bytes_max: self.config.value_bytes_max,
        }
    }

    /// Makes room before a store: one step if little is left, and more of them before a large value. Other
    /// large values leave that room alone until the result is dropped.
    pub(super) fn make_room(&self, hash: KeyHash, value_bytes: usize, now: Now) -> Option<Wanted<'_>> {
        if !self.budget.admits(value_bytes) {
            return None;
        }
        let wanted = self.budget.want(value_bytes);
        if self.budget.is_tight(wanted.as_ref()) {
            self.reclaim_for(hash, value_bytes, wanted.as_ref(), now);
        }
        wanted
    }

    #[inline(never)]
    fn reclaim_for(&self, hash: KeyHash, value_bytes: usize, wanted: Option<&Wanted>, now: Now) {
        let mut steps = 1 + value_bytes / (self.budget.segment_bytes / 8);
        // A small value finds a place in its shard in any case. Where nothing may be evicted, a few shards
        // that have nothing are enough to ask.
        let asks_all = wanted.is_some() && self.config.when_full == WhenFull::Evict;
        let mut giver = None;
        while steps > 0 && self.budget.is_tight(wanted) {
            let near = iter::once(self.shard_of(hash)).chain(self.next_shards(SHARDS_ASKED));
            let mut gave = self.reclaim(near, now);
            if gave.is_none() && asks_all {
                // The one that was found last is asked first: so few rounds ask all.
                gave = self.reclaim(giver.into_iter().chain(self.next_shards(self.shards.len())), now);
                giver = gave;
            }
            steps = if gave.is_some() { steps - 1 } else { 0 };
        }
    }

    /// One step towards more room, in the first of these shards that has something to give; returns that one.
    /// A shard that holds less than its share of the segments gives none. Each is locked by itself.
    pub(super) fn reclaim(&self, mut shards: impl Iterator<Item = usize>, now: Now) -> Option<usize> {
        let share = self.budget.share();
        shards.find(|shard| {
            let (gave, left) = self.policies.with(|policies| {
                let mut shard = self.shards[*shard].lock();
                let gave = shard.reclaim(share, &self.at(policies.general_governed(), policies, now));
                (gave, shard.take_leftovers())
            });
            left.into_iter().for_each(|left| self.finish(left));
            gave
        })
    }

    /// The shards that are asked for room next, so many at most.
    pub(super) fn next_shards(&self, most: usize) -> impl Iterator<Item = usize> {
        let shards = self.shards.len();
        (0..shards.min(most)).map(move |_| self.rotor.fetch_add(1, Ordering::Relaxed) % shards)
    }
}

pub(super) fn random_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the system gives random bytes");
    seed
}

pub(super) fn word(seed: &[u8; 32], at: usize) -> u64 {
    u64::from_le_bytes(seed[at..at + 8].try_into().expect("eight bytes"))
}

/// The part of the secrets that keys are hashed with.
pub(super) const HASH_SEED: Range<usize> = 8..16;
/// The number of other shards that one step asks first, however many there are.
const SHARDS_ASKED: usize = 16;
/// By which factor the memory limit may be raised.
pub(super) const MEMORY_FACTOR: usize = 32;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cache::{Draft, Expiry, Mode, Policy, Session, StoreOutcome};
    use crate::clock::Clock;

    struct Fixture {
        cache: Cache,
        now: Now,
        session: Session,
    }

    impl Fixture {
        /// Its memory is taken, but for so many bytes, as if readers still held large values.
        fn full_but_for(bytes: usize) -> Fixture {
            let cache = Cache::with_seed(Config { memory_bytes: 1 << 30, ..Config::default() }, [3; 32]);
            let (limit, used) = cache.memory_bytes();
            cache.budget.charge(limit - used - bytes);
            Fixture { session: cache.session(), now: Clock::manual().now(), cache }
        }

        fn stores(&mut self, name: &str, value_bytes: usize) -> bool {
            let (key, value) = (self.cache.key(name.as_bytes()).unwrap(), vec![1; value_bytes]);
            let outcome = self.cache.store(&key, Mode::Set, Draft::new(&value), &mut self.session, self.now);
            matches!(outcome, StoreOutcome::Stored { .. })
        }

        fn shard_of(&self, name: &str) -> usize {
            self.cache.shard_of(self.cache.key(name.as_bytes()).unwrap().hash)
        }
    }

    /// A stale copy is kept for longer than its value, which takes eight bytes more. There was no room for
    /// them, and the item was removed.
    #[test]
    fn a_touch_never_loses_an_item_where_nothing_is_evicted() {
        let policy = Policy { stale: Duration::from_secs(60), ..Policy::default() };
        let cache = Cache::with_seed(
            Config {
                memory_bytes: 8 << 20,
                policies: policy.into(),
                when_full: WhenFull::Refuse,
                ..Config::default()
            },
            [3; 32],
        );
        let mut fixture = Fixture { session: cache.session(), now: Clock::manual().now(), cache };
        let mut names: Vec<String> = Vec::new();
        for value_bytes in [100_000, 5_000, 100] {
            // Some shards are full before others.
            let (mut refused, mut numbers) = (0, 0..);
            while refused < 50 {
                let name = format!("{value_bytes}:{}", numbers.next().expect("memory is limited"));
                match fixture.stores(&name, value_bytes) {
                    true => names.push(name),
                    false => refused += 1,
                }
            }
        }
        let Fixture { cache, now, .. } = &fixture;
        let expiry = Expiry::after(Duration::from_secs(10), *now);
        assert!(names.len() > 1_000);
        for name in &names {
            let key = cache.key(name.as_bytes()).unwrap();
            assert!(cache.touch(&key, expiry, *now), "{name}");
            assert_eq!(cache.peek(&key, *now, |value| value.expiry), Some(expiry), "{name}");
        }
    }

    /// One shard of 64 had something to evict, and 32 others were asked.
    #[test]
    fn a_large_store_is_not_refused_while_any_shard_could_make_room() {
        let mut fixture = Fixture::full_but_for(5 << 19);
        assert!(fixture.stores("victim", 2 << 20));
        assert_ne!(fixture.shard_of("another"), fixture.shard_of("victim"));
        let (limit, used) = fixture.cache.memory_bytes();
        fixture.cache.budget.charge(limit - used);
        // All others are asked first.
        fixture.cache.rotor.store(fixture.shard_of("victim") + 1, Ordering::Relaxed);
        assert!(fixture.stores("another", 20 << 10));
        assert_eq!(fixture.cache.counts().evictions, 1);
    }

    /// Only one shard of 64 had something to evict, and a sweep asked 17: it reported that nothing was left.
    #[test]
    fn a_sweep_reaches_a_lowered_limit_wherever_the_items_are() {
        let mut fixture = Fixture::full_but_for(5 << 19);
        assert!(fixture.stores("victim", 2 << 20));
        fixture.cache.rotor.store(fixture.shard_of("victim") + 1, Ordering::Relaxed);
        let (limit, _) = fixture.cache.memory_bytes();
        assert!(fixture.cache.set_memory_bytes(limit - (1 << 20)));
        while fixture.cache.sweep(fixture.now) {}
        let (limit, used) = fixture.cache.memory_bytes();
        assert!(used <= limit && fixture.cache.counts().evictions == 1);
    }
}
