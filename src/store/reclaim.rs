//! Making room: packing, and eviction by size-aware S3-FIFO over segments.
//!
//! One step of [`Engine::reclaim`] copies at most one segment and wins at least a quarter of one, or throws large
//! items away; so stores that do one step each stay ahead of what they take, whatever the limit is. First goes what has
//! ended, then what packing wins without a loss, and then the tail of a queue.
//!
//! S3-FIFO is by Yang et al. (SOSP 2023). Ours asks more uses of larger items, counts an overwrite in place as a use,
//! and remembers what a client deleted though it had been used.

use bytes::Bytes;

use super::budget::WhenFull;
use super::evicted::Evicted;
use super::exit::{Departed, Exit};
use super::large;
use super::packed::{Packed, USES_MAX};
use super::segment::{Queue, Segment};
use super::slot::{Place, Slot};
use super::tags::Tags;
use super::{Engine, NoRoom, Over};

impl Engine {
    /// One step towards more room; false if there is nothing to be had. A shard that holds fewer than `share` segments
    /// gives none of them.
    pub(crate) fn reclaim(&mut self, share: usize, over: Over) -> bool {
        if self.sweep_due(over) {
            return true;
        }
        // They were gone for most readers already: they go before anything live, and where nothing live may.
        let dropped = self.drop_copies(over);
        let is_rich = self.log.held() >= share;
        if (is_rich && self.pack(over.second)) || dropped {
            return true;
        }
        match self.victim() {
            _ if self.when_full == WhenFull::Refuse => return false,
            None => return false,
            Some(Place::Log(number, _)) if is_rich => self.evict_segment(number, over),
            Some(Place::Log(..)) => return false,
            Some(Place::Large(number)) => self.evict_large(number, over),
        }
        true
    }

    /// Room in the log, by force if need be.
    pub(super) fn reserve(
        &mut self,
        queue: Queue,
        bytes: usize,
        second: u32,
    ) -> Result<(u16, usize), NoRoom> {
        loop {
            if let Some(found) = self.log.reserve(queue, bytes, second) {
                return Ok(found);
            }
            self.force(second)?;
        }
    }

    /// Memory for a large value, by force if need be.
    pub(super) fn charge_large(
        &mut self,
        mut value: Vec<u8>,
        tags: Tags,
        second: u32,
    ) -> Result<Bytes, NoRoom> {
        if !self.budget.admits(value.len()) {
            return Err(NoRoom);
        }
        loop {
            match large::charged(value, tags, &self.budget) {
                Ok(bytes) => return Ok(bytes),
                Err(refused) => value = refused,
            }
            self.force(second)?;
        }
    }

    /// Throws the tail away without looking who deserves to stay. Stores make room early, so this is for bursts.
    fn force(&mut self, second: u32) -> Result<(), NoRoom> {
        if !self.garbage.is_empty() {
            // Better dropped under the lock than missed.
            self.garbage.clear();
            return Ok(());
        }
        if self.when_full == WhenFull::Refuse {
            return Err(NoRoom);
        }
        if let Some(number) = self.log.tail() {
            let segment = self.log.take(number);
            self.walk(number, &segment, |engine, slot, item| engine.gone(slot, item, Exit::Evicted, second));
            self.log.give_back(number, segment);
            return Ok(());
        }
        let number = self.large.tail().ok_or(NoRoom)?;
        self.exit_large(number, Exit::Evicted, second);
        Ok(())
    }

    /// Moves the live items of one segment together, and fills it up from its neighbour.
    fn pack(&mut self, second: u32) -> bool {
        if self.log.run.len() < 2 {
            self.log.run = self.log.cheapest_run();
        }
        let [into, from, ..] = self.log.run[..] else { return false };
        self.compact(into, second);
        self.pour(from, into, second);
        if self.log.run.first() == Some(&into) && self.log.is_held(from) {
            // It is full: the neighbour is filled next.
            self.log.run.remove(0);
        }
        true
    }

    /// Closes the gaps in a segment.
    fn compact(&mut self, number: u16, second: u32) {
        let mut segment = self.log.lift(number);
        if segment.live < segment.used {
            let (mut offset, mut end) = (0, 0);
            segment.expiries = Default::default();
            while let Some((item, next)) = segment.next(offset) {
                let (is_dead, tight, gone) = (item.is_dead(), item.tight(), item.gone());
                if !is_dead {
                    self.move_within(number, &mut segment, offset, tight, end);
                    segment.expiries.add(gone, tight, second);
                    end += tight;
                }
                offset = next;
            }
            segment.used = end;
        }
        self.log.lower(number, segment);
    }

    fn move_within(&mut self, number: u16, segment: &mut Segment, from: usize, len: usize, to: usize) {
        if from != to {
            let hash = self.keys.hash(segment.item(from).key());
            segment.move_down(from, len, to);
            self.index
                .relocate(Slot::new(hash, Place::Log(number, from)), Slot::new(hash, Place::Log(number, to)));
            self.counts.copied_bytes += len as u64;
        }
        segment.item_mut(to).tighten();
    }

    /// Moves items from the front of a segment to the back of another, as long as they fit.
    fn pour(&mut self, from: u16, into: u16, second: u32) {
        let mut target = self.log.lift(into);
        let mut offset = 0;
        while self.log.is_held(from)
            && let Some((item, next)) = self.log.segment(from).next(offset)
        {
            let (is_dead, tight) = (item.is_dead(), item.tight());
            if !is_dead {
                if target.room() < tight {
                    break;
                }
                self.move_over(from, offset, tight, into, &mut target, second);
            }
            offset = next;
        }
        self.log.lower(into, target);
    }

    /// Moves one item behind the last one of another segment.
    fn move_over(
        &mut self,
        from: u16,
        offset: usize,
        tight: usize,
        into: u16,
        target: &mut Segment,
        second: u32,
    ) {
        let source = self.log.segment(from);
        let hash = self.keys.hash(source.item(offset).key());
        let at = target.append(source, offset, tight);
        target.item_mut(at).tighten();
        target.live += tight;
        target.expiries.add(target.item(at).gone(), tight, second);
        target.stale += if target.item(at).is_stale() { tight } else { 0 };
        self.index.relocate(Slot::new(hash, Place::Log(from, offset)), Slot::new(hash, Place::Log(into, at)));
        self.counts.copied_bytes += tight as u64;
        self.log.kill(from, offset);
    }

    /// What is looked at next: the older of the tails of log and large items.
    fn victim(&mut self) -> Option<Place> {
        let large = self.large.tail().map(|number| (self.large.get(number).since, Place::Large(number)));
        let log = self.log.tail().map(|number| (self.log.segment(number).since, Place::Log(number, 0)));
        [log, large].into_iter().flatten().min_by_key(|(since, _)| *since).map(|(_, place)| place)
    }

    fn evict_large(&mut self, number: u32, over: Over) {
        let mean = self.large.bytes / self.large.len().max(1);
        let entry = self.large.get(number);
        let (head, bytes, queue) = (entry.head(), entry.bytes(), entry.queue);
        if let Some(why) = over.exit(head) {
            return self.exit_large(number, why, over.second);
        }
        if is_worth(head, bytes, mean) {
            let uses = uses_left(head, queue);
            self.large.dequeue(number);
            return self.large.promote(number, uses, over.second);
        }
        if queue == Queue::Small {
            self.ghosts.put(self.keys.hash(head.key()), bytes);
        }
        self.exit_large(number, Exit::Evicted, over.second);
    }

    pub(super) fn exit_large(&mut self, number: u32, why: Exit, second: u32) {
        let hash = self.keys.hash(self.large.get(number).head().key());
        self.exit(Slot::new(hash, Place::Large(number)), why, second);
    }

    /// Moves what deserves to stay from the tail to the back of the main queue, and throws the rest away.
    fn evict_segment(&mut self, number: u16, over: Over) {
        let segment = self.log.take(number);
        let mean = (self.counts.bytes as usize - self.large.bytes)
            / (self.counts.items as usize - self.large.len()).max(1);
        let least = self.least_uses(&segment, mean, over);
        let queue = segment.queue;
        self.walk(number, &segment, |engine, slot, item| {
            if let Some(why) = over.exit(item) {
                return engine.gone(slot, item, why, over.second);
            }
            let stays = item.uses() >= least && is_worth(item, item.tight(), mean);
            if stays && engine.survive(slot, item, queue, over.second) {
                return;
            }
            if queue == Queue::Small {
                engine.ghosts.put(engine.keys.hash(item.key()), item.tight());
            }
            engine.gone(slot, item, Exit::Evicted, over.second);
        });
        self.log.give_back(number, segment);
    }

    /// Uses that an item must have so that no more than three quarters of a segment stay: else nothing would be won.
    fn least_uses(&self, segment: &Segment, mean: usize, over: Over) -> u32 {
        let mut bytes = [0; USES_MAX as usize + 1];
        let mut offset = 0;
        while let Some((item, next)) = segment.next(offset) {
            if !item.is_dead() && over.exit(item).is_none() && is_worth(item, item.tight(), mean) {
                bytes[item.uses() as usize] += item.tight();
            }
            offset = next;
        }
        let most = self.budget.segment_bytes / 4 * 3;
        let (mut least, mut stays) = (USES_MAX + 1, 0);
        while least > 0 && stays + bytes[least as usize - 1] <= most {
            least -= 1;
            stays += bytes[least as usize];
        }
        least
    }

    /// Moves an item to the back of the main queue, unless there is no room without force.
    fn survive(&mut self, slot: Slot, item: Packed, queue: Queue, second: u32) -> bool {
        let Some((number, offset)) = self.log.reserve(Queue::Main, item.tight(), second) else {
            return false;
        };
        let tight = item.tight();
        let segment = self.log.segment_mut(number);
        let mut copy = segment.item_mut(offset);
        copy.0[..tight].copy_from_slice(&item.0[..tight]);
        copy.tighten();
        copy.set_uses(uses_left(item, queue));
        segment.expiries.add(item.gone(), tight, second);
        self.index.relocate(slot, Slot::new(self.keys.hash(item.key()), Place::Log(number, offset)));
        self.counts.copied_bytes += tight as u64;
        true
    }

    /// Shows each live item of a segment that is in nobody's queue.
    pub(super) fn walk(
        &mut self,
        number: u16,
        segment: &Segment,
        mut show: impl FnMut(&mut Self, Slot, Packed),
    ) {
        let mut offset = 0;
        while let Some((item, next)) = segment.next(offset) {
            if !item.is_dead() {
                let slot = Slot::new(self.keys.hash(item.key()), Place::Log(number, offset));
                show(self, slot, item);
            }
            offset = next;
        }
    }

    /// An item goes together with its segment.
    pub(super) fn gone(&mut self, slot: Slot, item: Packed, why: Exit, second: u32) {
        if why == Exit::Evicted && self.collectors > 0 {
            self.evicted.extend(Evicted::new(item, item.value().len()));
        }
        self.count_exit(Departed::new(item, item.tight()), why, second);
        self.with_index(|index| index.remove(slot));
    }
}

impl Over<'_> {
    /// Why an item that is over goes.
    pub(super) fn exit(self, item: Packed) -> Option<Exit> {
        self.verdict(item).err()
    }

    /// Whether an item that stays until `end` is a stale copy, also one that nobody has met since: it will be over sooner
    /// than it says, or is kept though its time has passed.
    pub(super) fn is_copy(self, item: Packed, end: u32) -> bool {
        let has_expired = item.expiry() != 0 && item.expiry() <= self.second;
        item.is_stale() || end != item.gone() || has_expired
    }

    /// Until when an item stays (0 for ever), or why it goes.
    pub(super) fn verdict(self, item: Packed) -> Result<u32, Exit> {
        let (as_of, gone) = (item.as_of(), item.gone());
        if as_of <= self.floor {
            return Err(Exit::Removed);
        }
        if gone != 0 && gone <= self.second {
            return Err(Exit::Expired);
        }
        match (self.otherwise)(as_of, item.key(), item.tags()) {
            None => Ok(gone),
            Some(end) if end <= self.second => Err(Exit::Removed),
            Some(end) if gone == 0 => Ok(end),
            Some(end) => Ok(gone.min(end)),
        }
    }
}

/// Uses that an item begins with at the back of the main queue: those that brought it there are spent.
fn uses_left(item: Packed, queue: Queue) -> u32 {
    match queue {
        Queue::Main => item.uses().saturating_sub(1),
        Queue::Small => 0,
    }
}

/// Whether an item at a tail has earned its stay: the larger it is, the more uses it needs. Stale copies have not.
fn is_worth(item: Packed, bytes: usize, mean: usize) -> bool {
    let uses = item.uses() as usize;
    uses > 0 && uses * mean >= bytes && !item.is_stale()
}
