//! The bytes that all shards together may take, and the segments that none of them uses now.
//!
//! Memory is charged before it is taken. Two segments of every shard are charged from the start, so that no
//! shard is ever without a place to write.

use memmap2::MmapMut;

use crate::sync::{AtomicUsize, Mutex, Ordering};

/// One limit, one sum.
#[derive(Debug)]
pub(crate) struct Budget {
    /// Segments that were given back. As many are kept as stores leave below the limit: a fresh one costs
    /// page faults.
    free: Mutex<Vec<MmapMut>>,
    limit: AtomicUsize,
    /// Bytes of one segment.
    pub(crate) segment_bytes: usize,
    /// Segments in use.
    segments: AtomicUsize,
    shards: usize,
    used: AtomicUsize,
    /// Bytes that large values are about to be charged: who makes room for one leaves room for the others.
    wanted: AtomicUsize,
}

/// Bytes that are wanted as long as this lives.
pub(crate) struct Wanted<'a> {
    budget: &'a Budget,
    bytes: usize,
}

/// The behavior of a store when memory is full.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WhenFull {
    /// It evicts the items that are worth least.
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

    /// Charges bytes, if they are to be had.
    pub(crate) fn try_charge(&self, bytes: usize) -> bool {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit());
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    /// Charges what is there already, whether it fits or not.
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
        let free = self.free.lock().pop();
        // The system has no memory to give: as good as a limit.
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
    /// finds room in what is reserved.
    pub(crate) fn want(&self, bytes: usize) -> Option<Wanted<'_>> {
        (bytes > self.segment_bytes / 8).then(|| {
            self.wanted.fetch_add(bytes, Ordering::Relaxed);
            Wanted { budget: self, bytes }
        })
    }

    /// Whether a store should make room first, so that others find it, too.
    pub(crate) fn is_tight(&self, wanted: Option<&Wanted>) -> bool {
        let wanted = wanted.map_or(0, |_| self.wanted.load(Ordering::Relaxed));
        self.used() + RESERVED_SEGMENTS * self.segment_bytes + wanted > self.limit()
    }

    /// Whether a value of so many bytes may be stored at all: nothing takes more than half of the memory.
    /// Else a value that cannot find room would throw everything away in looking for it.
    pub(crate) fn admits(&self, bytes: usize) -> bool {
        bytes <= self.limit() / 2
    }

    /// Segments that each shard would hold if all held the same.
    pub(crate) fn share(&self) -> usize {
        self.segments.load(Ordering::Relaxed) / self.shards
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Another limit. What is above it goes step by step, by later stores and sweeps.
    pub(crate) fn set_limit(&self, bytes: usize) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// How memory is divided.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Layout {
    pub(crate) segment_bytes: usize,
    /// A power of two.
    pub(crate) shards: usize,
}

impl Layout {
    /// Segments of 16 KiB (8 MiB of memory) to 1 MiB (from 4 GiB on), and about 64 of them for each shard:
    /// fewer make queues of segments a bad likeness of queues of items, more make a step over all of them
    /// long.
    pub(crate) fn new(memory_bytes: usize) -> Self {
        let small = (memory_bytes / 512).clamp(16 << 10, 64 << 10);
        let segment_bytes = power_of_two(small.max(memory_bytes / 4096).min(1 << 20));
        let shards = power_of_two((memory_bytes / segment_bytes / 64).clamp(1, SHARDS_MAX));
        Layout { segment_bytes, shards }
    }
}

/// The power of two that is not above `number`.
fn power_of_two(number: usize) -> usize {
    1 << number.ilog2()
}

#[cfg(not(shuttle))]
const SHARDS_MAX: usize = 1024;
/// The model checker explores few of them.
#[cfg(shuttle)]
const SHARDS_MAX: usize = 2;
/// Segments that a shard may hold whatever the others do.
pub(crate) const SEGMENTS_OWN: usize = 2;
/// Segments below the limit at which stores begin to make room.
const RESERVED_SEGMENTS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_and_the_segments_of_a_shard_stay_few_whatever_the_memory() {
        for shift in 20..=36 {
            for memory_bytes in [1_usize << shift, (1 << shift) + (1 << shift) / 2] {
                let Layout { segment_bytes, shards } = Layout::new(memory_bytes);
                assert!(segment_bytes <= 1 << 20 && shards.is_power_of_two());
                assert!(memory_bytes / segment_bytes / shards <= 128, "{memory_bytes}");
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
