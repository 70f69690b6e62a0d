//! Samples: one request in [`REQUESTS_PER_SAMPLE`] is measured and its keys are recorded, if enabled.
//!
//! This module only counts. Its callers decide which clients may see keys.

use parking_lot::Mutex;

use super::latencies::Latencies;
use super::top::{Met, Top};

/// All samples so far.
#[derive(Debug, Default)]
pub struct Samples {
    /// The durations of requests.
    pub latencies: Latencies,
    keys: Mutex<Keys>,
}

/// Notable keys.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Standouts {
    /// The most read keys, and the number of sampled reads.
    pub hot: (Vec<Met>, u64),
    /// The longest values, longest first.
    pub large: Vec<Large>,
    /// The most missed keys, and the number of sampled misses.
    pub missing: (Vec<Met>, u64),
}

/// A key with a long value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Large {
    /// The key.
    pub key: Box<[u8]>,
    /// When the value was last seen, in monotonic seconds.
    pub second: u32,
    /// Its length at that time.
    pub value_bytes: usize,
}

#[derive(Debug, Default)]
struct Keys {
    hot: Top,
    large: Vec<Large>,
    missing: Top,
}

impl Samples {
    /// Records a read in this monotonic second; without a length it was a miss.
    pub fn read(&self, key: &[u8], value_bytes: Option<usize>, second: u32) {
        let mut keys = self.keys.lock();
        keys.hot.add(key, second);
        match value_bytes {
            None => keys.missing.add(key, second),
            Some(value_bytes) => keys.meet(key, value_bytes, second),
        }
    }

    /// Records a stored value of this length.
    pub fn stored(&self, key: &[u8], value_bytes: usize, second: u32) {
        self.keys.lock().meet(key, value_bytes, second);
    }

    /// The notable keys at this monotonic second, a few of each kind.
    pub fn standouts(&self, few: usize, second: u32) -> Standouts {
        let mut keys = self.keys.lock();
        keys.forget_large(second);
        let mut large = keys.large.clone();
        large.sort_by(|one, other| {
            other.value_bytes.cmp(&one.value_bytes).then_with(|| one.key.cmp(&other.key))
        });
        large.truncate(few);
        Standouts { hot: keys.hot.most(few, second), large, missing: keys.missing.most(few, second) }
    }

    /// Removes all samples.
    pub fn reset(&self) {
        self.latencies.reset();
        *self.keys.lock() = Keys::default();
    }
}

impl Keys {
    fn meet(&mut self, key: &[u8], value_bytes: usize, second: u32) {
        if let Some(known) = self.large.iter_mut().find(|large| *large.key == *key) {
            (known.value_bytes, known.second) = (value_bytes, second);
            return;
        }
        self.forget_large(second);
        if self.large.len() == LARGE {
            let least = self.large.iter().enumerate().min_by_key(|(_, large)| large.value_bytes);
            let (place, least) = least.expect("there are some");
            if least.value_bytes >= value_bytes {
                return;
            }
            self.large.swap_remove(place);
        }
        self.large.push(Large { key: key.into(), second, value_bytes });
    }

    fn forget_large(&mut self, second: u32) {
        self.large.retain(|large| second.saturating_sub(large.second) < LARGE_SECONDS);
    }
}

/// The number of requests on a thread for each sampled one.
pub const REQUESTS_PER_SAMPLE: u64 = 64;
/// The limit on recorded long values, and how long one is kept after it was last seen.
const LARGE: usize = 32;
const LARGE_SECONDS: u32 = 600;

#[cfg(test)]
mod tests {
    use super::*;

    fn large(samples: &Samples, second: u32) -> Vec<usize> {
        samples.standouts(LARGE, second).large.iter().map(|large| large.value_bytes).collect()
    }

    #[test]
    fn reads_count_as_hot_and_misses_as_missing() {
        let samples = Samples::default();
        samples.read(b"a", None, 2);
        samples.read(b"a", Some(9), 2);
        samples.read(b"b", None, 2);
        let Standouts { hot, large, missing } = samples.standouts(1, 2);
        assert_eq!(hot, (vec![Met { count: 2, key: b"a"[..].into() }], 3));
        assert_eq!((&*missing.0[0].key, missing.0[0].count, missing.1), (&b"a"[..], 1, 2));
        assert_eq!(large, [Large { key: b"a"[..].into(), second: 2, value_bytes: 9 }]);
        samples.reset();
        assert_eq!(samples.standouts(9, 2), Standouts::default());
    }

    #[test]
    fn the_longest_values_are_remembered_for_a_while() {
        let samples = Samples::default();
        for bytes in 1..=100_usize {
            samples.stored(&bytes.to_le_bytes(), bytes, 2);
        }
        assert_eq!(large(&samples, 2), (69..=100).rev().collect::<Vec<_>>());
        samples.stored(&100_usize.to_le_bytes(), 70, 300);
        assert_eq!(large(&samples, 300)[0], 99, "the value is shorter now");
        assert_eq!(large(&samples, 602), [70]);
        samples.stored(b"new", 1, 602);
        assert_eq!(large(&samples, 602), [70, 1]);
    }
}
