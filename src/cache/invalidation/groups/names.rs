//! The groups of one kind whose invalidations are remembered one by one, and the floors of those that were
//! dropped.
//!
//! A group is known by a hash; groups with the same hash share their invalidations.

use std::collections::VecDeque;

use crate::cache::clock::LogicalClock;
use crate::cache::invalidation::record::{Effect, Invalidation, Invalidations};
use crate::store::item::seq::Seq;
use crate::sync::{AtomicU64, DashMap, Mutex, Ordering};

/// The groups of one kind.
pub(super) struct Names {
    /// Groups that were dropped at the cost of values.
    forgotten: AtomicU64,
    /// Values of groups that are not remembered count as invalidated here.
    pub(super) floors: Floors,
    known: DashMap<u64, Remembered>,
    max: usize,
    /// Groups in the order in which they came, or came round again.
    order: Mutex<VecDeque<u64>>,
}

/// A group that is remembered.
struct Remembered {
    /// Invalidated again since it came, or came round again.
    is_repeated: bool,
    invalidations: Invalidations,
}

/// Sequence numbers that only rise, each of all groups whose hashes begin alike.
pub(super) struct Floors(Box<[AtomicU64]>);

impl Names {
    /// Bytes of so many groups at most.
    pub(super) fn bytes(groups: usize) -> usize {
        let places = (groups * 8 / 7).next_power_of_two();
        places * (size_of::<(u64, Remembered)>() + 1) + groups * size_of::<u64>() + Floors::bytes(FLOORS)
    }

    pub(super) fn new(max: usize) -> Self {
        Names {
            forgotten: AtomicU64::new(0),
            floors: Floors::new(FLOORS),
            known: DashMap::new(),
            max,
            order: Mutex::new(VecDeque::new()),
        }
    }

    /// Invalidates a group, and returns the sequence number of that. `drops_freely` is true if no stored
    /// value is left that is covered by the newest invalidation of a group.
    pub(super) fn invalidate(
        &self,
        hash: u64,
        invalidation: Invalidation,
        clock: &LogicalClock,
        drops_freely: impl Fn(u64, Seq) -> bool,
    ) -> Seq {
        let is_known = self.known.contains_key(&hash);
        if !is_known {
            let mut order = self.order.lock();
            if order.len() == self.max {
                self.drop_oldest(&mut order, drops_freely);
            }
            order.push_back(hash);
        }
        let invalidations = || Invalidations::at(self.floors.of(hash));
        let new = || Remembered { is_repeated: false, invalidations: invalidations() };
        let mut known = self.known.entry(hash).or_insert_with(new);
        known.is_repeated |= is_known;
        // Taken while the group is locked: a reader that has looked before has an older number.
        let seq = clock.next();
        known.invalidations.add(seq, invalidation);
        seq
    }

    /// The effect of a group's invalidations, if it is remembered.
    pub(super) fn effect(&self, hash: u64, as_of: Seq) -> Option<Effect> {
        self.known.get(&hash).map(|known| known.invalidations.effect(as_of))
    }

    /// The effect of a group's invalidations on a stored value.
    pub(super) fn effect_or_floor(&self, hash: u64, as_of: Seq) -> Effect {
        match self.effect(hash, as_of) {
            Some(effect) => effect,
            // Read after the group was looked for: it is dropped once the floor has risen.
            None if as_of <= self.floors.of(hash) => Effect::Hard,
            None => Effect::None,
        }
    }

    pub(super) fn newest_of(&self, hash: u64) -> Option<Seq> {
        self.known.get(&hash).map(|known| known.invalidations.newest())
    }

    /// Groups that are remembered, and how many were dropped at the cost of values.
    pub(super) fn counts(&self) -> (usize, u64) {
        (self.known.len(), self.forgotten.load(Ordering::Relaxed))
    }

    pub(super) fn is_crowded(&self) -> bool {
        self.known.len() > self.max / 2
    }

    /// Drops a group: the first in order that was not invalidated again since its turn came last.
    fn drop_oldest(&self, order: &mut VecDeque<u64>, drops_freely: impl Fn(u64, Seq) -> bool) {
        while let Some(hash) = order.pop_front() {
            let mut known = self.known.get_mut(&hash).expect("what stands in the order is known");
            if std::mem::take(&mut known.is_repeated) {
                order.push_back(hash);
                continue;
            }
            let (newest, leaves_copies) = (known.invalidations.newest(), known.invalidations.is_soft());
            drop(known);
            if leaves_copies || !drops_freely(hash, newest) {
                self.floors.raise(hash, newest);
                self.forgotten.fetch_add(1, Ordering::Relaxed);
            }
            self.known.remove(&hash);
            return;
        }
    }
}

impl Floors {
    pub(super) fn bytes(len: usize) -> usize {
        len * size_of::<AtomicU64>()
    }

    /// So many numbers; a power of two.
    pub(super) fn new(len: usize) -> Self {
        assert!(len.is_power_of_two());
        Floors((0..len).map(|_| AtomicU64::new(0)).collect())
    }

    pub(super) fn raise(&self, hash: u64, seq: Seq) {
        self.0[self.index(hash)].fetch_max(seq.number(), Ordering::SeqCst);
    }

    pub(super) fn of(&self, hash: u64) -> Seq {
        super::seq(self.0[self.index(hash)].load(Ordering::SeqCst))
    }

    fn index(&self, hash: u64) -> usize {
        (hash >> 32) as usize & (self.0.len() - 1)
    }
}

/// Floors of one kind of groups.
#[cfg(not(shuttle))]
const FLOORS: usize = 1 << 15;
#[cfg(shuttle)]
const FLOORS: usize = 1;
