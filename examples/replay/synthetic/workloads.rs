//! The traces that are about one difficulty each: changing or mixed sizes, loops, writes, large values.

use std::collections::{HashMap, HashSet};

use super::{REQUESTS, SKEW, get, key_of_rank, request, sizes};
use crate::random::{Random, Zipf};
use crate::trace::{Op, Request};

/// An application whose releases cache something else each time: the mean size changes five times, up to
/// forty times at once, and with it all keys. Sizes that change suddenly, without a pattern, were seen in
/// Twitter's caches (Yang et al., OSDI 2020).
pub fn phases() -> impl Iterator<Item = Request> {
    let (zipf, mut random) = (Zipf::new(PHASE_KEYS, SKEW), Random::new(15));
    (0u32..).map(move |n| {
        let phase = n / PHASE_LENGTH;
        let key = phase * PHASE_KEYS + zipf.rank(&mut random);
        let mean = PHASE_MEANS[phase as usize % PHASE_MEANS.len()];
        let scatter = (SPREAD * sizes(key, 0).normal() - SPREAD * SPREAD / 2.0).exp();
        get(key, (mean * scatter).clamp(1.0, 65_536.0) as u32)
    })
}

/// One cache for everything: many values are pages and lists of 2 to 40 KB, and the others are rows, counters
/// and sessions of at most 1 KB. Popularity does not depend on the size.
pub fn mixed() -> impl Iterator<Item = Request> {
    let (zipf, mut random) = (Zipf::new(MIXED_KEYS, 0.8), Random::new(16));
    std::iter::repeat_with(move || {
        let key = zipf.rank(&mut random);
        let mut size = sizes(key, 0);
        let (low, high) = if size.below(10) < 3 { (2_000, 40_000) } else { (20, 1_000) };
        get(key, size.log_uniform(low, high))
    })
}

/// A job that reads a table of about 21 MiB again and again, which is somewhat more than a cache of 16 MiB
/// holds, and in between users that read by popularity. Each sends half of the requests.
pub fn loops() -> impl Iterator<Item = Request> {
    let (zipf, mut random) = (Zipf::new(BESIDE_KEYS, SKEW), Random::new(17));
    (0u32..).map(move |n| {
        let is_job = n % 2 == 0;
        let key = if is_job { BESIDE_KEYS + n / 2 % LOOP_KEYS } else { zipf.rank(&mut random) };
        get(key, 280)
    })
}

/// Many writes: 65 % of the requests are gets, 22 % deletes and 13 % overwrites with another size, as in
/// cluster 14 of Twitter; in a third of its clusters, more than 30 % of the requests are writes (Yang et al.,
/// OSDI 2020). All keys are written as often as they are read.
pub fn churn() -> impl Iterator<Item = Request> {
    let (zipf, mut random) = (Zipf::new(CHURN_KEYS, SKEW), Random::new(18));
    let mut versions: HashMap<u32, u32> = HashMap::new();
    std::iter::repeat_with(move || {
        let key = zipf.rank(&mut random);
        let op = match random.below(100) {
            ..65 => Op::Get,
            65..87 => Op::Delete,
            87.. => Op::Set,
        };
        let version = versions.entry(key).or_default();
        *version += u32::from(op == Op::Set);
        request(key, *version, op)
    })
}

/// Nothing but rendered pages or thumbnails of 20 to 60 KB, with a working set that shifts.
pub fn large() -> impl Iterator<Item = Request> {
    let (zipf, mut random) = (Zipf::new(LARGE_KEYS, SKEW), Random::new(19));
    (0u32..).map(move |n| {
        let first = n / LARGE_SHIFT_EVERY * LARGE_SHIFT_KEYS;
        let key = key_of_rank(zipf.rank(&mut random), first, LARGE_KEYS);
        get(key, 20_000 + sizes(key, 0).below(40_001))
    })
}

/// Small values that are replaced by large ones: of three keys, one has an empty result or a placeholder at
/// first, and from a time of its own on the page of 4 to 16 KB that belongs there.
pub fn growing() -> impl Iterator<Item = Request> {
    let (zipf, mut random) = (Zipf::new(GROWING_KEYS, SKEW), Random::new(20));
    let mut grown = HashSet::new();
    (0u32..).map(move |n| {
        let key = zipf.rank(&mut random);
        let (mut small, mut large) = (sizes(key, 0), sizes(key, 1));
        let is_large = large.below(3) == 0 && n >= large.below(REQUESTS);
        let op = if is_large && grown.insert(key) { Op::Set } else { Op::Get };
        let value_bytes =
            if is_large { large.log_uniform(4_000, 16_000) } else { small.log_uniform(50, 300) };
        Request { op, ..get(key, value_bytes) }
    })
}

const PHASE_MEANS: [f64; 5] = [150.0, 1_500.0, 400.0, 6_000.0, 200.0];
const PHASE_KEYS: u32 = 40_000;
const PHASE_LENGTH: u32 = 200_000;
/// The standard deviation of the logarithm of sizes within a phase.
const SPREAD: f64 = 0.7;

const MIXED_KEYS: u32 = 50_000;

const BESIDE_KEYS: u32 = 50_000;
const LOOP_KEYS: u32 = 60_000;

const CHURN_KEYS: u32 = 150_000;

const LARGE_KEYS: u32 = 3_000;
const LARGE_SHIFT_EVERY: u32 = 20_000;
const LARGE_SHIFT_KEYS: u32 = 300;

const GROWING_KEYS: u32 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_bytes(requests: impl Iterator<Item = Request>) -> f64 {
        let (count, sum) =
            requests.fold((0u32, 0.0), |(count, sum), next| (count + 1, sum + f64::from(next.value_bytes)));
        sum / f64::from(count)
    }

    #[test]
    fn phases_have_their_mean_sizes() {
        let mut requests = phases();
        for expected in PHASE_MEANS {
            let mean = mean_bytes(requests.by_ref().take(PHASE_LENGTH as usize));
            assert!((mean / expected - 1.0).abs() < 0.2, "{mean} of {expected}");
        }
    }

    #[test]
    fn three_of_ten_mixed_values_are_large() {
        let large = mixed().take(100_000).filter(|request| request.value_bytes >= 2_000).count();
        assert!((25_000..35_000).contains(&large), "{large}");
        assert!(mixed().take(100_000).all(|request| request.value_bytes <= 40_000));
    }

    #[test]
    fn loops_read_all_keys_of_the_table_equally_often() {
        let mut counts = vec![0; LOOP_KEYS as usize];
        let of_job = |key: u32| key.checked_sub(BESIDE_KEYS);
        let reads = loops().take(4 * LOOP_KEYS as usize).filter_map(|request| of_job(request.key));
        reads.for_each(|key| counts[key as usize] += 1);
        assert!(counts.iter().all(|count| *count == 2));
    }

    #[test]
    fn a_third_of_churn_are_writes() {
        let mut counts = [0; 3];
        churn().take(100_000).for_each(|request| counts[request.op as usize] += 1);
        let [deletes, gets, sets] = counts;
        assert!((21_500..22_500).contains(&deletes) && (64_500..65_500).contains(&gets), "{counts:?}");
        assert_eq!(deletes + gets + sets, 100_000);
    }

    #[test]
    fn large_values_shift() {
        let keys = |from: usize| large().skip(from).take(20_000).map(|request| request.key);
        let (early, late): (HashSet<_>, HashSet<_>) = (keys(0).collect(), keys(200_000).collect());
        assert!(early.is_disjoint(&late));
        assert!(large().take(50_000).all(|request| (20_000..=60_000).contains(&request.value_bytes)));
    }

    #[test]
    fn values_grow_by_a_set_and_only_once() {
        let mut sets = HashSet::new();
        for request in growing().take(REQUESTS as usize) {
            assert_eq!(request.value_bytes >= 4_000, sets.contains(&request.key) || request.op == Op::Set);
            assert!(request.op != Op::Set || sets.insert(request.key));
        }
        assert!((10_000..20_000).contains(&sets.len()), "{}", sets.len());
    }
}
