//! The age of a sequence number: the reading of the logical clock at the beginning of each second.
//!
//! Tokens carry no time of their own; this ring gives theirs, to the second and never too early.

use crate::cache::clock::LogicalClock;
use crate::clock::Now;
use crate::store::item::seq::{SEQ_BITS, Seq};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// The last [`AGE_SECONDS_MAX`] readings, one a second.
pub(crate) struct Ages {
    /// The newest second whose reading, like those before it, is in the ring.
    newest: AtomicU32,
    /// Readings, each below the lap of the ring in which it was written.
    ring: Box<[AtomicU64]>,
}

impl Ages {
    pub(crate) fn new(clock: &LogicalClock) -> Self {
        let start = entry(NO_LAP, clock.start());
        Ages { newest: AtomicU32::new(0), ring: (0..RING_LEN).map(|_| AtomicU64::new(start)).collect() }
    }

    /// Writes down the reading for every second that began since the last call. To be called before anything
    /// of this moment takes a sequence number; a thread whose `now` is older than another's changes nothing.
    #[inline(always)]
    pub(crate) fn tick(&self, clock: &LogicalClock, now: Now) {
        let (second, newest) = (now.seconds(), self.newest.load(Ordering::Acquire));
        if second > newest {
            self.turn(clock, second, newest);
        }
    }

    #[cold]
    fn turn(&self, clock: &LogicalClock, second: u32, newest: u32) {
        let first = second.saturating_sub(RING_LEN as u32 - 1).max(newest + 1);
        for passed in first..=second {
            self.write(passed, clock.last());
        }
        self.newest.fetch_max(second, Ordering::Release);
    }

    /// The horizon of an age: sequence numbers up to this one were taken longer than `age_seconds` ago.
    ///
    /// It is at most one second late, never early. An age above [`AGE_SECONDS_MAX`] counts as that.
    pub(crate) fn horizon(&self, age_seconds: u32, now: Now) -> Seq {
        let age_seconds = age_seconds.min(AGE_SECONDS_MAX);
        let Some(second) = now.seconds().checked_sub(age_seconds) else { return Seq::ZERO };
        let reading = self.slot(second).load(Ordering::Relaxed) & ((1 << SEQ_BITS) - 1);
        Seq::new(reading).expect("a reading has no other bits")
    }

    /// How many seconds ago a sequence number was taken, or one less; `None` if that was before all that is
    /// known.
    pub(crate) fn age(&self, seq: Seq, clock: &LogicalClock, now: Now) -> Option<u32> {
        let is_older = |seconds| self.horizon(seconds, now) >= seq;
        let oldest = AGE_SECONDS_MAX.min(now.seconds());
        if seq <= clock.start() || is_older(oldest) {
            return None;
        }
        let (mut younger, mut seconds) = (0, oldest);
        while younger < seconds {
            let middle = (younger + seconds) / 2;
            if is_older(middle) { younger = middle + 1 } else { seconds = middle }
        }
        Some(seconds)
    }

    /// The first reading of a second stands. That of a thread which was held up since would age what others
    /// took meanwhile before its time.
    fn write(&self, second: u32, reading: Seq) {
        let (slot, lap) = (self.slot(second), (second as usize / RING_LEN) as u16);
        let old = slot.load(Ordering::Acquire);
        if old >> SEQ_BITS != u64::from(lap) {
            // Lost only to a thread that has just written the same second.
            let _ = slot.compare_exchange(old, entry(lap, reading), Ordering::AcqRel, Ordering::Acquire);
        }
    }

    fn slot(&self, second: u32) -> &AtomicU64 {
        &self.ring[second as usize % RING_LEN]
    }
}

fn entry(lap: u16, reading: Seq) -> u64 {
    u64::from(lap) << SEQ_BITS | reading.number()
}

#[cfg(not(shuttle))]
const RING_LEN: usize = 4096;
/// The model checker makes many of them.
#[cfg(shuttle)]
const RING_LEN: usize = 128;
/// Not reached in the first eight years of a process.
const NO_LAP: u16 = u16::MAX;
/// The greatest age that is known, in seconds.
#[cfg(not(shuttle))]
pub const AGE_SECONDS_MAX: u32 = 3600;
/// A smaller one for the model checker.
#[cfg(shuttle)]
pub const AGE_SECONDS_MAX: u32 = 100;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;

    const MINUTE_SECONDS: u32 = 60;

    #[test]
    fn the_age_of_a_sequence_number_is_known_for_an_hour() {
        let (time, clock) = (Clock::manual(), LogicalClock::new(7 << 20));
        let ages = Ages::new(&clock);
        ages.tick(&clock, time.now());
        let (before, seq) = (clock.last(), clock.next());
        for seconds in [0, 1, 59, AGE_SECONDS_MAX - 1] {
            time.advance(Duration::from_secs(seconds.into()) - Duration::from_millis(time.now().millis));
            ages.tick(&clock, time.now());
            let age = ages.age(seq, &clock, time.now()).unwrap();
            assert!(age == seconds || age == seconds + 1, "{age} instead of {seconds}");
            assert_eq!(ages.age(before, &clock, time.now()), None, "it was given by nobody");
        }
        time.advance(Duration::from_secs(9));
        ages.tick(&clock, time.now());
        assert_eq!(ages.age(seq, &clock, time.now()), None);
    }

    #[test]
    fn a_point_is_old_after_its_age_and_at_most_a_second_late() {
        let (time, clock) = (Clock::manual(), LogicalClock::new(7 << 20));
        let ages = Ages::new(&clock);
        time.advance(Duration::from_millis(1_900));
        ages.tick(&clock, time.now());
        let seq = clock.next();
        let is_old = || {
            ages.tick(&clock, time.now());
            seq <= ages.horizon(MINUTE_SECONDS, time.now())
        };
        time.advance(Duration::from_secs(MINUTE_SECONDS.into()));
        assert!(!is_old(), "60.0 s is not older than 60 s");
        time.advance(Duration::from_millis(1_000));
        assert!(is_old());
    }

    #[test]
    fn the_first_reading_of_a_second_stands_in_every_lap() {
        let (time, clock) = (Clock::manual(), LogicalClock::new(7 << 20));
        let ages = Ages::new(&clock);
        for _ in 0..3 {
            time.advance(Duration::from_secs(RING_LEN as u64));
            let second = time.now().seconds();
            let first = clock.next();
            ages.tick(&clock, time.now());
            ages.write(second, clock.next());
            assert_eq!(ages.horizon(0, time.now()), first);
        }
    }

    #[test]
    fn seconds_nobody_looked_at_are_filled_in() {
        let (time, clock) = (Clock::manual(), LogicalClock::new(7 << 20));
        let ages = Ages::new(&clock);
        let seq = clock.next();
        time.advance(Duration::from_secs(100_000));
        ages.tick(&clock, time.now());
        assert!(seq <= ages.horizon(MINUTE_SECONDS, time.now()));
        assert!(clock.next() > ages.horizon(0, time.now()));
    }

    /// The ring would show a younger reading in its place.
    #[test]
    fn an_age_beyond_the_ring_counts_as_the_greatest_age() {
        let (time, clock) = (Clock::manual(), LogicalClock::new(7 << 20));
        let ages = Ages::new(&clock);
        time.advance(Duration::from_secs(RING_LEN as u64 * 2));
        ages.tick(&clock, time.now());
        let seq = clock.next();
        time.advance(Duration::from_secs(2));
        ages.tick(&clock, time.now());
        for age_seconds in [AGE_SECONDS_MAX, AGE_SECONDS_MAX + 1, RING_LEN as u32, u32::MAX] {
            assert!(seq > ages.horizon(age_seconds, time.now()), "{age_seconds}");
        }
    }
}
