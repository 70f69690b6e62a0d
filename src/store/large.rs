//! Large items: each value in memory of its own, so that it is received, kept and sent without a copy.
//!
//! They have two queues of their own, as the log has, but are evicted one by one. Their bytes stay charged
//! until the last reader drops them.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::budget::Budget;
use super::index::slot::LARGE_MAX;
use super::item::meta::Meta;
use super::item::packed::{Packed, PackedMut, Shape};
use super::item::tags::Tags;
use super::log::segment::Queue;
use crate::pages::Run;
use crate::store::tick::Tick;

/// The large items of one shard.
#[derive(Default)]
pub(super) struct Large {
    /// Bytes of keys and values held.
    pub(super) bytes: usize,
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    main: VecDeque<(u32, u64)>,
    small: VecDeque<(u32, u64)>,
    /// Distinguishes the item of a queue entry from one that has the same number later.
    stamp: u64,
}

/// One large item.
pub(super) struct Entry {
    /// Bytes charged for it.
    #[cfg(any(test, fuzzing))]
    pub(super) charged: usize,
    /// Header and key, as in the log.
    head: Box<[u8]>,
    pub(super) queue: Queue,
    /// How many segments had been opened when it entered its queue.
    pub(super) since: u64,
    stamp: u64,
    pub(super) value: Bytes,
}

/// A value that is charged for.
pub(super) struct Charged {
    /// The bytes charged, those of the item around it included.
    #[cfg(any(test, fuzzing))]
    bytes: usize,
    value: Bytes,
}

/// Memory that is charged until it is dropped.
struct Memory {
    budget: Arc<Budget>,
    bytes: usize,
    value: Run,
}

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        &self.value
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.budget.discharge(self.bytes);
    }
}

/// The value as shared bytes, if the budget has room for it.
pub(super) fn charged(value: Run, tags: Tags, budget: &Arc<Budget>) -> Result<Charged, Run> {
    let bytes = value.memory_bytes() + tags.packed().len() + ENTRY_OVERHEAD_BYTES;
    if !budget.try_charge(bytes) {
        return Err(value);
    }
    let memory = Memory { budget: Arc::clone(budget), bytes, value };
    Ok(Charged {
        #[cfg(any(test, fuzzing))]
        bytes,
        value: Bytes::from_owner(memory),
    })
}

impl Entry {
    pub(super) fn new(
        meta: &Meta,
        tags: Tags,
        key: &[u8],
        charged: Charged,
        queue: Queue,
        since: u64,
    ) -> Self {
        let mut head = vec![0; Shape::new(meta, tags, key.len(), 0).place()].into_boxed_slice();
        PackedMut(&mut head).write_large(meta, tags, key);
        Entry {
            #[cfg(any(test, fuzzing))]
            charged: charged.bytes,
            head,
            queue,
            since,
            stamp: 0,
            value: charged.value,
        }
    }

    pub(super) fn head(&self) -> Packed<'_> {
        Packed(&self.head)
    }

    pub(super) fn parts_mut(&mut self) -> (PackedMut<'_>, Option<&Bytes>) {
        (PackedMut(&mut self.head), Some(&self.value))
    }

    pub(super) fn head_mut(&mut self) -> PackedMut<'_> {
        PackedMut(&mut self.head)
    }

    /// Bytes of key and value.
    pub(super) fn bytes(&self) -> usize {
        self.head.len() + self.value.len()
    }
}

impl Large {
    /// Adds an item and returns its number; `None` if there are too many items.
    pub(super) fn insert(&mut self, entry: Entry) -> Option<u32> {
        let number = match self.free.pop() {
            Some(number) => number,
            None if self.entries.len() == LARGE_MAX => return None,
            None => {
                self.entries.push(None);
                (self.entries.len() - 1) as u32
            }
        };
        self.bytes += entry.bytes();
        let queue = entry.queue;
        self.entries[number as usize] = Some(entry);
        self.enqueue(number, queue);
        Some(number)
    }

    pub(super) fn remove(&mut self, number: u32) -> Entry {
        let entry = self.entries[number as usize].take().expect("the item is held");
        self.bytes -= entry.bytes();
        self.free.push(number);
        if self.len() == 0 {
            *self = Large { stamp: self.stamp, ..Large::default() };
        }
        entry
    }

    /// Moves an item to the back of the main queue.
    pub(super) fn promote(&mut self, number: u32, uses: u32, since: u64) {
        let entry = self.get_mut(number);
        (entry.queue, entry.since) = (Queue::Main, since);
        entry.head_mut().set_uses(uses);
        self.enqueue(number, Queue::Main);
    }

    pub(super) fn get(&self, number: u32) -> &Entry {
        self.entries[number as usize].as_ref().expect("the item is held")
    }

    pub(super) fn get_mut(&mut self, number: u32) -> &mut Entry {
        self.entries[number as usize].as_mut().expect("the item is held")
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// The numbers of the items among `most` places from the `from`th on, and the next place; 0 after the
    /// last.
    pub(super) fn some(&self, from: usize, most: usize) -> (Vec<u32>, usize) {
        let end = self.entries.len().min(from.saturating_add(most));
        let found = (from..end).filter(|number| self.entries[*number].is_some()).map(|number| number as u32);
        (found.collect(), if end == self.entries.len() { 0 } else { end })
    }

    /// The next item to be considered for eviction.
    pub(super) fn tail(&mut self) -> Option<u32> {
        let small_max = self.len() / SMALL_PART;
        for queue in [Queue::Small, Queue::Main, Queue::Small] {
            while let Some((number, stamp)) = self.queue(queue).front().copied() {
                if !self.is_current(number, stamp) {
                    self.queue(queue).pop_front();
                } else if queue == Queue::Small && self.small.len() <= small_max && !self.main.is_empty() {
                    break;
                } else {
                    return Some(number);
                }
            }
        }
        None
    }

    /// When an item was last read or stored that is among the next to be considered.
    pub(super) fn oldest_access(&self) -> Option<Tick> {
        let fronts = [&self.main, &self.small].into_iter().filter_map(|queue| {
            let mut current = queue.iter().filter(|(number, stamp)| self.is_current(*number, *stamp));
            current.next()
        });
        fronts.map(|(number, _)| self.get(*number).head().accessed()).min()
    }

    /// Removes the result of [`Large::tail`] from its queue, but not from the cache.
    pub(super) fn dequeue(&mut self, number: u32) {
        let queue = self.get(number).queue;
        self.queue(queue).pop_front();
    }

    fn enqueue(&mut self, number: u32, queue: Queue) {
        self.stamp += 1;
        let stamp = self.stamp;
        self.get_mut(number).stamp = stamp;
        if self.main.len() + self.small.len() > self.len() * 2 + QUEUE_SLACK {
            let Large { entries, main, small, .. } = self;
            let is_current = |(number, stamp): &(u32, u64)| {
                entries[*number as usize].as_ref().is_some_and(|entry| entry.stamp == *stamp)
            };
            main.retain(is_current);
            small.retain(is_current);
        }
        self.queue(queue).push_back((number, stamp));
    }

    fn is_current(&self, number: u32, stamp: u64) -> bool {
        let entry = self.entries.get(number as usize).and_then(Option::as_ref);
        entry.is_some_and(|entry| entry.stamp == stamp)
    }

    fn queue(&mut self, queue: Queue) -> &mut VecDeque<(u32, u64)> {
        match queue {
            Queue::Main => &mut self.main,
            Queue::Small => &mut self.small,
        }
    }
}

/// The entry, its two allocations and the reference count of the value.
const ENTRY_OVERHEAD_BYTES: usize = size_of::<Option<Entry>>() + 400;
/// The small queue's share of the items: a tenth.
const SMALL_PART: usize = 10;
/// Outdated entries of the queues are removed once there are so many more of them than items.
const QUEUE_SLACK: usize = 16;
