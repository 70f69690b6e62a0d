//! Values that are withheld because the source of their changes is late.

use super::{At, Shard, State};
use crate::cache::policy::WhileLost;
use crate::store::Slot;
use crate::store::item::key::Key;

impl Shard {
    /// The state of a key for commands that use its value: a value that is withheld counts as stale.
    #[inline(always)]
    pub(super) fn usable(&mut self, key: &Key, at: &At) -> State {
        self.state_unless_withheld(key, at, State::Stale)
    }

    /// The state of a key for a reader.
    #[inline(always)]
    pub(super) fn readable(&mut self, key: &Key, at: &At) -> State {
        self.state_unless_withheld(key, at, |slot| {
            at.governed.freshness.count_withheld();
            match at.policy.while_lost {
                WhileLost::Soft => State::Stale(slot),
                WhileLost::Serve | WhileLost::Withhold => State::Absent,
            }
        })
    }

    #[inline(always)]
    fn state_unless_withheld(&mut self, key: &Key, at: &At, withheld: impl FnOnce(Slot) -> State) -> State {
        // Before invalidations are looked at; see `cache/sources/freshness.rs`.
        let is_fresh = at.governed.freshness.is_fresh(at.now);
        match self.state(key, at) {
            State::Live(slot) if !is_fresh && self.is_withheld(slot, at) => withheld(slot),
            state => state,
        }
    }

    /// Whether a value is older than its policy allows while a source is late.
    #[cold]
    fn is_withheld(&self, slot: Slot, at: &At) -> bool {
        // The reading of a whole second is never too young; the second that has begun counts against it.
        let seconds = u32::try_from(at.policy.max_staleness.as_secs()).unwrap_or(u32::MAX);
        self.engine.meta(slot).as_of <= at.ages.horizon(seconds.saturating_sub(1), at.now)
    }
}
