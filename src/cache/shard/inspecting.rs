//! Inspection of a key, without changing it.

use super::{At, Shard, State};
use crate::cache::inspect::{InvalidationOf, InvalidationReport, KeyReport, LeaseReport};
use crate::cache::invalidation::groups::groups;
use crate::cache::invalidation::record::Effect;
use crate::cache::read::Value;
use crate::clock::Now;
use crate::store::item::key::Key;
use crate::store::item::seq::Seq;
use crate::store::item::tags::Tags;
use crate::store::{Listed, Slot};

impl Shard {
    /// Everything but the waiters.
    pub(crate) fn inspect<'s>(&'s self, key: &Key<'s>, at: &At) -> KeyReport<'s> {
        let value = self.engine.find(key).and_then(|slot| self.looked_at(key, slot, at));
        let tags = value.map_or(Tags::NONE, |(value, _)| value.tags);
        let lease = self.leases.read(key.hash).filter(|lease| lease.is_outstanding(at.now.millis));
        let lease = lease.filter(|lease| !at.groups.has_overtaken(key.bytes, Tags::NONE, lease.seq));
        KeyReport {
            held_off_until: self.holdoffs.until(key.hash, at.now),
            lease: lease.map(|lease| LeaseReport {
                granted_at: lease.granted_at,
                holder: lease.holder,
                seq: lease.seq,
                until: lease.until,
            }),
            value,
            invalidation: self.newest_known(key, tags, at),
            waiting: 0,
        }
    }

    /// The live item of a key, as a dump lists it.
    pub(crate) fn entry(&mut self, key: &Key, at: &At) -> Option<Listed<'_>> {
        match self.state(key, at) {
            State::Live(slot) => Some(self.engine.listed(slot)),
            State::Absent | State::Stale(_) => None,
        }
    }

    /// Keys that are held off now.
    pub(crate) fn held_off(&self, now: Now) -> usize {
        self.holdoffs.count(now)
    }

    /// The item that `state` would find here, or remove because it is expired or invalidated.
    fn looked_at(&self, key: &Key, slot: Slot, at: &At) -> Option<(Value<'_>, Seq)> {
        let (item, tick) = (self.engine.item(slot), at.tick);
        let meta = item.meta();
        let cover = at.effect(&self.floor, key.bytes, item.tags(), meta.as_of);
        if cover == Effect::Hard || meta.removed_at.is_past(tick) {
            return None;
        }
        let softly_since = match cover {
            Effect::Soft(since) if !meta.expiry.is_past(since.min(tick)) => Some(since),
            Effect::Hard | Effect::None | Effect::Soft(_) => None,
        };
        let has_expired = meta.expiry.is_past(tick);
        let is_late = softly_since.is_some_and(|since| since.after(at.policy.kept()) <= tick);
        let becomes_stale = softly_since.is_some() || has_expired;
        if !meta.is_stale && is_late {
            return None;
        }
        Some((Value { is_stale: meta.is_stale || becomes_stale, ..item.into() }, meta.as_of))
    }

    fn newest_known<'k>(&self, key: &Key<'k>, tags: Tags<'k>, at: &At) -> Option<InvalidationReport<'k>> {
        let of_name = |name| match at.groups.newest_of(name) {
            None => InvalidationReport { of: InvalidationOf::Forgotten, seq: at.groups.floor_of(name) },
            Some(seq) => InvalidationReport { of: InvalidationOf::Group(name), seq },
        };
        let own = [
            InvalidationReport { of: InvalidationOf::All, seq: self.floor.newest() },
            InvalidationReport { of: InvalidationOf::Key, seq: self.newest_key_invalidation(key.hash) },
        ];
        let all = own.into_iter().chain(groups(key.bytes, tags).map(of_name));
        all.filter(|each| each.seq != Seq::ZERO).max_by_key(|each| each.seq)
    }
}
