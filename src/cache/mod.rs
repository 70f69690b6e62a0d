//! The cache: values, leases and invalidations, without sockets, clocks or threads of its own.
//!
//! [`Cache`] is a row of locked shards around one logical clock. Every method takes the time as an argument
//! and returns at once; a caller that may have to wait gets a deadline and leaves a waker ([`Cache::wait`]).
//!
//! There are no background tasks: somebody has to call [`Cache::sweep`], which frees memory of expired items.

pub(crate) mod clock;
mod config;
mod copies;
mod evictions;
mod fence;
mod inspect;
mod internals;
pub(crate) mod invalidation;
pub(crate) mod lease;
mod listing;
mod number;
mod policies;
mod policy;
mod prefetch;
mod read;
mod session;
mod shard;
mod snapshot;
mod sources;
mod write;

use std::sync::Arc;
use std::task::Waker;

use self::clock::LogicalClock;
use self::clock::ages::Ages;
use self::copies::CopiesOf;
use self::evictions::Evictions;
use self::fence::{Classes, Sessions};
use self::internals::{HASH_SEED, MEMORY_FACTOR, random_seed, word};
use self::invalidation::groups::Groups;
use self::invalidation::record::Invalidation;
use self::lease::token::Mint;
use self::lease::waiters::Waiters;
use self::policies::Decided;
use self::shard::Shard;
use self::sources::{Attested, Positions};
use crate::clock::Now;
use crate::mrc::Shadow;
use crate::store::budget::Budget;
use crate::store::item::key::Keys;
use crate::sync::{AtomicU64, AtomicUsize, Mutex, Ordering};

pub use self::clock::ages::AGE_SECONDS_MAX;
pub use self::config::{Config, Copies, VALUE_BYTES_MAX_DEFAULT};
pub use self::evictions::EVICTED_MAX;
pub use self::fence::classes::ClassCounts;
pub use self::fence::miss_log::MISS_LOG_MAX;
pub use self::fence::origin::Origin;
pub use self::inspect::{InvalidationOf, InvalidationReport, KeyReport, LeaseReport};
pub use self::invalidation::groups::{DELIMITER, Group};
pub use self::invalidation::record::Depth;
pub use self::lease::token::Token;
pub use self::listing::Entry;
pub use self::number::Step;
pub use self::policies::{LoadTime, Policies};
pub use self::policy::{Implicit, Policy, WhileLost};
pub use self::prefetch::{Access, Batch};
pub use self::read::{Lookup, OnMiss, Reading, Refresh, Value};
pub use self::session::{HELD_MAX, Session};
pub use self::snapshot::{Guard, Lineage};
pub use self::sources::{Attestation, SourcePosition};
pub use self::write::{
    Counting, DeleteOutcome, Deletion, Draft, Fence, Fill, Filled, Join, Kept, Leaves, Mode, NotCounted,
    Number, Reason, Refused, StoreOutcome,
};
pub use crate::limits::{KEY_BYTES_MAX, PREFIXES_MAX, TAGS_MAX};
pub use crate::mrc::{Curve, FACTORS};
pub use crate::store::budget::WhenFull;
#[cfg(fuzzing)]
pub use crate::store::check_history;
pub use crate::store::counts::{AGE_SECONDS, Counts, SIZES, SizeCounts};
pub use crate::store::evicted::Evicted;
pub use crate::store::expiry::Expiry;
pub use crate::store::item::key::{Key, KeyHash};
pub use crate::store::item::seq::{SEQ_BITS, Seq};
pub use crate::store::item::tags::{TagList, Tags};
pub use crate::store::item_bytes;
pub use crate::store::tick::Tick;

/// Values, leases and invalidations.
pub struct Cache {
    ages: Ages,
    attested: Attested,
    groups: Groups,
    budget: Arc<Budget>,
    classes: Classes,
    clock: LogicalClock,
    config: Config,
    copies: CopiesOf,
    evictions: Evictions,
    keys: Keys,
    mint: Mint,
    session_ids: AtomicU64,
    policies: Decided,
    positions: Positions,
    /// The shard that is asked for room next.
    rotor: AtomicUsize,
    sessions: Sessions,
    shadow: Shadow,
    shards: Box<[Mutex<Shard>]>,
    waiters: Waiters,
}

/// Making one.
impl Cache {
    /// An empty cache with secrets of its own.
    ///
    /// # Panics
    /// If the system has no randomness.
    pub fn new(config: Config) -> Self {
        Cache::with_seed(config, random_seed())
    }

    /// An empty cache whose secrets come from `seed`; for tests that must repeat.
    pub fn with_seed(config: Config, seed: [u8; 32]) -> Self {
        Cache::with_clock(config, seed, LogicalClock::new(word(&seed, 0)))
    }

    /// An empty cache whose logical clock goes on above that of a former one, so that [`Cache::restore`] can
    /// bring back the values of that one, and [`Cache::guard`] what protected its keys.
    ///
    /// # Panics
    /// If the system has no randomness.
    pub fn after(config: Config, former: Lineage) -> Self {
        let mut seed = random_seed();
        seed[HASH_SEED].copy_from_slice(&former.hash_seed.to_le_bytes());
        Cache::with_clock(config, seed, LogicalClock::above(former.last))
    }

    /// The limits and the policies it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A key of 1 to [`KEY_BYTES_MAX`] bytes, any bytes, for this cache only; `None` if it is shorter or
    /// longer.
    pub fn key<'a>(&self, bytes: &'a [u8]) -> Option<Key<'a>> {
        self.keys.key(bytes)
    }

    /// The state of a new client; see [`Session`].
    pub fn session(&self) -> Session {
        self.sessions.enter();
        Session::new(self.session_ids.fetch_add(1, Ordering::Relaxed), true)
    }

    /// The state of a client that stores nothing, and does not count where it matters that a client is the
    /// only one.
    pub fn internal_session(&self) -> Session {
        Session::new(self.session_ids.fetch_add(1, Ordering::Relaxed), false)
    }

    /// A client has left: its leases are released, and their waiters woken.
    pub fn leave(&self, session: &mut Session, now: Now) {
        for (hash, seq) in session.take_held() {
            self.in_shard(hash, now, |shard, _| shard.release(hash, seq));
        }
        if std::mem::take(&mut session.is_open) {
            self.sessions.leave(session.newest_invalidation);
        }
    }
}

/// Reading and writing. The functions that show a value run under the lock of its shard: they must be short.
impl Cache {
    /// Shows the live value of a key, if it has one.
    pub fn get<R>(
        &self,
        key: &Key,
        session: &mut Session,
        now: Now,
        show: impl FnOnce(Value) -> R,
    ) -> Option<R> {
        let reading = Reading::new(OnMiss::Coalesce { may_wait: false });
        self.read(key, &reading, session, now, |found| match found {
            Lookup::Hit { value, .. } => Some(show(value)),
            Lookup::Busy { .. } | Lookup::Granted { .. } | Lookup::Miss => None,
        })
    }

    /// Shows the live value of a key, a lease to load it, or that another client does.
    pub fn lease<R>(
        &self,
        key: &Key,
        session: &mut Session,
        now: Now,
        show: impl FnOnce(Lookup<Value>) -> R,
    ) -> R {
        self.read(key, &Reading::new(OnMiss::Lease { since: self.last_seq() }), session, now, show)
    }

    /// Shows what a key holds, or what its reader is to do if it holds no live value.
    #[inline(always)]
    pub fn read<R>(
        &self,
        key: &Key,
        reading: &Reading,
        session: &mut Session,
        now: Now,
        show: impl FnOnce(Lookup<Value>) -> R,
    ) -> R {
        let mut is_hot = false;
        if copies::may_have(key.hash) && reading.is_plain() {
            match self.find_copy(key, session, now) {
                Ok(table) => return self.show_copy(table, key, now, show),
                Err(was_copied) => is_hot |= was_copied,
            }
        }
        let (result, is_read) = self.locked_to_read(key, now, |shard, at, has_waited| {
            match shard.read_plain(key, reading, session, at) {
                Ok(item) => {
                    let result = show(Lookup::hit(item.into()));
                    self.copy_if_hot(key, shard, at, has_waited, is_hot);
                    (result, true)
                }
                Err(state) => {
                    let found = shard.read(key, state, reading, session, at);
                    let is_read = found.is_read();
                    (show(found.map(Value::from)), is_read)
                }
            }
        });
        if is_read {
            self.shadow.read(key.hash, now);
        }
        self.follow(key, reading.expiry.is_some(), now);
        result
    }

    /// As [`Cache::get`], but does not count as a read.
    pub fn peek<R>(&self, key: &Key, now: Now, show: impl FnOnce(Value) -> R) -> Option<R> {
        self.locked(key, now, |shard, at| shard.peek(key, at).map(|item| show(item.into())))
    }

    /// Gives the live value a new expiry; false if there is none.
    pub fn touch(&self, key: &Key, expiry: Expiry, now: Now) -> bool {
        self.write(key, None, now, |was_live| *was_live, |shard, at| shard.touch(key, expiry, at).is_some())
    }

    /// Stores a value, if `mode` and the fence allow it.
    #[inline]
    pub fn store(
        &self,
        key: &Key,
        mode: Mode,
        draft: Draft,
        session: &mut Session,
        now: Now,
    ) -> StoreOutcome {
        let value_bytes = draft.value.len();
        let is_change = |outcome: &StoreOutcome| outcome.is_change();
        self.write(key, Some(value_bytes), now, is_change, |shard, at| {
            shard.store(key, mode, draft, session, at)
        })
    }

    /// Fills a key under a lease, or releases the lease.
    ///
    /// # Errors
    /// [`Refused`] if the token is not valid (any more); nothing is stored.
    pub fn fill(
        &self,
        key: &Key,
        token: Token,
        fill: Fill<'_>,
        session: &mut Session,
        now: Now,
    ) -> Result<Filled, Refused> {
        let value_bytes = match &fill {
            Fill::Fresh(draft) | Fill::Value(draft) => draft.value.len(),
            Fill::Release => 0,
        };
        let is_change = |filled: &Result<_, _>| *filled == Ok(Filled::Visible);
        let filled = self.write(key, Some(value_bytes), now, is_change, |shard, at| {
            shard.fill(key, token, fill, session, at)
        });
        if filled.is_ok() {
            session.drop_held(key.hash);
        }
        filled
    }

    /// Counts the live value up or down, or begins with a number.
    ///
    /// # Errors
    /// [`NotCounted`] says why nothing was counted.
    pub fn count(
        &self,
        key: &Key,
        counting: &Counting,
        session: &mut Session,
        now: Now,
    ) -> Result<Number, NotCounted> {
        self.write(key, None, now, Result::is_ok, |shard, at| shard.count(key, counting, session, at))
    }

    /// Invalidates a key: removes its value, and invalidates every outstanding lease on it.
    pub fn delete(&self, key: &Key, deletion: &Deletion, session: &mut Session, now: Now) -> DeleteOutcome {
        let is_change = |outcome: &DeleteOutcome| outcome.is_invalidation();
        self.write(key, None, now, is_change, |shard, at| shard.delete(key, deletion, session, at))
    }

    /// Invalidates a key, and leaves a stale copy or nothing, whatever the policy says; true if it had a live
    /// value.
    pub fn invalidate_key(&self, key: &Key, depth: Depth, session: &mut Session, now: Now) -> bool {
        self.write(key, None, now, |_| true, |shard, at| shard.invalidate(key, depth, session, at))
    }

    /// Invalidates groups, one after the other: all values with a tag, or all keys with a prefix. The cost
    /// does not depend on how many items that are; their memory is freed when they are met or swept.
    pub fn invalidate<'a>(&self, names: impl IntoIterator<Item = Group<'a>> + Clone, depth: Depth, now: Now) {
        let kept = self.policies.with(Policies::longest_kept);
        self.groups.invalidate(names.clone().into_iter(), Invalidation { depth, kept, now }, &self.clock);
        for name in names {
            if let Group::Prefix(prefix) = name {
                self.waiters.wake_prefix(prefix);
            }
        }
    }

    /// Invalidates everything, now or when `due` (monotonic milliseconds). A later call replaces one that is
    /// not due yet.
    pub fn invalidate_all(&self, due: Option<u64>, depth: Depth, session: &mut Session, now: Now) {
        self.shadow.flush(due);
        let floors: Vec<(Seq, Seq)> = self
            .hashes()
            .map(|hash| self.in_shard(hash, now, |shard, at| shard.flush_all(due, depth, at)))
            .collect();
        if due.is_some() {
            return;
        }
        let newest = floors.iter().map(|(_, own)| *own).max().unwrap_or_default();
        session.invalidated(newest, &self.sessions);
        session.misses.invalidate_all(|hash| {
            let (before, own) = floors[self.shard_of(hash)];
            (self.shards[self.shard_of(hash)].lock().newest_key_invalidation(hash).max(before), own)
        });
    }

    /// Leaves a waker that is called when the lease of a key has ended; false if it has ended already, so
    /// that asking again may succeed. Undone by [`Cache::stop_waiting`].
    pub fn wait(&self, key: &Key, session: &Session, waker: &Waker, now: Now) -> bool {
        // The waker comes before the lease is looked at: an invalidation of the key's prefix, which locks no
        // shard, finds one or the other.
        self.waiters.add(key, session.id, waker);
        let must_wait = self.locked(key, now, |shard, at| shard.await_lease(key, at));
        if !must_wait {
            self.stop_waiting(key, session);
        }
        must_wait
    }

    /// Takes back what [`Cache::wait`] left.
    pub fn stop_waiting(&self, key: &Key, session: &Session) {
        self.waiters.remove(key, session.id);
    }
}

/// Memory.
impl Cache {
    /// Frees memory of items that are expired or invalidated, or above a limit that was lowered: at most one
    /// segment under each lock. True if there may be more; others can work before the caller goes on.
    pub fn sweep(&self, now: Now) -> bool {
        self.shadow.sweep(now);
        let mut is_more = false;
        for hash in self.hashes() {
            is_more |= self.in_shard(hash, now, |shard, at| shard.sweep(at));
        }
        is_more
            | (self.budget.is_exceeded() && self.reclaim(self.next_shards(self.shards.len()), now).is_some())
    }

    /// Another limit for the memory of items, in bytes. What is above it is evicted step by step, by stores
    /// and sweeps.
    ///
    /// False, and nothing changes, if it is less than a sixteenth of the limit of the beginning, so that the
    /// segments which the shards hold in any case leave no room for others, or more than 32 times that: the
    /// number of segments bounds the work of a step.
    pub fn set_memory_bytes(&self, bytes: usize) -> bool {
        let most = self.config.memory_bytes.saturating_mul(MEMORY_FACTOR);
        let is_possible = (self.budget.limit_min()..=most).contains(&bytes);
        if is_possible {
            self.budget.set_limit(bytes);
        }
        is_possible
    }

    /// The limit for the memory of items, and how much is charged to it now, both in bytes.
    pub fn memory_bytes(&self) -> (usize, usize) {
        (self.budget.limit(), self.budget.used())
    }
}
