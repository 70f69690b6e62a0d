//! Stale copies: what becomes of a value that is invalidated or has expired.
//!
//! A *soft* copy is one that a client asked for (`md I`, `invalidate soft`): every meta read sees it. Its
//! CAS unique is its *mark*, the sequence number as of which it is stale. A client that shows the mark has
//! read the copy, and so loaded its value after that: it may store it as the holder of a lease may that was
//! granted then.

use std::time::Duration;

use super::{At, Shard, State};
use crate::cache::invalidation::record::Effect;
use crate::cache::lease::token::Token;
use crate::cache::session::Session;
use crate::cache::write::{Draft, Fence, StoreOutcome, stored};
use crate::store::expiry::Expiry;
use crate::store::item::key::Key;
use crate::store::item::seq::Seq;
use crate::store::item::tags::Tags;
use crate::store::{Meta, NoRoom, Slot};

impl Shard {
    /// Whether a stale copy is soft: it has no expiry of its own, while those that the policy keeps have.
    pub(super) fn is_soft(&self, slot: Slot) -> bool {
        self.engine.meta(slot).expiry == Expiry::NEVER
    }

    /// Whether an item has this unique, or is the one beside which this token was granted.
    pub(super) fn matches(
        &mut self,
        key: &Key,
        slot: Slot,
        expected: Option<u64>,
        session: &mut Session,
        at: &At,
    ) -> bool {
        let Some(number) = expected else { return true };
        let meta = self.engine.meta(slot);
        if number == meta.unique() || !Token::is_like(number) {
            return number == meta.unique();
        }
        let since = if meta.is_stale { meta.unique() } else { meta.as_of.number() };
        self.genuine(key, number.into(), session, at)
            .is_some_and(|seq| seq.number() > since && self.validity(key, seq, Tags::NONE, at).is_ok())
    }

    /// Keeps an invalidated item as a stale copy if the policy wants that, counted from its first
    /// invalidation.
    pub(super) fn make_stale(&mut self, key: &Key, slot: Slot, at: &At) {
        let meta = self.engine.meta(slot);
        if at.policy.stale.is_zero() {
            return self.remove(key, slot, at);
        }
        let removed_at = meta.removed_at.first(Expiry::after(at.policy.stale, at.now));
        // Its time no longer matters, and where both ends are one the item has room for them.
        let chosen = if meta.is_stale { 0 } else { meta.chosen };
        let meta = Meta { chosen, expiry: removed_at, removed_at, is_stale: true, ..meta };
        self.engine.set_meta(key, slot, meta, at.tick);
    }

    /// The time of a live item has passed, and the policy keeps stale copies.
    pub(super) fn expire_to_stale(&mut self, key: &Key, slot: Slot, meta: Meta, at: &At) -> State {
        self.engine.met_expired();
        let kept = self.engine.set_meta(key, slot, Meta { is_stale: true, ..meta }, at.tick);
        kept.map_or(State::Absent, State::Stale)
    }

    /// Makes an item a soft stale copy with this mark: until then, or else until it expires, and no longer
    /// than the policy says.
    pub(super) fn soften(&mut self, key: &Key, slot: Slot, mark: Seq, until: Option<Expiry>, at: &At) {
        let meta = self.engine.meta(slot);
        let wanted = until.map_or(end(meta), |until| at.until(key, until, meta).expiry);
        let wanted = match at.policy.stale {
            Duration::ZERO => wanted,
            _ if meta.is_stale => wanted.first(meta.removed_at),
            _ => wanted.first(at.end_of_stale()),
        };
        self.keep_soft(key, slot, mark, wanted, at);
    }

    /// Makes an item a soft stale copy that ends then.
    pub(super) fn keep_soft(
        &mut self,
        key: &Key,
        slot: Slot,
        mark: Seq,
        removed_at: Expiry,
        at: &At,
    ) -> Option<Slot> {
        if removed_at.is_past(at.tick) {
            self.remove(key, slot, at);
            return None;
        }
        self.engine.set_meta(key, slot, softened(self.engine.meta(slot), mark, removed_at), at.tick)
    }

    /// `ms` with a unique. With `or_stale`, a value for a lower one is stored as a stale copy.
    pub(super) fn meta_cas(
        &mut self,
        key: &Key,
        state: State,
        (unique, or_stale): (u64, bool),
        new: (Seq, Draft),
        session: &mut Session,
        at: &At,
    ) -> StoreOutcome {
        let slot = match state {
            // In memcached the lease is an item, whose unique this is not.
            State::Absent if self.is_leased(key, at) => return StoreOutcome::Exists,
            State::Absent => return StoreOutcome::NotFound,
            State::Stale(slot) if !self.is_soft(slot) => return StoreOutcome::NotFound,
            State::Live(slot) | State::Stale(slot) => slot,
        };
        match state {
            _ if or_stale && unique != self.engine.meta(slot).unique() => {
                self.store_stale(key, slot, unique, new, session, at)
            }
            State::Stale(slot) => self.revive(key, slot, unique, new, session, at),
            State::Absent | State::Live(_) => self.cas(key, slot, unique, new, session, at),
        }
    }

    /// A store by a client that has read a soft stale copy with this unique. It answers a miss, and outdates
    /// every token.
    fn revive(
        &mut self,
        key: &Key,
        slot: Slot,
        unique: u64,
        (as_of, draft): (Seq, Draft),
        session: &mut Session,
        at: &At,
    ) -> StoreOutcome {
        let mark = Seq::new(unique).filter(|_| unique == self.engine.meta(slot).unique());
        let Some(state) = mark.and_then(|mark| self.validity(key, mark, draft.tags, at).ok()) else {
            return StoreOutcome::Exists;
        };
        at.remove_miss(key, session);
        self.superseded.raise(key.hash, as_of);
        self.end_lease(key);
        self.answered(key, at);
        stored(self.put(key, state, as_of, draft, at), Fence::None)
    }

    /// A store by a client that has read an older value than the one that is there: as a stale copy, if no
    /// invalidation forbids it. A live value becomes stale by it.
    fn store_stale(
        &mut self,
        key: &Key,
        slot: Slot,
        unique: u64,
        (as_of, draft): (Seq, Draft),
        session: &mut Session,
        at: &At,
    ) -> StoreOutcome {
        let meta = self.engine.meta(slot);
        // As in memcached, 0 is no unique.
        if unique == 0 || unique >= meta.unique() {
            return StoreOutcome::Exists;
        }
        // A number that the client made up says nothing of when its value was read.
        let is_ours = meta.is_stale || meta.chosen == 0;
        let read_at = Seq::new(unique).filter(|seq| is_ours && *seq > at.clock.start());
        let since = read_at.map_or(meta.as_of, |seq| seq.min(meta.as_of));
        let effect = self.floor.effect(since).and(at.groups.effect_on_load(key.bytes, draft.tags, since));
        if effect == Effect::Hard {
            return StoreOutcome::Exists;
        }
        let mut removed_at = end(meta);
        if !meta.is_stale {
            self.invalidate_as_of(key, as_of, session, at);
            removed_at = removed_at.first(at.end_of_stale());
        }
        let meta = Meta { as_of: since, flags: draft.flags, stored: at.tick, ..meta };
        let meta = softened(meta, as_of, removed_at);
        let put = self.engine.replace(key, slot, meta, draft.tags, draft.value, at.tick);
        match self.or_drop(put, key, at) {
            Ok(_) => StoreOutcome::StoredStale,
            Err(NoRoom) => StoreOutcome::NoRoom,
        }
    }
}

impl At<'_> {
    /// When a value that becomes stale now is removed at the latest.
    fn end_of_stale(&self) -> Expiry {
        match self.policy.stale {
            Duration::ZERO => Expiry::NEVER,
            stale => Expiry::after(stale, self.now),
        }
    }
}

fn end(meta: Meta) -> Expiry {
    if meta.is_stale { meta.removed_at } else { meta.expiry }
}

fn softened(meta: Meta, mark: Seq, removed_at: Expiry) -> Meta {
    Meta { chosen: mark.number(), expiry: Expiry::NEVER, removed_at, is_stale: true, ..meta }
}
