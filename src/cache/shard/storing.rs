//! Stores of clients that bring no token, and the fence before them.

use super::{At, Shard, State};
use crate::cache::engine::{Meta, NoRoom, Slot};
use crate::cache::expiry::seconds_after;
use crate::cache::key::Key;
use crate::cache::notes::Note;
use crate::cache::outcome::{Draft, Fence, Mode, NotCounted, Store};
use crate::cache::peer::Peer;
use crate::cache::policy::Implicit;
use crate::cache::seq::Seq;
use crate::cache::tags::Tags;
use crate::cache::value;

impl Shard {
    /// `set`, `add`, `replace`, `append`, `prepend` and `cas`.
    pub(crate) fn store(&mut self, key: &Key, mode: Mode, draft: Draft, peer: &mut Peer, at: &At) -> Store {
        if !self.admit(key, draft.version, at) {
            return Store::Outdated;
        }
        let as_of = at.clock.fresh();
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
            (Mode::Replace, state @ State::Live(slot)) => {
                if at.broad.covers(key.bytes, draft.tags, self.engine.meta(slot).as_of) {
                    return Store::NotStored;
                }
                self.change(key, state, as_of, draft, peer, at)
            }
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
        step: value::Step,
        peer: &mut Peer,
        at: &At,
    ) -> Option<Result<u64, NotCounted>> {
        let as_of = at.clock.fresh();
        let State::Live(slot) = self.state(key, at) else { return None };
        let item = self.engine.item(slot);
        let Some((number, text)) = value::step(item.value(), step) else {
            return Some(Err(NotCounted::NotANumber));
        };
        let changed = self.alter(key, slot, Meta { as_of, chosen: 0, ..item.meta() }, text, peer, at);
        Some(changed.map(|()| number).map_err(|NoRoom| NotCounted::NoRoom))
    }

    /// Whether no newer version of a row was spoken of.
    pub(super) fn admit(&mut self, key: &Key, version: Option<u64>, at: &At) -> bool {
        version.is_none_or(|version| {
            let until = seconds_after(at.now, at.policy.version_keep);
            self.versions.admit(key, version, at.now.seconds(), until)
        })
    }

    fn set(&mut self, key: &Key, state: State, as_of: Seq, draft: Draft, peer: &mut Peer, at: &At) -> Store {
        let Some(note) = peer.notes.take(key.hash, at.age()) else {
            if self.holdoffs.end(key.hash) {
                self.woken.push(key.hash);
            }
            self.void_as_of(key, as_of, peer, at);
            return stored(self.put_or_drop(key, state, as_of, draft, at), Fence::None);
        };
        let fence = self.fence(key, note, as_of, draft.tags, at);
        if fence == Fence::Refused {
            if let State::Live(slot) = state {
                self.remove(key, slot, at);
            }
            return Store::Refused;
        }
        if fence == Fence::Observed && self.holdoffs.end(key.hash) {
            self.woken.push(key.hash);
        }
        stored(self.put_or_drop(key, state, as_of, draft, at), fence)
    }

    fn add(&mut self, key: &Key, state: State, as_of: Seq, draft: Draft, peer: &mut Peer, at: &At) -> Store {
        let is_held_off = self.holdoffs.until(key.hash, at.now.millis).is_some();
        let fence = match peer.notes.take(key.hash, at.age()) {
            Some(note) => self.fence(key, note, as_of, draft.tags, at),
            None if is_held_off => return Store::NotStored,
            None => Fence::None,
        };
        match fence {
            Fence::Refused => Store::Refused,
            Fence::Observed if is_held_off => Store::NotStored,
            Fence::None | Fence::Observed | Fence::Passed => {
                self.end_lease(key);
                stored(self.put(key, state, as_of, draft, at), fence)
            }
        }
    }

    /// What the fence says of a store on a note. Whatever that is, the store outdates every token before it.
    fn fence(&mut self, key: &Key, note: Note, as_of: Seq, tags: Tags, at: &At) -> Fence {
        let is_void = note.is_void(self.covering(key.hash)) || at.broad.covers(key.bytes, tags, note.seq());
        self.superseded.raise(key.hash, as_of);
        self.end_lease(key);
        let is_held_off = self.holdoffs.until(key.hash, at.now.millis).is_some();
        match (is_void || is_held_off, at.policy.implicit) {
            (false, _) => Fence::Passed,
            (true, Implicit::Observe) => Fence::Observed,
            (true, Implicit::Off | Implicit::On | Implicit::Strict) => Fence::Refused,
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
