//! Histories: each step is applied to an engine and to an oracle, and the engine's promises are checked.
//!
//! The next step is chosen by a seed in the tests, and by a fuzzer's bytes in `fuzz/`.

mod naive;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Duration;

use super::*;
use crate::store::expiry::Expiry;
use crate::store::item::seq::Seq;
use crate::store::item::tags::TagList;
use crate::store::log::segment::Queue;
use crate::store::oracle::naive::{Groups, Naive};
use crate::store::tick::{TICKS_PER_SECOND, Tick};

/// An engine and its oracle, with a manual clock.
pub(crate) struct Pair {
    pub(crate) engine: Engine,
    floor: u64,
    groups: Groups,
    naive: Naive,
    pub(crate) second: u32,
    seq: u64,
    /// Whether a group was invalidated since all segments were last marked for the sweep.
    is_group_new: bool,
}

/// The parameters of a history.
#[derive(Clone, Copy)]
pub(crate) struct Mix {
    pub(crate) keys: u64,
    pub(crate) memory_bytes: usize,
    pub(crate) value_bytes: usize,
    pub(crate) when_full: WhenFull,
}

/// The source of a history's steps.
pub(crate) enum Choices<'a> {
    #[cfg_attr(not(test), expect(dead_code, reason = "a fuzzer supplies bytes"))]
    /// A seed and the number of steps left: xorshift64*, Vigna 2016.
    Seeded(u64, usize),
    /// Bytes, until they are used up.
    Bytes(&'a [u8]),
}

pub(crate) const SEGMENT: usize = 16 << 10;

impl Pair {
    pub(crate) fn new(memory_bytes: usize, when_full: WhenFull) -> Self {
        let budget = Arc::new(Budget::new(memory_bytes, 1, SEGMENT));
        let tags_in_use = Arc::new(TagsInUse::new(memory_bytes, Keys::new(7)));
        let changes = OwnChanges::default();
        let engine = Engine::new(budget, memory_bytes, tags_in_use, Keys::new(7), when_full, changes);
        let (groups, naive) = (Groups::default(), Naive::default());
        Pair { engine, floor: 0, groups, naive, second: 100, seq: 1, is_group_new: false }
    }

    /// Passes the present cutoff to the engine and the oracle.
    fn with_dead<R>(&mut self, act: impl FnOnce(&mut Engine, &mut Naive, Dead) -> R) -> R {
        let floor = Seq::new(self.floor).expect("histories are short");
        let copy_until = |as_of: Seq, key: &[u8], tags: Tags| self.groups.end(as_of, key, tags);
        let dead = Dead { floor, tick: self.tick(), copy_until: &copy_until };
        act(&mut self.engine, &mut self.naive, dead)
    }

    pub(crate) fn reclaim(&mut self) -> bool {
        self.reclaim_beyond(0)
    }

    /// Reclaims if the engine holds `share` segments or more.
    pub(crate) fn reclaim_beyond(&mut self, share: usize) -> bool {
        self.with_dead(|engine, _, dead| engine.reclaim(share, dead))
    }

    pub(crate) fn sweep(&mut self) -> bool {
        self.with_dead(|engine, _, dead| engine.sweep(dead))
    }

    /// Invalidates a group. Its present items are removed after `kept_seconds`, or at their expiry.
    pub(crate) fn invalidate(&mut self, group: &'static [u8], kept_seconds: u32) {
        let seq = Seq::new(self.seq).expect("histories are short");
        self.groups.invalidate(group, seq, self.tick(), Duration::from_secs(kept_seconds.into()));
        self.is_group_new = true;
    }

    /// Marks all segments, as the cache does some time after a group was invalidated.
    pub(crate) fn mark_for_groups(&mut self) {
        if std::mem::take(&mut self.is_group_new) {
            self.engine.mark_all();
        }
    }

    pub(crate) fn tick(&self) -> Tick {
        Tick::from_number(self.second * TICKS_PER_SECOND as u32)
    }

    /// The expiry in so many seconds.
    pub(crate) fn expiry(&self, seconds: u32) -> Expiry {
        Expiry::at(self.tick()).plus(Duration::from_secs(seconds.into()))
    }

    fn meta(&mut self, ttl: u32, flags: u32) -> Meta {
        self.seq += 1;
        let expiry = if ttl == 0 { Expiry::NEVER } else { self.expiry(ttl) };
        let as_of = Seq::new(self.seq).expect("histories are short");
        let chosen = if self.seq.is_multiple_of(5) { self.seq << 40 } else { 0 };
        Meta { as_of, chosen, expiry, flags, removed_at: expiry, is_stale: false, stored: self.tick() }
    }

    pub(crate) fn insert(&mut self, name: &[u8], value: &[u8], ttl: u32, flags: u32) -> bool {
        let meta = self.meta(ttl, flags);
        let key = self.engine.keys.clone();
        let key = key.key(name).expect("names are short");
        let tags = tags_of(value);
        let stored =
            self.engine.insert(&key, self.engine.find(&key), meta, tags.tags(), value.into(), self.tick());
        match stored {
            Ok(()) => self.naive.insert(name, meta, tags, value),
            Err(NoRoom) => self.refused(&key),
        }
        stored.is_ok()
    }

    /// An item found no room: the old item under its key stays, unless it was removed to make room.
    fn refused(&mut self, key: &Key) {
        if self.find(key.bytes).is_none() {
            let may_go = self.engine.when_full == WhenFull::Evict;
            self.with_dead(|_, naive, dead| {
                let is_dead = |(meta, tags, _)| naive::is_dead(key.bytes, &meta, tags, dead);
                let is_copy = |(meta, tags, _)| naive::is_copy(key.bytes, &meta, tags, dead);
                let stays = naive.get(key.bytes).is_some_and(|item| !is_dead(item) && !is_copy(item));
                assert!(may_go || !stays, "it could have stayed");
            });
            self.naive.remove(key.bytes);
        }
    }

    /// The item, if the engine has it; the oracle must have the same item.
    #[track_caller]
    pub(crate) fn find(&mut self, name: &[u8]) -> Option<Slot> {
        let key = self.engine.keys.clone();
        let slot = self.engine.find(&key.key(name).expect("names are short"))?;
        let item = self.engine.item(slot);
        assert_eq!(self.naive.get(name), Some((item.meta(), item.tags(), item.value())), "of {name:?}");
        Some(slot)
    }

    pub(crate) fn remove(&mut self, key: &Key, slot: Slot) {
        self.engine.remove(key, slot, self.tick());
        self.naive.remove(key.bytes);
    }

    pub(crate) fn set_meta(&mut self, key: &Key, slot: Slot, meta: Meta) {
        let use_of = |engine: &Engine, slot| {
            let head = engine.head(slot);
            (head.uses(), head.stamp(), head.is_fetched())
        };
        let used = use_of(&self.engine, slot);
        let Some(slot) = self.engine.set_meta(key, slot, meta, self.tick()) else {
            assert!(meta.chosen != 0 || meta.flags != 0, "the other parts of a description may be missing");
            return self.naive.remove(key.bytes);
        };
        let kept = self.engine.meta(slot);
        let is_short = self.engine.when_full == WhenFull::Refuse && kept.removed_at == meta.expiry;
        let removed_at = if is_short { meta.expiry } else { meta.removed_at };
        assert_eq!(kept, Meta { removed_at, ..meta });
        assert_eq!(use_of(&self.engine, slot), used);
        self.naive.set_meta(key.bytes, kept);
    }

    fn change(&mut self, name: &[u8], choices: &mut Choices) {
        let keys = self.engine.keys.clone();
        let key = keys.key(name).expect("names are short");
        let Some(slot) = self.find(name) else { return };
        let old = self.engine.item(slot);
        let (meta, value) = (old.meta(), old.value().to_vec());
        match choices.below(6) {
            0 => {
                let meta = self.meta(choices.below(9) as u32, meta.flags);
                self.set_meta(&key, slot, meta);
            }
            1 => {
                let removed_at = self.expiry(1 + choices.below(9) as u32);
                self.set_meta(&key, slot, Meta { is_stale: true, removed_at, ..meta });
            }
            2 => {
                let joined = [&value[..], b"tail"].concat();
                let meta = self.meta(0, 3);
                let tags = tags_of(&[joined.len() as u8]);
                match self.engine.replace(&key, slot, meta, tags.tags(), joined[..].into(), self.tick()) {
                    Ok(()) => self.naive.insert(name, meta, tags, &joined),
                    Err(NoRoom) => self.refused(&key),
                }
            }
            3 => self.remove(&key, slot),
            _ => self.engine.used(slot, self.tick()),
        }
    }

    /// One step of a history.
    fn step(&mut self, mix: Mix, choices: &mut Choices) {
        let name = format!("key:{}", choices.skewed(mix.keys));
        match choices.below(100) {
            0 => self.second += 1,
            1 => {
                if choices.below(10) == 0 {
                    self.mark_for_groups();
                }
                self.sweep();
            }
            2 if choices.below(200) == 0 => {
                self.floor = self.seq;
                self.engine.mark_all();
            }
            3 if choices.below(20) == 0 => {
                let group = GROUPS[choices.below(GROUPS.len() as u64) as usize];
                self.invalidate(group, [0, 3, 12][choices.below(3) as usize]);
            }
            2..40 => {
                let scale = [1, 8, 64]
                    .get(choices.below(12) as usize)
                    .map_or(mix.value_bytes, |part| mix.value_bytes * part);
                let value = vec![choices.below(256) as u8; choices.below(scale as u64) as usize];
                let ttl = if choices.below(2) == 0 { 0 } else { 1 + choices.below(20) as u32 };
                self.insert(name.as_bytes(), &value, ttl, choices.below(2) as u32);
            }
            _ => self.change(name.as_bytes(), choices),
        }
        if self.engine.budget.is_tight(None) {
            self.reclaim();
        }
        self.engine.removed_values.clear();
    }

    /// Checks the invariants of the engine.
    #[track_caller]
    pub(crate) fn check(&self) {
        let Engine { budget, counts, index, keys, large, log, ghosts, .. } = &self.engine;
        let (mut items, mut bytes, mut stale, mut tags) = (0, 0, 0, 0);
        let mut queued: HashMap<u16, Queue> = HashMap::new();
        for queue in Queue::ALL {
            for number in log.queue(queue) {
                assert_eq!(queued.insert(*number, queue), None, "a segment is in one queue, once");
            }
        }
        for (number, segment) in log.segments() {
            assert_eq!(queued.remove(&number), Some(segment.queue));
            let (mut offset, mut live) = (0, 0);
            while let Some((item, next)) = segment.next(offset) {
                if !item.is_dead() {
                    let slot = Slot::new(keys.hash(item.key()), Place::Log(number, offset));
                    assert_eq!(self.engine.find(&keys.key(item.key()).expect("it was one")), Some(slot));
                    live += item.tight();
                    items += 1;
                    tags += item.tags().count();
                    stale += u64::from(item.is_stale());
                    let soonest = segment.expiries.soonest();
                    assert_eq!(soonest.first(item.removed_at()), soonest);
                }
                offset = next;
            }
            assert_eq!((offset, live), (segment.used, segment.live));
            bytes += live;
        }
        assert!(queued.is_empty(), "a queue holds numbers of segments only");
        let apart: Vec<u32> = large.some(0, usize::MAX).0;
        for number in &apart {
            let head = large.get(*number).head();
            stale += u64::from(head.is_stale());
            tags += head.tags().count();
            let slot = Slot::new(keys.hash(head.key()), Place::Large(*number));
            assert_eq!(self.engine.find(&keys.key(head.key()).expect("it was one")), Some(slot));
        }
        assert_eq!(large.bytes, apart.iter().map(|number| large.get(*number).bytes()).sum::<usize>());
        items += apart.len();
        assert_eq!((items as u64, stale), (counts.items, counts.stale));
        assert_eq!((index.iter().count(), self.engine.tags_in_use.total()), (items, tags));
        assert_eq!((bytes + large.bytes) as u64, counts.bytes);
        let tables = index.bytes() + ghosts.bytes();
        let charged =
            log.held().max(2) * SEGMENT + tables + apart.iter().map(|n| large.get(*n).charged).sum::<usize>();
        assert_eq!(budget.used(), charged, "{} segments, {} large, tables {tables}", log.held(), apart.len());
    }

    /// Waits until all items with an expiry are removed, and compares the others.
    #[track_caller]
    fn finish(mut self) {
        self.second += 1;
        self.mark_for_groups();
        while self.sweep() {}
        for _ in 0..1_000 {
            self.second += 1;
            self.sweep();
        }
        self.engine.removed_values.clear();
        self.with_dead(|_, naive, dead| naive.sweep(dead));
        self.check();
        let names: Vec<Vec<u8>> = self.naive.0.keys().cloned().collect();
        let missing = names.iter().filter(|name| self.find(name).is_none()).count() as u64;
        let counts = self.engine.counts();
        assert_eq!(counts.items + missing, names.len() as u64, "no expired or invalidated item is left");
        assert!(missing <= counts.evictions, "{missing} are missing, {} were evicted", counts.evictions);
    }
}

/// Tags chosen by the value; one item in four has some.
fn tags_of(value: &[u8]) -> TagList {
    let count = value.first().map_or(0, |byte| byte.wrapping_mul(61) % 8 / 2 * (byte % 2));
    TagList::new(TAGS.into_iter().take(count.into())).expect("they are short")
}

const TAGS: [&[u8]; 3] = [b"a", b"a tag ", b"a tag of it"];
/// Tags, and beginnings of keys: many keys of a history begin with the first one.
const GROUPS: [&[u8]; 5] = [TAGS[0], TAGS[1], TAGS[2], b"key:1", b"key:7"];

impl Choices<'_> {
    /// Whether there is no next step; called once for each step.
    fn are_used_up(&mut self) -> bool {
        match self {
            Choices::Seeded(_, 0) => true,
            Choices::Seeded(_, steps) => {
                *steps -= 1;
                false
            }
            Choices::Bytes(bytes) => bytes.is_empty(),
        }
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        let number = match self {
            Choices::Seeded(state, _) => {
                *state ^= *state >> 12;
                *state ^= *state << 25;
                *state ^= *state >> 27;
                state.wrapping_mul(0x2545_f491_4f6c_dd1d)
            }
            Choices::Bytes(bytes) => {
                let len = bytes.len().min(if limit > 256 { 2 } else { 1 });
                let (number, rest) = bytes.split_at(len);
                *bytes = rest;
                number.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
            }
        };
        number % limit.max(1)
    }

    /// A number below `limit`; small numbers are more frequent.
    pub(crate) fn skewed(&mut self, limit: u64) -> u64 {
        let most = self.below(limit) + 1;
        self.below(most)
    }
}

/// Plays a history until its choices are used up.
#[track_caller]
pub(crate) fn play(mix: Mix, mut choices: Choices, check_every: usize) {
    let mut pair = Pair::new(mix.memory_bytes, mix.when_full);
    for step in 0.. {
        if choices.are_used_up() {
            break;
        }
        let copied = pair.engine.counts.copied_bytes;
        pair.step(mix, &mut choices);
        assert!(pair.engine.counts.copied_bytes - copied <= SEGMENT as u64, "at step {step}");
        assert!(pair.engine.budget.used() <= mix.memory_bytes, "at step {step}");
        if step % check_every == 0 {
            pair.check();
        }
    }
    pair.finish();
}

/// Plays a history chosen by a fuzzer's bytes.
pub fn check(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let pick = |shift: u8, of: [usize; 4]| of[usize::from(kind >> shift & 3)];
    let mix = Mix {
        keys: pick(0, [3, 40, 300, 3_000]) as u64,
        memory_bytes: pick(2, [128 << 10, 256 << 10, 1 << 20, 4 << 20]),
        value_bytes: pick(4, [1, 20, 200, 2_000]),
        when_full: if kind >> 6 == 0 { WhenFull::Refuse } else { WhenFull::Evict },
    };
    play(mix, Choices::Bytes(bytes), 16);
}
