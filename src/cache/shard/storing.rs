//! Stores of clients that bring no token, and the fence before them.

use super::fencing::Ruling;
use super::{At, Shard, State};
use crate::cache::number;
use crate::cache::policy::Implicit;
use crate::cache::session::Session;
use crate::cache::write::{
    Counting, Draft, Fence, Join, Kept, Mode, NotCounted, Number, Reason, StoreOutcome, stored,
};
use crate::pages::{Payload, Run};
use crate::store::expiry::{Expiry, seconds_after};
use crate::store::item::key::Key;
use crate::store::item::seq::Seq;
use crate::store::{Meta, NoRoom, Slot};

impl Shard {
    /// `set`, `add`, `replace`, `append`, `prepend`, `cas` and `ms` without a token.
    pub(crate) fn store(
        &mut self,
        key: &Key,
        mode: Mode,
        draft: Draft,
        session: &mut Session,
        at: &At,
    ) -> StoreOutcome {
        let mode = match mode {
            Mode::Append(join) | Mode::Prepend(join) if join != Join::default() => {
                match self.usable(key, at) {
                    State::Live(slot) if !self.matches(key, slot, join.expected, session, at) => {
                        return StoreOutcome::Exists;
                    }
                    State::Absent | State::Stale(_) if join.creates => Mode::Add,
                    State::Absent | State::Live(_) | State::Stale(_) => mode,
                }
            }
            mode => mode,
        };
        if !self.admit(key, draft.version, at) {
            return StoreOutcome::Outdated;
        }
        let _held = at.groups.hold(draft.tags);
        let as_of = at.clock.next();
        match (mode, self.usable(key, at)) {
            (Mode::Set, state) => self.set(key, state, as_of, draft, session, at),
            (Mode::Add, State::Live(slot)) => {
                // memcached counts a refused add as a use, too.
                self.engine.used(slot, at.tick);
                StoreOutcome::NotStored
            }
            (Mode::Add, state @ (State::Absent | State::Stale(_))) => {
                self.add(key, state, as_of, draft, session, at)
            }
            (Mode::MetaCas { or_stale, unique }, state) => {
                self.meta_cas(key, state, (unique, or_stale), (as_of, draft), session, at)
            }
            (Mode::Cas(_), State::Absent | State::Stale(_)) => StoreOutcome::NotFound,
            (Mode::Append(_) | Mode::Prepend(_) | Mode::Replace, State::Absent | State::Stale(_)) => {
                StoreOutcome::NotStored
            }
            (Mode::Cas(unique), State::Live(slot)) => {
                self.cas(key, slot, unique, (as_of, draft), session, at)
            }
            (Mode::Replace, State::Live(slot)) => self.replace(key, slot, as_of, draft, session, at),
            (Mode::Append(_), State::Live(slot)) => {
                self.join(key, slot, (as_of, draft.unique), |old| Run::of(&[old, &draft.value]), session, at)
            }
            (Mode::Prepend(_), State::Live(slot)) => {
                self.join(key, slot, (as_of, draft.unique), |old| Run::of(&[&draft.value, old]), session, at)
            }
        }
    }

    /// `cas` of a live value.
    pub(super) fn cas(
        &mut self,
        key: &Key,
        slot: Slot,
        unique: u64,
        (as_of, draft): (Seq, Draft),
        session: &mut Session,
        at: &At,
    ) -> StoreOutcome {
        let meta = self.engine.meta(slot);
        if meta.unique() != unique || at.groups.has_overtaken(key.bytes, draft.tags, meta.as_of) {
            return StoreOutcome::Exists;
        }
        self.change(key, State::Live(slot), as_of, draft, session, at)
    }

    /// `incr`, `decr` and `ma`
    pub(crate) fn count(
        &mut self,
        key: &Key,
        counting: &Counting,
        session: &mut Session,
        at: &At,
    ) -> Result<Number, NotCounted> {
        let as_of = at.clock.next();
        let State::Live(slot) = self.usable(key, at) else {
            return self.begin_counting(key, counting, session, at);
        };
        let item = self.engine.item(slot);
        if !item.value().is_empty() && !self.matches(key, slot, counting.expected, session, at) {
            return Err(NotCounted::Exists);
        }
        let item = self.engine.item(slot);
        let (number, text) = number::step(item.value(), counting.step).ok_or(NotCounted::NotANumber)?;
        let expiry = item.meta().expiry;
        let meta = Meta { as_of, chosen: counting.unique.unwrap_or(0), ..item.meta() };
        let meta = counting.expiry.map_or(meta, |expiry| at.until(key, expiry, meta));
        self.alter(key, slot, meta, text.into(), session, at).map_err(|NoRoom| NotCounted::NoRoom)?;
        Ok(Number { expiry, is_new: false, number, unique: meta.unique() })
    }

    fn begin_counting(
        &mut self,
        key: &Key,
        counting: &Counting,
        session: &mut Session,
        at: &At,
    ) -> Result<Number, NotCounted> {
        let (number, expiry) = counting.initial.ok_or(NotCounted::NotFound)?;
        let mut text = itoa::Buffer::new();
        let value = Draft::new(text.format(number));
        let expiry = counting.expiry.unwrap_or(expiry);
        let draft = Draft { expiry, unique: counting.unique, ..value };
        match self.store(key, Mode::Add, draft, session, at) {
            StoreOutcome::Stored { kept: Kept { expiry, unique, .. }, .. } => {
                Ok(Number { expiry, is_new: true, number, unique })
            }
            StoreOutcome::NoRoom => Err(NotCounted::NoRoom),
            StoreOutcome::Exists
            | StoreOutcome::NotFound
            | StoreOutcome::NotStored
            | StoreOutcome::Outdated
            | StoreOutcome::Refused(_)
            | StoreOutcome::StoredStale
            | StoreOutcome::TooLarge => Err(NotCounted::NotStored),
        }
    }

    /// Whether no newer version of a row is known.
    pub(super) fn admit(&mut self, key: &Key, version: Option<u64>, at: &At) -> bool {
        version.is_none_or(|version| {
            let until = seconds_after(at.now, at.policy.version_keep);
            self.versions.admit(key.hash, version, at.now.seconds(), until)
        })
    }

    fn set(
        &mut self,
        key: &Key,
        state: State,
        as_of: Seq,
        draft: Draft,
        session: &mut Session,
        at: &At,
    ) -> StoreOutcome {
        if draft.expiry == Expiry::PAST {
            // It stores nothing, and so answers no miss: it is a delete.
            self.invalidate_as_of(key, as_of, session, at);
            return stored(self.put_or_drop(key, state, as_of, draft, at), Fence::None);
        }
        let ruling = self.judge(key, as_of, &draft, session, at);
        if let Some(reason) = self.refused(key, as_of, ruling, at) {
            self.remove_live(key, state, at);
            return StoreOutcome::Refused(reason);
        }
        let is_observed = ruling.refused.is_some();
        if (ruling.is_write || is_observed) && self.holdoffs.end(key.hash) {
            self.woken.push(key.hash);
        }
        if ruling.is_write {
            self.invalidate_as_of(key, as_of, session, at);
        }
        stored(self.put_or_drop(key, state, as_of, draft, at), ruling.fence())
    }

    fn add(
        &mut self,
        key: &Key,
        state: State,
        as_of: Seq,
        draft: Draft,
        session: &mut Session,
        at: &At,
    ) -> StoreOutcome {
        let ruling = self.judge(key, as_of, &draft, session, at);
        if let Some(reason) = self.refused(key, as_of, ruling, at) {
            return StoreOutcome::Refused(reason);
        }
        if self.holdoffs.until(key.hash, at.now).is_some() {
            return StoreOutcome::NotStored;
        }
        self.end_lease(key);
        stored(self.put(key, state, as_of, draft, at), ruling.fence())
    }

    fn replace(
        &mut self,
        key: &Key,
        slot: Slot,
        as_of: Seq,
        draft: Draft,
        session: &mut Session,
        at: &At,
    ) -> StoreOutcome {
        if at.groups.has_overtaken(key.bytes, draft.tags, self.engine.meta(slot).as_of) {
            return StoreOutcome::NotStored;
        }
        let (state, ruling) = (State::Live(slot), self.judge(key, as_of, &draft, session, at));
        if let Some(reason) = self.refused(key, as_of, ruling, at) {
            self.remove_live(key, state, at);
            return StoreOutcome::Refused(reason);
        }
        if ruling.is_write {
            return self.change(key, state, as_of, draft, session, at);
        }
        stored(self.put(key, state, as_of, draft, at), ruling.fence())
    }

    /// Why a store is refused, if it is. Refused or not, what answers a miss outdates every token before it.
    fn refused(&mut self, key: &Key, as_of: Seq, ruling: Ruling, at: &At) -> Option<Reason> {
        let reason = ruling.refused.filter(|_| at.policy.implicit != Implicit::Observe);
        if !ruling.is_write || reason.is_some() {
            self.superseded.raise(key.hash, as_of);
            self.end_lease(key);
        }
        reason
    }

    /// A refused store may have been newer than the value that is there.
    fn remove_live(&mut self, key: &Key, state: State, at: &At) {
        if let State::Live(slot) = state {
            self.remove(key, slot, at);
        }
    }

    /// An invalidation, and a new value as of the same sequence number; neither if there is no room.
    fn change(
        &mut self,
        key: &Key,
        state: State,
        as_of: Seq,
        draft: Draft,
        session: &mut Session,
        at: &At,
    ) -> StoreOutcome {
        let put = self.put(key, state, as_of, draft, at);
        if put.is_ok() {
            self.invalidate_as_of(key, as_of, session, at);
        }
        stored(put, Fence::None)
    }

    /// `append` and `prepend`, which keep flags and expiry.
    fn join(
        &mut self,
        key: &Key,
        slot: Slot,
        (as_of, unique): (Seq, Option<u64>),
        join: impl FnOnce(&[u8]) -> Run,
        session: &mut Session,
        at: &At,
    ) -> StoreOutcome {
        let item = self.engine.item(slot);
        let meta = Meta { as_of, chosen: unique.unwrap_or(0), ..item.meta() };
        let joined = join(item.value());
        if joined.len() > at.value_bytes_max {
            return StoreOutcome::TooLarge;
        }
        let kept = Kept { expiry: meta.expiry, unique: meta.unique(), value_bytes: joined.len() };
        stored(self.alter(key, slot, meta, joined.into(), session, at).map(|()| kept), Fence::None)
    }

    /// As [`Shard::change`], for a value that is made from the old one and keeps flags, tags and expiry.
    fn alter(
        &mut self,
        key: &Key,
        slot: Slot,
        meta: Meta,
        value: Payload,
        session: &mut Session,
        at: &At,
    ) -> Result<(), NoRoom> {
        let tags = self.engine.tags(slot).to_list();
        self.engine.replace(key, slot, meta, tags.tags(), value, at.tick)?;
        self.invalidate_as_of(key, meta.as_of, session, at);
        Ok(())
    }
}
