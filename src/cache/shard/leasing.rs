//! The life of a lease: granted, waited for, filled, released.

use super::{At, Shard, State};
use crate::cache::fence::Reader;
use crate::cache::invalidation::record::Effect;
use crate::cache::lease::records::Lease;
use crate::cache::lease::token::Token;
use crate::cache::read::Lookup;
use crate::cache::session::Session;
use crate::cache::write::{Fill, Filled, Refused};
use crate::store::item::key::{Key, KeyHash};
use crate::store::item::seq::Seq;
use crate::store::item::tags::Tags;
use crate::store::{Meta, NoRoom, Slot};

impl Shard {
    /// A lease on a key without a live value, or that another client has it; with the slot of the stale copy.
    pub(super) fn lease_or_wait(
        &mut self,
        key: &Key,
        state: State,
        since: Option<Seq>,
        session: &mut Session,
        at: &At,
    ) -> Lookup<Slot> {
        let patience = at.policy.herd_wait;
        if let Some(until) = self.holdoffs.until(key.hash, at.now) {
            return Lookup::Busy { is_own: false, patience, stale: None, until };
        }
        let stale = if let State::Stale(slot) = state { Some(slot) } else { None };
        if let Some(lease) = self.lease(key, at) {
            if lease.is_outstanding(at.now.millis)
                && lease.holder == session.id
                && since.is_some_and(|since| lease.seq > since)
            {
                self.engine.missed();
                let token = at.mint.token(key.bytes, lease.seq);
                return Lookup::Granted { stale, token };
            }
            if let Some(until) = lease.busy_until(at) {
                // Its own lease, once ended, is nothing that only the caller could end: the rest is spacing.
                let is_own = lease.holder == session.id && lease.is_outstanding(at.now.millis);
                return Lookup::Busy { is_own, patience, stale, until };
            }
        }
        self.engine.missed();
        Lookup::Granted { stale, token: self.grant(key, session, at) }
    }

    /// `lease-set`: stores the value if the token is valid.
    pub(crate) fn fill(
        &mut self,
        key: &Key,
        token: Token,
        fill: Fill<'_>,
        session: &mut Session,
        at: &At,
    ) -> Result<Filled, Refused> {
        at.remove_miss(key, session);
        let seq = self.genuine(key, token, session, at).ok_or(Refused::Unknown)?;
        let (tags, version) = match &fill {
            Fill::Fresh(draft) | Fill::Value(draft) => (draft.tags, draft.version),
            Fill::Release => (Tags::NONE, None),
        };
        let _held = at.groups.hold(tags);
        if !self.admit(key, version, at) {
            self.end_lease_of(key, seq);
            return Err(Refused::Outdated);
        }
        match (self.validity(key, seq, tags, at), fill) {
            (Ok(_), Fill::Release) => {
                let lease = self.leases.read(key.hash);
                let is_open =
                    lease.is_some_and(|lease| lease.seq == seq && lease.is_outstanding(at.now.millis));
                self.end_lease_of(key, seq);
                // Released a second time, it answers no other miss.
                if is_open {
                    self.answered(key, at);
                }
                Ok(Filled::Released)
            }
            (Ok(state), Fill::Fresh(draft) | Fill::Value(draft)) => {
                self.superseded.raise(key.hash, seq);
                self.end_lease(key);
                self.answered(key, at);
                self.put(key, state, seq, draft, at).map_err(|NoRoom| Refused::NoRoom)?;
                Ok(Filled::Visible)
            }
            (Err(refused), fill) => {
                self.end_lease_of(key, seq);
                self.fill_stale(key, seq, fill, at).ok_or(refused)
            }
        }
    }

    /// Marks that a client waits for the key; false if there is nothing to wait for any more.
    pub(crate) fn await_lease(&mut self, key: &Key, at: &At) -> bool {
        if matches!(self.usable(key, at), State::Live(_)) {
            return false;
        }
        let is_held_off = self.holdoffs.until(key.hash, at.now).is_some();
        let is_busy = self.lease(key, at).is_some_and(|lease| lease.busy_until(at).is_some());
        if (is_busy || is_held_off)
            && let Some(lease) = self.leases.find(key.hash)
        {
            lease.awaited = true;
        }
        is_busy || is_held_off
    }

    /// The holder has left: ends the lease granted to it at `seq`.
    pub(crate) fn release(&mut self, hash: KeyHash, seq: Seq) {
        if self.leases.end_of(hash, seq) {
            self.woken.push(hash);
        }
    }

    pub(super) fn grant(&mut self, key: &Key, session: &mut Session, at: &At) -> Token {
        let seq = at.clock.next();
        let until = at.now.after(at.lease_window);
        let lease = Lease::new(seq, session.id, at.now.millis, until);
        self.woken.extend(self.leases.insert(key.hash, lease));
        self.remember_miss(key, Reader::Loads, session, at);
        session.hold(key.hash, seq);
        at.mint.token(key.bytes, seq)
    }

    /// The sequence number of a token's grant, if the token is genuine and young enough.
    pub(super) fn genuine(&mut self, key: &Key, token: Token, session: &mut Session, at: &At) -> Option<Seq> {
        let Some(seq) = at.mint.open(key.bytes, token) else {
            if Token::is_like(token.number()) && self.guesses.add(key.hash, at.now.seconds()) {
                self.invalidate_now(key, session, at);
            }
            return None;
        };
        (seq > at.clock.start() && seq <= at.clock.last() && seq > at.horizon()).then_some(seq)
    }

    /// The state of a key that a genuine token may still fill.
    pub(super) fn validity(&mut self, key: &Key, seq: Seq, tags: Tags, at: &At) -> Result<State, Refused> {
        let is_invalidated =
            self.newest_invalidation_of(key.hash) > seq || at.groups.has_overtaken(key.bytes, tags, seq);
        if is_invalidated || self.holdoffs.until(key.hash, at.now).is_some() {
            return Err(Refused::Invalidated);
        }
        let state = self.state(key, at);
        let newer_value = match state {
            State::Live(slot) => self.engine.meta(slot).as_of >= seq,
            State::Absent | State::Stale(_) => false,
        };
        if newer_value || self.superseded.read(key.hash) >= seq {
            return Err(Refused::Superseded);
        }
        Ok(state)
    }

    /// A fill that came too late may still be a better stale copy than the one that is kept.
    fn fill_stale(&mut self, key: &Key, seq: Seq, fill: Fill<'_>, at: &At) -> Option<Filled> {
        let (State::Stale(slot), Fill::Value(draft)) = (self.state(key, at), fill) else { return None };
        let meta = self.engine.meta(slot);
        let is_older = meta.as_of >= seq || self.superseded.read(key.hash) >= seq;
        if is_older || at.groups.effect_on_load(key.bytes, draft.tags, seq) == Effect::Hard {
            return None;
        }
        self.superseded.raise(key.hash, seq);
        // The mark of a soft copy stays: those that have read it may store what they load.
        let chosen = if self.is_soft(slot) { meta.chosen } else { 0 };
        let meta = Meta { as_of: seq, chosen, flags: draft.flags, ..meta };
        self.engine.replace(key, slot, meta, draft.tags, draft.value, at.tick).ok()?;
        Some(Filled::Stale)
    }

    fn end_lease_of(&mut self, key: &Key, seq: Seq) {
        if self.leases.end_of(key.hash, seq) {
            self.woken.push(key.hash);
        }
    }
}

impl Lease {
    /// Until when no other client is granted the key, in monotonic milliseconds, if that is still to come.
    pub(super) fn busy_until(&self, at: &At) -> Option<u64> {
        let spaced = self.granted_at + at.policy.lease_min_interval.as_millis() as u64;
        Some(self.until.max(spaced)).filter(|until| at.now.millis < *until)
    }
}
