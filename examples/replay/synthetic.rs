//! Synthetic traces, the same in each run. Sizes are drawn once per key and version, following published
//! statistics of large caches: values log-normal with a median of 250 bytes and a mean of 410, keys of 16 to
//! 79 bytes.

use std::collections::HashMap;

use crate::random::{Random, Zipf};
use crate::trace::{Expiry, Op, Request};

/// Gets by popularity, from more keys than the cache can hold.
pub fn zipf(keys: u32) -> impl Iterator<Item = Request> {
    let (zipf, mut random) = (Zipf::new(keys, SKEW), Random::new(11));
    std::iter::from_fn(move || Some(request(zipf.rank(&mut random), 0, Op::Get)))
}

/// Gets by popularity, with occasional scans over keys that are not requested otherwise.
pub fn scans() -> impl Iterator<Item = Request> {
    let (zipf, mut random) = (Zipf::new(POPULAR_KEYS, SKEW), Random::new(12));
    (0u32..).map(move |n| {
        let (round, step) = (n / SCAN_EVERY, n % SCAN_EVERY);
        let key = if step < SCAN_LENGTH {
            POPULAR_KEYS + (round * SCAN_LENGTH + step) % SCANNED_KEYS
        } else {
            zipf.rank(&mut random)
        };
        request(key, 0, Op::Get)
    })
}

/// A shifting working set; a twelfth of the requests are overwrites with another size, and a twelfth are
/// deletes.
pub fn shifts() -> impl Iterator<Item = Request> {
    let (zipf, mut random) = (Zipf::new(SET_KEYS, SKEW), Random::new(13));
    let mut versions: HashMap<u32, u32> = HashMap::new();
    (0u32..).map(move |n| {
        let first = n / SHIFT_EVERY * SHIFT_KEYS;
        let key = key_of_rank(zipf.rank(&mut random), first);
        let version = versions.entry(key).or_default();
        let op = match random.below(12) {
            0 => Op::Delete,
            1 => Op::Set,
            _ => Op::Get,
        };
        *version += u32::from(op == Op::Set);
        request(key, *version, op)
    })
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

/// The key with this rank while the working set begins at `first`: keys keep their rank as long as they are
/// in it. Ranks are scattered, so that popular and unpopular keys leave at the same rate.
fn key_of_rank(rank: u32, first: u32) -> u32 {
    let seat = (u64::from(rank) * SCATTER % u64::from(SET_KEYS)) as u32;
    seat + first.saturating_sub(seat).div_ceil(SET_KEYS) * SET_KEYS
}

fn request(key: u32, version: u32, op: Op) -> Request {
    let mut random = Random::new(u64::from(version) << 32 | u64::from(key));
    let value_bytes = (250.0 * random.normal().exp()).clamp(1.0, 65_536.0) as u32;
    // Depends only on the key: a new version must not be a new key.
    let key_bytes = 16 + Random::new(key.into()).below(64) as u8;
    Request { expiry: Expiry::Never, key, key_bytes, op, time: 0, value_bytes }
}

const SKEW: f64 = 0.9;

const POPULAR_KEYS: u32 = 200_000;
const SCANNED_KEYS: u32 = 300_000;
const SCAN_EVERY: u32 = 50_000;
const SCAN_LENGTH: u32 = 10_000;

const SET_KEYS: u32 = 80_000;
const SHIFT_EVERY: u32 = 50_000;
const SHIFT_KEYS: u32 = 8_000;
/// A prime that does not divide `SET_KEYS`.
const SCATTER: u64 = 7_919;

const DRIFT_KEYS: u32 = 2_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_rank_in_the_working_set() {
        let seats = |first| (0..SET_KEYS).map(move |rank| key_of_rank(rank, first));
        let mut keys: Vec<u32> = seats(3_000).collect();
        let stayed = seats(0).zip(seats(3_000)).filter(|(before, after)| before == after).count();
        assert_eq!(stayed as u32, SET_KEYS - 3_000);
        keys.sort_unstable();
        assert!(keys.iter().copied().eq(3_000..3_000 + SET_KEYS));
    }

    #[test]
    fn synthetic_traces_are_reproducible() {
        let sizes = || shifts().take(200_000).map(|request| (request.key, request.value_bytes));
        assert!(sizes().eq(sizes()));
    }
}
