//! Making room: packing, and eviction by size-aware S3-FIFO over segments.
//!
//! One step of [`Engine::reclaim`] copies at most one segment and frees at least a quarter of one, or evicts
//! a large item. So stores that do one step each free more than they use, whatever the limit is. A step
//! removes the expired and invalidated items of a segment; if none is due, it removes stale copies and packs
//! segments; and if that frees nothing, it evicts from the tail of a queue.
//!
//! S3-FIFO is by Yang et al. (SOSP 2023). Ours requires more uses of larger items, counts an overwrite in
//! place as a use, and keeps ghosts of used items that clients removed.

use super::budget::WhenFull;
use super::evicted::Evicted;
use super::expiry::Expiry;
use super::index::slot::{Place, Slot};
use super::item::packed::{Packed, USES_MAX};
use super::item::tags::Tags;
use super::large::{self, Charged};
use super::log::segment::{Queue, Segment};
use super::removal::{Removal, RemovedItem};
use super::{Dead, Engine, NoRoom};
use crate::pages::Run;
use crate::store::tick::Tick;

impl Engine {
    /// Makes room by one step; false if it freed nothing. A shard with fewer than `share` segments gives none
    /// of them.
    pub(crate) fn reclaim(&mut self, share: usize, dead: Dead) -> bool {
        if self.sweep_due(dead) {
            return true;
        }
        // Most readers cannot read them any more: they are removed before live items, and also if live items
        // may not be evicted.
        let has_removed = self.remove_copies(dead);
        let is_rich = self.log.held() >= share;
        if (is_rich && self.pack(dead.tick)) || has_removed {
            return true;
        }
        match self.victim() {
            _ if self.when_full == WhenFull::Refuse => return false,
            None => return false,
            Some(Place::Log(number, _)) if is_rich => self.evict_segment(number, dead),
            Some(Place::Log(..)) => return false,
            Some(Place::Large(number)) => self.evict_large(number, dead),
        }
        true
    }

    /// A place in the log, by force if necessary.
    pub(super) fn reserve(&mut self, queue: Queue, bytes: usize, tick: Tick) -> Result<(u16, usize), NoRoom> {
        loop {
            if let Some(found) = self.log.reserve(queue, bytes, tick) {
                return Ok(found);
            }
            self.force(tick)?;
        }
    }

    /// Memory for a large value, by force if necessary.
    pub(super) fn charge_large(&mut self, mut value: Run, tags: Tags, tick: Tick) -> Result<Charged, NoRoom> {
        if !self.budget.admits(value.len()) {
            return Err(NoRoom);
        }
        loop {
            match large::charged(value, tags, &self.budget) {
                Ok(charged) => return Ok(charged),
                Err(refused) => value = refused,
            }
            self.force(tick)?;
        }
    }

    /// Evicts all items at the tail, also popular ones. Stores make room early, so this happens in bursts
    /// only.
    fn force(&mut self, tick: Tick) -> Result<(), NoRoom> {
        if !self.removed_values.is_empty() {
            // Dropping them takes time under the lock, but their memory is needed.
            self.removed_values.clear();
            return Ok(());
        }
        if self.when_full == WhenFull::Refuse {
            return Err(NoRoom);
        }
        if let Some(number) = self.log.tail() {
            let segment = self.log.take(number);
            self.walk(number, &segment, |engine, slot, item| {
                engine.discard_with_segment(slot, item, Removal::Evicted, tick)
            });
            self.log.give_back(number, segment);
            return Ok(());
        }
        let number = self.large.tail().ok_or(NoRoom)?;
        self.discard_large(number, Removal::Evicted, tick);
        Ok(())
    }

    /// Closes the gaps in the first segment of a run, and fills it up from the second one.
    fn pack(&mut self, tick: Tick) -> bool {
        if self.log.run.len() < 2 {
            self.log.run = self.log.cheapest_run();
        }
        let [into, from, ..] = self.log.run[..] else { return false };
        self.compact(into, tick);
        self.pour(from, into, tick);
        if self.log.run.first() == Some(&into) && self.log.is_held(from) {
            // It is full: its neighbor is filled next.
            self.log.run.remove(0);
        }
        true
    }

    /// Closes the gaps in a segment.
    fn compact(&mut self, number: u16, tick: Tick) {
        let mut segment = self.log.lift(number);
        if segment.live < segment.used {
            let (mut offset, mut end) = (0, 0);
            segment.expiries = Default::default();
            while let Some((item, next)) = segment.next(offset) {
                let (is_dead, tight, removed_at) = (item.is_dead(), item.tight(), item.removed_at());
                if !is_dead {
                    self.move_within(number, &mut segment, offset, tight, end);
                    segment.expiries.add(removed_at, tight, tick);
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
    fn pour(&mut self, from: u16, into: u16, tick: Tick) {
        let mut target = self.log.lift(into);
        // Or the items that move might escape a sweep that has looked here.
        target.is_marked |= self.log.segment(from).is_marked;
        let mut offset = 0;
        while self.log.is_held(from)
            && let Some((item, next)) = self.log.segment(from).next(offset)
        {
            let (is_dead, tight) = (item.is_dead(), item.tight());
            if !is_dead {
                if target.room() < tight {
                    break;
                }
                self.move_over(from, offset, tight, into, &mut target, tick);
            }
            offset = next;
        }
        self.log.lower(into, target);
    }

    /// Moves one item to the end of another segment.
    fn move_over(
        &mut self,
        from: u16,
        offset: usize,
        tight: usize,
        into: u16,
        target: &mut Segment,
        tick: Tick,
    ) {
        let source = self.log.segment(from);
        let hash = self.keys.hash(source.item(offset).key());
        let at = target.append(source, offset, tight);
        target.item_mut(at).tighten();
        target.live += tight;
        target.expiries.add(target.item(at).removed_at(), tight, tick);
        target.stale += if target.item(at).is_stale() { tight } else { 0 };
        self.index.relocate(Slot::new(hash, Place::Log(from, offset)), Slot::new(hash, Place::Log(into, at)));
        self.counts.copied_bytes += tight as u64;
        self.log.kill(from, offset);
    }

    /// The next candidate for eviction: the older of the tails of the log and of the large items.
    fn victim(&mut self) -> Option<Place> {
        let large = self.large.tail().map(|number| (self.large.get(number).since, Place::Large(number)));
        let log = self.log.tail().map(|number| (self.log.segment(number).since, Place::Log(number, 0)));
        [log, large].into_iter().flatten().min_by_key(|(since, _)| *since).map(|(_, place)| place)
    }

    fn evict_large(&mut self, number: u32, dead: Dead) {
        let mean = self.large.bytes / self.large.len().max(1);
        let entry = self.large.get(number);
        let (head, bytes, queue) = (entry.head(), entry.bytes(), entry.queue);
        if let Some(why) = dead.removal(head) {
            return self.discard_large(number, why, dead.tick);
        }
        if is_worth(head, bytes, mean) {
            let uses = uses_left(head, queue);
            self.large.dequeue(number);
            return self.large.promote(number, uses, self.log.opened);
        }
        if queue == Queue::Small {
            self.ghosts.put(self.keys.hash(head.key()), bytes);
        }
        self.discard_large(number, Removal::Evicted, dead.tick);
    }

    pub(super) fn discard_large(&mut self, number: u32, why: Removal, tick: Tick) {
        let hash = self.keys.hash(self.large.get(number).head().key());
        self.discard(Slot::new(hash, Place::Large(number)), why, tick);
    }

    /// Moves the items at the tail that have enough uses to the back of the main queue, and evicts the
    /// others.
    fn evict_segment(&mut self, number: u16, dead: Dead) {
        let segment = self.log.take(number);
        let mean = (self.counts.bytes as usize - self.large.bytes)
            / (self.counts.items as usize - self.large.len()).max(1);
        let least = self.least_uses(&segment, mean, dead);
        let queue = segment.queue;
        self.walk(number, &segment, |engine, slot, item| {
            if let Some(why) = dead.removal(item) {
                return engine.discard_with_segment(slot, item, why, dead.tick);
            }
            let stays = item.uses() >= least && is_worth(item, item.tight(), mean);
            if stays && engine.survive(slot, item, queue, dead.tick) {
                return;
            }
            if queue == Queue::Small {
                engine.ghosts.put(engine.keys.hash(item.key()), item.tight());
            }
            engine.discard_with_segment(slot, item, Removal::Evicted, dead.tick);
        });
        self.log.give_back(number, segment);
    }

    /// The number of uses that items must have to stay, such that at most three quarters of a segment stay:
    /// otherwise no room would be freed.
    fn least_uses(&self, segment: &Segment, mean: usize, dead: Dead) -> u32 {
        let mut bytes = [0; USES_MAX as usize + 1];
        let mut offset = 0;
        while let Some((item, next)) = segment.next(offset) {
            if !item.is_dead() && dead.removal(item).is_none() && is_worth(item, item.tight(), mean) {
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

    /// Moves an item to the back of the main queue; false if there is no room without force.
    fn survive(&mut self, slot: Slot, item: Packed, queue: Queue, tick: Tick) -> bool {
        let Some((number, offset)) = self.log.reserve(Queue::Main, item.tight(), tick) else {
            return false;
        };
        let tight = item.tight();
        let segment = self.log.segment_mut(number);
        let mut copy = segment.item_mut(offset);
        copy.0[..tight].copy_from_slice(&item.0[..tight]);
        copy.tighten();
        copy.set_uses(uses_left(item, queue));
        segment.expiries.add(item.removed_at(), tight, tick);
        self.index.relocate(slot, Slot::new(self.keys.hash(item.key()), Place::Log(number, offset)));
        self.counts.copied_bytes += tight as u64;
        true
    }

    /// Shows each live item of a segment that was taken out of its queue.
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

    /// Removes an item whose place needs no update, as its segment is given back or rewritten.
    pub(super) fn discard_with_segment(&mut self, slot: Slot, item: Packed, why: Removal, tick: Tick) {
        if why == Removal::Evicted && self.eviction_watchers > 0 {
            self.evicted.extend(Evicted::new(item, item.value().len()));
        }
        self.tags_in_use.subtract(item.tags());
        self.count_removal(RemovedItem::new(item, item.tight()), why, tick);
        self.with_index(|index| index.remove(slot));
    }
}

impl Dead<'_> {
    /// The reason to remove an item, if there is one.
    pub(super) fn removal(self, item: Packed) -> Option<Removal> {
        self.verdict(item).err()
    }

    /// Whether an item that is kept until `end` is a stale copy. That includes items that no command has
    /// found since they became stale: they are invalidated or expired, but not marked as stale yet.
    pub(super) fn is_copy(self, item: Packed, end: Expiry) -> bool {
        item.is_stale() || end != item.removed_at() || item.expiry().is_past(self.tick)
    }

    /// Until when an item is kept, or the reason to remove it.
    pub(super) fn verdict(self, item: Packed) -> Result<Expiry, Removal> {
        let (as_of, removed_at) = (item.as_of(), item.removed_at());
        if as_of <= self.floor {
            return Err(Removal::Removed);
        }
        if removed_at.is_past(self.tick) {
            return Err(Removal::Expired);
        }
        match (self.copy_until)(as_of, item.key(), item.tags()) {
            None => Ok(removed_at),
            Some(end) if end.is_past(self.tick) => Err(Removal::Removed),
            Some(end) => Ok(removed_at.first(end)),
        }
    }
}

/// The uses that an item keeps at the back of the main queue: those that brought it there do not count again.
fn uses_left(item: Packed, queue: Queue) -> u32 {
    match queue {
        Queue::Main => item.uses().saturating_sub(1),
        Queue::Small => 0,
    }
}

/// Whether an item at a tail has enough uses to stay: the larger it is, the more it needs. Stale copies never
/// stay.
fn is_worth(item: Packed, bytes: usize, mean: usize) -> bool {
    let uses = item.uses() as usize;
    uses > 0 && uses * mean >= bytes && !item.is_stale()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::item::meta::Meta;
    use crate::store::oracle::{Choices, Pair, SEGMENT};

    /// Makes room as the cache does: one step before each store, and more of them before that of a large
    /// value.
    fn make_room(pair: &mut Pair, value_bytes: usize) {
        for _ in 0..1 + value_bytes / (SEGMENT / 8) {
            if pair.engine.budget.is_tight(pair.engine.budget.want(value_bytes).as_ref()) {
                pair.reclaim();
                pair.engine.removed_values.clear();
            }
        }
    }

    fn store(pair: &mut Pair, names: impl Iterator<Item = String>, value_bytes: usize) {
        for name in names {
            make_room(pair, value_bytes);
            // A value that begins with a 2 has no tags: all these items have nearly the same size.
            pair.insert(name.as_bytes(), &vec![2; value_bytes], 0, 0);
        }
    }

    fn fresh(numbers: std::ops::Range<u32>) -> impl Iterator<Item = String> {
        numbers.map(|number| format!("fresh{number:05}"))
    }

    fn use_item(pair: &mut Pair, name: &str, times: u32) {
        let slot = pair.find(name.as_bytes()).expect("it is there");
        (0..times).for_each(|_| pair.engine.used(slot, pair.tick()));
    }

    fn uses_of(pair: &mut Pair, name: &str) -> Option<(Queue, u32)> {
        let slot = pair.find(name.as_bytes())?;
        Some((pair.engine.queue(slot), pair.engine.head(slot).uses()))
    }

    #[test]
    fn a_used_item_outlives_many_that_are_not() {
        let mut pair = Pair::new(1 << 20, WhenFull::Evict);
        pair.insert(b"used", &[1; 100], 0, 0);
        for n in 0..100_000 {
            let slot = pair.find(b"used").unwrap_or_else(|| panic!("it was evicted after {n}"));
            pair.engine.used(slot, pair.tick());
            pair.insert(format!("{n}").as_bytes(), &[1; 100], 0, 0);
            if pair.engine.budget.is_tight(None) {
                pair.reclaim();
            }
        }
        assert!(pair.engine.counts().evictions > 90_000);
    }

    /// The hits of 200,000 reads of keys, few of which are popular; a key that is missed is stored. The value
    /// of one key in ten is large.
    fn hits(memory_bytes: usize, keys: u64, small_bytes: usize, large_bytes: usize) -> u32 {
        let (mut pair, mut choices) = (Pair::new(memory_bytes, WhenFull::Evict), Choices::Seeded(7, 0));
        let mut hits = 0;
        for _ in 0..200_000 {
            let number = choices.skewed(keys);
            let name = format!("{number}");
            if let Some(slot) = pair.find(name.as_bytes()) {
                pair.engine.used(slot, pair.tick());
                hits += 1;
                continue;
            }
            let value = vec![7; if number % 10 == 0 { large_bytes } else { small_bytes }];
            make_room(&mut pair, value.len());
            pair.insert(name.as_bytes(), &value, 0, 0);
        }
        hits
    }

    /// An eviction that ignores sizes has 119,575 hits if all items are in segments, and 117,322 if none
    /// is.
    #[test]
    fn large_items_are_evicted_before_small_ones_that_are_read_as_often() {
        let in_segments = hits(1 << 20, 10_000, 60, 1_800);
        assert!(in_segments > 140_000, "{in_segments}");
        let apart = hits(22 << 20, 3_000, 8_000, 160_000);
        assert!(apart > 130_000, "{apart}");
    }

    /// All of it happens in one second. When ages were whole seconds, only segments made room, and there were
    /// 19,183 hits.
    #[test]
    fn segments_and_large_items_of_one_second_are_evicted_by_age() {
        let hits = hits(8 << 20, 3_000, 1_500, 60_000);
        assert!(hits > 110_000, "{hits}");
    }

    #[test]
    fn an_item_that_comes_back_soon_is_a_ghost_hit() {
        let mut pair = Pair::new(1 << 20, WhenFull::Evict);
        for n in 0..8_000 {
            pair.insert(format!("{n}").as_bytes(), &[1; 100], 0, 0);
            if pair.engine.budget.is_tight(None) {
                pair.reclaim();
            }
        }
        assert!(pair.find(b"3").is_none());
        pair.insert(b"3", &[1; 100], 0, 0);
        assert_eq!(pair.engine.counts().ghost_hits, 1);
        let slot = pair.find(b"3").unwrap();
        assert_eq!(pair.engine.queue(slot), Queue::Main);
    }

    /// Both items in the log and large ones, and both evicted items and used ones that a client removed.
    #[test]
    fn an_item_that_comes_back_soon_enters_the_main_queue() {
        for (value_bytes, is_removed) in [(100, false), (100, true), (40_000, false), (40_000, true)] {
            let mut pair = Pair::new(1 << 20, WhenFull::Evict);
            let keys = pair.engine.keys.clone();
            pair.insert(b"wanted", &vec![1; value_bytes], 0, 0);
            let slot = pair.find(b"wanted").expect("there is room");
            if is_removed {
                pair.engine.used(slot, pair.tick());
                pair.remove(&keys.key(b"wanted").expect("it is short"), slot);
            } else {
                pair.second += 1;
                store(&mut pair, fresh(0..7_500), 100);
                pair.engine.removed_values.clear();
            }
            assert!(pair.find(b"wanted").is_none());
            pair.insert(b"wanted", &vec![1; value_bytes], 0, 0);
            assert_eq!(uses_of(&mut pair, "wanted"), Some((Queue::Main, 0)), "{value_bytes}, {is_removed}");
        }
    }

    #[test]
    fn an_unused_item_that_a_client_removed_is_new_when_it_comes_back() {
        let mut pair = Pair::new(1 << 20, WhenFull::Evict);
        let keys = pair.engine.keys.clone();
        pair.insert(b"k", &[1; 100], 0, 0);
        let slot = pair.find(b"k").expect("there is room");
        pair.remove(&keys.key(b"k").expect("it is short"), slot);
        pair.insert(b"k", &[1; 100], 0, 0);
        assert_eq!(uses_of(&mut pair, "k"), Some((Queue::Small, 0)));
    }

    #[test]
    fn an_item_loses_all_uses_when_it_enters_the_main_queue_and_one_in_each_round() {
        // In segments, and in pages of their own.
        for value_bytes in [100, 4_500] {
            let (mut pair, mut seen) = (Pair::new(1 << 20, WhenFull::Evict), Vec::new());
            // As large as the others: an item that is larger than the mean needs more uses.
            store(&mut pair, std::iter::once("k".to_owned()), value_bytes + 8);
            use_item(&mut pair, "k", 3);
            // Half of them enter the main queue, so that all its items come to the tail.
            for (number, name) in fresh(0..60_000).enumerate() {
                store(&mut pair, std::iter::once(name.clone()), value_bytes);
                use_item(&mut pair, &name, number as u32 % 2);
                let now = uses_of(&mut pair, "k");
                if seen.last() != Some(&now) {
                    seen.push(now);
                    if seen.len() == 2 {
                        use_item(&mut pair, "k", 2);
                    }
                }
            }
            let main = |uses| Some((Queue::Main, uses));
            let all = [Some((Queue::Small, 3)), main(0), main(2), main(1), main(0), None];
            assert_eq!(seen, all, "{value_bytes} bytes");
        }
    }

    #[test]
    fn a_stale_copy_is_removed_however_often_it_was_used() {
        let mut pair = Pair::new(1 << 20, WhenFull::Evict);
        let keys = pair.engine.keys.clone();
        pair.insert(b"stale", &[1; 100], 0, 0);
        pair.insert(b"live", &[1; 100], 0, 0);
        let slot = pair.find(b"stale").expect("there is room");
        let meta = Meta { is_stale: true, ..pair.engine.meta(slot) };
        pair.set_meta(&keys.key(b"stale").expect("it is short"), slot, meta);
        use_item(&mut pair, "stale", 7);
        use_item(&mut pair, "live", 7);
        store(&mut pair, fresh(0..8_000), 100);
        assert!(pair.find(b"stale").is_none() && pair.find(b"live").is_some());
    }

    #[test]
    fn a_step_keeps_at_most_three_quarters_of_a_segment_of_popular_items() {
        let mut pair = Pair::new(1 << 20, WhenFull::Evict);
        for name in fresh(0..6_500) {
            pair.insert(name.as_bytes(), &[1; 100], 0, 0);
            use_item(&mut pair, &name, USES_MAX);
        }
        for step in 0..20 {
            let before = pair.engine.counts();
            assert!(pair.reclaim());
            let after = pair.engine.counts();
            assert!(after.evictions > before.evictions, "step {step}");
            assert!(after.copied_bytes - before.copied_bytes <= SEGMENT as u64 / 4 * 3, "step {step}");
        }
    }

    #[test]
    fn expired_items_make_room_before_live_ones() {
        let mut pair = Pair::new(1 << 20, WhenFull::Evict);
        for number in 0..5_000 {
            pair.insert(format!("{number}").as_bytes(), &[1; 100], if number % 2 == 0 { 5 } else { 0 }, 0);
        }
        pair.second += 5;
        store(&mut pair, fresh(0..3_000), 100);
        assert_eq!((pair.engine.counts().evictions, pair.engine.counts().expired), (0, 2_500));
    }

    #[test]
    fn removed_items_make_room_before_others_are_evicted() {
        let mut pair = Pair::new(1 << 20, WhenFull::Evict);
        let keys = pair.engine.keys.clone();
        store(&mut pair, fresh(0..5_000), 100);
        for name in fresh(0..5_000).step_by(2) {
            let slot = pair.find(name.as_bytes()).expect("there is room");
            pair.remove(&keys.key(name.as_bytes()).expect("it is short"), slot);
        }
        store(&mut pair, fresh(10_000..13_000), 100);
        assert_eq!(pair.engine.counts().evictions, 0);
    }

    /// Three kinds of them: marked as stale, of a group that was invalidated softly, and kept after their
    /// expiry.
    #[test]
    fn stale_copies_make_room_if_nothing_may_be_evicted() {
        for kind in 0..3 {
            let mut pair = Pair::new(1 << 20, WhenFull::Refuse);
            let keys = pair.engine.keys.clone();
            let full =
                (0..).find(|number| !pair.insert(format!("key:1{number}").as_bytes(), &[1; 100], 0, 1));
            for number in (0..full.expect("memory is limited")).step_by(2) {
                let name = format!("key:1{number}");
                let (key, slot) =
                    (keys.key(name.as_bytes()).expect("it is short"), pair.find(name.as_bytes()));
                let slot = slot.expect("it was stored");
                let meta = pair.engine.meta(slot);
                match kind {
                    0 => pair.set_meta(&key, slot, Meta { is_stale: true, ..meta }),
                    1 => {}
                    _ => pair.set_meta(
                        &key,
                        slot,
                        Meta { expiry: pair.expiry(1), removed_at: pair.expiry(100), ..meta },
                    ),
                }
            }
            if kind == 1 {
                pair.invalidate(b"key:1", 100);
                pair.mark_for_groups();
            }
            pair.second += 1;
            if kind == 2 {
                pair.engine.mark_all();
            }
            while pair.sweep() {}
            store(&mut pair, fresh(0..2_000), 100);
            let kept = fresh(0..2_000).filter(|name| pair.find(name.as_bytes()).is_some()).count();
            assert!(kept > 1_900, "{kept} of 2,000, kind {kind}");
        }
    }

    #[test]
    fn the_older_of_the_tails_of_log_and_large_items_is_evicted() {
        for is_large_older in [false, true] {
            let mut pair = Pair::new(1 << 20, WhenFull::Evict);
            let insert = |pair: &mut Pair, is_large: bool| {
                pair.second += 1;
                if is_large {
                    pair.insert(b"large", &[1; 100_000], 0, 0);
                } else {
                    (0..100).for_each(|n| _ = pair.insert(format!("{n}").as_bytes(), &[1; 100], 0, 0));
                }
            };
            insert(&mut pair, is_large_older);
            insert(&mut pair, !is_large_older);
            assert!(pair.reclaim());
            assert_eq!(
                (pair.find(b"large").is_none(), pair.find(b"0").is_some()),
                (is_large_older, is_large_older)
            );
        }
    }

    /// Otherwise they would count in the three quarters of a segment that may stay.
    #[test]
    fn invalidated_items_do_not_take_the_place_of_popular_ones() {
        let mut pair = Pair::new(1 << 20, WhenFull::Evict);
        let pairs = (0..50).map(|number| (format!("key:1{number}"), format!("other{number}")));
        for (invalidated, live) in pairs.clone() {
            store(&mut pair, [invalidated.clone(), live.clone()].into_iter(), 100);
            use_item(&mut pair, &invalidated, 3);
            use_item(&mut pair, &live, 2);
        }
        pair.invalidate(b"key:1", 0);
        store(&mut pair, fresh(0..7_000), 100);
        for (invalidated, live) in pairs {
            assert_eq!(
                (uses_of(&mut pair, &invalidated), uses_of(&mut pair, &live)),
                (None, Some((Queue::Main, 0)))
            );
        }
    }

    /// Five of these items do not fit into a segment: packing could move them for ever, and free nothing.
    #[test]
    fn segments_that_bulky_items_fill_are_not_packed() {
        let mut pair = Pair::new(1 << 20, WhenFull::Refuse);
        let stored = (0..).find(|n| !pair.insert(format!("{n}").as_bytes(), &[2; 3_400], 0, 0));
        assert!(stored > Some(200) && pair.engine.large.len() == 0, "{stored:?}");
        for _ in 0..100 {
            pair.reclaim();
        }
        assert_eq!(pair.engine.counts().copied_bytes, 0);
    }

    #[test]
    fn gaps_between_bulky_items_are_closed() {
        let mut pair = Pair::new(1 << 20, WhenFull::Evict);
        let keys = pair.engine.keys.clone();
        store(&mut pair, fresh(0..200), 3_400);
        for name in fresh(0..200).step_by(2) {
            let slot = pair.find(name.as_bytes()).expect("there is room");
            pair.remove(&keys.key(name.as_bytes()).expect("it is short"), slot);
        }
        store(&mut pair, fresh(1_000..1_090), 3_400);
        assert_eq!(pair.engine.counts().evictions, 0);
    }

    #[test]
    fn a_shard_gives_a_segment_only_if_it_holds_its_share() {
        let mut pair = Pair::new(1 << 20, WhenFull::Evict);
        fresh(0..1_000).for_each(|name| _ = pair.insert(name.as_bytes(), &[2; 100], 0, 0));
        let held = pair.engine.log.held();
        assert!(!pair.reclaim_beyond(held + 1) && pair.reclaim_beyond(held));
        assert_eq!(pair.engine.log.held(), held - 1);
    }
}
