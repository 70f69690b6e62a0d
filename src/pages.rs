//! Large values in memory of their own: whole pages, which the system gives and gets back.
//!
//! The allocator would keep most of what it is given back: blocks that live longer lie between, and after a
//! large block was freed, glibc takes the next ones of that size from its heap. A server whose values had
//! changed their sizes held twice its limit.
//!
//! A new mapping costs a page fault for each page, so the runs that were dropped last, 2 MiB at most, are
//! used again by runs of about their size.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use memmap2::MmapMut;

use crate::limits::VALUE_APART_BYTES_MIN;

/// Bytes of a value to be stored.
#[derive(Clone)]
pub enum Payload<'a> {
    /// They are copied.
    Borrowed(&'a [u8]),
    /// They are kept as they are if they are many.
    Owned(Box<Run>),
}

/// Owned bytes, with room for a number of them that is known from the start.
pub struct Run {
    memory: Memory,
    /// Bytes written, and the room for them.
    len: usize,
    room: usize,
}

enum Memory {
    /// Of the allocator: for few bytes, or if there are too many mappings already.
    Heap(Vec<u8>),
    Pages(Pages),
}

/// A mapping that is counted.
struct Pages(Option<MmapMut>);

/// The mappings that were dropped last, oldest first.
struct Dropped {
    bytes: usize,
    /// Segments opened since a mapping was last used again.
    idle: usize,
    mappings: VecDeque<MmapMut>,
}

impl Run {
    /// Empty, with room for so many bytes.
    pub fn new(room: usize) -> Run {
        match room {
            VALUE_APART_BYTES_MIN.. => Run::in_pages(room),
            _ => Run { memory: Memory::Heap(vec![0; room]), len: 0, room },
        }
    }

    fn in_pages(room: usize) -> Run {
        let pages = Pages::new(room.max(1).next_multiple_of(PAGE_BYTES));
        let memory = pages.map_or_else(|| Memory::Heap(vec![0; room]), Memory::Pages);
        Run { memory, len: 0, room }
    }

    /// These bytes, one part after the other.
    pub fn of(parts: &[&[u8]]) -> Run {
        let mut run = Run::new(parts.iter().map(|part| part.len()).sum());
        parts.iter().for_each(|part| run.push(part));
        run
    }

    /// Adds bytes.
    ///
    /// # Panics
    /// If there is no room for them.
    pub fn push(&mut self, bytes: &[u8]) {
        self.rest()[..bytes.len()].copy_from_slice(bytes);
        self.filled(bytes.len());
    }

    /// The room that is left, to be written to before [`Run::filled`].
    pub fn rest(&mut self) -> &mut [u8] {
        let range = self.len..self.room;
        match &mut self.memory {
            Memory::Heap(bytes) => &mut bytes[range],
            Memory::Pages(pages) => &mut pages.bytes_mut()[range],
        }
    }

    /// Adds so many bytes that were written to [`Run::rest`].
    pub fn filled(&mut self, bytes: usize) {
        self.len += bytes;
        assert!(self.len <= self.room, "it has room for them");
    }

    /// Whether all its room is filled.
    pub fn is_full(&self) -> bool {
        self.len == self.room
    }

    /// Removes bytes at the end.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The memory that it takes, in bytes.
    pub fn memory_bytes(&self) -> usize {
        match &self.memory {
            Memory::Heap(bytes) => bytes.capacity(),
            Memory::Pages(pages) => pages.bytes().len(),
        }
    }
}

impl Deref for Run {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.memory {
            Memory::Heap(bytes) => &bytes[..self.len],
            Memory::Pages(pages) => &pages.bytes()[..self.len],
        }
    }
}

impl Clone for Run {
    fn clone(&self) -> Run {
        Run::of(&[self])
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self[..].fmt(f)
    }
}

impl Eq for Run {}

impl PartialEq for Run {
    fn eq(&self, other: &Run) -> bool {
        self[..] == other[..]
    }
}

impl From<Vec<u8>> for Run {
    fn from(bytes: Vec<u8>) -> Run {
        let len = bytes.len();
        Run { memory: Memory::Heap(bytes), len, room: len }
    }
}

impl Payload<'_> {
    /// The bytes in pages of their own, if the system has them.
    pub fn into_run(self) -> Run {
        match self {
            Payload::Owned(run) if matches!(run.memory, Memory::Pages(_)) => *run,
            Payload::Owned(_) | Payload::Borrowed(_) => {
                let mut run = Run::in_pages(self.len());
                run.push(&self);
                run
            }
        }
    }
}

impl Deref for Payload<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Payload::Borrowed(bytes) => bytes,
            Payload::Owned(run) => run,
        }
    }
}

/// As bytes: where they are makes no difference.
impl fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self[..].fmt(f)
    }
}

impl Default for Payload<'_> {
    fn default() -> Self {
        Payload::Borrowed(&[])
    }
}

impl Eq for Payload<'_> {}

impl PartialEq for Payload<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<'a> From<&'a [u8]> for Payload<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Payload::Borrowed(bytes)
    }
}

impl From<Run> for Payload<'_> {
    fn from(run: Run) -> Self {
        Payload::Owned(Box::new(run))
    }
}

impl From<Vec<u8>> for Payload<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Run::from(bytes).into()
    }
}

impl Pages {
    /// `None` if there are too many of them, or the system has no memory.
    fn new(bytes: usize) -> Option<Pages> {
        let used = lock(&DROPPED).take(bytes);
        if used.is_some() {
            return used.map(|mapping| Pages(Some(mapping)));
        }
        let most = MAPPINGS_MAX.load(Ordering::Relaxed);
        let is_one_more = |count: usize| (count < most).then_some(count + 1);
        MAPPINGS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_one_more).ok()?;
        let mapping = MmapMut::map_anon(bytes);
        if mapping.is_err() {
            MAPPINGS.fetch_sub(1, Ordering::Relaxed);
        }
        mapping.ok().map(|mapping| Pages(Some(mapping)))
    }

    fn bytes(&self) -> &[u8] {
        self.0.as_deref().expect("only a drop takes it")
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.as_deref_mut().expect("only a drop takes it")
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let mapping = self.0.take().expect("it is dropped once");
        let outdated = lock(&DROPPED).put(mapping);
        MAPPINGS.fetch_sub(outdated.len(), Ordering::Relaxed);
        // After the unlock: to unmap takes time.
        drop(outdated);
    }
}

impl Dropped {
    /// The shortest mapping that has so many bytes and is not much longer.
    fn take(&mut self, bytes: usize) -> Option<MmapMut> {
        let lengths = self.mappings.iter().map(|mapping| mapping.len()).enumerate();
        let fitting = lengths.filter(|(_, len)| (bytes..=bytes + bytes / SLACK_PART).contains(len));
        let (found, len) = fitting.min_by_key(|(_, len)| *len)?;
        self.idle = 0;
        self.bytes -= len;
        self.mappings.remove(found)
    }

    /// The oldest mapping if none was used for long.
    fn age(&mut self) -> Option<MmapMut> {
        self.idle += 1;
        let mapping = if self.idle > IDLE_MAX { self.mappings.pop_front() } else { None };
        self.bytes -= mapping.as_ref().map_or(0, |mapping| mapping.len());
        mapping
    }

    /// Keeps a mapping; returns those that are too many now.
    fn put(&mut self, mapping: MmapMut) -> Vec<MmapMut> {
        self.bytes += mapping.len();
        self.mappings.push_back(mapping);
        let mut outdated = Vec::new();
        while self.bytes > DROPPED_BYTES_MAX || self.mappings.len() > DROPPED_MAX {
            let mapping = self.mappings.pop_front().expect("it has bytes");
            self.bytes -= mapping.len();
            outdated.push(mapping);
        }
        outdated
    }
}

/// Allows half of the mappings that the system allows a process, by default those of Linux. The cache needs
/// others for its segments.
pub fn allow_mappings(of_process: usize) {
    MAPPINGS_MAX.store(of_process / 2, Ordering::Relaxed);
}

/// Gives one of the kept mappings back if none was used for long. Called for each segment that is opened:
/// only small values are stored now.
pub fn age() {
    let outdated = lock(&DROPPED).age();
    MAPPINGS.fetch_sub(usize::from(outdated.is_some()), Ordering::Relaxed);
    drop(outdated);
}

/// A panic elsewhere leaves nothing half done under this lock.
fn lock(dropped: &Mutex<Dropped>) -> MutexGuard<'_, Dropped> {
    dropped.lock().unwrap_or_else(PoisonError::into_inner)
}

static DROPPED: Mutex<Dropped> = Mutex::new(Dropped { bytes: 0, idle: 0, mappings: VecDeque::new() });
/// Mappings in use or in [`DROPPED`].
static MAPPINGS: AtomicUsize = AtomicUsize::new(0);

/// Beyond that, runs are the allocator's: see [`allow_mappings`].
static MAPPINGS_MAX: AtomicUsize = AtomicUsize::new(65_530 / 2);

const PAGE_BYTES: usize = 4096;
/// The limits on mappings that are kept for the next runs.
const DROPPED_BYTES_MAX: usize = 2 << 20;
const DROPPED_MAX: usize = 128;
/// Segments that may be opened before mappings that are not used are given back.
const IDLE_MAX: usize = 64;
/// A mapping is used again if it is longer than the run by at most this part of the run's size: the run is
/// charged for all of it.
const SLACK_PART: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_the_room_that_was_asked_for() {
        for room in [0, 1, VALUE_APART_BYTES_MIN - 1, VALUE_APART_BYTES_MIN, 100_000] {
            let mut run = Run::new(room);
            let half = vec![7; room / 2];
            run.push(&half);
            assert_eq!((&run[..], run.is_full()), (&half[..], room == 0));
            assert_eq!(run.rest().len(), room - room / 2);
            run.rest().fill(8);
            run.filled(room - room / 2);
            assert!(run.is_full() && run.rest().is_empty() && run.len() == room);
            assert_eq!(run, run.clone());
            run.truncate(room / 2);
            assert_eq!(&run[..], half);
        }
    }

    #[test]
    fn a_large_payload_takes_whole_pages_once() {
        let bytes = vec![7; 20_481];
        let run = Payload::from(&bytes[..]).into_run();
        assert_eq!((&run[..], run.memory_bytes()), (&bytes[..], 6 * PAGE_BYTES));
        let at = run.as_ptr();
        assert_eq!(Payload::from(run).into_run().as_ptr(), at);
        assert_eq!(Payload::from(bytes).into_run().memory_bytes(), 6 * PAGE_BYTES);
    }

    fn mapping(pages: usize) -> MmapMut {
        MmapMut::map_anon(pages * PAGE_BYTES).expect("the system has memory")
    }

    #[test]
    fn a_dropped_mapping_is_used_by_a_run_of_about_its_size() {
        let mut dropped = Dropped { bytes: 0, idle: 0, mappings: VecDeque::new() };
        for pages in [16, 19, 18, 17, 21] {
            assert!(dropped.put(mapping(pages)).is_empty());
        }
        let mut taken = |pages| dropped.take(pages * PAGE_BYTES).map(|mapping| mapping.len() / PAGE_BYTES);
        assert_eq!([15, 16, 16, 16].map(&mut taken), [Some(16), Some(17), Some(18), None]);
        assert_eq!([12, 17, 21].map(&mut taken), [None, Some(19), Some(21)]);
        assert_eq!((dropped.bytes, dropped.mappings.len()), (0, 0));
    }

    #[test]
    fn mappings_that_are_not_used_are_given_back() {
        let mut dropped = Dropped { bytes: 0, idle: 0, mappings: VecDeque::new() };
        for pages in [1, 2, 3] {
            dropped.put(mapping(pages));
        }
        let aged = |dropped: &mut Dropped| (0..IDLE_MAX).filter(|_| dropped.age().is_some()).count();
        assert_eq!(aged(&mut dropped), 0);
        assert!(dropped.take(2 * PAGE_BYTES).is_some());
        assert_eq!((aged(&mut dropped), dropped.bytes), (0, 4 * PAGE_BYTES));
        assert_eq!((aged(&mut dropped), dropped.bytes), (2, 0));
    }

    #[test]
    fn few_dropped_mappings_are_kept_and_the_oldest_go_first() {
        let mut dropped = Dropped { bytes: 0, idle: 0, mappings: VecDeque::new() };
        let all = DROPPED_BYTES_MAX / PAGE_BYTES;
        assert!(dropped.put(mapping(all - 1)).is_empty() && dropped.put(mapping(1)).is_empty());
        assert_eq!(dropped.put(mapping(2)).len(), 1);
        assert_eq!((dropped.bytes, dropped.mappings.len()), (3 * PAGE_BYTES, 2));
        for _ in 0..DROPPED_MAX {
            dropped.put(mapping(2));
        }
        assert_eq!((dropped.bytes, dropped.mappings.len()), (2 * DROPPED_MAX * PAGE_BYTES, DROPPED_MAX));
        assert_eq!(dropped.put(mapping(all + 1)).len(), DROPPED_MAX + 1);
    }
}
