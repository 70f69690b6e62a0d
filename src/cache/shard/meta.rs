//! The meta commands, where they are more than the classic ones.
//!
//! A *soft* stale copy is one that a client asked for (`md I`): every meta read sees it. Those that the policy keeps
//! are seen by reads that take leases.

use super::{At, Shard, State};
use crate::cache::meta::{
    Conditions, Counting, Joining, Kept, MetaNotCounted, Number, Reading, Refresh, Removal, Removed,
};
use crate::cache::number;
use crate::cache::outcome::{Draft, LeaseGet, Mode, NotCounted, Store};
use crate::cache::peer::Peer;
use crate::store::expiry::Expiry;
use crate::store::key::Key;
use crate::store::seq::Seq;
use crate::store::{Item, Meta, NoRoom, Slot};

impl Shard {
    /// `mg`
    #[inline(always)]
    pub(crate) fn meta_get(
        &mut self,
        key: &Key,
        reading: &Reading,
        since: Seq,
        peer: &mut Peer,
        at: &At,
    ) -> (Option<LeaseGet<Item<'_>>>, Refresh) {
        match self.state(key, at) {
            State::Live(slot) if reading.is_plain() => {
                (Some(LeaseGet::Hit(self.hit(key, slot, peer, at))), Refresh::Undue)
            }
            State::Live(slot) => self.meta_hit(key, slot, reading, peer, at),
            state @ (State::Absent | State::Stale(_)) => self.meta_miss(key, state, reading, since, peer, at),
        }
    }

    #[inline(never)]
    fn meta_miss(
        &mut self,
        key: &Key,
        state: State,
        reading: &Reading,
        since: Seq,
        peer: &mut Peer,
        at: &At,
    ) -> (Option<LeaseGet<Item<'_>>>, Refresh) {
        let wants_lease = match state {
            State::Live(_) => false,
            State::Stale(slot) => reading.lease.is_some() || reading.refresh.is_some() || self.is_soft(slot),
            // Who would renew a value that somebody else is loading has lost, too.
            State::Absent => {
                reading.lease.is_some() || (reading.refresh.is_some() && self.is_leased(key, at))
            }
        };
        if !wants_lease {
            self.note_miss(key, peer, at);
            return (None, Refresh::Undue);
        }
        let at = &At { lease_window: reading.lease.unwrap_or(at.lease_window), ..*at };
        let found = self.lease_or_wait(key, state, since, peer, at);
        if let LeaseGet::Busy { .. } = found {
            // A loser may load and store all the same, and without a token.
            self.missed(key, peer, at);
        }
        (Some(found.map(|slot| self.engine.item(slot))), Refresh::Undue)
    }

    /// `ms` without a token.
    pub(crate) fn meta_store(
        &mut self,
        key: &Key,
        mode: Mode,
        joining: Joining,
        draft: Draft,
        peer: &mut Peer,
        at: &At,
    ) -> (Store, Option<Kept>) {
        let (chosen, sent_bytes) = (draft.unique, draft.value.len());
        let joins = matches!(mode, Mode::Append | Mode::Prepend);
        let done = match self.state(key, at) {
            State::Live(slot) if joins && !self.matches(slot, joining.expected) => Store::Exists,
            State::Absent | State::Stale(_) if joins && joining.creates => {
                self.store(key, Mode::Add, draft, peer, at)
            }
            State::Absent | State::Live(_) | State::Stale(_) => self.store(key, mode, draft, peer, at),
        };
        let is_stored = matches!(done, Store::Stored { .. });
        let kept = is_stored.then(|| match self.state(key, at) {
            State::Live(slot) => {
                let item = self.engine.item(slot);
                let expiry = Expiry(item.meta().expiry);
                Kept { expiry, unique: item.meta().unique(), value_bytes: item.value().len() }
            }
            // It was over before it began, and nobody will see this unique again.
            State::Absent | State::Stale(_) => {
                let unique = chosen.unwrap_or_else(|| at.clock.next().number());
                Kept { expiry: Expiry::PAST, unique, value_bytes: sent_bytes }
            }
        });
        (done, kept)
    }

    /// `ma`
    pub(crate) fn meta_count(
        &mut self,
        key: &Key,
        counting: &Counting,
        peer: &mut Peer,
        at: &At,
    ) -> Result<Number, MetaNotCounted> {
        let as_of = at.clock.next();
        let State::Live(slot) = self.state(key, at) else {
            return self.begin_counting(key, counting, peer, at);
        };
        let item = self.engine.item(slot);
        if item.value().is_empty() {
            return Err(MetaNotCounted::Other(NotCounted::NotANumber));
        }
        if counting.expected.is_some_and(|unique| unique != item.meta().unique()) {
            return Err(MetaNotCounted::Exists);
        }
        let Some((number, text)) = number::step(item.value(), counting.step) else {
            return Err(MetaNotCounted::Other(NotCounted::NotANumber));
        };
        let expiry = Expiry(item.meta().expiry);
        let meta = Meta { as_of, chosen: counting.unique.unwrap_or(0), ..item.meta() };
        let meta = counting.expiry.map_or(meta, |expiry| at.until(key, expiry, meta));
        self.alter(key, slot, meta, text, peer, at)
            .map_err(|NoRoom| MetaNotCounted::Other(NotCounted::NoRoom))?;
        let unique = counting.unique.unwrap_or(as_of.number());
        Ok(Number { expiry, is_new: false, number, unique })
    }

    /// `md`
    pub(crate) fn meta_delete(
        &mut self,
        key: &Key,
        only: Conditions,
        removal: Removal,
        peer: &mut Peer,
        at: &At,
    ) -> Removed {
        if !self.admit(key, only.version, at) {
            return Removed::Outdated;
        }
        let as_of = at.clock.next();
        let state = self.state(key, at);
        let found = match state {
            State::Live(slot) => Some(slot),
            State::Stale(slot) if self.is_soft(slot) => Some(slot),
            State::Absent | State::Stale(_) => None,
        };
        let Some(slot) = found else {
            self.void_as_of(key, as_of, peer, at);
            if removal == Removal::Drop {
                self.hold_off(key, None, at);
            }
            return Removed::NotFound;
        };
        if !self.matches(slot, only.unique) {
            return Removed::Exists;
        }
        self.void_as_of(key, as_of, peer, at);
        let is_held_off = removal == Removal::Drop && self.hold_off(key, None, at);
        match removal {
            Removal::Drop if is_held_off => self.remove(key, slot, at),
            Removal::Drop => self.make_stale(key, slot, at),
            Removal::Empty(draft) => {
                if self.put_or_drop(key, state, as_of, draft, at).is_err() {
                    return Removed::NoRoom;
                }
            }
            Removal::Soften(until) => self.soften(key, slot, until, at),
        }
        Removed::Done
    }

    #[inline(never)]
    fn meta_hit(
        &mut self,
        key: &Key,
        slot: Slot,
        reading: &Reading,
        peer: &mut Peer,
        at: &At,
    ) -> (Option<LeaseGet<Item<'_>>>, Refresh) {
        at.clear_note(key, peer);
        let second = at.now.seconds();
        if reading.expiry.is_none() && reading.refresh.is_none() {
            return (Some(LeaseGet::Hit(self.engine.item(slot))), Refresh::Undue);
        }
        let before = self.engine.item(slot);
        let (meta, was) = (before.meta(), (before.accessed, before.ends, before.is_fetched));
        let touched = reading.expiry.map_or(meta, |expiry| at.until(key, expiry, meta));
        let Some(slot) = self.engine.set_meta(key, slot, touched, second) else {
            self.engine.missed();
            return (None, Refresh::Undue);
        };
        let is_due = reading.refresh.is_some_and(|before| touched.expiry != 0 && touched.expiry < before.0);
        let refresh = if is_due { self.refresh(key, peer, at) } else { Refresh::Undue };
        let mut item = if reading.is_peek { self.engine.item(slot) } else { self.engine.hit(slot, second) };
        (item.accessed, item.ends, item.is_fetched) = was;
        (Some(LeaseGet::Hit(item)), refresh)
    }

    /// A lease beside a live value, if nobody else renews it.
    fn refresh(&mut self, key: &Key, peer: &mut Peer, at: &At) -> Refresh {
        if self.is_leased(key, at) || self.holdoffs.until(key.hash, at.now.millis).is_some() {
            return Refresh::Lost;
        }
        Refresh::Won(self.grant(key, peer, at))
    }

    fn begin_counting(
        &mut self,
        key: &Key,
        counting: &Counting,
        peer: &mut Peer,
        at: &At,
    ) -> Result<Number, MetaNotCounted> {
        let Some((number, expiry)) = counting.initial else { return Err(MetaNotCounted::NotFound) };
        let mut text = itoa::Buffer::new();
        let value = Draft::new(text.format(number));
        let ends = counting.expiry.unwrap_or(expiry);
        let draft = Draft { expiry: ends, unique: counting.unique, ..value };
        let (done, kept) = self.meta_store(key, Mode::Add, Joining::default(), draft, peer, at);
        match kept {
            Some(Kept { expiry, unique, .. }) => Ok(Number { expiry, is_new: true, number, unique }),
            None if done == Store::NoRoom => Err(MetaNotCounted::Other(NotCounted::NoRoom)),
            None => Err(MetaNotCounted::NotStored),
        }
    }

    /// Whether a stale copy is soft: it has no expiry of its own, while those that the policy keeps have.
    pub(super) fn is_soft(&self, slot: Slot) -> bool {
        self.engine.meta(slot).expiry == 0
    }

    fn is_leased(&mut self, key: &Key, at: &At) -> bool {
        self.lease(key, at).is_some_and(|lease| lease.busy_until(at).is_some())
    }

    fn matches(&self, slot: Slot, expected: Option<u64>) -> bool {
        expected.is_none_or(|unique| unique == self.engine.meta(slot).unique())
    }
}
