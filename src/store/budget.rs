//! The memory budget that all shards share, and the free segments.
//!
//! Memory is charged before it is taken. Two segments of every shard are charged from the start, so that no
//! shard is ever without a place to write.

use memmap2::MmapMut;

use crate::pages;
use crate::sync::{AtomicUsize, Mutex, Ordering};

/// The limit of all shards together, and the bytes that are charged.
#[derive(Debug)]
pub(crate) struct Budget {
    /// Segments that were given back. As many are kept as stores leave below the limit: a new one costs page
    /// faults.
    free: Mutex<Vec<MmapMut>>,
    limit: AtomicUsize,
    /// Bytes of one segment.
    pub(crate) segment_bytes: usize,
    /// Segments in use.
    segments: AtomicUsize,
    shards: usize,
    used: AtomicUsize,
    /// Bytes of large values that are about to be stored: a store that makes room for one leaves room for the
    /// others.
    wanted: AtomicUsize,
}

/// Bytes that are about to be stored. They are released when this is dropped.
pub(crate) struct Wanted<'a> {
    budget: &'a Budget,
    bytes: usize,
}

/// The behavior of a store when memory is full.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WhenFull {
    /// It evicts the least valuable items.
    #[default]
    Evict,
    /// It is refused.
    Refuse,
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.budget.wanted.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Budget {
    pub(crate) fn new(limit: usize, shards: usize, segment_bytes: usize) -> Self {
        Budget {
            free: Mutex::new(Vec::new()),
            limit: AtomicUsize::new(limit),
            segment_bytes,
            segments: AtomicUsize::new(0),
            shards,
            used: AtomicUsize::new(shards * SEGMENTS_OWN * segment_bytes),
            wanted: AtomicUsize::new(0),
        }
    }

    /// Charges bytes if the limit allows it.
    pub(crate) fn try_charge(&self, bytes: usize) -> bool {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit());
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    /// Charges bytes that are in use already, also above the limit.
    pub(crate) fn charge(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn discharge(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// A segment for a shard that holds `held` of them; `None` if the limit forbids it.
    pub(crate) fn segment(&self, held: usize) -> Option<MmapMut> {
        if held >= SEGMENTS_OWN && !self.try_charge(self.segment_bytes) {
            return None;
        }
        pages::age();
        let free = self.free.lock().pop();
        // Without memory from the system, the limit is reached.
        let segment = free.or_else(|| MmapMut::map_anon(self.segment_bytes).ok());
        match segment {
            Some(_) => _ = self.segments.fetch_add(1, Ordering::Relaxed),
            None if held >= SEGMENTS_OWN => self.discharge(self.segment_bytes),
            None => {}
        }
        segment
    }

    /// Takes a segment back from a shard that held `held` with it.
    pub(crate) fn give_back(&self, segment: MmapMut, held: usize) {
        if held > SEGMENTS_OWN {
            self.discharge(self.segment_bytes);
        }
        self.segments.fetch_sub(1, Ordering::Relaxed);
        let mut free = self.free.lock();
        if free.len() < RESERVED_SEGMENTS {
            free.push(segment);
        }
    }

    /// Announces that a value of so many bytes is about to be stored; `None` if it is a small one, which
    /// finds room in the reserve.
    pub(crate) fn want(&self, bytes: usize) -> Option<Wanted<'_>> {
        (bytes > self.segment_bytes / 8).then(|| {
            self.wanted.fetch_add(bytes, Ordering::Relaxed);
            Wanted { budget: self, bytes }
        })
    }

    /// Whether a store should make room first, so that others find room, too.
    pub(crate) fn is_tight(&self, wanted: Option<&Wanted>) -> bool {
        let wanted = wanted.map_or(0, |_| self.wanted.load(Ordering::Relaxed));
        self.used() + RESERVED_SEGMENTS * self.segment_bytes + wanted > self.limit()
    }

    /// Whether a value of so many bytes may be stored at all: at most half of the memory. Otherwise a value
    /// that does not fit would evict everything before it is refused.
    pub(crate) fn admits(&self, bytes: usize) -> bool {
        bytes <= self.limit() / 2
    }

    /// The number of segments of each shard if all had the same number.
    pub(crate) fn share(&self) -> usize {
        self.segments.load(Ordering::Relaxed) / self.shards
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// The lowest limit that leaves room for items beside the segments that all shards hold.
    pub(crate) fn limit_min(&self) -> usize {
        4 * self.shards * SEGMENTS_OWN * self.segment_bytes
    }

    /// Whether more is used than the limit allows, as it was lowered.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.used() > self.limit()
    }

    /// Changes the limit. Later stores and sweeps remove what is above it, step by step.
    pub(crate) fn set_limit(&self, bytes: usize) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// The division of the memory into shards and segments.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Layout {
    pub(crate) segment_bytes: usize,
    /// A power of two.
    pub(crate) shards: usize,
}

impl Layout {
    /// Segments of 16 KiB (8 MiB of memory) to 1 MiB (from 8 GiB on), and about 128 of them for each shard:
    /// with fewer, items of a segment differ too much in their ends; with more, a step over all of them takes
    /// too long.
    pub(crate) fn new(memory_bytes: usize) -> Self {
        let small = (memory_bytes / 512).clamp(16 << 10, 64 << 10);
        let segment_bytes = power_of_two(small.max(memory_bytes / 8192).min(1 << 20));
        let shards = power_of_two((memory_bytes / segment_bytes / SHARD_SEGMENTS).clamp(1, SHARDS_MAX));
        Layout { segment_bytes, shards }
    }
}

/// The greatest power of two that is at most `number`.
fn power_of_two(number: usize) -> usize {
    1 << number.ilog2()
}

const SHARD_SEGMENTS: usize = 128;
#[cfg(not(shuttle))]
const SHARDS_MAX: usize = 1024;
/// The model checker explores few shards.
#[cfg(shuttle)]
const SHARDS_MAX: usize = 2;
/// Segments that each shard may hold, however many the others hold.
pub(crate) const SEGMENTS_OWN: usize = 2;
/// Segments below the limit at which stores begin to make room.
const RESERVED_SEGMENTS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_have_at_most_256_segments_of_at_most_1_mib() {
        for shift in 20..=36 {
            for memory_bytes in [1_usize << shift, (1 << shift) + (1 << shift) / 2] {
                let Layout { segment_bytes, shards } = Layout::new(memory_bytes);
                assert!(segment_bytes <= 1 << 20 && shards.is_power_of_two());
                assert!(memory_bytes / segment_bytes / shards <= 256, "{memory_bytes}");
            }
        }
    }

    #[test]
    fn wanted_bytes_make_memory_tight_for_large_values_only() {
        let budget = Budget::new(4 << 20, 1, 16 << 10);
        let first = budget.want(2 << 20).expect("it is a large value");
        assert!(!budget.is_tight(Some(&first)) && budget.want(2 << 10).is_none());
        let second = budget.want(2 << 20);
        assert!(budget.is_tight(second.as_ref()) && !budget.is_tight(None));
        drop(first);
        assert!(!budget.is_tight(second.as_ref()));
    }
}
