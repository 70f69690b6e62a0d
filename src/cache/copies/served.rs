//! Counts of the reads that copies served: each thread counts its own, and the statistics sum them up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::counts::{Counts, SizeCounts};
use crate::sync::Mutex;

/// The reads that the copies of one thread served, by the size class of the value. Only that thread adds to
/// them.
#[derive(Default)]
pub(super) struct Served([AtomicU64; CLASSES]);

/// The counts of all threads that have had copies of a cache.
#[derive(Default)]
pub(in crate::cache) struct AllServed(Mutex<Threads>);

#[derive(Default)]
struct Threads {
    /// At the last reset.
    before: [u64; CLASSES],
    /// Of threads that have ended, or copy another cache now.
    former: [u64; CLASSES],
    present: Vec<Arc<Served>>,
}

impl Served {
    #[inline]
    pub(super) fn count(&self, value_bytes: usize) {
        let count = &self.0[SizeCounts::class(value_bytes).min(CLASSES - 1)];
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

impl AllServed {
    /// The counts of one more thread.
    pub(super) fn enter(&self) -> Arc<Served> {
        let served = Arc::<Served>::default();
        let mut threads = self.0.lock();
        threads.forget_former();
        threads.present.push(Arc::clone(&served));
        served
    }

    /// Adds the reads since the last reset.
    pub(in crate::cache) fn add_to(&self, mut counts: Counts) -> Counts {
        let mut threads = self.0.lock();
        let sums = threads.sums();
        for ((class, sum), before) in counts.sizes.iter_mut().zip(sums).zip(threads.before) {
            class.hits += sum - before;
        }
        counts
    }

    pub(in crate::cache) fn reset(&self) {
        let mut threads = self.0.lock();
        threads.before = threads.sums();
    }
}

impl Threads {
    /// All reads since the start.
    fn sums(&mut self) -> [u64; CLASSES] {
        self.forget_former();
        let mut sums = self.former;
        self.present.iter().for_each(|served| add(&mut sums, served));
        sums
    }

    /// Keeps the counts of threads that hold theirs no more, but not their memory.
    fn forget_former(&mut self) {
        let former = &mut self.former;
        self.present.retain_mut(|served| {
            let is_former = Arc::get_mut(served).is_some();
            if is_former {
                add(former, served);
            }
            !is_former
        });
    }
}

fn add(sums: &mut [u64; CLASSES], served: &Served) {
    sums.iter_mut().zip(&served.0).for_each(|(sum, count)| *sum += count.load(Ordering::Relaxed));
}

/// Bytes of a copy at most, so those of a thread take 256 KiB at most.
pub(super) const COPY_BYTES_MAX: usize = 4 << 10;
/// Those of values that can be copied.
const CLASSES: usize = COPY_BYTES_MAX.ilog2() as usize + 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_read_is_lost_when_a_thread_ends_or_counts_are_reset() {
        let all = AllServed::default();
        let hits = || all.add_to(Counts::default()).hits();
        let (one, other) = (all.enter(), all.enter());
        (0..5).for_each(|_| one.count(100));
        other.count(COPY_BYTES_MAX);
        assert_eq!(hits(), 6);
        drop(one);
        assert_eq!((hits(), all.0.lock().present.len()), (6, 1), "its memory is free");
        all.reset();
        assert_eq!(hits(), 0);
        other.count(1);
        drop(other);
        assert_eq!((hits(), all.0.lock().present.len()), (1, 0));
    }
}
