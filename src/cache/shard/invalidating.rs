//! Invalidations and the items of a shard: the state of a key when they are applied, and what each of them
//! leaves.
//!
//! Invalidations of a key and of everything happen under the lock of the shard. Those of groups happen at any
//! time: a store takes its sequence number before it looks for them, so that one that it does not see is
//! newer than the value.

use super::{At, Shard, State};
use crate::cache::invalidation::record::{Depth, Effect, Invalidation, Invalidations};
use crate::cache::lease::records::Lease;
use crate::cache::session::Session;
use crate::store::expiry::Expiry;
use crate::store::item::key::{Key, KeyHash};
use crate::store::item::seq::Seq;
use crate::store::item::tags::Tags;
use crate::store::{Dead, Listed, Meta, Slot};

impl Shard {
    /// Removes an item that has expired or was invalidated, and returns the state of the key. Every command
    /// begins here.
    #[inline(always)]
    pub(super) fn state(&mut self, key: &Key, at: &At) -> State {
        let Some(slot) = self.engine.find(key) else { return State::Absent };
        let Meta { as_of, expiry, is_stale, .. } = self.engine.meta(slot);
        let is_live = !is_stale && !expiry.is_past(at.tick);
        match is_live && self.is_unchanged_since(as_of, at) {
            true => State::Live(slot),
            false => self.settle(key, slot, at),
        }
    }

    /// Whether neither everything nor any group was invalidated since.
    fn is_unchanged_since(&self, as_of: Seq, at: &At) -> bool {
        as_of > self.floor.newest() && at.groups.is_unchanged_since(as_of)
    }

    /// The state of a key whose item is not plainly live.
    #[inline(never)]
    fn settle(&mut self, key: &Key, slot: Slot, at: &At) -> State {
        let (meta, tick) = (self.engine.meta(slot), at.tick);
        let cover = match self.is_unchanged_since(meta.as_of, at) {
            true => Effect::None,
            false => self.effect(key.bytes, self.engine.tags(slot), meta.as_of, at),
        };
        if cover == Effect::Hard {
            self.engine.met_invalidated();
            self.remove(key, slot, at);
            State::Absent
        } else if meta.removed_at.is_past(tick) {
            if !meta.is_stale {
                self.engine.met_expired();
            }
            self.engine.expired(slot, tick);
            State::Absent
        } else if meta.is_stale {
            State::Stale(slot)
        } else if let Effect::Soft(since) = cover
            && !meta.expiry.is_past(since.min(tick))
        {
            // `since` is rounded up: an item that has not expired yet had not expired before the
            // invalidation, and must not be served.
            self.engine.met_invalidated();
            let end = Expiry::at(since.after(at.policy.kept())).first(meta.removed_at);
            self.keep_soft(key, slot, at.clock.next(), end, at).map_or(State::Absent, State::Stale)
        } else if meta.expiry.is_past(tick) {
            self.expire_to_stale(key, slot, meta, at)
        } else {
            State::Live(slot)
        }
    }

    /// `flush_all`: invalidates everything, now or when `due`. Returns the newest such invalidation before,
    /// and this one.
    pub(crate) fn flush_all(&mut self, due: Option<u64>, depth: Depth, at: &At) -> (Seq, Seq) {
        let before = self.floor.newest();
        self.flush_at = due;
        self.engine.outdate_copies();
        if due.is_none() {
            self.flush(depth, at);
        }
        (before, self.floor.newest())
    }

    /// Invalidates a key, and leaves a stale copy or nothing, whatever the policy says; true if it had a live
    /// value.
    pub(crate) fn invalidate(&mut self, key: &Key, depth: Depth, session: &mut Session, at: &At) -> bool {
        let state = self.state(key, at);
        let seq = self.invalidate_now(key, session, at);
        if depth == Depth::Hard {
            self.hold_off(key, None, at);
        }
        match (depth, state) {
            (Depth::Soft, State::Live(slot)) => {
                let end = Expiry::after(at.policy.kept(), at.now).first(self.engine.meta(slot).expiry);
                self.keep_soft(key, slot, seq, end, at);
            }
            (Depth::Soft, State::Stale(slot)) if self.is_soft(slot) => self.soften(key, slot, seq, None, at),
            (Depth::Hard, State::Live(slot) | State::Stale(slot)) => self.remove(key, slot, at),
            (Depth::Soft, State::Absent | State::Stale(_)) | (Depth::Hard, State::Absent) => {}
        }
        matches!(state, State::Live(_))
    }

    /// The newest invalidation of a key alone.
    pub(crate) fn newest_key_invalidation(&self, hash: KeyHash) -> Seq {
        self.invalidations.read(hash)
    }

    /// Shows the live items at this position; returns the position that comes next.
    pub(crate) fn list(&self, position: u32, at: &At, mut show: impl FnMut(Listed)) -> Option<u32> {
        let tick = at.tick;
        self.engine.list(position, |listed| {
            let (meta, tags) = (listed.item.meta(), listed.item.tags());
            let is_over = meta.is_stale || meta.expiry.is_past(tick);
            if !is_over && self.effect(listed.key, tags, meta.as_of, at) == Effect::None {
                show(listed);
            }
        })
    }

    /// Frees some expired and invalidated items, a segment's worth at most; true if more are waiting.
    pub(crate) fn sweep(&mut self, at: &At) -> bool {
        let (newest, second) = (at.groups.newest(), at.now.seconds());
        let (known, began) = self.looked_for;
        let pause = if at.groups.is_crowded() { CROWDED_ROUND_SECONDS } else { ROUND_SECONDS };
        if newest > known && !self.engine.is_looking && (known == Seq::ZERO || second >= began + pause) {
            self.looked_for = (newest, second);
            self.engine.mark_all();
        }
        let is_more = self.with_dead(at, |shard, dead| shard.engine.sweep(dead));
        if !self.engine.is_looking {
            at.groups.swept(self.place.index, self.looked_for.0);
        }
        is_more
    }

    /// One step towards more room, if this shard holds `share` segments or more; false if it gave nothing.
    pub(crate) fn reclaim(&mut self, share: usize, at: &At) -> bool {
        self.with_dead(at, |shard, dead| shard.engine.reclaim(share, dead))
    }

    /// Invalidates one key: nothing older may be stored or served under it.
    pub(super) fn invalidate_now(&mut self, key: &Key, session: &mut Session, at: &At) -> Seq {
        let seq = at.clock.next();
        self.invalidate_as_of(key, seq, session, at);
        seq
    }

    pub(super) fn invalidate_as_of(&mut self, key: &Key, seq: Seq, session: &mut Session, at: &At) {
        let newest = self.newest_invalidation_of(key.hash);
        session.misses.invalidate(key.hash, newest, seq, at.age());
        session.newest_key_invalidation = seq;
        session.invalidated(seq, at.sessions);
        self.invalidations.raise(key.hash, seq);
        self.end_lease(key);
    }

    /// The newest invalidation of a key or of everything.
    pub(super) fn newest_invalidation_of(&self, hash: KeyHash) -> Seq {
        self.invalidations.read(hash).max(self.floor.newest())
    }

    pub(super) fn end_lease(&mut self, key: &Key) {
        if self.leases.end(key.hash) {
            self.woken.push(key.hash);
        }
    }

    /// The lease of a key, unless an invalidation of one of its prefixes has ended it. Tags come only with
    /// the value.
    pub(super) fn lease(&mut self, key: &Key, at: &At) -> Option<Lease> {
        let lease = *self.leases.find(key.hash)?;
        if lease.is_outstanding(at.now.millis) && at.groups.has_overtaken(key.bytes, Tags::NONE, lease.seq) {
            self.end_lease(key);
        }
        self.leases.find(key.hash).copied()
    }

    fn effect(&self, key: &[u8], tags: Tags, as_of: Seq, at: &At) -> Effect {
        at.effect(&self.floor, key, tags, as_of)
    }

    pub(super) fn flush(&mut self, depth: Depth, at: &At) {
        self.flush_at = None;
        let kept = at.policies.longest_kept();
        self.floor.add(at.clock.next(), Invalidation { depth, kept, now: at.now });
        self.engine.outdate_copies();
        self.engine.mark_all();
        self.woken.extend(self.leases.end_all());
    }

    fn with_dead<R>(&mut self, at: &At, act: impl FnOnce(&mut Self, Dead) -> R) -> R {
        let floor = self.floor;
        let copy_until = |as_of: Seq, key: &[u8], tags: Tags| match floor
            .effect(as_of)
            .and(at.groups.effect(key, tags, as_of))
        {
            Effect::None => None,
            Effect::Soft(since) => Some(Expiry::at(since.after(at.policies.of(key).kept()))),
            Effect::Hard => Some(Expiry::PAST),
        };
        act(self, Dead { floor: floor.hard(), tick: at.tick, copy_until: &copy_until })
    }
}

impl At<'_> {
    /// The effect of invalidations of everything and of groups together.
    pub(super) fn effect(self, floor: &Invalidations, key: &[u8], tags: Tags, as_of: Seq) -> Effect {
        floor.effect(as_of).and(self.groups.effect(key, tags, as_of))
    }
}

/// How often the sweep looks through everything for items of invalidated groups, if groups are invalidated
/// all the time.
const ROUND_SECONDS: u32 = 10;
/// The same if there is hardly room for more groups: those of a finished round can be dropped at no cost.
const CROWDED_ROUND_SECONDS: u32 = 1;
