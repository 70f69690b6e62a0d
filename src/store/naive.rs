//! The oracle: an engine that is a map, never full and never in a hurry.

use std::collections::BTreeMap;

use super::tags::{TagList, Tags};
use super::{Meta, Over};

/// What the real engine should hold, if it did not have to evict.
#[derive(Default)]
pub(super) struct Naive(pub(super) BTreeMap<Vec<u8>, (Meta, TagList, Vec<u8>)>);

impl Naive {
    pub(super) fn insert(&mut self, key: &[u8], meta: Meta, tags: TagList, value: &[u8]) {
        self.0.insert(key.to_vec(), (meta, tags, value.to_vec()));
    }

    pub(super) fn set_meta(&mut self, key: &[u8], meta: Meta) {
        self.0.get_mut(key).expect("the engine holds it, too").0 = meta;
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        self.0.remove(key);
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<(Meta, Tags<'_>, &[u8])> {
        self.0.get(key).map(|(meta, tags, value)| (*meta, tags.tags(), &value[..]))
    }

    /// Throws away all that is over; returns how many items.
    pub(super) fn sweep(&mut self, over: Over) -> usize {
        let before = self.0.len();
        self.0.retain(|_, (meta, ..)| !is_over(meta, over));
        before - self.0.len()
    }
}

pub(super) fn is_over(meta: &Meta, over: Over) -> bool {
    meta.as_of <= over.floor || (meta.gone != 0 && meta.gone <= over.second)
}
