//! The life of the keys of one shard: every cell of the table in docs/design/state.md.
//!
//! A shard is single-threaded; the cache keeps it under a lock. It holds together what must change together:
//! the items, the newest invalidation of each key, the lease records, the hold-offs, and the floor below
//! which everything is invalidated.
//!
//! A shard wakes nobody: a change that ends a lease is recorded in `woken`, and the cache wakes the waiters
//! after the unlock.

mod applying;
mod deleting;
mod fencing;
mod inspecting;
mod invalidating;
mod leasing;
mod reading;
pub(super) mod sizes;
mod softening;
mod storing;
mod withholding;

use std::mem::take;
use std::time::Duration;

use bytes::Bytes;

use crate::cache::clock::LogicalClock;
use crate::cache::clock::ages::Ages;
use crate::cache::fence::Reader;
use crate::cache::fence::miss_log::Age;
use crate::cache::fence::{Classes, Sessions, Table};
use crate::cache::invalidation::cells::Cells;
use crate::cache::invalidation::groups::Groups;
use crate::cache::invalidation::holdoffs::{Holdoffs, Listed, Place};
use crate::cache::invalidation::record::{Depth, Invalidations};
use crate::cache::invalidation::versions::Versions;
use crate::cache::lease::guesses::Guesses;
use crate::cache::lease::records::Leases;
use crate::cache::lease::token::Mint;
use crate::cache::policies::{Governed, Policies};
use crate::cache::policy::Policy;
use crate::cache::prefetch::Access;
use crate::cache::session::Session;
use crate::cache::shard::sizes::{INVALIDATION_CELLS, LEASES, SUPERSEDED_CELLS, Sizes};
use crate::cache::snapshot::Guard;
use crate::cache::write::{Draft, Kept};
use crate::clock::Now;
use crate::store::counts::Counts;
use crate::store::evicted::Evicted;
use crate::store::expiry::{Expiry, whole_seconds};
use crate::store::item::key::{Key, KeyHash};
use crate::store::item::seq::Seq;
use crate::store::tick::Tick;
use crate::store::{Engine, Item, Meta, NoRoom, Slot};

/// State that all shards share, and the time of the request.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) ages: &'a Ages,
    pub(crate) groups: &'a Groups,
    pub(crate) classes: &'a Classes,
    pub(crate) clock: &'a LogicalClock,
    /// The policy of the key, if there is one, with what was learned there.
    pub(crate) governed: &'a Governed,
    /// For how long a lease that is granted now makes others wait.
    pub(crate) lease_window: Duration,
    pub(crate) mint: &'a Mint,
    pub(crate) now: Now,
    pub(crate) policies: &'a Policies,
    /// That of the key, if there is one.
    pub(crate) policy: &'a Policy,
    pub(crate) sessions: &'a Sessions,
    /// The tick of `now`.
    pub(crate) tick: Tick,
    pub(crate) value_bytes_max: usize,
}

/// One shard.
pub(crate) struct Shard {
    engine: Engine,
    fence: Table,
    /// When a delayed flush is due, in monotonic milliseconds.
    flush_at: Option<u64>,
    /// The invalidations of everything.
    floor: Invalidations,
    guesses: Guesses,
    holdoffs: Holdoffs,
    leases: Leases,
    /// When the sweep last began to look for items of invalidated groups: the newest invalidation of a group
    /// then, and the monotonic second.
    looked_for: (Seq, u32),
    place: Place,
    /// Newest store of each key that outdates the tokens before it without being an invalidation.
    superseded: Cells,
    versions: Versions,
    /// Newest invalidation of each key.
    invalidations: Cells,
    /// Hashes of keys whose waiters must ask again.
    woken: Vec<KeyHash>,
}

/// Work that a shard leaves for after its unlock.
pub(crate) struct Leftovers {
    /// Evicted items, if evictions are watched.
    pub(crate) evicted: Vec<Evicted>,
    /// Large values that were removed, to be dropped.
    pub(crate) removed_values: Vec<Bytes>,
    /// Hashes of keys whose waiters must ask again.
    pub(crate) woken: Vec<KeyHash>,
}

/// The state of a key, once an expired or invalidated item is removed.
#[derive(Clone, Copy)]
pub(crate) enum State {
    Absent,
    Live(Slot),
    Stale(Slot),
}

impl State {
    fn slot(self) -> Option<Slot> {
        match self {
            State::Absent => None,
            State::Live(slot) | State::Stale(slot) => Some(slot),
        }
    }
}

impl Shard {
    pub(crate) fn new(engine: Engine, place: Place, sizes: Sizes) -> Self {
        let shards = place.shards;
        let shares = shards * sizes.guards_part;
        Shard {
            engine,
            fence: Table::new(shards, sizes.guards_part),
            flush_at: None,
            floor: Invalidations::default(),
            guesses: Guesses::new(shards),
            holdoffs: Holdoffs::new(sizes.hold_off_bytes, place),
            leases: Leases::new(LEASES / shares),
            looked_for: (Seq::ZERO, 0),
            place,
            superseded: Cells::new(SUPERSEDED_CELLS / shares),
            versions: Versions::new(sizes.version_bytes),
            invalidations: Cells::new(INVALIDATION_CELLS / shares),
            woken: Vec::new(),
        }
    }

    /// Prefetches all that a key has a place of its own in, but for its item.
    pub(crate) fn prefetch_places(&self, hash: KeyHash, access: Access) {
        self.engine.prefetch_slot(hash);
        if access == Access::Change {
            self.invalidations.prefetch(hash);
            self.superseded.prefetch(hash);
            self.fence.prefetch(hash);
            self.leases.prefetch(hash);
        }
    }

    /// Prefetches the item of a key, most likely.
    pub(crate) fn prefetch_item(&self, hash: KeyHash) {
        self.engine.prefetch_item(hash);
    }

    /// Does what has become due: a delayed flush.
    pub(crate) fn tick(&mut self, at: &At) {
        if self.flush_at.is_some_and(|due| at.now.millis >= due) {
            self.flush(Depth::Hard, at);
            at.sessions.foreign_until_now(at.clock);
        }
    }

    /// `touch`: a new expiry for the live item, which keeps its `as_of`.
    pub(crate) fn touch(&mut self, key: &Key, expiry: Expiry, at: &At) -> Option<Item<'_>> {
        let State::Live(slot) = self.usable(key, at) else { return None };
        let (meta, tick) = (self.engine.meta(slot), at.tick);
        let slot = self.engine.set_meta(key, slot, at.until(key, expiry, meta), tick)?;
        self.engine.used(slot, tick);
        Some(self.engine.item(slot))
    }

    /// Restores a value of a former process, with the sequence number that it had there; false if there is no
    /// room, or if a group of it was invalidated meanwhile.
    pub(crate) fn restore(&mut self, key: &Key, as_of: Seq, draft: Draft, at: &At) -> bool {
        let _held = at.groups.hold(draft.tags);
        if at.groups.has_overtaken(key.bytes, draft.tags, as_of) {
            return false;
        }
        let state = self.engine.find(key).map_or(State::Absent, State::Live);
        self.put(key, state, as_of, draft, at).is_ok()
    }

    /// Shows everything that protects keys from fills.
    pub(crate) fn guards(&self, at: &At, show: &mut impl FnMut(Guard)) {
        for Listed { hash, is_cell, until } in self.holdoffs.all(at.now) {
            match is_cell {
                true => show(Guard::CellHeldOff { hash, until }),
                false => show(Guard::HeldOff { hash, until }),
            }
        }
        self.versions
            .each()
            .filter(|(.., until)| at.now.seconds() < *until)
            .for_each(|(hash, version, until)| show(Guard::Version { hash, until, version }));
        self.misses(at, show);
    }

    /// Protects keys from fills.
    pub(crate) fn guard(&mut self, guard: Guard, at: &At) {
        match guard {
            Guard::AllHeldOff { until } => self.holdoffs.add_all(until),
            Guard::CellHeldOff { hash, until } => self.holdoffs.add_cell(hash, until),
            Guard::HeldOff { hash, until } => self.holdoffs.add(hash, until, at.now),
            Guard::Version { hash, until, version } => {
                self.versions.admit(hash, version, at.now.seconds(), until);
            }
            Guard::AllMissed { .. } | Guard::CellMissed { .. } | Guard::Missed { .. } => {
                self.restore_misses(guard, at)
            }
        }
    }

    /// When a delayed flush is due, in monotonic milliseconds.
    pub(crate) fn flush_due(&self) -> Option<u64> {
        self.flush_at
    }

    /// Work for after the unlock, if there is any.
    pub(crate) fn take_leftovers(&mut self) -> Option<Leftovers> {
        let Engine { evicted, removed_values, .. } = &mut self.engine;
        if evicted.is_empty() && removed_values.is_empty() && self.woken.is_empty() {
            return None;
        }
        Some(Leftovers {
            evicted: take(evicted),
            removed_values: take(removed_values),
            woken: take(&mut self.woken),
        })
    }

    /// Changes the number of watchers of evictions.
    pub(crate) fn collect_evicted(&mut self, more: isize) {
        self.engine.eviction_watchers = self.engine.eviction_watchers.strict_add_signed(more);
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            hold_offs_shared: self.holdoffs.shared,
            versions_forgotten: self.versions.forgotten,
            ..self.engine.counts()
        }
    }

    pub(crate) fn reset_counts(&mut self) {
        self.engine.reset_counts();
        self.holdoffs.shared = 0;
        self.versions.forgotten = 0;
    }

    pub(crate) fn leases_outstanding(&self, now: Now) -> usize {
        self.leases.outstanding(now.millis)
    }

    /// A read that found this item: what its reader stores next is no fill.
    #[inline(always)]
    fn hit(&mut self, key: &Key, slot: Slot, session: &mut Session, at: &At) -> Item<'_> {
        at.remove_miss(key, session);
        self.engine.hit(slot, at.tick)
    }

    /// A read that found no item: its reader may store what it loads.
    fn miss(&mut self, key: &Key, session: &mut Session, at: &At) {
        self.remember_miss(key, Reader::Loads, session, at);
        self.engine.missed();
    }

    /// A delete holds its key off until then, or for as long as the policy says; whether this one does.
    fn hold_off(&mut self, key: &Key, until: Option<u64>, at: &At) -> bool {
        let by_policy =
            Some(at.policy.hold_off).filter(|span| !span.is_zero()).map(|span| at.now.after(span));
        let until = until.or(by_policy);
        if let Some(until) = until {
            self.holdoffs.add(key.hash, until, at.now);
        }
        until.is_some()
    }

    /// Stores a value under a key in this state.
    fn put(&mut self, key: &Key, state: State, as_of: Seq, draft: Draft, at: &At) -> Result<Kept, NoRoom> {
        let Draft { expiry, flags, tags, unique, value, .. } = draft;
        let value_bytes = value.len();
        let (chosen, stored) = (unique.unwrap_or(0), at.tick);
        if expiry == Expiry::PAST {
            if let Some(slot) = state.slot() {
                self.remove(key, slot, at);
            }
            return Ok(Kept { expiry, unique: unique.unwrap_or(as_of.number()), value_bytes });
        }
        let expiry = at.bounded(expiry, key.hash);
        let removed_at = at.removed_at(expiry);
        let meta = Meta { as_of, chosen, expiry, flags, removed_at, is_stale: false, stored };
        self.engine.insert(key, state.slot(), meta, tags, value, stored)?;
        Ok(Kept { expiry, unique: meta.unique(), value_bytes })
    }

    /// As [`Shard::put`]; if there is no room, the old value must not pass for the new one.
    fn put_or_drop(
        &mut self,
        key: &Key,
        state: State,
        as_of: Seq,
        draft: Draft,
        at: &At,
    ) -> Result<Kept, NoRoom> {
        let put = self.put(key, state, as_of, draft, at);
        self.or_drop(put, key, at)
    }

    /// Removes the old value if there was no room for the new one.
    fn or_drop<T>(&mut self, put: Result<T, NoRoom>, key: &Key, at: &At) -> Result<T, NoRoom> {
        put.inspect_err(|_| self.engine.find(key).into_iter().for_each(|slot| self.remove(key, slot, at)))
    }

    fn remove(&mut self, key: &Key, slot: Slot, at: &At) {
        self.engine.remove(key, slot, at.tick);
    }
}

impl At<'_> {
    /// Sequence numbers up to this one are too old for a token.
    fn horizon(&self) -> Seq {
        self.ages.horizon(whole_seconds(self.policy.lease_max_age), self.now)
    }

    fn age(&self) -> Age {
        let max = self.policy.lease_max_age.as_secs() as u32;
        Age { max, now: self.now.seconds() }
    }

    /// Removes the connection's own miss: its next store answers none before this moment.
    #[inline(always)]
    fn remove_miss(&self, key: &Key, session: &mut Session) {
        // Most have none, and need not know how old they may be.
        if !session.misses.is_empty() {
            session.misses.remove(key.hash, self.age());
        }
    }

    /// The same item with another expiry. What it may live at most counts from when it was stored.
    fn until(&self, key: &Key, expiry: Expiry, meta: Meta) -> Meta {
        let last = match self.policy.ttl_max {
            Duration::ZERO => Expiry::NEVER,
            // It was stored up to a tick later than this.
            span => Expiry::at(meta.stored.plus(1).after(span)),
        };
        let expiry = self.bounded(expiry, key.hash).first(last);
        Meta { expiry, removed_at: self.removed_at(expiry), ..meta }
    }

    /// When a value ends that its client wants to end then.
    fn bounded(&self, expiry: Expiry, hash: KeyHash) -> Expiry {
        let Policy { ttl, ttl_jitter, ttl_max, .. } = *self.policy;
        if expiry == Expiry::PAST || (ttl.is_zero() && ttl_max.is_zero() && ttl_jitter == 0) {
            return expiry;
        }
        let after =
            |span: Duration| if span.is_zero() { Expiry::NEVER } else { Expiry::after(span, self.now) };
        let wanted = if expiry == Expiry::NEVER { after(ttl) } else { expiry };
        let end = wanted.first(after(ttl_max)).tick();
        let life = u64::from(end.since(self.tick));
        // Sequence numbers differ from store to store, and hashes from key to key.
        let dice = (hash.bits() ^ self.clock.last().number()).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        // Both factors have 32 bits.
        let cut = (life * u64::from(ttl_jitter.min(100)) / 100 * dice) >> 32;
        Expiry::at(end.before(cut.min(life.saturating_sub(1)) as u32))
    }

    fn removed_at(&self, expiry: Expiry) -> Expiry {
        expiry.plus(self.policy.stale)
    }
}
