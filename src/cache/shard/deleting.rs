//! Deletions of one key.

use super::{At, Shard, State};
use crate::cache::session::Session;
use crate::cache::write::{DeleteOutcome, Deletion, Leaves};
use crate::store::NoRoom;
use crate::store::item::key::Key;

impl Shard {
    /// `delete` and `md`
    pub(crate) fn delete(
        &mut self,
        key: &Key,
        deletion: &Deletion,
        session: &mut Session,
        at: &At,
    ) -> DeleteOutcome {
        let Deletion { expected, held_until, ref leaves, version } = *deletion;
        if !self.admit(key, version, at) {
            return DeleteOutcome::Outdated;
        }
        let as_of = at.clock.next();
        let state = self.state(key, at);
        let found = match state {
            State::Live(slot) => Some(slot),
            State::Stale(slot) if self.is_soft(slot) => Some(slot),
            State::Absent | State::Stale(_) => None,
        };
        if found.is_some_and(|slot| !self.matches(key, slot, expected, session, at)) {
            return DeleteOutcome::Exists;
        }
        self.invalidate_as_of(key, as_of, session, at);
        let is_held_off = matches!(leaves, Leaves::Nothing) && self.hold_off(key, held_until, at);
        match (leaves, state) {
            (_, State::Absent) => {}
            (Leaves::Nothing, State::Live(slot) | State::Stale(slot)) if is_held_off => {
                self.remove(key, slot, at);
            }
            _ if found.is_none() => {}
            (Leaves::Nothing, State::Live(slot) | State::Stale(slot)) => self.make_stale(key, slot, at),
            (Leaves::Empty(draft), state) => {
                if let Err(NoRoom) = self.put_or_drop(key, state, as_of, draft.clone(), at) {
                    return DeleteOutcome::NoRoom;
                }
            }
            (Leaves::Stale(until), State::Live(slot) | State::Stale(slot)) => {
                self.soften(key, slot, as_of, *until, at);
            }
            (Leaves::Tombstone(draft), State::Live(slot) | State::Stale(slot)) => {
                // Its bytes are as old as those that it replaces: a late fill may be a better stale copy.
                let old = self.engine.meta(slot).as_of;
                if let Err(NoRoom) = self.put_or_drop(key, state, old, draft.clone(), at) {
                    return DeleteOutcome::NoRoom;
                }
                if let Some(slot) = self.engine.find(key) {
                    self.soften(key, slot, as_of, None, at);
                }
            }
        }
        match found {
            None => DeleteOutcome::NotFound,
            Some(_) => DeleteOutcome::Deleted { was_live: matches!(state, State::Live(_)) },
        }
    }
}
