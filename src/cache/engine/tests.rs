//! The engine against the oracle, its invariants after every step, and the bounds of its work.

use std::collections::HashMap;

use super::naive::Naive;
use super::*;

/// Engine and oracle side by side, and a clock that only moves by hand.
struct Pair {
    engine: Engine,
    floor: u64,
    naive: Naive,
    second: u32,
    seq: u64,
}

/// What one step of a history may be, by how often.
#[derive(Clone, Copy)]
struct Mix {
    keys: u64,
    memory_bytes: usize,
    value_bytes: usize,
    when_full: WhenFull,
}

const SEGMENT: usize = 16 << 10;

impl Pair {
    fn new(memory_bytes: usize, when_full: WhenFull) -> Self {
        let budget = Arc::new(Budget::new(memory_bytes, 1, SEGMENT));
        let engine = Engine::new(budget, memory_bytes, Keys::new(7), when_full);
        Pair { engine, floor: 0, naive: Naive::default(), second: 100, seq: 1 }
    }

    fn over(&self) -> Over {
        Over { floor: Seq::new(self.floor).unwrap(), second: self.second }
    }

    fn meta(&mut self, ttl: u32, flags: u32) -> Meta {
        self.seq += 1;
        let expiry = if ttl == 0 { 0 } else { self.second + ttl };
        let as_of = Seq::new(self.seq).unwrap();
        Meta { as_of, expiry, flags, gone: expiry, is_stale: false, stored: self.second }
    }

    fn insert(&mut self, name: &[u8], value: &[u8], ttl: u32, flags: u32) -> bool {
        let meta = self.meta(ttl, flags);
        let key = self.engine.keys.clone();
        let key = key.key(name).unwrap();
        let stored = self.engine.insert(&key, meta, value.into(), self.second);
        match stored {
            Ok(()) => self.naive.insert(name, meta, value),
            Err(NoRoom) => self.naive.remove(name),
        }
        stored.is_ok()
    }

    /// The item, if the engine has it; the oracle must have the same.
    #[track_caller]
    fn find(&mut self, name: &[u8]) -> Option<Slot> {
        let key = self.engine.keys.clone();
        let slot = self.engine.find(&key.key(name).unwrap())?;
        let item = self.engine.item(slot);
        assert_eq!(self.naive.get(name), Some((item.meta, item.value)), "of {name:?}");
        Some(slot)
    }

    fn change(&mut self, name: &[u8], random: &mut Random) {
        let keys = self.engine.keys.clone();
        let key = keys.key(name).unwrap();
        let Some(slot) = self.find(name) else { return };
        let old = self.engine.item(slot);
        let (meta, value) = (old.meta, old.value.to_vec());
        match random.below(6) {
            0 => {
                let (ttl, flags) = (random.below(9) as u32, meta.flags);
                let meta = self.meta(ttl, flags);
                if self.engine.set_meta(&key, slot, meta, self.second).is_some() {
                    self.naive.set_meta(name, meta);
                } else {
                    self.naive.remove(name);
                }
            }
            1 => {
                let gone = self.second + 1 + random.below(9) as u32;
                let meta = Meta { is_stale: true, gone, ..meta };
                if self.engine.set_meta(&key, slot, meta, self.second).is_some() {
                    self.naive.set_meta(name, meta);
                } else {
                    self.naive.remove(name);
                }
            }
            2 => {
                let joined = [&value[..], b"tail"].concat();
                let meta = self.meta(0, 3);
                match self.engine.replace(&key, slot, meta, joined[..].into(), self.second) {
                    Ok(()) => self.naive.insert(name, meta, &joined),
                    Err(NoRoom) => self.naive.remove(name),
                }
            }
            3 => {
                self.engine.remove(&key, slot, self.second);
                self.naive.remove(name);
            }
            _ => self.engine.used(slot, self.second),
        }
    }

    /// One step of a history.
    fn step(&mut self, mix: Mix, random: &mut Random) {
        let name = format!("key:{}", random.skewed(mix.keys));
        match random.below(100) {
            0 => self.second += 1,
            1 => _ = self.engine.sweep(self.over()),
            2 if random.below(200) == 0 => {
                self.floor = self.seq;
                self.engine.flushed();
            }
            2..40 => {
                let scale = [1, 8, 64]
                    .get(random.below(12) as usize)
                    .map_or(mix.value_bytes, |part| mix.value_bytes * part);
                let value = vec![random.below(256) as u8; random.below(scale as u64) as usize];
                let ttl = if random.below(2) == 0 { 0 } else { 1 + random.below(20) as u32 };
                self.insert(name.as_bytes(), &value, ttl, random.below(2) as u32);
            }
            _ => self.change(name.as_bytes(), random),
        }
        if self.engine.budget.is_tight(None) {
            self.engine.reclaim(0, self.over());
        }
        self.engine.garbage.clear();
    }

    /// Every promise of the engine that can be looked at from inside.
    #[track_caller]
    fn check(&self) {
        let Engine { budget, counts, index, keys, large, log, ghosts, .. } = &self.engine;
        let (mut items, mut bytes, mut stale) = (0, 0, 0);
        let mut queued: HashMap<u16, Queue> = HashMap::new();
        for queue in [Queue::Main, Queue::Small] {
            for number in log.queue(queue) {
                assert_eq!(queued.insert(*number, queue), None, "a segment is in one queue once");
            }
        }
        for (number, segment) in log.segments() {
            assert_eq!(queued.remove(&number), Some(segment.queue));
            let (mut offset, mut live) = (0, 0);
            while let Some((item, next)) = segment.next(offset) {
                if !item.is_dead() {
                    let slot = Slot::new(keys.hash(item.key()), Place::Log(number, offset));
                    assert_eq!(self.engine.find(&keys.key(item.key()).unwrap()), Some(slot));
                    live += item.tight();
                    items += 1;
                    stale += u64::from(item.is_stale());
                    assert!(item.gone() == 0 || segment.expiries.soonest() <= item.gone());
                }
                offset = next;
            }
            assert_eq!((offset, live), (segment.used, segment.live));
            bytes += live;
        }
        assert!(queued.is_empty(), "what is queued is held");
        let apart: Vec<u32> = large.some(0, usize::MAX).0;
        for number in &apart {
            let head = large.get(*number).head();
            stale += u64::from(head.is_stale());
            let slot = Slot::new(keys.hash(head.key()), Place::Large(*number));
            assert_eq!(self.engine.find(&keys.key(head.key()).unwrap()), Some(slot));
        }
        assert_eq!(large.bytes, apart.iter().map(|number| large.get(*number).bytes()).sum::<usize>());
        items += apart.len();
        assert_eq!((items as u64, stale), (counts.items, counts.stale));
        assert_eq!(index.iter().count(), items);
        assert_eq!((bytes + large.bytes) as u64, counts.bytes);
        let tables = index.bytes() + ghosts.bytes();
        let charged = log.held().max(2) * SEGMENT
            + tables
            + apart.iter().map(|n| large.get(*n).charged()).sum::<usize>();
        assert_eq!(budget.used(), charged, "{} segments, {} large, tables {tables}", log.held(), apart.len());
    }
}

/// Plays a history; what is missing in the engine must have been evicted.
#[track_caller]
fn play(mix: Mix, seed: u64, steps: usize, check_every: usize) {
    let (mut pair, mut random) = (Pair::new(mix.memory_bytes, mix.when_full), Random(seed));
    for step in 0..steps {
        let copied = pair.engine.counts.copied_bytes;
        pair.step(mix, &mut random);
        assert!(pair.engine.counts.copied_bytes - copied <= SEGMENT as u64, "at step {step}");
        assert!(pair.engine.budget.used() <= mix.memory_bytes, "at step {step}");
        if step % check_every == 0 {
            pair.check();
        }
    }
    pair.second += 1;
    while pair.engine.sweep(pair.over()) {}
    for _ in 0..1_000 {
        pair.second += 1;
        pair.engine.sweep(pair.over());
    }
    pair.engine.garbage.clear();
    pair.naive.sweep(pair.over());
    pair.check();
    let names: Vec<Vec<u8>> = pair.naive.0.keys().cloned().collect();
    let missing = names.iter().filter(|name| pair.find(name).is_none()).count() as u64;
    let counts = pair.engine.counts();
    assert_eq!(counts.items + missing, names.len() as u64, "what is over is gone");
    assert!(missing <= counts.evictions, "{missing} are missing, {} were evicted", counts.evictions);
    if counts.evictions == 0 {
        assert_eq!(missing, 0);
    }
}

const AMPLE: Mix = Mix { keys: 500, memory_bytes: 64 << 20, value_bytes: 200, when_full: WhenFull::Evict };
const TIGHT: Mix = Mix { keys: 5_000, memory_bytes: 1 << 20, value_bytes: 200, when_full: WhenFull::Evict };

#[test]
fn with_room_for_all_it_is_a_map() {
    for seed in 1..=4 {
        play(AMPLE, seed, 20_000, 50);
    }
}

#[test]
fn without_room_what_it_has_is_right() {
    for seed in 1..=4 {
        play(TIGHT, seed, 20_000, 50);
    }
}

#[test]
fn every_step_keeps_every_promise() {
    for seed in 1..=2 {
        play(Mix { keys: 300, memory_bytes: 256 << 10, ..TIGHT }, seed, 5_000, 1);
        play(Mix { keys: 300, memory_bytes: 256 << 10, value_bytes: 20, ..TIGHT }, seed, 5_000, 1);
    }
}

#[test]
fn a_million_steps() {
    play(AMPLE, 11, 500_000, 50_000);
    play(TIGHT, 12, 500_000, 50_000);
}

#[test]
fn where_it_must_not_evict_it_refuses() {
    let mix = Mix { when_full: WhenFull::Refuse, ..TIGHT };
    play(mix, 5, 20_000, 100);
    let mut pair = Pair::new(1 << 20, WhenFull::Refuse);
    let stored = (0..20_000).filter(|n| pair.insert(format!("{n}").as_bytes(), &[1; 200], 0, 0)).count();
    assert!((3_000..5_000).contains(&stored), "{stored}");
    assert_eq!(pair.engine.counts().evictions, 0);
    assert!(pair.find(b"0").is_some() && pair.find(b"19999").is_none());
}

#[test]
fn what_fits_its_place_does_not_move() {
    let mut pair = Pair::new(1 << 20, WhenFull::Evict);
    pair.insert(b"other", &[1; 100], 0, 0);
    pair.insert(b"k", &[1; 100], 0, 0);
    let slot = pair.find(b"k");
    for len in [100, 3, 99, 0, 103] {
        pair.insert(b"k", &[2].repeat(len), 0, 0);
        assert_eq!(pair.find(b"k"), slot, "{len} bytes");
    }
    pair.insert(b"k", &[3; 120], 0, 0);
    assert_ne!(pair.find(b"k"), slot);
    pair.check();
}

#[test]
fn a_used_item_outlives_many_that_are_not() {
    let mut pair = Pair::new(1 << 20, WhenFull::Evict);
    pair.insert(b"used", &[1; 100], 0, 0);
    for n in 0..100_000 {
        let slot = pair.find(b"used").unwrap_or_else(|| panic!("it was evicted after {n}"));
        pair.engine.used(slot, pair.second);
        pair.insert(format!("{n}").as_bytes(), &[1; 100], 0, 0);
        if pair.engine.budget.is_tight(None) {
            pair.engine.reclaim(0, pair.over());
        }
    }
    assert!(pair.engine.counts().evictions > 90_000);
}

#[test]
fn what_comes_back_soon_is_taken_for_wanted() {
    let mut pair = Pair::new(1 << 20, WhenFull::Evict);
    for n in 0..8_000 {
        pair.insert(format!("{n}").as_bytes(), &[1; 100], 0, 0);
        if pair.engine.budget.is_tight(None) {
            pair.engine.reclaim(0, pair.over());
        }
    }
    assert!(pair.find(b"3").is_none());
    pair.insert(b"3", &[1; 100], 0, 0);
    assert_eq!(pair.engine.counts().ghost_hits, 1);
    let slot = pair.find(b"3").unwrap();
    assert_eq!(pair.engine.queue(slot), Queue::Main);
}

#[test]
fn a_large_item_counts_until_its_last_reader_lets_go() {
    let mut pair = Pair::new(4 << 20, WhenFull::Evict);
    let before = pair.engine.budget.used();
    pair.insert(b"large", &vec![1; 1 << 20], 0, 0);
    let slot = pair.find(b"large").unwrap();
    let reader = pair.engine.item(slot).shared.expect("it lies apart").clone();
    let keys = pair.engine.keys.clone();
    pair.engine.remove(&keys.key(b"large").unwrap(), slot, 0);
    pair.engine.garbage.clear();
    assert!(pair.engine.budget.used() > before + (1 << 20));
    drop(reader);
    // A table for the index stays.
    assert!(pair.engine.budget.used() < before + 1_000);
}

#[test]
fn expired_segments_go_in_single_steps() {
    let mut pair = Pair::new(4 << 20, WhenFull::Evict);
    for n in 0..10_000 {
        pair.insert(format!("{n}").as_bytes(), &[1; 100], 50, 0);
    }
    let mut held = pair.engine.counts().segments;
    assert!(held > 70 && !pair.engine.sweep(pair.over()), "{held}");
    pair.second += 50;
    while pair.engine.sweep(pair.over()) {
        let now = pair.engine.counts().segments;
        assert!(now + 1 >= held, "a step looks through one segment");
        held = now;
    }
    let counts = pair.engine.counts();
    assert_eq!((counts.items, counts.bytes, counts.segments, counts.expired), (0, 0, 0, 10_000));
}

#[test]
fn a_lower_limit_is_reached_step_by_step() {
    let mut pair = Pair::new(8 << 20, WhenFull::Evict);
    for n in 0..40_000 {
        pair.insert(format!("{n}").as_bytes(), &[1; 100], 0, 0);
    }
    pair.engine.budget.set_limit(1 << 20);
    while pair.engine.budget.used() > 1 << 20 {
        let copied = pair.engine.counts.copied_bytes;
        assert!(pair.engine.reclaim(0, pair.over()));
        assert!(pair.engine.counts.copied_bytes - copied <= SEGMENT as u64);
    }
    pair.check();
}

/// xorshift64*, Vigna 2016: seeded, so that a failure repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % limit.max(1)
    }

    /// Small numbers more often.
    fn skewed(&mut self, limit: u64) -> u64 {
        let most = self.below(limit) + 1;
        self.below(most)
    }
}

#[test]
fn a_listing_shows_what_stays_exactly_once_whatever_happens_meanwhile() {
    // Nothing is evicted.
    let mut pair = Pair::new(4 << 20, WhenFull::Refuse);
    let name = |number: u32| format!("stays{number}").into_bytes();
    for number in 0..3_000 {
        pair.insert(&name(number), &[7; 20], 0, 0);
    }
    let (mut shown, mut position, mut steps) = (HashMap::new(), Some(0), 0);
    while let Some(at) = position {
        position = pair.engine.list(at, |listed| *shown.entry(listed.key.to_vec()).or_insert(0) += 1);
        steps += 1;
        // Tables split, items grow out of their places, and segments are packed.
        for number in 0..500 {
            pair.insert(format!("comes{steps}-{number}").as_bytes(), &[8; 30], 0, 0);
            pair.insert(&name((steps * 500 + number) % 3_000), &[7; 90], 0, number);
        }
        pair.engine.reclaim(0, pair.over());
        assert!(steps < 200, "it comes to an end");
    }
    assert!(steps > 4, "{steps} steps");
    for number in 0..3_000 {
        assert_eq!(shown.get(&name(number)), Some(&1), "stays{number}");
    }
}
