//! The traces that no policy was tuned on.

use std::collections::HashMap;

use super::{SKEW, key_of_rank, request};
use crate::random::{Random, Zipf};
use crate::trace::{Op, Request};

/// Gets by popularity, with occasional scans over keys that are not requested otherwise: users, and a report
/// or a backup that reads a table now and then.
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

/// A shifting working set, like news or auctions: what is popular today is forgotten tomorrow. A twelfth of
/// the requests are overwrites with another size, and a twelfth are deletes.
pub fn shifts() -> impl Iterator<Item = Request> {
    let (zipf, mut random) = (Zipf::new(SET_KEYS, SKEW), Random::new(13));
    let mut versions: HashMap<u32, u32> = HashMap::new();
    (0u32..).map(move |n| {
        let first = n / SHIFT_EVERY * SHIFT_KEYS;
        let key = key_of_rank(zipf.rank(&mut random), first, SET_KEYS);
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

const POPULAR_KEYS: u32 = 200_000;
const SCANNED_KEYS: u32 = 300_000;
const SCAN_EVERY: u32 = 50_000;
const SCAN_LENGTH: u32 = 10_000;

const SET_KEYS: u32 = 80_000;
const SHIFT_EVERY: u32 = 50_000;
const SHIFT_KEYS: u32 = 8_000;
