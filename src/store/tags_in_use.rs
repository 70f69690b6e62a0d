//! The tags that stored items bear, counted. Most tags that are invalidated are borne by no item, and need
//! not be remembered.
//!
//! A table of buckets, one cache line of the processor each. A tag is counted in one of two buckets, the one
//! with more room, and known there by 20 bits of its hash: so about one of 70,000 unused tags passes for a
//! used one. A count that finds no place is added to a count of one of the two buckets as a whole. Until it
//! is subtracted again, all tags of that bucket pass for used ones. A tag in use never passes for an unused
//! one.
//!
//! The second bucket follows from the first one and those 20 bits, and the first one in the same way from the
//! second, as in a cuckoo filter (Fan et al., CoNEXT 2014). So tags that look alike in one of their buckets
//! have both in common, and their counts are one count.

// Not the lock of the model checker: the atomics around it separate the same steps, and schedules would be
// far more.
use std::sync::OnceLock;
use std::sync::atomic::{Ordering, fence};

use parking_lot::Mutex;

use super::item::key::Keys;
use super::item::tags::Tags;

/// How many items bear each tag.
pub(crate) struct TagsInUse {
    /// Made for the first tag: most caches have none.
    buckets: OnceLock<Box<[Mutex<Bucket>]>>,
    keys: Keys,
    len: usize,
}

#[derive(Default)]
struct Bucket {
    /// The counts of all tags that found no place, and of which this is the bucket with the lower number.
    rest: u32,
    places: [Place; PLACES],
}

/// The buckets of a tag, by their numbers. Few tags have only one.
struct Pair<'a> {
    low: &'a mut Bucket,
    high: Option<&'a mut Bucket>,
}

/// Bits of the hash of a tag, and above them its count; a free place has the count 0.
#[derive(Clone, Copy, Default)]
struct Place(u32);

/// Tags that count as borne by one item more, until this is dropped.
#[must_use]
pub(crate) struct Held<'a> {
    in_use: &'a TagsInUse,
    tags: Tags<'a>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.in_use.subtract(self.tags);
    }
}

impl TagsInUse {
    /// A table of about so many bytes.
    pub(crate) fn new(bytes: usize, keys: Keys) -> Self {
        TagsInUse { buckets: OnceLock::new(), keys, len: (bytes / size_of::<Mutex<Bucket>>()).max(2) }
    }

    /// Counts the tags of one item more.
    #[inline]
    pub(crate) fn add(&self, tags: Tags) {
        if !tags.packed().is_empty() {
            self.each(tags, |pair, hash| pair.add(hash));
        }
    }

    /// Counts the tags of one item less.
    #[inline]
    pub(crate) fn subtract(&self, tags: Tags) {
        if !tags.packed().is_empty() {
            self.each(tags, |pair, hash| pair.subtract(hash));
        }
    }

    /// Counts the tags of one item more, until the result is dropped.
    #[inline]
    pub(crate) fn hold<'a>(&'a self, tags: Tags<'a>) -> Held<'a> {
        self.add(tags);
        Held { in_use: self, tags }
    }

    /// Whether an item may bear the tag with this hash.
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        fence(Ordering::SeqCst);
        self.buckets.get().is_some_and(|_| self.with(hash, |pair| pair.may_contain(hash)))
    }

    /// All counts together.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn total(&self) -> usize {
        let Some(buckets) = self.buckets.get() else { return 0 };
        let counts =
            |bucket: &Bucket| bucket.rest + bucket.places.iter().map(|place| place.count()).sum::<u32>();
        buckets.iter().map(|bucket| counts(&bucket.lock()) as usize).sum()
    }

    #[inline(never)]
    fn each(&self, tags: Tags, act: fn(&mut Pair, u64)) {
        // Of the two that meet in `may_contain`, one sees what the other did before this.
        self.buckets.get_or_init(|| (0..self.len).map(|_| Mutex::default()).collect());
        fence(Ordering::SeqCst);
        tags.map(|tag| self.keys.hash_name(tag)).for_each(|hash| self.with(hash, |pair| act(pair, hash)));
    }

    /// Locks the two buckets of a tag.
    fn with<R>(&self, hash: u64, act: impl FnOnce(&mut Pair) -> R) -> R {
        let buckets = self.buckets.get().expect("they were made for the first tag");
        let first = self.bucket(hash);
        let second = self.partner(first, hash);
        // In the order of their numbers, so that no two threads wait for each other.
        let mut low = buckets[first.min(second)].lock();
        let mut high = (first != second).then(|| buckets[first.max(second)].lock());
        act(&mut Pair { low: &mut low, high: high.as_deref_mut() })
    }

    fn bucket(&self, hash: u64) -> usize {
        // The upper half of the product: a number below that of the buckets.
        ((u128::from(hash) * self.len as u128) >> 64) as usize
    }

    /// The other bucket of a tag with these 20 bits; its partner is the first one again.
    fn partner(&self, bucket: usize, hash: u64) -> usize {
        let sum = self.bucket(u64::from(hash as u32 & HASH_MASK).wrapping_mul(OTHER));
        (sum + self.len - bucket) % self.len
    }
}

impl Pair<'_> {
    fn may_contain(&mut self, hash: u64) -> bool {
        self.low.rest > 0 || self.place(hash).is_some()
    }

    fn add(&mut self, hash: u64) {
        let is_known = self.place(hash).is_some();
        match if is_known { self.place(hash) } else { self.free() } {
            Some(place) if place.count() < COUNT_MAX => *place = Place::new(hash, place.count() + 1),
            _ => self.low.rest += 1,
        }
    }

    fn subtract(&mut self, hash: u64) {
        match self.place(hash) {
            Some(place) => *place = Place::new(hash, place.count() - 1),
            None => self.low.rest -= 1,
        }
    }

    fn place(&mut self, hash: u64) -> Option<&mut Place> {
        let high = self.high.as_mut().map(|bucket| bucket.places.iter_mut());
        self.low.places.iter_mut().chain(high.into_iter().flatten()).find(|place| place.is_of(hash))
    }

    /// A free place in the bucket that has more of them.
    fn free(&mut self) -> Option<&mut Place> {
        let Pair { low, high } = self;
        let bucket = match high {
            Some(high) if high.used() < low.used() => high,
            _ => low,
        };
        bucket.places.iter_mut().find(|place| place.count() == 0)
    }
}

impl Bucket {
    fn used(&self) -> usize {
        self.places.iter().filter(|place| place.count() > 0).count()
    }
}

impl Place {
    fn new(hash: u64, count: u32) -> Self {
        Place((hash as u32 & HASH_MASK) | count << HASH_BITS)
    }

    fn count(self) -> u32 {
        self.0 >> HASH_BITS
    }

    fn is_of(self, hash: u64) -> bool {
        self.count() > 0 && self.0 & HASH_MASK == hash as u32 & HASH_MASK
    }
}

/// An odd number, which makes another hash of a hash: 2^64 divided by the golden ratio (Knuth, volume 3,
/// 6.4).
const OTHER: u64 = 0x9e37_79b9_7f4a_7c15;
/// With the lock, they fill 64 bytes.
const PLACES: usize = 14;
const HASH_BITS: u32 = 20;
const HASH_MASK: u32 = (1 << HASH_BITS) - 1;
const COUNT_MAX: u32 = u32::MAX >> HASH_BITS;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::store::item::tags::TagList;

    fn list(names: &[u32]) -> TagList {
        let names: Vec<String> = names.iter().map(u32::to_string).collect();
        TagList::new(names.iter().map(String::as_bytes)).unwrap()
    }

    fn has(in_use: &TagsInUse, name: u32) -> bool {
        in_use.may_contain(in_use.keys.hash_name(name.to_string().as_bytes()))
    }

    #[test]
    fn a_bucket_fills_a_cache_line() {
        assert_eq!(size_of::<Mutex<Bucket>>(), 64);
    }

    #[test]
    fn a_tag_is_in_use_for_as_long_as_any_item_bears_it() {
        let in_use = TagsInUse::new(1 << 16, Keys::new(7));
        in_use.add(list(&[1, 2]).tags());
        in_use.add(list(&[2]).tags());
        assert_eq!([1, 2, 3].map(|name| has(&in_use, name)), [true, true, false]);
        in_use.subtract(list(&[1, 2]).tags());
        assert_eq!([1, 2].map(|name| has(&in_use, name)), [false, true]);
        let held = list(&[3]);
        let held = in_use.hold(held.tags());
        in_use.subtract(list(&[2]).tags());
        assert_eq!([2, 3].map(|name| has(&in_use, name)), [false, true]);
        drop(held);
        assert!(!has(&in_use, 3));
    }

    #[test]
    fn few_unused_tags_pass_for_used_ones() {
        let in_use = TagsInUse::new(1 << 16, Keys::new(7));
        (0..10_000).for_each(|name| in_use.add(list(&[name]).tags()));
        assert!((0..10_000).all(|name| has(&in_use, name)));
        let passing = (10_000..110_000).filter(|name| has(&in_use, *name)).count();
        assert!(passing < 10, "{passing} of 100,000");
    }

    /// Two tags that are alike in all 20 bits and had one bucket in common: the count of one was taken from
    /// the other, which passed for unused although an item bore it, and its invalidation was lost.
    #[test]
    fn tags_that_look_alike_in_one_bucket_share_both() {
        let in_use = TagsInUse::new(64 * 5, Keys::new(7));
        in_use.add(list(&[1]).tags());
        let mut state = 7_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        let hashes: Vec<u64> = (0..60).map(|number| (random() << 33) & !0xf_ffff | (number % 3)).collect();
        let mut counts: HashMap<u64, u32> = HashMap::new();
        for step in 0..30_000 {
            let hash = hashes[random() as usize % hashes.len()];
            let count = counts.entry(hash).or_default();
            if *count == 0 || (step < 20_000 && random() % 2 == 0) {
                in_use.with(hash, |pair| pair.add(hash));
                *count += 1;
            } else {
                in_use.with(hash, |pair| pair.subtract(hash));
                *count -= 1;
            }
            for (hash, count) in &counts {
                assert!(*count == 0 || in_use.may_contain(*hash), "step {step}");
            }
        }
        for (hash, count) in counts {
            (0..count).for_each(|_| in_use.with(hash, |pair| pair.subtract(hash)));
        }
        assert!(!hashes.iter().any(|hash| in_use.may_contain(*hash)) && in_use.total() == 1);
    }

    /// More tags than places, and more items of one tag than a place can count.
    #[test]
    fn an_overfull_table_forgets_no_tag_and_recovers() {
        let in_use = TagsInUse::new(64 * 4, Keys::new(7));
        let mut counts: HashMap<u32, u32> = (0..200).map(|name| (name, 1 + name % 3)).collect();
        counts.insert(999, COUNT_MAX + 2);
        for (name, count) in &counts {
            (0..*count).for_each(|_| in_use.add(list(&[*name]).tags()));
        }
        for (name, count) in counts {
            assert!(has(&in_use, name));
            (0..count).for_each(|_| in_use.subtract(list(&[name]).tags()));
        }
        assert!(!(0..1_000).any(|name| has(&in_use, name)));
        assert_eq!(in_use.total(), 0);
    }
}
