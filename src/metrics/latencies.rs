//! Command durations, as histograms whose buckets end at powers of two.
//!
//! There is no clock here: the caller measures.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A group of commands that are measured together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verb {
    /// `delete`, `md`
    Delete,
    /// `get`, `gets`, `gat`, `gats`, `mg`
    Get,
    /// `invalidate`, `flush_all`
    Invalidate,
    /// `lease-get`, `lease-wait`, including the time that these wait
    LeaseGet,
    /// `lease-set`
    LeaseSet,
    /// All other commands
    Other,
    /// `set` and the other stores, `ms`, `incr`, `decr`, `ma`, `touch`
    Set,
}

impl Verb {
    /// All groups, in the order of the variants.
    pub const ALL: [Verb; VERBS] =
        [Verb::Delete, Verb::Get, Verb::Invalidate, Verb::LeaseGet, Verb::LeaseSet, Verb::Other, Verb::Set];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Delete => "delete",
            Verb::Get => "get",
            Verb::Invalidate => "invalidate",
            Verb::LeaseGet => "lease_get",
            Verb::LeaseSet => "lease_set",
            Verb::Other => "other",
            Verb::Set => "set",
        }
    }
}

/// The durations of each group of commands.
#[derive(Debug, Default)]
pub struct Latencies([Histogram; VERBS]);

/// A histogram of durations.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Latency {
    /// The number of commands in each bucket. A bucket ends at [`bucket_end`]; the last one has no end.
    pub buckets: [u64; BUCKETS],
    /// The sum of all durations.
    pub sum: Duration,
}

/// A histogram that many threads add to.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

impl Latencies {
    /// Adds a command of this duration.
    pub fn add(&self, verb: Verb, took: Duration) {
        self.0[verb as usize].add(took);
    }

    /// The histogram of one group.
    pub fn of(&self, verb: Verb) -> Latency {
        self.0[verb as usize].read()
    }

    /// Sets everything to zero.
    pub fn reset(&self) {
        self.0.iter().for_each(Histogram::reset);
    }
}

impl Histogram {
    pub(super) fn add(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanos)].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(nanos, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Latency {
        Latency {
            buckets: array::from_fn(|nth| self.buckets[nth].load(Ordering::Relaxed)),
            sum: Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed)),
        }
    }

    fn reset(&self) {
        self.buckets.iter().chain([&self.sum_ns]).for_each(|count| count.store(0, Ordering::Relaxed));
    }
}

impl Latency {
    /// The number of durations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The end of the bucket that this part of the durations does not exceed, such as 0.99; `None` without
    /// durations, and for the last bucket.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let rank = (self.count() as f64 * part).ceil() as u64;
        let mut below = 0;
        let nth = self.buckets.iter().position(|count| {
            below += count;
            below >= rank && rank > 0
        });
        nth.and_then(bucket_end)
    }
}

/// The upper end of a bucket; `None` for the last one.
pub fn bucket_end(nth: usize) -> Option<Duration> {
    (nth < BUCKETS - 1).then(|| Duration::from_nanos(FIRST_END_NS << nth))
}

fn bucket(nanos: u64) -> usize {
    let first = FIRST_END_NS.ilog2();
    (nanos.saturating_sub(1) >> first).checked_ilog2().map_or(0, |more| more as usize + 1).min(BUCKETS - 1)
}

const VERBS: usize = Verb::Set as usize + 1;
/// The number of buckets: the first one ends at half a microsecond, the last but one at 4.3 seconds.
pub const BUCKETS: usize = 25;
const FIRST_END_NS: u64 = 1 << 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_includes_its_end() {
        for nth in 0..BUCKETS - 1 {
            let end = bucket_end(nth).unwrap().as_nanos() as u64;
            assert_eq!((bucket(end), bucket(end + 1)), (nth, nth + 1), "{end}");
        }
        assert_eq!((bucket(0), bucket(u64::MAX), bucket_end(BUCKETS - 1)), (0, BUCKETS - 1, None));
    }

    #[test]
    fn every_group_of_commands_has_its_own_histogram() {
        assert!(Verb::ALL.iter().enumerate().all(|(nth, verb)| *verb as usize == nth));
        let latencies = Latencies::default();
        latencies.add(Verb::Get, Duration::from_nanos(500));
        latencies.add(Verb::Get, Duration::from_secs(9));
        let of_get = latencies.of(Verb::Get);
        assert_eq!((of_get.buckets[0], of_get.buckets[BUCKETS - 1]), (1, 1));
        assert_eq!(of_get.sum, Duration::from_nanos(9_000_000_500));
        assert_eq!(latencies.of(Verb::Set), Latency::default());
        assert_eq!((of_get.quantile(0.5), of_get.quantile(0.99)), (bucket_end(0), None));
        assert_eq!((of_get.count(), Latency::default().quantile(0.5)), (2, None));
        latencies.reset();
        assert_eq!(latencies.of(Verb::Get), Latency::default());
    }
}
