//! The cache: values, leases and voids, without sockets, clocks or threads of its own.
//!
//! [`Cache`] is a row of locked shards around one void clock. Every method takes the time as an argument and returns
//! at once; what a caller may have to wait for is told as a deadline and a place to leave a waker.
//!
//! Deliberately absent: tasks. Expired memory is given back by [`Cache::sweep`], which somebody has to call.

pub(crate) mod clock;
mod config;
mod evictions;
mod fence;
mod inspect;
mod invalidate;
pub(crate) mod invalidation;
pub(crate) mod lease;
mod listing;
mod meta;
mod number;
mod outcome;
mod peer;
mod policies;
mod policy;
mod prefetch;
mod room;
mod shard;
mod snapshot;

use std::ops::Range;
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;

use self::clock::LogicalClock;
use self::clock::ages::Ages;
use self::evictions::Collected;
use self::fence::{Classes, Sessions};
use self::invalidation::groups::Broad;
use self::lease::token::Mint;
use self::lease::waiters::Waiters;
use self::policies::{Decided, Governed};
use self::shard::{At, Left, Shard};
use crate::clock::Now;
use crate::mrc::Shadow;
use crate::store::budget::{Budget, Layout};
use crate::store::key::Keys;
use crate::store::{Engine, Item};
use crate::sync::{AtomicU64, AtomicUsize, Mutex};

pub use self::clock::ages::AGE_SECONDS_MAX;
pub use self::config::{Config, VALUE_BYTES_MAX_DEFAULT};
pub use self::evictions::EVICTED_MAX;
pub use self::fence::classes::ClassCounts;
pub use self::fence::notes::NOTES_MAX;
pub use self::fence::origin::Origin;
pub use self::inspect::{Known, KnownLease, KnownVoid, VoidOf};
pub use self::invalidation::groups::{DELIMITER, Name, PREFIXES_MAX};
pub use self::invalidation::holdoffs::HOLDOFFS_MAX;
pub use self::invalidation::record::Depth;
pub use self::lease::token::Token;
pub use self::listing::Entry;
pub use self::meta::{
    Conditions, Counting, Joining, Kept, MetaNotCounted, Number, Reading, Refresh, Removal, Removed,
};
pub use self::number::Step;
pub use self::outcome::{Draft, Fence, Fill, Filled, Got, Mode, NotCounted, Reason, Refused, Store};
pub use self::peer::{HELD_MAX, Peer};
pub use self::policies::{LoadTime, Policies};
pub use self::policy::{Implicit, Policy};
pub use self::prefetch::{Access, Batch};
pub use self::snapshot::{Former, Guard};
pub use crate::mrc::{Curve, FACTORS};
pub use crate::store::budget::WhenFull;
#[cfg(fuzzing)]
pub use crate::store::check_history;
pub use crate::store::counts::{AGE_SECONDS, Counts, SIZES, SizeCounts};
pub use crate::store::evicted::Evicted;
pub use crate::store::expiry::Expiry;
pub use crate::store::item_bytes;
pub use crate::store::key::{KEY_BYTES_MAX, Key};
pub use crate::store::seq::{SEQ_BITS, Seq};
pub use crate::store::tags::{TAGS_MAX, TagList, Tags};

/// Values, leases and voids.
pub struct Cache {
    ages: Ages,
    broad: Broad,
    budget: Arc<Budget>,
    classes: Classes,
    clock: LogicalClock,
    config: Config,
    evicted: Mutex<Collected>,
    keys: Keys,
    mint: Mint,
    peers: AtomicU64,
    policies: Decided,
    /// The shard that gives room next.
    rotor: AtomicUsize,
    sessions: Sessions,
    shadow: Shadow,
    shards: Box<[Mutex<Shard>]>,
    waiters: Waiters,
}

/// A value as it was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Value<'a> {
    /// When it was last read or stored before, in monotonic seconds.
    pub accessed: u32,
    /// The bytes themselves.
    pub bytes: &'a [u8],
    /// When it stops being served; of a stale copy, when it is thrown away.
    pub expiry: Expiry,
    /// The client's own mark.
    pub flags: u32,
    /// Whether it had been read before.
    pub is_fetched: bool,
    /// Whether it is a stale copy.
    pub is_stale: bool,
    /// The same bytes where they lie apart, as those of large values do: a clone shares them.
    pub shared: Option<&'a Bytes>,
    /// When it was stored, in monotonic seconds.
    pub stored: u32,
    /// The names under which it can be voided together with others.
    pub tags: Tags<'a>,
    /// The CAS unique.
    pub unique: u64,
}

/// The answer to a lease-get.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Leased<'a> {
    /// Somebody else is loading the value, or the key is held off.
    Busy {
        /// Whether the caller itself holds the lease; then there is nothing to wait for.
        is_own: bool,
        /// The last value, if a copy is kept.
        stale: Option<Value<'a>>,
        /// Until when at most, in monotonic milliseconds.
        until: u64,
    },
    /// The lease is the caller's: load the value, then [`Cache::lease_set`] it.
    Granted {
        /// The last value, if a copy is kept.
        stale: Option<Value<'a>>,
        /// To be given back with the value.
        token: Token,
    },
    /// A live value.
    Hit(Value<'a>),
}

impl Cache {
    /// An empty cache with a boot secret of its own.
    ///
    /// # Panics
    /// If the system has no randomness to give.
    pub fn new(config: Config) -> Self {
        Cache::with_seed(config, random_seed())
    }

    /// An empty cache whose secrets come from `seed`; for tests that must repeat.
    pub fn with_seed(config: Config, seed: [u8; 32]) -> Self {
        Cache::with_clock(config, seed, LogicalClock::new(word(&seed, 0)))
    }

    fn with_clock(config: Config, seed: [u8; 32], clock: LogicalClock) -> Self {
        let keys = Keys::new(word(&seed, HASH_SEED.start));
        let Layout { segment_bytes, shards } = Layout::new(config.memory_bytes);
        let budget = Arc::new(Budget::new(config.memory_bytes, shards, segment_bytes));
        let shard = |_| {
            let shard_bytes = config.memory_bytes / shards;
            let engine = Engine::new(Arc::clone(&budget), shard_bytes, keys.clone(), config.when_full);
            Mutex::new(Shard::new(engine, shards, config.version_bytes() / shards))
        };
        Cache {
            ages: Ages::new(&clock),
            broad: Broad::new(config.names_max(), keys.clone()),
            classes: Classes::new(),
            clock,
            evicted: Mutex::new(Collected::default()),
            mint: Mint::new(seed[16..].try_into().expect("sixteen bytes")),
            peers: AtomicU64::new(1),
            policies: Decided::new(config.policies.clone()),
            rotor: AtomicUsize::new(0),
            sessions: Sessions::default(),
            shadow: Shadow::new(),
            shards: (0..shards).map(shard).collect(),
            waiters: Waiters::new(),
            budget,
            config,
            keys,
        }
    }

    /// The limits and the policy it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A key of 1 to [`KEY_BYTES_MAX`] bytes, any bytes, for this cache only.
    pub fn key<'a>(&self, bytes: &'a [u8]) -> Option<Key<'a>> {
        self.keys.key(bytes)
    }

    /// The live value of a key, read under the shard's lock: `read` must be short.
    pub fn get<R>(&self, key: &Key, peer: &mut Peer, now: Now, read: impl FnOnce(Value) -> R) -> Option<R> {
        match self.get_or_wait(key, false, peer, now, read) {
            Got::Busy { .. } | Got::Granted(_) | Got::Missed => None,
            Got::Found(found) => Some(found),
        }
    }

    /// As [`Cache::get`], but where somebody else loads the value the policy may want the caller to wait for it
    /// ([`Cache::wait`]) and ask again; not if he `may_wait` no longer.
    #[inline]
    pub fn get_or_wait<R>(
        &self,
        key: &Key,
        may_wait: bool,
        peer: &mut Peer,
        now: Now,
        read: impl FnOnce(Value) -> R,
    ) -> Got<R> {
        let got = self
            .locked(key, now, |shard, at| shard.get(key, may_wait, peer, at).map(|item| read(item.into())));
        if !matches!(got, Got::Busy { .. }) {
            self.shadow.read(key.hash, now);
        }
        got
    }

    /// As [`Cache::get`], and gives the value a new expiry.
    pub fn get_and_touch<R>(
        &self,
        key: &Key,
        expiry: Expiry,
        peer: &mut Peer,
        now: Now,
        read: impl FnOnce(Value) -> R,
    ) -> Option<R> {
        self.shadow.read(key.hash, now);
        let found = self.locked(key, now, |shard, at| {
            shard.get_and_touch(key, expiry, peer, at).map(|item| read(item.into()))
        });
        self.follow(key, found.is_some(), now);
        found
    }

    /// As [`Cache::get`], without counting as a read of the value.
    pub fn peek<R>(&self, key: &Key, now: Now, read: impl FnOnce(Value) -> R) -> Option<R> {
        self.locked(key, now, |shard, at| shard.peek(key, at).map(|item| read(item.into())))
    }

    /// Gives the live value a new expiry; false if there is none.
    pub fn touch(&self, key: &Key, expiry: Expiry, now: Now) -> bool {
        let was_live = self.locked(key, now, |shard, at| shard.touch(key, expiry, at).is_some());
        self.follow(key, was_live, now);
        was_live
    }

    /// The live value, or a lease to load it, or word that somebody else does.
    ///
    /// `since` is [`Cache::last_seq`] at the beginning of a command with several keys: a lease granted in the same
    /// command is handed out again for the same key.
    pub fn lease_get<R>(
        &self,
        key: &Key,
        since: Seq,
        peer: &mut Peer,
        now: Now,
        read: impl FnOnce(Leased) -> R,
    ) -> R {
        let (result, is_read) = self.locked(key, now, |shard, at| {
            let leased = Leased::from(shard.lease_get(key, since, peer, at));
            // A loser's miss is not one of a cache that is too small.
            let is_read = !matches!(leased, Leased::Busy { .. });
            (read(leased), is_read)
        });
        if is_read {
            self.shadow.read(key.hash, now);
        }
        result
    }

    /// As [`Cache::lease_get`], for a command with one key.
    pub fn lease<R>(&self, key: &Key, peer: &mut Peer, now: Now, read: impl FnOnce(Leased) -> R) -> R {
        self.lease_get(key, self.last_seq(), peer, now, read)
    }

    /// Fills a key under a lease, or gives the lease back.
    ///
    /// # Errors
    /// [`Refused`] if the token is not valid (any more); the value is dropped.
    pub fn lease_set(
        &self,
        key: &Key,
        token: Token,
        fill: Fill<'_>,
        peer: &mut Peer,
        now: Now,
    ) -> Result<Filled, Refused> {
        let value_bytes = match &fill {
            Fill::Fresh(draft) | Fill::Value(draft) => draft.value.len(),
            Fill::Release => 0,
        };
        let _room = self.make_room(key.hash, value_bytes, now);
        let filled = self.locked(key, now, |shard, at| shard.fill(key, token, fill, peer, at))?;
        peer.drop_held(key.hash);
        self.follow(key, filled == Filled::Visible, now);
        Ok(filled)
    }

    /// Stores a value, if `mode` and the fence allow it.
    pub fn store(&self, key: &Key, mode: Mode, draft: Draft, peer: &mut Peer, now: Now) -> Store {
        let _room = self.make_room(key.hash, draft.value.len(), now);
        let done = self.locked(key, now, |shard, at| shard.store(key, mode, draft, peer, at));
        self.follow(key, matches!(done, Store::Refused(_) | Store::Stored { .. }), now);
        done
    }

    /// Counts the live value up or down; `None` if there is none.
    pub fn count(&self, key: &Key, step: Step, peer: &mut Peer, now: Now) -> Option<Result<u64, NotCounted>> {
        let done = self.locked(key, now, |shard, at| shard.count(key, step, peer, at));
        self.follow(key, matches!(done, Some(Ok(_))), now);
        done
    }

    /// Voids a key: drops its value (true if it had one) and every outstanding lease.
    ///
    /// With `held_until` (monotonic milliseconds) nobody but a plain `set` may fill it before then.
    pub fn delete(&self, key: &Key, held_until: Option<u64>, peer: &mut Peer, now: Now) -> bool {
        let was_live = self.locked(key, now, |shard, at| shard.delete(key, held_until, peer, at));
        self.follow(key, true, now);
        was_live
    }

    /// Leaves a waker that is called when the lease of a key has ended; false if it has ended already, so that asking
    /// again may succeed. Undone by [`Cache::stop_waiting`].
    pub fn wait(&self, key: &Key, peer: &Peer, waker: &Waker, now: Now) -> bool {
        // The waker comes before the lease is looked at: an invalidation of the key's prefix, which locks no shard, finds
        // one or the other.
        self.waiters.add(key, peer.id, waker);
        let must_wait = self.locked(key, now, |shard, at| shard.await_lease(key, at));
        if !must_wait {
            self.stop_waiting(key, peer);
        }
        must_wait
    }

    /// Takes back what [`Cache::wait`] left.
    pub fn stop_waiting(&self, key: &Key, peer: &Peer) {
        self.waiters.remove(key, peer.id);
    }

    /// What all shards hold and have done.
    pub fn counts(&self) -> Counts {
        self.shards.iter().fold(Counts::default(), |sum, shard| sum + shard.lock().counts())
    }

    /// Begins to count anew, what shards do and what the shadow sees. What is held stays, and is told as it is.
    pub fn reset_counts(&self) {
        self.shards.iter().for_each(|shard| shard.lock().reset_counts());
        self.shadow.reset();
        self.classes.reset_counts();
    }

    /// How well caches of other sizes would do.
    pub fn curve(&self) -> Curve {
        let counts = self.counts();
        self.shadow.curve(self.budget.limit(), counts.hits() + counts.misses)
    }

    /// Leases that make others wait now.
    pub fn leases_outstanding(&self, now: Now) -> usize {
        self.shards.iter().map(|shard| shard.lock().leases_outstanding(now)).sum()
    }

    /// The last point of the void clock that was given out.
    pub fn last_seq(&self) -> Seq {
        self.clock.last()
    }

    /// Does one thing with a key under the lock of its shard.
    #[inline(always)]
    fn locked<R>(&self, key: &Key, now: Now, act: impl FnOnce(&mut Shard, &At) -> R) -> R {
        self.policies.with(|policies| {
            self.locked_under(key.hash, &self.at(policies.governed(key.bytes), policies, now), act)
        })
    }

    /// Does one thing under the lock of the shard that a hash belongs to.
    fn in_shard<R>(&self, hash: u64, now: Now, act: impl FnOnce(&mut Shard, &At) -> R) -> R {
        self.policies.with(|policies| {
            self.locked_under(hash, &self.at(policies.general_governed(), policies, now), act)
        })
    }

    /// As [`Cache::in_shard`], and wakes whoever must hear of it after.
    #[inline(always)]
    fn locked_under<R>(&self, hash: u64, at: &At, act: impl FnOnce(&mut Shard, &At) -> R) -> R {
        self.ages.tick(&self.clock, at.now);
        let (result, left) = {
            let mut shard = self.shards[self.shard_of(hash)].lock();
            shard.tick(at);
            let result = act(&mut shard, at);
            (result, shard.take_left())
        };
        if let Some(left) = left {
            self.deal_with(left);
        }
        result
    }

    /// What a shard has left is dealt with once it is free.
    #[inline(never)]
    fn deal_with(&self, Left { evicted, garbage, woken }: Left) {
        drop(garbage);
        if !evicted.is_empty() {
            self.collect(evicted);
        }
        woken.into_iter().for_each(|hash| self.waiters.wake(hash));
    }

    /// Lets the shadow know what a key holds now, if it has changed and is one that is followed.
    fn follow(&self, key: &Key, has_changed: bool, now: Now) {
        if has_changed && self.shadow.follows(key.hash) {
            let held =
                self.peek(key, now, |value| (item_bytes(key.bytes.len(), value.bytes.len()), value.expiry));
            self.shadow.changed(key.hash, held, self.budget.limit(), now);
        }
    }

    fn shard_of(&self, hash: u64) -> usize {
        (hash >> SHARD_SHIFT) as usize & (self.shards.len() - 1)
    }

    /// For each shard a hash that belongs to it.
    fn hashes(&self) -> impl Iterator<Item = u64> {
        (0..self.shards.len() as u64).map(|shard| shard << SHARD_SHIFT)
    }

    fn at<'a>(&'a self, governed: &'a Governed, policies: &'a Policies, now: Now) -> At<'a> {
        let policy = &governed.policy;
        At {
            ages: &self.ages,
            broad: &self.broad,
            classes: &self.classes,
            clock: &self.clock,
            governed,
            lease_window: policy.lease_window,
            mint: &self.mint,
            now,
            policies,
            policy,
            sessions: &self.sessions,
            value_bytes_max: self.config.value_bytes_max,
        }
    }
}

impl<'a> From<Item<'a>> for Value<'a> {
    /// Inlined, so that what a reader does not want is not read: most want the bytes and the flags.
    #[inline(always)]
    fn from(item: Item<'a>) -> Self {
        let meta = item.meta();
        Value {
            accessed: item.accessed,
            bytes: item.value(),
            expiry: Expiry(item.ends),
            flags: meta.flags,
            is_fetched: item.is_fetched,
            is_stale: meta.is_stale,
            shared: item.shared,
            stored: meta.stored,
            tags: item.tags(),
            unique: meta.unique(),
        }
    }
}

fn random_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the system gives random bytes");
    seed
}

fn word(seed: &[u8; 32], at: usize) -> u64 {
    u64::from_le_bytes(seed[at..at + 8].try_into().expect("eight bytes"))
}

/// The part of the secrets that keys are hashed with.
const HASH_SEED: Range<usize> = 8..16;
/// Bits of the hash that neither the index of a shard nor its cells use.
const SHARD_SHIFT: u32 = 48;
