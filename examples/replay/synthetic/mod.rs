//! Synthetic traces, the same in each run: `TRACES`, and two that are for single rows.
//!
//! Unless a trace is about sizes, they are drawn once per key and version, following published statistics of
//! large caches: values log-normal with a median of 250 bytes and a mean of 410, keys of 16 to 79 bytes.
//!
//! Two traces are set aside: `scans` and `shifts` are older than the policy of eviction in
//! `src/store/ends.rs`, and nothing in it was chosen by them. So they show whether it is good beyond the
//! traces that it was tuned on, among which were relatives of `phases`, `mixed` and `loops`.

mod aside;
mod workloads;

use crate::random::{Random, Zipf};
use crate::trace::{Expiry, Op, Request};

pub use self::aside::{scans, shifts};

/// A trace that the program makes itself.
pub struct Synthetic {
    pub name: &'static str,
    /// No policy was tuned on it.
    pub is_aside: bool,
    make: fn() -> Box<dyn Iterator<Item = Request>>,
    requests: u32,
}

pub const TRACES: [Synthetic; 8] = [
    Synthetic::new("scans", || Box::new(scans())).aside(),
    Synthetic::new("shifts", || Box::new(shifts())).aside(),
    Synthetic::new("phases", || Box::new(workloads::phases())),
    Synthetic::new("mixed", || Box::new(workloads::mixed())),
    Synthetic::new("loops", || Box::new(workloads::loops())),
    Synthetic::new("churn", || Box::new(workloads::churn())),
    Synthetic::new("large", || Box::new(workloads::large())).of(LARGE_REQUESTS),
    Synthetic::new("growing", || Box::new(workloads::growing())),
];

impl Synthetic {
    const fn new(name: &'static str, make: fn() -> Box<dyn Iterator<Item = Request>>) -> Self {
        Synthetic { name, is_aside: false, make, requests: REQUESTS }
    }

    const fn aside(self) -> Self {
        Synthetic { is_aside: true, ..self }
    }

    const fn of(self, requests: u32) -> Self {
        Synthetic { requests, ..self }
    }

    /// All its requests, or the first of them if `scaled` makes their number smaller.
    pub fn requests(&self, scaled: impl Fn(u32) -> u32) -> Vec<Request> {
        (self.make)().take(scaled(self.requests) as usize).collect()
    }
}

/// Gets by popularity, from more keys than the cache can hold.
pub fn zipf(keys: u32) -> impl Iterator<Item = Request> {
    let (zipf, mut random) = (Zipf::new(keys, SKEW), Random::new(11));
    std::iter::from_fn(move || Some(request(zipf.rank(&mut random), 0, Op::Get)))
}

/// Sets whose values grow to fifty times their size and shrink again, so that freed memory has the wrong
/// size.
pub fn drift(sets: u32) -> impl Iterator<Item = Request> {
    let mut random = Random::new(14);
    (0..sets).map(move |n| {
        let way = f64::from(n) / f64::from(sets);
        let height = 1.0 - (2.0 * way - 1.0).abs();
        let scatter = 4f64.powf(random.unit() - 0.5);
        let value_bytes = (40.0 * 50f64.powf(height) * scatter) as u32;
        Request { value_bytes, ..request(random.below(DRIFT_KEYS), 0, Op::Set) }
    })
}

/// The key with this rank in a working set of so many keys that begins at `first`: keys keep their rank as
/// long as they are in it. Ranks are scattered, so that popular and unpopular keys leave at the same rate.
fn key_of_rank(rank: u32, first: u32, keys: u32) -> u32 {
    let seat = (u64::from(rank) * SCATTER % u64::from(keys)) as u32;
    seat + first.saturating_sub(seat).div_ceil(keys) * keys
}

fn request(key: u32, version: u32, op: Op) -> Request {
    let value_bytes = (250.0 * sizes(key, version).normal().exp()).clamp(1.0, 65_536.0) as u32;
    // Depends only on the key: a new version must not be a new key.
    let key_bytes = 16 + Random::new(key.into()).below(64) as u8;
    Request { expiry: Expiry::Never, key, key_bytes, op, time: 0, value_bytes }
}

/// A get of a value of its own size.
fn get(key: u32, value_bytes: u32) -> Request {
    Request { value_bytes, ..request(key, 0, Op::Get) }
}

/// The random numbers for the size of a version of a key.
fn sizes(key: u32, version: u32) -> Random {
    Random::new(u64::from(version) << 32 | u64::from(key))
}

const REQUESTS: u32 = 1_000_000;
/// Fewer, because each is a hundred times as long as those of other traces.
const LARGE_REQUESTS: u32 = 250_000;
const SKEW: f64 = 0.9;
/// A prime that does not divide the number of keys of any working set.
const SCATTER: u64 = 7_919;
const DRIFT_KEYS: u32 = 2_000_000;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn keys_keep_their_rank_in_the_working_set() {
        const KEYS: u32 = 80_000;
        let seats = |first| (0..KEYS).map(move |rank| key_of_rank(rank, first, KEYS));
        let mut keys: Vec<u32> = seats(3_000).collect();
        let stayed = seats(0).zip(seats(3_000)).filter(|(before, after)| before == after).count();
        assert_eq!(stayed as u32, KEYS - 3_000);
        keys.sort_unstable();
        assert!(keys.iter().copied().eq(3_000..3_000 + KEYS));
    }

    #[test]
    fn synthetic_traces_are_reproducible() {
        let fields = |trace: &Synthetic| {
            let requests = (trace.make)().take(100_000);
            requests.map(|request| (request.key, request.op, request.value_bytes)).collect::<Vec<_>>()
        };
        for trace in TRACES {
            assert!(fields(&trace) == fields(&trace), "{}", trace.name);
        }
    }

    /// A get after a set of another size would find a value that the replayer takes for a wrong one.
    #[test]
    fn values_change_their_size_only_by_sets_and_keys_never() {
        for trace in TRACES {
            let (mut values, mut keys) = (HashMap::new(), HashMap::new());
            for request in (trace.make)().take(300_000) {
                assert_eq!(*keys.entry(request.key).or_insert(request.key_bytes), request.key_bytes);
                let former = values.insert(request.key, request.value_bytes);
                let is_same = former.is_none_or(|bytes| bytes == request.value_bytes);
                assert!(request.op == Op::Set || is_same, "{}: key {}", trace.name, request.key);
            }
        }
    }

    #[test]
    fn two_traces_are_set_aside() {
        let names: Vec<_> = TRACES.iter().filter(|trace| trace.is_aside).map(|trace| trace.name).collect();
        assert_eq!(names, ["scans", "shifts"]);
    }
}
