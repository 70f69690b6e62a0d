//! Stores of clients that bring no token, and the fence before them.

use super::fencing::Ruling;
use super::{At, Shard, State};
use crate::cache::number;
use crate::cache::outcome::{Draft, Fence, Mode, NotCounted, Reason, Store};
use crate::cache::peer::Peer;
use crate::cache::policy::Implicit;
use crate::store::expiry::{Expiry, seconds_after};
use crate::store::key::Key;
use crate::store::seq::Seq;
use crate::store::{Meta, NoRoom, Slot};

impl Shard {
    /// `set`, `add`, `replace`, `append`, `prepend` and `cas`.
    pub(crate) fn store(&mut self, key: &Key, mode: Mode, draft: Draft, peer: &mut Peer, at: &At) -> Store {
        if !self.admit(key, draft.version, at) {
            return Store::Outdated;
        }
        let as_of = at.clock.next();
        match (mode, self.state(key, at)) {
            (Mode::Set, state) => self.set(key, state, as_of, draft, peer, at),
            (Mode::Add, State::Live(slot)) => {
                // memcached counts a refused add as a use, too.
                self.engine.used(slot, at.now.seconds());
                Store::NotStored
            }
            (Mode::Add, state @ (State::Absent | State::Stale(_))) => {
                self.add(key, state, as_of, draft, peer, at)
            }
            (Mode::Cas(_), State::Absent | State::Stale(_)) => Store::NotFound,
            (Mode::Append | Mode::Prepend | Mode::Replace, State::Absent | State::Stale(_)) => {
                Store::NotStored
            }
            (Mode::Cas(unique), state @ State::Live(slot)) => {
                let meta = self.engine.meta(slot);
                if meta.unique() != unique || at.broad.covers(key.bytes, draft.tags, meta.as_of) {
                    return Store::Exists;
                }
                self.change(key, state, as_of, draft, peer, at)
            }
            (Mode::Replace, State::Live(slot)) => self.replace(key, slot, as_of, draft, peer, at),
            (Mode::Append, State::Live(slot)) => {
                self.join(key, slot, (as_of, draft.unique), |old| [old, &draft.value].concat(), peer, at)
            }
            (Mode::Prepend, State::Live(slot)) => {
                self.join(key, slot, (as_of, draft.unique), |old| [&draft.value, old].concat(), peer, at)
            }
        }
    }

    /// `incr` and `decr`: the number after the change, or why there is none.
    pub(crate) fn count(
        &mut self,
        key: &Key,
        step: number::Step,
        peer: &mut Peer,
        at: &At,
    ) -> Option<Result<u64, NotCounted>> {
        let as_of = at.clock.next();
        let State::Live(slot) = self.state(key, at) else { return None };
        let item = self.engine.item(slot);
        let Some((number, text)) = number::step(item.value(), step) else {
            return Some(Err(NotCounted::NotANumber));
        };
        let changed = self.alter(key, slot, Meta { as_of, chosen: 0, ..item.meta() }, text, peer, at);
        Some(changed.map(|()| number).map_err(|NoRoom| NotCounted::NoRoom))
    }

    /// Whether no newer version of a row was spoken of.
    pub(super) fn admit(&mut self, key: &Key, version: Option<u64>, at: &At) -> bool {
        version.is_none_or(|version| {
            let until = seconds_after(at.now, at.policy.version_keep);
            self.versions.admit(key.hash, version, at.now.seconds(), until)
        })
    }

    fn set(&mut self, key: &Key, state: State, as_of: Seq, draft: Draft, peer: &mut Peer, at: &At) -> Store {
        if draft.expiry == Expiry::PAST {
            // It stores nothing, and so answers no miss: it is a delete.
            self.void_as_of(key, as_of, peer, at);
            return stored(self.put_or_drop(key, state, as_of, draft, at), Fence::None);
        }
        let ruling = self.judge(key, as_of, &draft, peer, at);
        if let Some(reason) = self.refused(key, as_of, ruling, at) {
            self.remove_live(key, state, at);
            return Store::Refused(reason);
        }
        let is_observed = ruling.refused.is_some();
        if (ruling.is_write || is_observed) && self.holdoffs.end(key.hash) {
            self.woken.push(key.hash);
        }
        if ruling.is_write {
            self.void_as_of(key, as_of, peer, at);
        }
        stored(self.put_or_drop(key, state, as_of, draft, at), ruling.fence())
    }

    fn add(&mut self, key: &Key, state: State, as_of: Seq, draft: Draft, peer: &mut Peer, at: &At) -> Store {
        let ruling = self.judge(key, as_of, &draft, peer, at);
        if let Some(reason) = self.refused(key, as_of, ruling, at) {
            return Store::Refused(reason);
        }
        if self.holdoffs.until(key.hash, at.now.millis).is_some() {
            return Store::NotStored;
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
        peer: &mut Peer,
        at: &At,
    ) -> Store {
        if at.broad.covers(key.bytes, draft.tags, self.engine.meta(slot).as_of) {
            return Store::NotStored;
        }
        let (state, ruling) = (State::Live(slot), self.judge(key, as_of, &draft, peer, at));
        if let Some(reason) = self.refused(key, as_of, ruling, at) {
            self.remove_live(key, state, at);
            return Store::Refused(reason);
        }
        if ruling.is_write {
            return self.change(key, state, as_of, draft, peer, at);
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

    /// A void, and a new value as of the same point; neither if there is no room.
    fn change(
        &mut self,
        key: &Key,
        state: State,
        as_of: Seq,
        draft: Draft,
        peer: &mut Peer,
        at: &At,
    ) -> Store {
        let put = self.put(key, state, as_of, draft, at);
        if put.is_ok() {
            self.void_as_of(key, as_of, peer, at);
        }
        stored(put, Fence::None)
    }

    /// `append` and `prepend`, which keep flags and expiry.
    fn join(
        &mut self,
        key: &Key,
        slot: Slot,
        (as_of, unique): (Seq, Option<u64>),
        join: impl FnOnce(&[u8]) -> Vec<u8>,
        peer: &mut Peer,
        at: &At,
    ) -> Store {
        let item = self.engine.item(slot);
        let meta = Meta { as_of, chosen: unique.unwrap_or(0), ..item.meta() };
        let joined = join(item.value());
        if joined.len() > at.value_bytes_max {
            return Store::TooLarge;
        }
        stored(self.alter(key, slot, meta, joined, peer, at), Fence::None)
    }

    /// As [`Shard::change`], for a value that is made from the old one and keeps flags, tags and expiry.
    pub(super) fn alter(
        &mut self,
        key: &Key,
        slot: Slot,
        meta: Meta,
        value: Vec<u8>,
        peer: &mut Peer,
        at: &At,
    ) -> Result<(), NoRoom> {
        let tags = self.engine.tags(slot).to_list();
        self.engine.replace(key, slot, meta, tags.tags(), value.into(), at.now.seconds())?;
        self.void_as_of(key, meta.as_of, peer, at);
        Ok(())
    }
}

fn stored(put: Result<(), NoRoom>, fence: Fence) -> Store {
    match put {
        Err(NoRoom) => Store::NoRoom,
        Ok(()) => Store::Stored { fence },
    }
}
