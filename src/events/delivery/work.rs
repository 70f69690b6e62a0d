//! The changes that a batch of events asks for, merged: many events for one key cost one invalidation.

use super::super::rule::rules::{Effects, Stored};
use super::super::targets::Merged;

/// Changes of the cache, in the order in which they have to be made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Work {
    /// The steps. Invalidations that follow each other directly are one.
    pub steps: Vec<Change>,
    /// Names of events that were part of an earlier one.
    pub merged: u64,
}

/// One change of the cache.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Numbers to count up by one.
    Count(Vec<String>),
    /// Names to invalidate.
    Invalidate(Merged),
    /// A value to store.
    Store(Stored),
}

impl From<Merged> for Work {
    fn from(merged: Merged) -> Work {
        Work { merged: 0, steps: vec![Change::Invalidate(merged)] }
    }
}

impl Work {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The invalidations at the end, to which more can be added.
    pub(super) fn invalidations(&mut self) -> &mut Merged {
        if !matches!(self.steps.last(), Some(Change::Invalidate(_))) {
            self.steps.push(Change::Invalidate(Merged::default()));
        }
        let Some(Change::Invalidate(merged)) = self.steps.last_mut() else { unreachable!("it was pushed") };
        merged
    }

    /// Adds the effects of one event, with the time of its commit. Its values are stored after its names were
    /// invalidated.
    pub(super) fn add(&mut self, effects: Effects, committed: Option<u64>) {
        let (depth, version) = (effects.depth, effects.version);
        let named = effects.targets.keys.len() + effects.targets.prefixes.len() + effects.targets.tags.len();
        if !effects.targets.is_empty() {
            let merged = self.invalidations();
            let before = merged.names();
            merged.add_committed(effects.targets, depth, version, committed);
            let added = merged.names() - before;
            self.merged += named.saturating_sub(added) as u64;
        }
        self.steps.extend(effects.set.into_iter().map(Change::Store));
        if !effects.incr.is_empty() {
            self.steps.push(Change::Count(effects.incr));
        }
    }
}
