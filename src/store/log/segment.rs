//! One segment of a shard's log: items one behind the other, and when their times pass.
//!
//! Deliberately absent: keys, hashes and order. The engine knows which segment stands where.

use memmap2::MmapMut;
use prefetch_index::prefetch_index;

use crate::store::item::packed::{Packed, PackedMut};

/// A piece of the log.
pub(crate) struct Segment {
    bytes: MmapMut,
    /// Bytes written, dead ones included.
    pub(crate) used: usize,
    /// Bytes that the live items in it would take if they were written anew.
    pub(crate) live: usize,
    pub(crate) expiries: Expiries,
    /// Whether everything was invalidated since it was last looked through.
    pub(crate) is_flushed: bool,
    pub(crate) queue: Queue,
    /// Bytes of stale copies, roughly: those that became one, and what was found when it was last looked
    /// through.
    pub(crate) stale: usize,
    /// When its first item was written, in monotonic seconds.
    pub(crate) since: u32,
    /// When it was last looked through.
    pub(crate) swept: u32,
}

/// The two logs of S3-FIFO.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Queue {
    /// Items that were used while they were in the small queue, or are back soon after their eviction.
    Main,
    /// New items.
    Small,
}

/// How many bytes end when, roughly: a histogram by how far off the end was.
#[derive(Clone, Copy, Default)]
pub(crate) struct Expiries([Bin; BINS]);

#[derive(Clone, Copy, Default)]
struct Bin {
    bytes: u32,
    soonest: u32,
    latest: u32,
}

impl Segment {
    pub(crate) fn new(bytes: MmapMut, queue: Queue, second: u32) -> Self {
        Segment {
            bytes,
            used: 0,
            live: 0,
            expiries: Expiries::default(),
            is_flushed: false,
            queue,
            stale: 0,
            since: second,
            swept: second,
        }
    }

    /// Has the processor fetch the item there: its first lines, behind which the processor goes on by itself.
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

    /// Bytes behind the last item.
    pub(crate) fn room(&self) -> usize {
        self.bytes.len() - self.used
    }

    /// The item that begins at `offset`, and where the next one does; dead ones, too.
    pub(crate) fn next(&self, offset: usize) -> Option<(Packed<'_>, usize)> {
        (offset < self.used).then(|| {
            let item = self.item(offset);
            (item, offset + item.place())
        })
    }

    /// Moves `len` bytes down to `to`, where a hole is.
    pub(crate) fn move_down(&mut self, from: usize, len: usize, to: usize) {
        self.bytes.copy_within(from..from + len, to);
    }

    /// Copies `len` bytes of another segment behind the last item; returns where they lie now.
    pub(crate) fn append(&mut self, other: &Segment, from: usize, len: usize) -> usize {
        let at = self.used;
        self.bytes[at..at + len].copy_from_slice(&other.bytes[from..from + len]);
        self.used += len;
        at
    }

    /// Begins anew: nothing in it is live.
    pub(crate) fn clear(&mut self) {
        (self.used, self.live, self.stale) = (0, 0, 0);
        (self.expiries, self.is_flushed) = (Expiries::default(), false);
    }

    pub(crate) fn into_memory(self) -> MmapMut {
        self.bytes
    }
}

impl Expiries {
    /// Counts bytes that end at `gone`; 0 is never.
    pub(crate) fn add(&mut self, gone: u32, bytes: usize, second: u32) {
        if gone == 0 {
            return;
        }
        let bin = &mut self.0[bin_of(gone.saturating_sub(second))];
        if bin.bytes == 0 {
            (bin.soonest, bin.latest) = (gone, gone);
        }
        (bin.soonest, bin.latest) = (bin.soonest.min(gone), bin.latest.max(gone));
        bin.bytes = bin.bytes.saturating_add(bytes as u32);
    }

    /// When the first of them ends; 0 if none does.
    pub(crate) fn soonest(&self) -> u32 {
        self.0.iter().filter(|bin| bin.bytes > 0).map(|bin| bin.soonest).min().unwrap_or(0)
    }

    /// Whether so many have ended that it pays to look: all that ended together, or an estimated `enough`
    /// bytes.
    pub(crate) fn is_due(&self, second: u32, enough: usize) -> bool {
        let is_over = |bin: &Bin| bin.bytes > 0 && bin.latest <= second;
        self.0.iter().any(is_over) || self.0.iter().map(|bin| bin.ended(second)).sum::<usize>() >= enough
    }
}

impl Bin {
    /// Bytes that have ended, if they end evenly between the soonest and the latest.
    fn ended(&self, second: u32) -> usize {
        if self.bytes == 0 || second < self.soonest {
            return 0;
        }
        let (passed, span) = (second - self.soonest + 1, self.latest - self.soonest + 1);
        (u64::from(self.bytes) * u64::from(passed.min(span)) / u64::from(span)) as usize
    }
}

/// Each bin is for times up to four times as far off as the one before: 1 s, 4 s, … 4.5 hours, and beyond.
fn bin_of(seconds: u32) -> usize {
    ((seconds | 1).ilog2() as usize / 2).min(BINS - 1)
}

const BINS: usize = 8;

/// Of the processor's caches.
const LINE_BYTES: usize = 64;
const PREFETCHED_LINES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_together_is_due_at_once() {
        let mut expiries = Expiries::default();
        assert_eq!((expiries.soonest(), expiries.is_due(u32::MAX, 1)), (0, false));
        expiries.add(0, 1_000, 10);
        expiries.add(70, 8, 10);
        expiries.add(5_000, 8, 10);
        assert_eq!(expiries.soonest(), 70);
        assert!(!expiries.is_due(69, 4_096) && expiries.is_due(70, 4_096));
    }

    #[test]
    fn what_ends_bit_by_bit_is_due_when_it_is_enough() {
        let mut expiries = Expiries::default();
        for gone in 1_001..=1_100 {
            expiries.add(gone, 100, 500);
        }
        assert!(!expiries.is_due(1_009, 1_000) && expiries.is_due(1_010, 1_000));
        assert!(expiries.is_due(1_100, 1_000_000));
    }
}
