//! The oracle: an engine that is a map and is never full.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::store::expiry::Expiry;
use crate::store::item::seq::Seq;
use crate::store::item::tags::{TagList, Tags};
use crate::store::tick::Tick;
use crate::store::{Dead, Meta};

/// The items that the real engine should hold if it did not evict.
#[derive(Default)]
pub(crate) struct Naive(pub(crate) BTreeMap<Vec<u8>, (Meta, TagList, Vec<u8>)>);

/// The invalidations of groups: of tags, and of keys by their beginnings.
#[derive(Default)]
pub(crate) struct Groups(BTreeMap<&'static [u8], Vec<Invalidated>>);

/// One invalidation: items up to a sequence number are removed then.
struct Invalidated {
    end: Tick,
    up_to: Seq,
}

impl Groups {
    pub(crate) fn invalidate(&mut self, group: &'static [u8], up_to: Seq, tick: Tick, kept: Duration) {
        let (known, end) = (self.0.entry(group).or_default(), tick.after(kept));
        // The new invalidation replaces those that remove their items later, and the newest of those that are
        // past replaces the older ones: few are left, in order.
        known.retain(|other| other.end < end);
        let past = known.partition_point(|other| other.end <= tick);
        known.drain(..past.saturating_sub(1));
        known.push(Invalidated { end, up_to });
    }

    /// When an item is removed, if one of its groups was invalidated.
    pub(crate) fn end(&self, as_of: Seq, key: &[u8], tags: Tags) -> Option<Expiry> {
        let has_group = |group: &[u8]| key.starts_with(group) || tags.into_iter().any(|tag| tag == group);
        let known = self.0.iter().filter(|(group, _)| has_group(group)).flat_map(|(_, known)| known);
        known.filter(|other| as_of <= other.up_to).map(|other| other.end).min().map(Expiry::at)
    }
}

impl Naive {
    pub(crate) fn insert(&mut self, key: &[u8], meta: Meta, tags: TagList, value: &[u8]) {
        self.0.insert(key.to_vec(), (meta, tags, value.to_vec()));
    }

    pub(crate) fn set_meta(&mut self, key: &[u8], meta: Meta) {
        self.0.get_mut(key).expect("the engine has the item, too").0 = meta;
    }

    pub(crate) fn remove(&mut self, key: &[u8]) {
        self.0.remove(key);
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<(Meta, Tags<'_>, &[u8])> {
        self.0.get(key).map(|(meta, tags, value)| (*meta, tags.tags(), &value[..]))
    }

    /// Removes all expired and invalidated items; returns their number.
    pub(crate) fn sweep(&mut self, dead: Dead) -> usize {
        let before = self.0.len();
        self.0.retain(|key, (meta, tags, _)| !is_dead(key, meta, tags.tags(), dead));
        before - self.0.len()
    }
}

/// Whether an item has expired or was invalidated.
pub(crate) fn is_dead(key: &[u8], meta: &Meta, tags: Tags, dead: Dead) -> bool {
    let is_past = |end: Expiry| end.is_past(dead.tick);
    let is_invalidated =
        meta.as_of <= dead.floor || (dead.copy_until)(meta.as_of, key, tags).is_some_and(is_past);
    is_invalidated || is_past(meta.removed_at)
}

/// Whether an item that is not removed yet is kept as a stale copy only.
pub(crate) fn is_copy(key: &[u8], meta: &Meta, tags: Tags, dead: Dead) -> bool {
    meta.is_stale || meta.expiry.is_past(dead.tick) || (dead.copy_until)(meta.as_of, key, tags).is_some()
}
