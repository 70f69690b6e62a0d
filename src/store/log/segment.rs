//! One segment of a shard's log: items one after the other, and a histogram of their expiry times.
//!
//! A segment knows no keys, no hashes and no other segments.

use memmap2::MmapMut;
use prefetch_index::prefetch_index;

use crate::store::expiry::Expiry;
use crate::store::item::packed::{Packed, PackedMut};
use crate::store::tick::Tick;

/// A part of the log.
pub(crate) struct Segment {
    bytes: MmapMut,
    /// The least end of its items when they were written (see [`crate::store::ends`]).
    pub(crate) due: f64,
    /// Bytes written, dead ones included.
    pub(crate) used: usize,
    /// Bytes of the live items in it, without the unused ends of their places.
    pub(crate) live: usize,
    pub(crate) expiries: Expiries,
    /// Bytes of the largest item that was written to it.
    pub(crate) largest: usize,
    /// Whether the sweep has to look through it, as something in it may have been invalidated.
    pub(crate) is_marked: bool,
    pub(crate) queue: Queue,
    /// Bytes of stale copies, roughly: those found by the last look through the segment, and those marked
    /// since.
    pub(crate) stale: usize,
    /// When it was last looked through.
    pub(crate) swept: Tick,
}

/// The queues, by the lives that items have left when they are written, in units. Items that end together lie
/// together, so few are copied when their segment is looked through.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Queue {
    /// Less than half.
    Soon,
    /// Less than one.
    Later,
    Last,
}

impl Queue {
    pub(crate) const ALL: [Queue; 3] = [Queue::Soon, Queue::Later, Queue::Last];

    pub(crate) fn of(left: f64) -> Queue {
        match left {
            ..0.5 => Queue::Soon,
            ..1.0 => Queue::Later,
            _ => Queue::Last,
        }
    }
}

/// A rough histogram of the times at which items are removed, by the distance of these times.
#[derive(Clone, Copy, Default)]
pub(crate) struct Expiries([Bin; BINS]);

#[derive(Clone, Copy, Default)]
struct Bin {
    bytes: u32,
    soonest: Tick,
    latest: Tick,
}

impl Segment {
    pub(crate) fn new(bytes: MmapMut, queue: Queue, tick: Tick) -> Self {
        Segment {
            bytes,
            due: f64::INFINITY,
            used: 0,
            live: 0,
            expiries: Expiries::default(),
            largest: 0,
            is_marked: false,
            queue,
            stale: 0,
            swept: tick,
        }
    }

    /// Prefetches the first lines of the item there; the processor itself fetches the next ones.
    pub(crate) fn prefetch(&self, offset: usize) {
        for line in 0..PREFETCHED_LINES {
            prefetch_index(&self.bytes[..], offset + line * LINE_BYTES);
        }
    }

    pub(crate) fn item(&self, offset: usize) -> Packed<'_> {
        Packed(&self.bytes[offset..])
    }

    pub(crate) fn item_mut(&mut self, offset: usize) -> PackedMut<'_> {
        PackedMut(&mut self.bytes[offset..])
    }

    /// Bytes after the last item.
    pub(crate) fn room(&self) -> usize {
        self.bytes.len() - self.used
    }

    /// The item that begins at `offset`, dead or not, and the offset of the next one.
    pub(crate) fn next(&self, offset: usize) -> Option<(Packed<'_>, usize)> {
        (offset < self.used).then(|| {
            let item = self.item(offset);
            (item, offset + item.place())
        })
    }

    /// Moves `len` bytes down into the gap at `to`.
    pub(crate) fn move_down(&mut self, from: usize, len: usize, to: usize) {
        self.bytes.copy_within(from..from + len, to);
    }

    /// Copies `len` bytes of another segment to the end of the items; returns their offset.
    pub(crate) fn append(&mut self, other: &Segment, from: usize, len: usize) -> usize {
        let at = self.used;
        self.bytes[at..at + len].copy_from_slice(&other.bytes[from..from + len]);
        self.used += len;
        self.largest = self.largest.max(len);
        at
    }

    /// Empties the segment, in which no item is live.
    pub(crate) fn clear(&mut self) {
        (self.due, self.used, self.live, self.stale) = (f64::INFINITY, 0, 0, 0);
        (self.expiries, self.largest, self.is_marked) = (Expiries::default(), 0, false);
    }

    pub(crate) fn into_memory(self) -> MmapMut {
        self.bytes
    }
}

impl Expiries {
    /// Adds bytes that are removed then.
    pub(crate) fn add(&mut self, removed_at: Expiry, bytes: usize, tick: Tick) {
        if removed_at == Expiry::NEVER {
            return;
        }
        let end = removed_at.tick();
        let bin = &mut self.0[bin_of(end.since(tick))];
        if bin.bytes == 0 {
            (bin.soonest, bin.latest) = (end, end);
        }
        (bin.soonest, bin.latest) = (bin.soonest.min(end), bin.latest.max(end));
        bin.bytes = bin.bytes.saturating_add(bytes as u32);
    }

    /// The earliest of these times.
    pub(crate) fn soonest(&self) -> Expiry {
        let soonest = self.0.iter().filter(|bin| bin.bytes > 0).map(|bin| bin.soonest).min();
        soonest.map_or(Expiry::NEVER, Expiry::at)
    }

    /// Whether enough bytes have expired to look through the segment: all of a bin, or an estimated `enough`
    /// bytes.
    pub(crate) fn is_due(&self, tick: Tick, enough: usize) -> bool {
        let has_expired = |bin: &Bin| bin.bytes > 0 && bin.latest <= tick;
        self.0.iter().any(has_expired) || self.0.iter().map(|bin| bin.expired(tick)).sum::<usize>() >= enough
    }
}

impl Bin {
    /// An estimate of the expired bytes, as if expiry times were spread evenly from `soonest` to `latest`.
    fn expired(&self, tick: Tick) -> usize {
        if self.bytes == 0 || tick < self.soonest {
            return 0;
        }
        let (passed, span) = (tick.since(self.soonest) + 1, self.latest.since(self.soonest) + 1);
        (u64::from(self.bytes) * u64::from(passed.min(span)) / u64::from(span)) as usize
    }
}

/// Each bin is for times up to four times as distant as the one before: a quarter of a second, 1 s, 4 s, …
/// 4.5 hours, and beyond.
fn bin_of(ticks: u32) -> usize {
    ((ticks | 1).ilog2() as usize / 2).min(BINS - 1)
}

const BINS: usize = 9;

/// A line of the processor's caches.
const LINE_BYTES: usize = 64;
const PREFETCHED_LINES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(number: u32) -> Tick {
        Tick::from_number(number)
    }

    fn expiry(number: u32) -> Expiry {
        Expiry::at(tick(number))
    }

    #[test]
    fn items_that_expire_together_are_due_at_once() {
        let mut expiries = Expiries::default();
        assert_eq!((expiries.soonest(), expiries.is_due(tick(u32::MAX), 1)), (Expiry::NEVER, false));
        expiries.add(Expiry::NEVER, 1_000, tick(10));
        expiries.add(expiry(70), 8, tick(10));
        expiries.add(expiry(5_000), 8, tick(10));
        assert_eq!(expiries.soonest(), expiry(70));
        assert!(!expiries.is_due(tick(69), 4_096) && expiries.is_due(tick(70), 4_096));
    }

    #[test]
    fn items_that_expire_one_by_one_are_due_once_they_are_enough() {
        let mut expiries = Expiries::default();
        for removed_at in 1_001..=1_100 {
            expiries.add(expiry(removed_at), 100, tick(500));
        }
        assert!(!expiries.is_due(tick(1_009), 1_000) && expiries.is_due(tick(1_010), 1_000));
        assert!(expiries.is_due(tick(1_100), 1_000_000));
    }
}
