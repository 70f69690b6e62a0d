//! Invalidations that are made a second time, for readers of replicas that were behind.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::rule::rules::Effects;
use super::super::targets::{Merged, Targets};
use crate::cache::Depth;

/// Invalidations by the time at which they are due, in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    due: BTreeMap<u64, Merged>,
    names: usize,
}

impl Repeats {
    /// Remembers to repeat an invalidation. Above the limit of names it becomes one of `scope`, everything
    /// that the source can name.
    pub(super) fn add(
        &mut self,
        effects: &Effects,
        after: Duration,
        scope: impl FnOnce() -> Targets,
        now_ms: u64,
    ) {
        // Rounded up to steps, so that many events share an entry.
        let due = (now_ms + after.as_millis() as u64).next_multiple_of(STEP_MS);
        let merged = self.due.entry(due).or_default();
        let before = merged.names();
        if self.names < NAMES_MAX {
            merged.add(effects.targets.clone(), effects.depth, effects.version);
        } else {
            merged.add(scope(), Depth::Hard, None);
        }
        self.names += merged.names() - before;
    }

    /// Takes those that are due.
    pub(super) fn take(&mut self, now_ms: u64) -> Vec<Merged> {
        let later = self.due.split_off(&(now_ms + 1));
        let taken: Vec<Merged> = std::mem::replace(&mut self.due, later).into_values().collect();
        self.names -= taken.iter().map(Merged::names).sum::<usize>();
        taken
    }

    /// When the next one is due.
    pub(super) fn first(&self) -> Option<u64> {
        self.due.keys().next().copied()
    }

    /// When the last one is due.
    pub(super) fn last(&self) -> Option<u64> {
        self.due.keys().next_back().copied()
    }
}

const STEP_MS: u64 = 50;
/// Some 10 MB of names.
const NAMES_MAX: usize = 100_000;
