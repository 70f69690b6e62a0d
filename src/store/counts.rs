//! Counts of the shards, and their sum.

use std::iter;

use super::Engine;
use super::ends::CLASSES;
use super::log::segment::Queue;
use super::tick::Tick;

/// Counts of one shard or of all: of the items held, and of events. Bytes are bytes of memory, bookkeeping
/// included.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Bytes of the items held, live or stale: header, key and value, rounded up to 8.
    pub bytes: u64,
    /// Bytes that eviction and packing have moved since the start.
    pub copied_bytes: u64,
    /// Bytes in segments that belong to no item any more.
    pub dead_bytes: u64,
    /// Evicted items by the seconds since their last read or store; see [`AGE_SECONDS`].
    pub evicted_ages: [u64; AGE_SECONDS.len() + 1],
    /// Evicted items that were never read.
    pub evicted_unfetched: u64,
    /// Evicted items that would have expired one day.
    pub evicted_nonzero: u64,
    /// Items that were evicted because memory was full.
    pub evictions: u64,
    /// Items that were removed because they had expired, stale copies at the end of their time included.
    pub expired: u64,
    /// Those of them that were never read.
    pub expired_unfetched: u64,
    /// Commands that found an expired value.
    pub get_expired: u64,
    /// Commands that found a value which a flush or a group had invalidated.
    pub get_flushed: u64,
    /// The factors of the lives of items by class, in thousandths, of all shards together. Classes are small
    /// items with 0 to 7 uses, the same after a return, and large items likewise.
    pub factors: [u64; CLASSES],
    /// The floors of eviction, in thousandths of a unit, of all shards together.
    pub floors: u64,
    /// Bytes of the tables of ghosts.
    pub ghost_bytes: u64,
    /// Items that were stored again soon after their removal.
    pub ghost_hits: u64,
    /// Hold-offs that found no place of their own, and held off all keys of a cell.
    pub hold_offs_shared: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
    /// Items held.
    pub items: u64,
    /// Bytes of the large items.
    pub large_bytes: u64,
    /// Large items.
    pub large_items: u64,
    /// When the last eviction was, and for how many seconds its item had not been read or stored.
    pub last_evicted: (Tick, u32),
    /// Reads that found no live value, without those that wait while another client loads it.
    pub misses: u64,
    /// When the oldest of the items was last read or stored that are next to be evicted.
    pub oldest_access: Option<Tick>,
    /// Bytes of segments that are not written to yet.
    pub open_bytes: u64,
    /// Bytes of live items in segments, by the life that they had left when they were written: less than half
    /// a unit, less than one, and more.
    pub queue_bytes: [u64; Queue::ALL.len()],
    /// Segments held.
    pub segments: u64,
    /// Reads and fills by the size of the value; class `n` holds values of up to 2^n bytes.
    pub sizes: [SizeCounts; SIZES],
    /// Stale copies among `items`, without expired or invalidated ones that no command has found yet.
    pub stale: u64,
    /// Items stored since the start.
    pub total_items: u64,
    /// Versions of rows that were forgotten early for lack of room.
    pub versions_forgotten: u64,
}

/// Counts of values of one size class.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SizeCounts {
    /// Stores under keys without a live value: the cost of misses by size, as a miss itself has no size.
    pub fills: u64,
    /// Reads that found a value.
    pub hits: u64,
}

impl SizeCounts {
    /// The class of a value: the least `n` such that 2^n bytes hold it.
    pub(crate) fn class(value_bytes: usize) -> usize {
        (value_bytes.max(1).next_power_of_two().ilog2() as usize).min(SIZES - 1)
    }

    /// Hits among hits and fills; `None` if there are neither.
    pub fn ratio(self) -> Option<f64> {
        let all = self.hits + self.fills;
        (all > 0).then(|| self.hits as f64 / all as f64)
    }
}

impl Counts {
    /// Reads that found a value.
    pub fn hits(&self) -> u64 {
        self.sizes.iter().map(|size| size.hits).sum()
    }

    /// Resets the counts of events; those of the items held stay.
    pub(crate) fn begin_again(&mut self) {
        let Counts { bytes, items, stale, .. } = *self;
        *self = Counts { bytes, items, stale, ..Counts::default() };
    }

    pub(crate) fn evicted(&mut self, age_seconds: u32) {
        let class = AGE_SECONDS.iter().position(|end| age_seconds < *end).unwrap_or(AGE_SECONDS.len());
        self.evicted_ages[class] += 1;
    }
}

impl Engine {
    /// Counts a miss.
    pub(crate) fn missed(&mut self) {
        self.counts.misses += 1;
    }

    /// Counts a command that found an expired item.
    pub(crate) fn met_expired(&mut self) {
        self.counts.get_expired += 1;
    }

    /// Counts a command that found an invalidated item.
    pub(crate) fn met_invalidated(&mut self) {
        self.counts.get_flushed += 1;
    }

    /// Resets the counts of events.
    pub(crate) fn reset_counts(&mut self) {
        self.counts.begin_again();
    }

    /// When the first item of the segment that is due first was last read or stored, and the large item that
    /// ends first; the longer ago.
    fn oldest_access(&self) -> Option<Tick> {
        let first = self.log.first_end().and_then(|(_, number)| {
            let segment = self.log.segment(number);
            let mut items = iter::successors(segment.next(0), |(_, next)| segment.next(*next));
            items.find(|(item, _)| !item.is_dead()).map(|(item, _)| item.accessed())
        });
        first.into_iter().chain(self.large.first_access()).min()
    }

    /// The counts of the shard.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts {
            factors: self.ends.factors().map(thousandths),
            floors: thousandths(self.ends.floor()),
            ghost_bytes: self.ghosts.bytes() as u64,
            index_bytes: self.index.bytes() as u64,
            large_bytes: self.large.bytes as u64,
            large_items: self.large.len() as u64,
            oldest_access: self.oldest_access(),
            segments: self.log.held() as u64,
            ..self.counts
        };
        for (_, segment) in self.log.segments() {
            counts.dead_bytes += (segment.used - segment.live) as u64;
            counts.open_bytes += segment.room() as u64;
            counts.queue_bytes[segment.queue as usize] += segment.live as u64;
        }
        counts
    }
}

fn thousandths(number: f64) -> u64 {
    (number * 1_000.0) as u64
}

impl std::ops::Add for Counts {
    type Output = Counts;

    fn add(self, other: Counts) -> Counts {
        let mut evicted_ages = self.evicted_ages;
        evicted_ages.iter_mut().zip(other.evicted_ages).for_each(|(sum, more)| *sum += more);
        let mut factors = self.factors;
        factors.iter_mut().zip(other.factors).for_each(|(sum, more)| *sum += more);
        let mut queue_bytes = self.queue_bytes;
        queue_bytes.iter_mut().zip(other.queue_bytes).for_each(|(sum, more)| *sum += more);
        let mut sizes = self.sizes;
        for (sum, more) in sizes.iter_mut().zip(other.sizes) {
            *sum = SizeCounts { fills: sum.fills + more.fills, hits: sum.hits + more.hits };
        }
        Counts {
            bytes: self.bytes + other.bytes,
            copied_bytes: self.copied_bytes + other.copied_bytes,
            dead_bytes: self.dead_bytes + other.dead_bytes,
            evicted_ages,
            evicted_nonzero: self.evicted_nonzero + other.evicted_nonzero,
            evicted_unfetched: self.evicted_unfetched + other.evicted_unfetched,
            evictions: self.evictions + other.evictions,
            expired: self.expired + other.expired,
            expired_unfetched: self.expired_unfetched + other.expired_unfetched,
            get_expired: self.get_expired + other.get_expired,
            get_flushed: self.get_flushed + other.get_flushed,
            factors,
            floors: self.floors + other.floors,
            ghost_bytes: self.ghost_bytes + other.ghost_bytes,
            ghost_hits: self.ghost_hits + other.ghost_hits,
            hold_offs_shared: self.hold_offs_shared + other.hold_offs_shared,
            index_bytes: self.index_bytes + other.index_bytes,
            items: self.items + other.items,
            large_bytes: self.large_bytes + other.large_bytes,
            large_items: self.large_items + other.large_items,
            last_evicted: self.last_evicted.max(other.last_evicted),
            misses: self.misses + other.misses,
            oldest_access: self.oldest_access.into_iter().chain(other.oldest_access).min(),
            open_bytes: self.open_bytes + other.open_bytes,
            queue_bytes,
            segments: self.segments + other.segments,
            sizes,
            stale: self.stale + other.stale,
            total_items: self.total_items + other.total_items,
            versions_forgotten: self.versions_forgotten + other.versions_forgotten,
        }
    }
}

/// Size classes of values: 1 byte, 2, 4, … 1 GiB.
pub const SIZES: usize = 31;
/// The upper ends of the classes of `evicted_ages`, in seconds; the last class has none.
pub const AGE_SECONDS: [u32; 7] = [1, 4, 16, 64, 256, 1024, 4096];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_class_ends_at_its_power_of_two() {
        for (value_bytes, class) in [(0, 0), (1, 0), (2, 1), (3, 2), (64, 6), (65, 7), (1 << 30, 30)] {
            assert_eq!(SizeCounts::class(value_bytes), class, "{value_bytes}");
        }
    }
}
