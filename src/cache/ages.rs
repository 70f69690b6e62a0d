//! How old a point on the void clock is: the clock's reading at the beginning of each second.
//!
//! Tokens and notes carry no time of their own; this ring tells theirs, to the second and never too early.

use std::time::Duration;

use super::seq::{Seq, SeqClock};
use super::sync::{AtomicU32, AtomicU64, Ordering};
use crate::clock::Now;

/// The last [`AGE_SECONDS_MAX`] readings, one a second.
pub(crate) struct Ages {
    /// Seconds whose reading stands in the ring, less one.
    newest: AtomicU32,
    ring: Box<[AtomicU64]>,
}

impl Ages {
    pub(crate) fn new(clock: &SeqClock) -> Self {
        let start = clock.start().number();
        Ages { newest: AtomicU32::new(0), ring: (0..RING_LEN).map(|_| AtomicU64::new(start)).collect() }
    }

    /// Writes down the reading for every second that began since the last call. To be called before anything of
    /// this moment takes a point; a thread whose `now` is older than another's changes nothing.
    pub(crate) fn tick(&self, clock: &SeqClock, now: Now) {
        let (second, newest) = (now.seconds(), self.newest.load(Ordering::Relaxed));
        if second <= newest {
            return;
        }
        let first = second.saturating_sub(RING_LEN as u32 - 1).max(newest + 1);
        for passed in first..=second {
            self.slot(passed).store(clock.last().number(), Ordering::Relaxed);
        }
        self.newest.fetch_max(second, Ordering::Relaxed);
    }

    /// The horizon of an age: points up to this one were taken longer than `age` ago.
    ///
    /// It is at most one second late, never early. An `age` above [`AGE_SECONDS_MAX`] counts as that.
    pub(crate) fn horizon(&self, age: Duration, now: Now) -> Seq {
        let seconds = u32::try_from(age.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).min(AGE_SECONDS_MAX);
        let Some(second) = now.seconds().checked_sub(seconds) else { return Seq::ZERO };
        Seq::new(self.slot(second).load(Ordering::Relaxed)).expect("only readings are stored")
    }

    fn slot(&self, second: u32) -> &AtomicU64 {
        &self.ring[second as usize % RING_LEN]
    }
}

const RING_LEN: usize = 4096;
/// The greatest age that can be told, in seconds.
pub const AGE_SECONDS_MAX: u32 = 3600;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_point_is_old_after_its_age_and_at_most_a_second_late() {
        let (time, clock) = (Clock::manual(), SeqClock::new(7 << 20));
        let ages = Ages::new(&clock);
        time.advance(Duration::from_millis(1_900));
        ages.tick(&clock, time.now());
        let seq = clock.fresh();
        let is_old = || {
            ages.tick(&clock, time.now());
            seq <= ages.horizon(MINUTE, time.now())
        };
        time.advance(MINUTE);
        assert!(!is_old(), "60.0 s is not older than 60 s");
        time.advance(Duration::from_millis(1_000));
        assert!(is_old());
    }

    #[test]
    fn seconds_nobody_looked_at_are_filled_in() {
        let (time, clock) = (Clock::manual(), SeqClock::new(7 << 20));
        let ages = Ages::new(&clock);
        let seq = clock.fresh();
        time.advance(Duration::from_secs(100_000));
        ages.tick(&clock, time.now());
        assert!(seq <= ages.horizon(MINUTE, time.now()));
        assert!(clock.fresh() > ages.horizon(Duration::ZERO, time.now()));
    }
}
