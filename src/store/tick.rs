//! The time of items, in sixteenths of a second.

use std::time::Duration;

use crate::clock::Now;

/// A monotonic time in sixteenths of a second, in which items count theirs. A process can live for eight
/// years.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Tick(u32);

impl Tick {
    /// The tick that has begun at this time, in monotonic milliseconds. They count from 2: see
    /// [`Now::seconds`].
    fn at(millis: u64) -> Tick {
        Tick(u32::try_from(millis * TICKS_PER_SECOND / 1000 + FIRST).unwrap_or(u32::MAX))
    }

    /// The first tick that begins at this time or later.
    pub(crate) fn not_before(millis: u64) -> Tick {
        let ticks = millis.saturating_mul(TICKS_PER_SECOND).div_ceil(1000).saturating_add(FIRST);
        Tick(u32::try_from(ticks).unwrap_or(u32::MAX))
    }

    /// When it begins, in monotonic milliseconds, rounded up.
    pub(crate) fn millis(self) -> u64 {
        (u64::from(self.0).saturating_sub(FIRST) * 1000).div_ceil(TICKS_PER_SECOND)
    }

    /// The tick `span` later, rounded up.
    pub(crate) fn after(self, span: Duration) -> Tick {
        let ticks = (span.as_millis() * u128::from(TICKS_PER_SECOND)).div_ceil(1000);
        self.plus(u64::try_from(ticks).unwrap_or(u64::MAX))
    }

    /// So many ticks later.
    pub(crate) fn plus(self, ticks: u64) -> Tick {
        Tick(self.0.saturating_add(u32::try_from(ticks).unwrap_or(u32::MAX)))
    }

    /// So many ticks earlier.
    pub(crate) fn before(self, ticks: u32) -> Tick {
        Tick(self.0.saturating_sub(ticks))
    }

    /// Ticks since an earlier one; 0 if it is later.
    pub(crate) fn since(self, earlier: Tick) -> u32 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole seconds from this tick until now.
    pub fn age_seconds(self, now: Now) -> u32 {
        now.tick().since(self) / TICKS_PER_SECOND as u32
    }

    pub(crate) const fn from_number(number: u32) -> Tick {
        Tick(number)
    }

    pub(crate) const fn number(self) -> u32 {
        self.0
    }
}

impl Now {
    /// The tick that has begun.
    pub fn tick(self) -> Tick {
        Tick::at(self.millis)
    }
}

/// The resolution of [`Tick`].
pub(crate) const TICKS_PER_SECOND: u64 = 16;
/// The number of the first tick: 0 can stand for never, and 1 is always past.
const FIRST: u64 = 2;
