//! The segments of one shard, in three queues: where items are written, and when segments become free.
//!
//! Items are written to the segment at the back of a queue; it is open, the others are sealed. A sealed
//! segment is given back once its last live item is removed.
//!
//! `reclaim` decides which items stay.

pub(crate) mod segment;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::store::budget::Budget;
use crate::store::index::slot::SEGMENTS_MAX;
use crate::store::item::packed::{PLACE_BYTES_MAX, Packed, PackedMut};
use crate::store::log::segment::{Queue, Segment};
use crate::store::tick::Tick;

/// The log of one shard.
pub(crate) struct Log {
    budget: Arc<Budget>,
    /// Segments held.
    held: usize,
    /// Numbers of segments that were given back, to be used again.
    numbers: Vec<u16>,
    queues: [VecDeque<u16>; Queue::ALL.len()],
    /// Neighbors that are being packed; the first one is being filled.
    pub(crate) run: Vec<u16>,
    segments: Vec<Option<Segment>>,
}

impl Log {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Log {
            budget,
            held: 0,
            numbers: Vec::new(),
            queues: Default::default(),
            run: Vec::new(),
            segments: Vec::new(),
        }
    }

    /// Room for an item of that many bytes which ends at `end`, at the back of its queue, or of another one
    /// if the budget forbids a new segment; `None` if there is none either.
    pub(crate) fn reserve(&mut self, left: f64, end: f64, bytes: usize, tick: Tick) -> Option<(u16, usize)> {
        let queue = Queue::of(left);
        let number = self
            .back(queue, bytes)
            .or_else(|| self.open(queue, tick))
            .or_else(|| Queue::ALL.into_iter().find_map(|other| self.back(other, bytes)))?;
        let segment = self.segment_mut(number);
        let offset = segment.used;
        segment.due = segment.due.min(end);
        segment.largest = segment.largest.max(bytes);
        segment.used += bytes;
        segment.live += bytes;
        Some((number, offset))
    }

    /// The open segment of a queue, if it has room for an item of that many bytes.
    fn back(&self, queue: Queue, bytes: usize) -> Option<u16> {
        self.queue(queue).back().copied().filter(|number| self.segment(*number).room() >= bytes)
    }

    /// Marks an item as dead; its segment is given back if no other is live in it.
    pub(crate) fn kill(&mut self, number: u16, offset: usize) {
        let segment = self.segment_mut(number);
        segment.item_mut(offset).kill();
        let (tight, is_stale) = (segment.item(offset).tight(), segment.item(offset).is_stale());
        segment.live -= tight;
        segment.stale = segment.stale.saturating_sub(if is_stale { tight } else { 0 });
        if segment.live > 0 {
            return;
        }
        if self.is_open(number) {
            self.segment_mut(number).clear();
        } else {
            self.close(number);
        }
    }

    /// Takes a segment out of its queue and gives it back with all that is in it.
    pub(crate) fn close(&mut self, number: u16) {
        let segment = self.take(number);
        self.give_back(number, segment);
    }

    /// Takes a segment out of its queue, to be given back by [`Log::give_back`].
    pub(crate) fn take(&mut self, number: u16) -> Segment {
        let segment = self.segments[usize::from(number)].take().expect("the segment is held");
        let queue = self.queue_mut(segment.queue);
        match queue.front() {
            Some(front) if *front == number => _ = queue.pop_front(),
            _ => queue.retain(|other| *other != number),
        }
        self.run.retain(|other| *other != number);
        segment
    }

    pub(crate) fn give_back(&mut self, number: u16, segment: Segment) {
        self.budget.give_back(segment.into_memory(), self.held);
        self.held -= 1;
        self.numbers.push(number);
        if self.held == 0 {
            *self = Log::new(Arc::clone(&self.budget));
        }
    }

    /// Opens a segment again that [`Log::take`] took out, with nothing in it.
    pub(crate) fn open_again(&mut self, number: u16, segment: Segment, queue: Queue, tick: Tick) {
        self.segments[usize::from(number)] = Some(Segment::new(segment.into_memory(), queue, tick));
        self.queue_mut(queue).push_back(number);
    }

    /// Takes a segment out of its place for a while, so that it can be read while the others are changed.
    pub(crate) fn lift(&mut self, number: u16) -> Segment {
        self.segments[usize::from(number)].take().expect("the segment is held")
    }

    /// Puts a segment back that [`Log::lift`] took out.
    pub(crate) fn lower(&mut self, number: u16, segment: Segment) {
        self.segments[usize::from(number)] = Some(segment);
    }

    pub(crate) fn segment(&self, number: u16) -> &Segment {
        self.segments[usize::from(number)].as_ref().expect("the segment is held")
    }

    pub(crate) fn segment_mut(&mut self, number: u16) -> &mut Segment {
        self.segments[usize::from(number)].as_mut().expect("the segment is held")
    }

    pub(crate) fn item(&self, number: u16, offset: usize) -> Packed<'_> {
        self.segment(number).item(offset)
    }

    /// Prefetches the item at this place.
    pub(crate) fn prefetch(&self, number: u16, offset: usize) {
        self.segment(number).prefetch(offset);
    }

    pub(crate) fn item_mut(&mut self, number: u16, offset: usize) -> PackedMut<'_> {
        self.segment_mut(number).item_mut(offset)
    }

    /// All segments with their numbers.
    pub(crate) fn segments(&self) -> impl Iterator<Item = (u16, &Segment)> {
        let numbered = self.segments.iter().enumerate();
        numbered.filter_map(|(number, segment)| segment.as_ref().map(|segment| (number as u16, segment)))
    }

    pub(crate) fn segments_mut(&mut self) -> impl Iterator<Item = &mut Segment> {
        self.segments.iter_mut().flatten()
    }

    /// The numbers in use are below this one.
    pub(crate) fn numbers(&self) -> usize {
        self.segments.len()
    }

    pub(crate) fn is_held(&self, number: u16) -> bool {
        self.held_segment(number).is_some()
    }

    pub(crate) fn held_segment(&self, number: u16) -> Option<&Segment> {
        self.segments.get(usize::from(number))?.as_ref()
    }

    pub(crate) fn held(&self) -> usize {
        self.held
    }

    pub(crate) fn queue(&self, queue: Queue) -> &VecDeque<u16> {
        &self.queues[queue as usize]
    }

    /// The segment whose items end first, and that end.
    pub(crate) fn first_end(&self) -> Option<(f64, u16)> {
        let ends = self.segments().map(|(number, segment)| (segment.due, number));
        ends.min_by(|(end, _), (other, _)| end.total_cmp(other))
    }

    /// The run of sealed neighbors that frees a segment for the fewest bytes moved, if there is one.
    pub(crate) fn cheapest_run(&self) -> Vec<u16> {
        let gap = |number: &u16| self.budget.segment_bytes - self.segment(*number).live;
        let mut best = (usize::MAX, Vec::new());
        for queue in &self.queues {
            let sealed = queue.len().saturating_sub(1);
            let mut ahead = queue.range(..sealed).map(gap);
            let mut gaps: usize = ahead.by_ref().take(RUN_SEGMENTS_MAX - 1).sum();
            for (first, number) in queue.range(..sealed).enumerate() {
                gaps += ahead.next().unwrap_or(0);
                // Without gaps of a whole segment there is no such run: most are known by that.
                if gaps >= self.budget.segment_bytes {
                    self.cheaper_run(queue.range(first..sealed), &mut best);
                }
                gaps -= gap(number);
            }
        }
        best.1
    }

    /// Finds the cheapest run that begins with the first of these neighbors, if it is cheaper than `best`.
    fn cheaper_run<'a>(&self, sealed: impl Iterator<Item = &'a u16> + Clone, best: &mut (usize, Vec<u16>)) {
        let (mut live, mut largest) = (0, 0);
        for (index, number) in sealed.clone().take(RUN_SEGMENTS_MAX).enumerate() {
            live += self.segment(*number).live;
            largest = largest.max(self.segment(*number).largest);
            // Each segment but the last is filled until an item does not fit. So the last one becomes free
            // for sure: otherwise the same run would be packed again and again.
            if live <= index * (self.budget.segment_bytes - largest) && live < best.0 {
                *best = (live, sealed.clone().take(index + 1).copied().collect());
            }
        }
    }

    fn open(&mut self, queue: Queue, tick: Tick) -> Option<u16> {
        if self.numbers.is_empty() && self.segments.len() == SEGMENTS_MAX {
            return None;
        }
        let memory = self.budget.segment(self.held)?;
        self.held += 1;
        let number = self.numbers.pop().unwrap_or_else(|| {
            self.segments.push(None);
            (self.segments.len() - 1) as u16
        });
        self.segments[usize::from(number)] = Some(Segment::new(memory, queue, tick));
        self.queue_mut(queue).push_back(number);
        Some(number)
    }

    fn is_open(&self, number: u16) -> bool {
        self.queue(self.segment(number).queue).back() == Some(&number)
    }

    fn queue_mut(&mut self, queue: Queue) -> &mut VecDeque<u16> {
        &mut self.queues[queue as usize]
    }
}

/// The largest item in a segment; larger ones have pages of their own. In those a value of a few pages would
/// waste much of the last one, so small segments hold items up to a quarter.
pub(crate) fn place_bytes_max(segment_bytes: usize) -> usize {
    (segment_bytes / 4).min(PAGED_BYTES_MIN).max(segment_bytes / 8).min(PLACE_BYTES_MAX)
}

/// Values of so many bytes may have pages of their own in any case.
const PAGED_BYTES_MIN: usize = 16 << 10;

/// The greatest number of neighbors that are packed together.
const RUN_SEGMENTS_MAX: usize = 8;
