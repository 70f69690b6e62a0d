//! Time. Only this module reads clocks; all other code receives a [`Now`].
//!
//! There are no timers here. Later actions are returned as deadlines, and the outer layers wait for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One reading of both clocks, taken once for a batch of requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Now {
    /// Milliseconds of monotonic time since the clock was made; deadlines and ages are counted in it.
    pub millis: u64,
    /// Seconds of the wall clock since 1970; only absolute expiry times are compared with it.
    pub unix: u64,
}

/// A source of readings: the machine, or a test.
#[derive(Clone, Debug)]
pub enum Clock {
    /// Time that moves only by [`Clock::advance`].
    Manual(Arc<AtomicU64>),
    /// The machine's monotonic and wall clocks.
    System(Instant),
}

impl Now {
    /// Whole seconds of monotonic time. They count from 2, so that second 1 is always past and 0 can mean
    /// never.
    pub fn seconds(self) -> u32 {
        u32::try_from(self.millis / 1000 + 2).expect("a process does not live for 136 years")
    }

    /// The reading `span` after this one, in monotonic milliseconds.
    pub fn after(self, span: Duration) -> u64 {
        self.millis.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }
}

impl Clock {
    /// A clock that follows the machine's. Its monotonic time starts at the beginning of the current
    /// wall-clock second, so that both clocks reach the next second together, and absolute expiry times are
    /// not a second late.
    #[expect(clippy::disallowed_methods, reason = "the one reader of time")]
    pub fn system() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock::System(origin(Instant::now(), wall))
    }

    /// A clock that moves only by [`Clock::advance`]; it begins at monotonic 0 and at [`MANUAL_UNIX`] of wall
    /// time.
    pub fn manual() -> Self {
        Clock::Manual(Arc::default())
    }

    /// Moves a manual clock forward.
    ///
    /// # Panics
    /// On the system's clock.
    pub fn advance(&self, span: Duration) {
        let Clock::Manual(millis) = self else { panic!("only a manual clock can be moved") };
        millis.fetch_add(span.as_millis() as u64, Ordering::Relaxed);
    }

    /// Nanoseconds of monotonic time since the clock was made, for measurements.
    pub fn nanos(&self) -> u64 {
        match self {
            Clock::Manual(millis) => millis.load(Ordering::Relaxed) * 1_000_000,
            Clock::System(origin) => origin.elapsed().as_nanos() as u64,
        }
    }

    /// Reads both clocks.
    #[expect(clippy::disallowed_methods, reason = "the one reader of time")]
    pub fn now(&self) -> Now {
        match self {
            Clock::Manual(millis) => {
                let millis = millis.load(Ordering::Relaxed);
                Now { millis, unix: MANUAL_UNIX + millis / 1000 }
            }
            Clock::System(origin) => {
                let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
                Now { millis: origin.elapsed().as_millis() as u64, unix }
            }
        }
    }

    /// Monotonic time since the clock was made, at the machine's resolution; for measurements only.
    pub fn elapsed(&self) -> Duration {
        match self {
            Clock::Manual(millis) => Duration::from_millis(millis.load(Ordering::Relaxed)),
            Clock::System(origin) => origin.elapsed(),
        }
    }
}

/// The beginning of the current wall-clock second.
fn origin(now: Instant, wall: Duration) -> Instant {
    now.checked_sub(Duration::from_nanos(wall.subsec_nanos().into())).unwrap_or(now)
}

/// The wall clock alone, as time since 1970; for the lines of watchers.
#[expect(clippy::disallowed_methods, reason = "the one reader of time")]
pub fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The wall time at which manual clocks begin: 2026-01-01 00:00 UTC.
pub const MANUAL_UNIX: u64 = 1_767_225_600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_both_times_together() {
        let clock = Clock::manual();
        clock.advance(Duration::from_millis(2_500));
        assert_eq!(clock.now(), Now { millis: 2_500, unix: MANUAL_UNIX + 2 });
        assert_eq!(clock.nanos(), 2_500_000_000);
        assert_eq!(clock.now().seconds(), 4);
        assert_eq!(clock.now().after(Duration::from_secs(1)), 3_500);
    }

    /// A value with an absolute expiry time lived for up to two seconds too long: monotonic seconds began up
    /// to one second after those of the wall clock, and the value expired at the end of one.
    #[test]
    fn both_clocks_reach_the_next_second_together() {
        let Clock::System(now) = Clock::system() else { panic!("it is the system's") };
        assert_eq!(now.duration_since(origin(now, Duration::from_millis(5_250))), Duration::from_millis(250));
    }

    #[test]
    fn the_system_clock_does_not_run_backwards() {
        let clock = Clock::system();
        let first = clock.now();
        assert!(clock.now().millis >= first.millis && first.unix > MANUAL_UNIX - 86_400 * 365);
    }
}
