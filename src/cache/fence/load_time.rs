//! The duration of loads, learned from misses and the sets that follow them.
//!
//! A miss of a key without an unanswered one starts a sample. A set of the key ends the sample, and the next
//! miss cuts it off. The Kaplan-Meier estimator over both (E. L. Kaplan and P. Meier, "Nonparametric
//! Estimation from Incomplete Observations", 1958) has no bias toward short loads, which are cut off less
//! often. The share of misses that no set follows is taken out.

use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

/// The durations of the loads of some keys.
#[derive(Debug, Default)]
pub(crate) struct LoadTimes {
    samples: Mutex<Samples>,
    /// Twice the 99.9th percentile, in milliseconds; 0 while too little is known.
    known_ms: AtomicU32,
}

#[derive(Debug)]
struct Samples {
    /// Samples that ended, and samples that were cut off, by their length.
    ended: [u32; BUCKETS],
    cut: [u32; BUCKETS],
    /// Samples that ended: all of them, and those since the last estimate.
    all: u32,
    new: u32,
}

impl LoadTimes {
    /// Adds a sample of this length, which a set ended or a miss cut off.
    pub(crate) fn add(&self, ms: u32, is_ended: bool) {
        // If another thread adds a sample at this moment, this one is left out. That does not depend on its
        // length.
        let Some(mut samples) = self.samples.try_lock() else { return };
        samples.add(ms, is_ended);
        if samples.new >= ESTIMATE_EVERY {
            samples.new = 0;
            self.known_ms.store(samples.estimate().unwrap_or(0), Ordering::Relaxed);
        }
    }

    /// The longest time that a load takes, in milliseconds, if enough is known.
    pub(crate) fn known_ms(&self) -> Option<u32> {
        Some(self.known_ms.load(Ordering::Relaxed)).filter(|ms| *ms > 0)
    }

    /// The number of samples.
    pub(crate) fn count(&self) -> u64 {
        let samples = self.samples.lock();
        samples.ended.iter().chain(&samples.cut).map(|count| u64::from(*count)).sum()
    }
}

impl Default for Samples {
    fn default() -> Self {
        Samples { ended: [0; BUCKETS], cut: [0; BUCKETS], all: 0, new: 0 }
    }
}

impl Samples {
    fn add(&mut self, ms: u32, is_ended: bool) {
        // Both ends of a sample were rounded down to milliseconds.
        let bucket = bucket(ms + 1);
        if !is_ended {
            self.cut[bucket] += 1;
            return;
        }
        self.ended[bucket] += 1;
        self.all += 1;
        self.new += 1;
        if self.all > SAMPLES_MAX {
            self.ended.iter_mut().chain(&mut self.cut).for_each(|count| *count /= 2);
            self.all = self.ended.iter().sum();
        }
    }

    /// Twice the 99.9th percentile, in milliseconds, if enough samples were watched for as long as that.
    fn estimate(&self) -> Option<u32> {
        let total: u32 = self.ended.iter().chain(&self.cut).sum();
        let mut watched = f64::from(total);
        let (mut running, mut not_cut) = (1.0, 1.0);
        let mut steps = [Step::default(); BUCKETS];
        for ((ended, cut), step) in self.ended.iter().zip(&self.cut).zip(&mut steps) {
            let (ended, cut) = (f64::from(*ended), f64::from(*cut));
            step.watched = watched;
            step.not_cut = not_cut;
            running *= 1.0 - ended / watched.max(1.0);
            step.running = running;
            not_cut *= 1.0 - cut / (watched - ended).max(1.0);
            watched -= ended + cut;
        }
        let never = running;
        let last = steps.iter().position(|step| step.running - never <= LATE_SHARE * (1.0 - never))?;
        let twice = (last + OCTAVE).min(BUCKETS - 1);
        let seen = if steps[twice].watched > 0.0 { steps[twice].not_cut } else { steps[last].not_cut };
        let seen = f64::from(total) * seen;
        let is_over = steps[twice].watched <= LATE_SHARE * seen;
        let is_long_watched = steps[(last + 5 * OCTAVE).min(BUCKETS - 1)].watched >= LONG_WATCHED;
        (seen >= SAMPLES_MIN && (is_over || is_long_watched)).then(|| 2 * upper_ms(last))
    }
}

/// One bucket of the estimator: the samples that reached it, the share of samples not cut off up to its end,
/// and the share of loads that last longer.
#[derive(Clone, Copy, Default)]
struct Step {
    watched: f64,
    not_cut: f64,
    running: f64,
}

/// The bucket of a length. There are six to the octave, from a tenth of a millisecond.
fn bucket(ms: u32) -> usize {
    let tenths = (u64::from(ms) * 10).max(1);
    let octave = tenths.ilog2();
    let part = (tenths << SIXTH_BITS) >> octave;
    let sixths = SIXTHS.iter().filter(|end| part >= **end).count();
    (octave as usize * OCTAVE + sixths).min(BUCKETS - 1)
}

/// The end of a bucket, in milliseconds.
fn upper_ms(bucket: usize) -> u32 {
    (SHORTEST_MS * 2_f64.powf((bucket + 1) as f64 / OCTAVE as f64)).ceil() as u32
}

const BUCKETS: usize = 96;
const OCTAVE: usize = 6;
const SHORTEST_MS: f64 = 0.1;
/// 2^(1/6) to 2^(5/6), in units of 2^-16.
const SIXTHS: [u64; 5] = [73_562, 82_570, 92_682, 104_032, 116_772];
const SIXTH_BITS: u32 = 16;
const ESTIMATE_EVERY: u32 = 64;
/// All counts are halved when more samples than this have ended.
const SAMPLES_MAX: u32 = 20_000;
/// The number of samples that must have been watched for as long as twice the percentile.
const SAMPLES_MIN: f64 = 2_000.0;
const LATE_SHARE: f64 = 0.001;
/// The number of samples that may instead have been watched for 32 times as long.
const LONG_WATCHED: f64 = 20.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn known(samples: impl IntoIterator<Item = (u32, bool)>) -> Option<u32> {
        let times = LoadTimes::default();
        samples.into_iter().for_each(|(ms, is_ended)| times.add(ms, is_ended));
        times.known_ms()
    }

    #[test]
    fn twice_the_longest_common_load() {
        let ms = known((0..4_096).map(|n| (n % 10, true))).unwrap();
        assert!((20..=26).contains(&ms), "{ms}");
        assert_eq!(known((0..1_024).map(|n| (n % 10, true))), None, "too few");
    }

    #[test]
    fn one_long_load_in_a_hundred_is_not_overlooked() {
        let ms = known((0..8_192).map(|n| (if n % 100 == 0 { 200 } else { 5 }, true))).unwrap();
        assert!(ms >= 400, "{ms}");
    }

    /// Long loads are cut off more often than short ones: half of those that take 100 ms are cut off after
    /// 20.
    #[test]
    fn loads_that_are_cut_off_count_as_long_ones() {
        let sample = |n| match n % 20 {
            0 => (100, true),
            1 => (20, false),
            _ => (5, true),
        };
        assert!(known((0..20_000).map(sample)).unwrap() >= 200);
    }

    #[test]
    fn misses_that_are_never_set_hide_nothing_and_prevent_nothing() {
        let sample = |n: u32| if n.is_multiple_of(3) { (3_000 + n % 1_000, false) } else { (n % 10, true) };
        let ms = known((0..20_000).map(sample)).unwrap();
        assert!((20..=26).contains(&ms), "{ms}");
    }

    #[test]
    fn buckets_are_six_to_the_octave() {
        assert_eq!((bucket(0), bucket(u32::MAX)), (0, BUCKETS - 1));
        for ms in [1, 7, 20, 500, 3_000] {
            assert!(upper_ms(bucket(ms)) >= ms && upper_ms(bucket(ms) - 1) <= ms + 1, "{ms}");
        }
    }
}
