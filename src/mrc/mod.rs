//! The miss ratios of caches of other sizes: a curve from a sample of the keys.
//!
//! SHARDS, with a fixed number of samples (Waldspurger et al., FAST 2015): keys are followed if their hash is
//! low, so a key is always followed or never, and one of so many keys stands for all of them. A read of such
//! a key would have been a hit in every LRU cache that holds what was used since its last use. Those bytes
//! are counted in a histogram.
//!
//! Our own eviction is not simulated. At the present size the misses that it avoids are known: those that LRU
//! would have had for lack of memory. It is assumed to avoid the same part of them at other sizes. No thread
//! waits for the sample: if another one holds the lock, the read is not counted.

mod recency;

use self::recency::{Entry, Recency};
use crate::clock::Now;
use crate::store::expiry::Expiry;
use crate::store::item::key::KeyHash;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// A sample of the keys, as an LRU cache would hold them.
pub(crate) struct Shadow {
    /// The highest hash of the keys in the sample.
    highest: AtomicU64,
    sample: Mutex<Sample>,
}

/// A miss-ratio curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Curve {
    /// The share of the reads that would be hits with [`FACTORS`] times the memory.
    pub hit_ratios: [f64; FACTORS.len()],
    /// The same if the least recently used values were evicted first.
    pub lru: [f64; FACTORS.len()],
    /// The share of all keys that is followed.
    pub rate: f64,
    /// Keys that are followed and held.
    pub samples: usize,
}

struct Sample {
    /// When a delayed flush is due, in monotonic milliseconds.
    flush_at: Option<u64>,
    histogram: Histogram,
    recency: Recency,
    /// Reads, each counted once for every key that its key represents. Those not in the histogram were misses
    /// at every size.
    reads: u64,
    /// One key in 2^`shift` is followed.
    shift: u32,
    /// When expired keys were last removed, in monotonic seconds.
    swept: u32,
}

/// Reads by the bytes of cache with which they would have been hits, in sixteen steps for each power of two.
struct Histogram(Box<[u64]>);

impl Shadow {
    /// Bytes of one.
    pub(crate) const BYTES: usize = Recency::BYTES + Histogram::LEN * size_of::<u64>();

    pub(crate) fn new() -> Self {
        Shadow { highest: AtomicU64::new(u64::MAX >> SHIFT_MIN), sample: Mutex::new(Sample::new()) }
    }

    /// Whether the key with this hash is in the sample.
    pub(crate) fn follows(&self, hash: KeyHash) -> bool {
        hash.bits() <= self.highest.load(Ordering::Relaxed)
    }

    /// Counts a read of a key.
    #[inline(always)]
    pub(crate) fn read(&self, hash: KeyHash, now: Now) {
        if self.follows(hash) {
            self.read_sampled(hash, now);
        }
    }

    #[cold]
    #[inline(never)]
    fn read_sampled(&self, hash: KeyHash, now: Now) {
        self.with(now, |sample| sample.read(hash, now));
    }

    /// Notes that a key has an item of so many bytes now, or none, in a cache of `limit` bytes.
    pub(crate) fn changed(&self, hash: KeyHash, held: Option<(usize, Expiry)>, limit: usize, now: Now) {
        let Some((bytes, expiry)) = held else {
            return self.with(now, |sample| _ = sample.recency.remove(hash));
        };
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.with(now, |sample| {
            sample.put(Entry { bytes, expiry, hash }, limit);
            self.highest.store(sample.highest(), Ordering::Relaxed);
        });
    }

    /// Notes that everything was invalidated, or will be when `due`.
    pub(crate) fn flush(&self, due: Option<u64>) {
        let mut sample = self.sample.lock();
        sample.flush_at = due;
        if due.is_none() {
            sample.recency.retain(|_| false);
        }
    }

    /// Removes expired keys, at most once a second.
    pub(crate) fn sweep(&self, now: Now) {
        self.with(now, |sample| sample.sweep(now));
    }

    /// Resets the counts; the keys of the sample stay.
    pub(crate) fn reset(&self) {
        let mut sample = self.sample.lock();
        (sample.histogram, sample.reads) = (Histogram::new(), 0);
    }

    /// The curve of a cache of `limit` bytes with so many reads, of which so many were hits.
    pub(crate) fn curve(&self, limit: usize, hits: u64, reads: u64) -> Curve {
        let sample = self.sample.lock();
        // Hot keys are few, and one more or less of them in the sample moves the whole curve. The difference
        // goes to where they are, to the smallest caches (the paper's SHARDS_adj).
        let missing = reads as f64 - sample.reads as f64;
        let ratio = |factor: f64| {
            let hits = sample.histogram.within(limit as f64 * factor) + missing;
            if reads == 0 { 0.0 } else { (hits / reads as f64).clamp(0.0, 1.0) }
        };
        let rate = 1.0 / (1_u64 << sample.shift) as f64;
        let lru = FACTORS.map(ratio);
        let hit_ratios = as_now(lru, hits as f64 / reads.max(1) as f64);
        Curve { hit_ratios, lru, rate, samples: sample.recency.len() }
    }

    fn with(&self, now: Now, act: impl FnOnce(&mut Sample)) {
        if let Some(mut sample) = self.sample.try_lock() {
            sample.tick(now);
            act(&mut sample);
        }
    }
}

/// The hit ratios of caches that avoid the same part of LRU's misses for lack of memory as the present one.
/// Misses that the largest size has, too, are for other reasons.
fn as_now(lru: [f64; FACTORS.len()], hit_ratio: f64) -> [f64; FACTORS.len()] {
    let most = lru[FACTORS.len() - 1];
    let lacking = most - lru[NOW];
    // With hardly any such misses, the rest of the error of the sample would decide.
    let part = if lacking < 0.01 { 1.0 } else { ((most - hit_ratio) / lacking).clamp(0.0, 2.0) };
    lru.map(|ratio| (most - (most - ratio) * part).clamp(0.0, 1.0))
}

impl Sample {
    fn new() -> Self {
        Sample {
            flush_at: None,
            histogram: Histogram::new(),
            recency: Recency::new(),
            reads: 0,
            shift: SHIFT_MIN,
            swept: 0,
        }
    }

    fn tick(&mut self, now: Now) {
        if self.flush_at.is_some_and(|due| now.millis >= due) {
            self.flush_at = None;
            self.recency.retain(|_| false);
        }
    }

    fn read(&mut self, hash: KeyHash, now: Now) {
        self.reads += 1 << self.shift;
        let Some((entry, newer)) = self.recency.remove(hash) else { return };
        if !entry.has_expired(now) {
            self.histogram.add(self.scaled(newer) + u64::from(entry.bytes), 1 << self.shift);
            self.recency.put(entry);
        }
    }

    fn put(&mut self, entry: Entry, limit: usize) {
        let known = self.recency.remove(entry.hash);
        while known.is_none() && self.recency.is_full() {
            self.shift += 1;
            let highest = self.highest();
            self.recency.retain(|entry| entry.hash.bits() <= highest);
        }
        if entry.hash.bits() <= self.highest() {
            self.recency.put(entry);
        }
        // Keys beyond would be misses at each of the sizes.
        let horizon = (limit as u64).saturating_mul(FACTOR_MAX);
        while self.scaled(self.recency.bytes()) > horizon && self.recency.remove_oldest().is_some() {}
    }

    fn sweep(&mut self, now: Now) {
        if self.swept < now.seconds() {
            self.swept = now.seconds();
            self.recency.retain(|entry| !entry.has_expired(now));
        }
    }

    fn highest(&self) -> u64 {
        u64::MAX >> self.shift
    }

    /// The bytes of all keys, by those of the sample.
    fn scaled(&self, bytes: u64) -> u64 {
        bytes.saturating_mul(1 << self.shift)
    }
}

impl Entry {
    fn has_expired(self, now: Now) -> bool {
        self.expiry.is_past(now.tick())
    }
}

impl Histogram {
    const LEN: usize = (u64::BITS - STEP_BITS) as usize * STEPS;

    fn new() -> Self {
        Histogram(vec![0; Histogram::LEN].into_boxed_slice())
    }

    fn add(&mut self, bytes: u64, weight: u64) {
        let bytes = bytes.max(STEPS as u64);
        let power = bytes.ilog2() - STEP_BITS;
        // The bits after the highest one are the step.
        self.0[power as usize * STEPS + (bytes >> power) as usize - STEPS] += weight;
    }

    /// The weight of the reads within so many bytes. Within a step it is spread evenly.
    fn within(&self, bytes: f64) -> f64 {
        let begin = |step: usize| ((STEPS + step % STEPS) as f64) * (1_u64 << (step / STEPS)) as f64;
        let parts = self.0.iter().enumerate().map(|(step, weight)| {
            let part = (bytes - begin(step)) / (begin(step + 1) - begin(step));
            *weight as f64 * part.clamp(0.0, 1.0)
        });
        parts.sum()
    }
}

/// The sizes of the curve, as multiples of the memory.
pub const FACTORS: [f64; 7] = [0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0];
/// The place of the present size among them.
const NOW: usize = 3;
const FACTOR_MAX: u64 = FACTORS[FACTORS.len() - 1] as u64;
/// At first, one key in 64 is followed.
const SHIFT_MIN: u32 = 6;
const STEP_BITS: u32 = 4;
const STEPS: usize = 1 << STEP_BITS;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};
    use std::time::Duration;

    use super::recency::KEYS_MAX;
    use super::*;
    use crate::clock::Clock;

    const MEGABYTE: usize = 1 << 20;

    fn hashed(key: u64) -> KeyHash {
        KeyHash::new(mixed(key))
    }

    /// SplitMix64.
    fn mixed(word: u64) -> u64 {
        let word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A plain LRU cache.
    struct Lru {
        bytes: usize,
        hits: u64,
        limit: usize,
        order: BTreeMap<u64, u64>,
        /// The last use of each key, and its bytes.
        used: HashMap<u64, (u64, usize)>,
    }

    impl Lru {
        fn new(limit: usize) -> Self {
            Lru { bytes: 0, hits: 0, limit, order: BTreeMap::new(), used: HashMap::new() }
        }

        /// Reads a key, and stores it after a miss.
        fn read(&mut self, time: u64, key: u64, bytes: usize) -> bool {
            let was_there = self.used.insert(key, (time, bytes));
            match was_there {
                Some((before, _)) => _ = self.order.remove(&before),
                None => self.bytes += bytes,
            }
            self.order.insert(time, key);
            while self.bytes > self.limit {
                let (_, oldest) = self.order.pop_first().expect("bytes belong to keys");
                self.bytes -= self.used.remove(&oldest).expect("the key is in both").1;
            }
            self.hits += u64::from(was_there.is_some());
            was_there.is_some()
        }
    }

    /// The curve of a trace of keys by the sample, and by LRU caches of all sizes.
    fn curves(
        trace: impl Iterator<Item = u64>,
        bytes_of: impl Fn(u64) -> usize,
        limit: usize,
    ) -> (Curve, Vec<f64>) {
        let (shadow, now) = (Shadow::new(), Clock::manual().now());
        let mut exact: Vec<Lru> =
            FACTORS.iter().map(|factor| Lru::new((limit as f64 * factor) as usize)).collect();
        let mut reads = 0;
        for key in trace {
            let (hash, bytes) = (hashed(key), bytes_of(key));
            reads += 1;
            shadow.read(hash, now);
            let hits: Vec<bool> = exact.iter_mut().map(|lru| lru.read(reads, key, bytes)).collect();
            if !hits[3] && shadow.follows(hash) {
                shadow.changed(hash, Some((bytes, Expiry::NEVER)), limit, now);
            }
        }
        let exact = exact.iter().map(|lru| lru.hits as f64 / reads as f64).collect();
        (shadow.curve(limit, 0, reads), exact)
    }

    #[test]
    fn other_sizes_avoid_the_same_part_of_the_misses_for_lack_of_memory() {
        let lru = [0.1, 0.3, 0.4, 0.5, 0.7, 0.9, 0.9];
        let near = |ratios: [f64; 7], all: [f64; 7]| {
            assert!(ratios.iter().zip(all).all(|(one, other)| (one - other).abs() < 1e-9), "{ratios:?}")
        };
        near(as_now(lru, 0.5), lru);
        near(as_now(lru, 0.7), [0.5, 0.6, 0.65, 0.7, 0.8, 0.9, 0.9]);
        near(as_now(lru, 0.95), [0.9; 7]);
        near(as_now(lru, 0.0), [0.0, 0.0, 0.0, 0.1, 0.5, 0.9, 0.9]);
        // All that was ever read fits.
        near(as_now([0.2, 0.4, 0.8, 0.895, 0.9, 0.9, 0.9], 0.8), [0.2, 0.4, 0.8, 0.895, 0.9, 0.9, 0.9]);
    }

    #[test]
    fn a_curve_agrees_with_lru_on_a_skewed_trace() {
        const KEYS: u64 = 200_000;
        const READS: u64 = 500_000;
        let mut weights = Vec::new();
        (1..=KEYS).fold(0.0, |sum, rank| {
            weights.push(sum + 1.0 / (rank as f64).powf(0.9));
            sum + 1.0 / (rank as f64).powf(0.9)
        });
        let total = weights[weights.len() - 1];
        for seed in 0..2 {
            let trace = (0..READS).map(|n| {
                let point = mixed(seed << 32 | n) as f64 / u64::MAX as f64 * total;
                (weights.partition_point(|weight| *weight < point) as u64) << 8 | seed
            });
            let bytes_of = |key: u64| 60 + (mixed(!key) % 800) as usize;
            let (curve, exact) = curves(trace, bytes_of, 10 * MEGABYTE);
            // A smaller cache has fewer samples: an eighth of this one holds some forty of them.
            let errors: Vec<f64> =
                curve.lru.iter().zip(exact).map(|(estimate, exact)| estimate - exact).collect();
            assert!(errors.iter().all(|error| error.abs() < 0.06), "seed {seed}: {errors:?}");
            assert!(errors[2..].iter().all(|error| error.abs() < 0.03), "seed {seed}: {errors:?}");
        }
    }

    #[test]
    fn a_repeated_scan_of_keys_always_hits_or_never() {
        // 20,000 keys of 500 bytes are just below twice the limit.
        let trace = (0..200_000_u64).map(|n| n % 20_000);
        let (curve, exact) = curves(trace, |_| 500, 5 * MEGABYTE);
        for (index, (estimate, exact)) in curve.lru.iter().zip(exact).enumerate() {
            assert_eq!(exact > 0.5, index >= 4);
            assert!((estimate - exact).abs() < 0.05, "{:?}", curve.lru);
        }
    }

    #[test]
    fn a_stream_of_new_keys_never_hits_and_the_sample_stays_within_its_limit() {
        let (shadow, now) = (Shadow::new(), Clock::manual().now());
        for hash in (0..1_500_000).map(hashed) {
            shadow.read(hash, now);
            if shadow.follows(hash) {
                shadow.changed(hash, Some((500, Expiry::NEVER)), 100 * MEGABYTE, now);
            }
        }
        let curve = shadow.curve(100 * MEGABYTE, 0, 1_500_000);
        assert!(curve.lru.iter().all(|ratio| *ratio < 0.05), "{curve:?}");
        assert!(curve.samples <= KEYS_MAX && curve.rate < 1.0 / 64.0, "{curve:?}");
    }

    /// Checks whether the read of a stored key is a miss at every size after `act`.
    #[track_caller]
    fn check_after(is_miss: bool, act: impl FnOnce(&Shadow, &Clock)) {
        let (shadow, clock) = (Shadow::new(), Clock::manual());
        let expiry = Expiry::after(Duration::from_secs(5), clock.now());
        shadow.changed(KeyHash::new(7), Some((100, expiry)), MEGABYTE, clock.now());
        act(&shadow, &clock);
        shadow.read(KeyHash::new(7), clock.now());
        assert_eq!(shadow.curve(MEGABYTE, 0, 64).lru, [if is_miss { 0.0 } else { 1.0 }; 7]);
    }

    #[test]
    fn expired_removed_and_flushed_keys_are_misses() {
        const SECOND: Duration = Duration::from_secs(1);
        check_after(false, |_, clock| clock.advance(4 * SECOND));
        check_after(true, |_, clock| clock.advance(5 * SECOND));
        check_after(true, |shadow, clock| shadow.changed(KeyHash::new(7), None, MEGABYTE, clock.now()));
        check_after(true, |shadow, _| shadow.flush(None));
        check_after(true, |shadow, clock| {
            shadow.flush(Some(clock.now().millis + 2_000));
            clock.advance(2 * SECOND);
        });
        check_after(false, |shadow, clock| {
            shadow.flush(Some(clock.now().millis + 2_000));
            shadow.flush(Some(clock.now().millis + 9_000));
            clock.advance(2 * SECOND);
        });
        check_after(false, |shadow, clock| {
            shadow.flush(Some(clock.now().millis + 2_000));
            shadow.flush(None);
            shadow.changed(KeyHash::new(7), Some((100, Expiry::NEVER)), MEGABYTE, clock.now());
            clock.advance(2 * SECOND);
        });
        check_after(false, |shadow, clock| {
            shadow.flush(Some(clock.now().millis));
            shadow.changed(KeyHash::new(7), Some((100, Expiry::NEVER)), MEGABYTE, clock.now());
        });
        check_after(false, |shadow, clock| {
            shadow.flush(Some(clock.now().millis + 2_001));
            clock.advance(2 * SECOND);
        });
    }

    #[test]
    fn expired_keys_take_no_room() {
        let (shadow, clock) = (Shadow::new(), Clock::manual());
        let expiry = Expiry::after(Duration::from_secs(5), clock.now());
        for hash in (0..100).map(KeyHash::new) {
            shadow.changed(hash, Some((100, expiry)), MEGABYTE, clock.now());
        }
        shadow.sweep(clock.now());
        assert_eq!(shadow.curve(MEGABYTE, 0, 0).samples, 100);
        clock.advance(Duration::from_secs(5));
        shadow.sweep(clock.now());
        assert_eq!(shadow.curve(MEGABYTE, 0, 0).samples, 0);
    }

    #[test]
    fn a_key_is_a_hit_only_at_sizes_that_hold_its_own_bytes() {
        let (shadow, now) = (Shadow::new(), Clock::manual().now());
        assert_eq!(shadow.curve(800, 0, 0).lru, [0.0; 7], "nothing was read");
        shadow.changed(KeyHash::new(7), Some((100, Expiry::NEVER)), 800, now);
        shadow.read(KeyHash::new(7), now);
        assert_eq!(shadow.curve(800, 0, 64).lru, [0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn a_reset_curve_ignores_earlier_reads() {
        let (shadow, now) = (Shadow::new(), Clock::manual().now());
        (0..9).map(KeyHash::new).for_each(|hash| shadow.read(hash, now));
        shadow.changed(KeyHash::new(7), Some((100, Expiry::NEVER)), MEGABYTE, now);
        shadow.reset();
        shadow.read(KeyHash::new(7), now);
        assert_eq!(shadow.curve(MEGABYTE, 0, 64).lru, [1.0; 7]);
    }

    #[test]
    fn a_full_sample_is_halved_for_a_new_key_only() {
        let (shadow, now) = (Shadow::new(), Clock::manual().now());
        let change = |nth: usize| {
            let hash = KeyHash::new((u64::MAX >> SHIFT_MIN) / (KEYS_MAX as u64 + 1) * nth as u64);
            shadow.changed(hash, Some((100, Expiry::NEVER)), 100 * MEGABYTE, now);
        };
        (0..KEYS_MAX).for_each(change);
        change(5);
        let curve = shadow.curve(100 * MEGABYTE, 0, 0);
        assert_eq!((curve.samples, curve.rate), (KEYS_MAX, 1.0 / 64.0));
        change(KEYS_MAX);
        let curve = shadow.curve(100 * MEGABYTE, 0, 0);
        assert_eq!((curve.samples, curve.rate), (KEYS_MAX / 2 + 1, 1.0 / 128.0));
    }

    #[test]
    fn keys_beyond_every_size_are_removed() {
        let (shadow, now) = (Shadow::new(), Clock::manual().now());
        for hash in (0..100).map(KeyHash::new) {
            shadow.changed(hash, Some((100, Expiry::NEVER)), 10_000, now);
        }
        // 80,000 bytes hold twelve keys of 100 bytes, each of which represents 64.
        assert_eq!(shadow.curve(10_000, 0, 0).samples, 12);
    }
}
