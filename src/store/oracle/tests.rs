//! The engine compared with the oracle, its invariants after each step, and the limits of its work.

use std::collections::HashMap;

use super::*;
use crate::store::oracle::{Choices, Mix, Pair, SEGMENT, play};

const AMPLE: Mix = Mix { keys: 500, memory_bytes: 64 << 20, value_bytes: 200, when_full: WhenFull::Evict };
const TIGHT: Mix = Mix { keys: 5_000, memory_bytes: 1 << 20, value_bytes: 200, when_full: WhenFull::Evict };

#[test]
fn an_engine_with_room_for_all_items_is_a_map() {
    for seed in 1..=4 {
        play(AMPLE, Choices::Seeded(seed, 20_000), 50);
    }
}

#[test]
fn a_full_engine_has_the_right_values() {
    for seed in 1..=4 {
        play(TIGHT, Choices::Seeded(seed, 20_000), 50);
    }
}

#[test]
fn every_step_keeps_the_invariants() {
    for seed in 1..=2 {
        play(Mix { keys: 300, memory_bytes: 256 << 10, ..TIGHT }, Choices::Seeded(seed, 5_000), 1);
        play(
            Mix { keys: 300, memory_bytes: 256 << 10, value_bytes: 20, ..TIGHT },
            Choices::Seeded(seed, 5_000),
            1,
        );
    }
}

#[test]
fn a_million_steps_keep_the_invariants() {
    play(AMPLE, Choices::Seeded(11, 500_000), 50_000);
    play(TIGHT, Choices::Seeded(12, 500_000), 50_000);
}

#[test]
fn an_engine_that_must_not_evict_refuses_stores() {
    let mix = Mix { when_full: WhenFull::Refuse, ..TIGHT };
    play(mix, Choices::Seeded(5, 20_000), 100);
    let mut pair = Pair::new(1 << 20, WhenFull::Refuse);
    let stored = (0..20_000).filter(|n| pair.insert(format!("{n}").as_bytes(), &[1; 200], 0, 0)).count();
    assert!((3_000..5_000).contains(&stored), "{stored}");
    assert_eq!(pair.engine.counts().evictions, 0);
    assert!(pair.find(b"0").is_some() && pair.find(b"19999").is_none());
}

#[test]
fn an_item_that_fits_its_place_does_not_move() {
    let mut pair = Pair::new(1 << 20, WhenFull::Evict);
    pair.insert(b"other", &[1; 100], 0, 0);
    pair.insert(b"k", &[1; 100], 0, 0);
    let slot = pair.find(b"k");
    for len in [100, 3, 99, 0, 103] {
        pair.insert(b"k", &[2].repeat(len), 0, 0);
        assert_eq!(pair.find(b"k"), slot, "{len} bytes");
    }
    pair.insert(b"z", &[2; 100], 0, 0);
    pair.insert(b"k", &[3; 120], 0, 0);
    assert_ne!(pair.find(b"k"), slot);
    pair.check();
}

#[test]
fn an_overwritten_item_that_moves_keeps_its_uses_and_has_one_more() {
    let mut pair = Pair::new(1 << 20, WhenFull::Evict);
    pair.insert(b"k", &[1; 100], 0, 0);
    for bytes in [100, 200, 300] {
        pair.insert(b"k", &[1].repeat(bytes), 0, 0);
    }
    let slot = pair.find(b"k").expect("there is room");
    assert_eq!(pair.engine.head(slot).uses().count(), 3);
}

#[test]
fn a_store_is_a_fill_unless_it_replaces_a_live_item() {
    let mut pair = Pair::new(1 << 20, WhenFull::Evict);
    let keys = pair.engine.keys.clone();
    let fills = |pair: &Pair| pair.engine.counts().sizes[SizeCounts::class(100)].fills;
    pair.insert(b"k", &[1; 100], 0, 0);
    pair.insert(b"k", &[1; 100], 0, 0);
    assert_eq!(fills(&pair), 1);
    let slot = pair.find(b"k").expect("there is room");
    let meta = Meta { is_stale: true, ..pair.engine.meta(slot) };
    pair.set_meta(&keys.key(b"k").expect("it is short"), slot, meta);
    pair.insert(b"k", &[1; 100], 0, 0);
    assert_eq!(fills(&pair), 2);
}

#[test]
fn a_value_above_half_of_the_memory_is_refused_and_evicts_nothing() {
    let mut pair = Pair::new(4 << 20, WhenFull::Evict);
    pair.insert(b"small", &[1; 100], 0, 0);
    pair.insert(b"other", &[1; 100], 0, 0);
    let too_large = vec![1; (2 << 20) + 1];
    assert!(!pair.insert(b"large", &too_large, 0, 0) && !pair.insert(b"small", &too_large, 0, 0));
    assert!(pair.find(b"small").is_some() && pair.find(b"other").is_some());
    assert!(pair.insert(b"large", &too_large[1..], 0, 0));
}

#[test]
fn a_large_item_is_charged_until_its_last_reader_drops_it() {
    let mut pair = Pair::new(4 << 20, WhenFull::Evict);
    let before = pair.engine.budget.used();
    pair.insert(b"large", &vec![1; 1 << 20], 0, 0);
    let slot = pair.find(b"large").unwrap();
    let reader = pair.engine.item(slot).shared.expect("it is large").clone();
    let keys = pair.engine.keys.clone();
    pair.engine.remove(&keys.key(b"large").unwrap(), slot, pair.tick());
    pair.engine.removed_values.clear();
    assert!(pair.engine.budget.used() > before + (1 << 20));
    drop(reader);
    // The table of the index stays.
    assert!(pair.engine.budget.used() < before + 1_000);
}

#[test]
fn an_item_of_an_invalidated_group_is_removed_after_its_time_or_at_its_expiry() {
    for (ttl, life_seconds) in [(0, 10), (5, 5), (50, 10)] {
        let mut pair = Pair::new(1 << 20, WhenFull::Evict);
        pair.insert(b"key:10", &[1; 100], ttl, 0);
        pair.insert(b"key:20", &[1; 100], 0, 0);
        pair.invalidate(b"key:1", 10);
        pair.insert(b"key:11", &[1; 100], 0, 0);
        pair.mark_for_groups();
        while pair.sweep() {}
        pair.second += life_seconds - 1;
        while pair.sweep() {}
        assert!(pair.find(b"key:10").is_some(), "ttl {ttl}");
        pair.second += 1;
        while pair.sweep() {}
        assert!(pair.find(b"key:10").is_none(), "ttl {ttl}");
        assert!(pair.find(b"key:11").is_some() && pair.find(b"key:20").is_some());
        assert_eq!((pair.engine.counts().expired, pair.engine.counts().evictions), (u64::from(ttl == 5), 0));
    }
}

#[test]
fn an_item_of_an_invalidated_group_is_removed_and_does_not_count_as_evicted() {
    let mut pair = Pair::new(1 << 20, WhenFull::Evict);
    pair.engine.eviction_watchers = 1;
    for number in 0..1_000 {
        let name = format!("key:1{number}");
        pair.insert(name.as_bytes(), &vec![1; if number % 500 == 0 { 50_000 } else { 100 }], 0, 0);
        let slot = pair.find(name.as_bytes()).expect("there is room");
        pair.engine.used(slot, pair.tick());
    }
    pair.invalidate(b"key:1", 0);
    pair.second += 1;
    for number in 0..20_000 {
        pair.insert(format!("key:2{number}").as_bytes(), &[1; 100], 0, 0);
        if pair.engine.budget.is_tight(None) {
            pair.reclaim();
        }
    }
    assert!((0..1_000).all(|number| pair.find(format!("key:1{number}").as_bytes()).is_none()));
    assert!(pair.engine.evicted.iter().all(|evicted| evicted.key.starts_with(b"key:2")));
    assert_eq!(pair.engine.counts().evictions, pair.engine.evicted.len() as u64);
}

/// The old value was kept until the lock was released, and the new one found no room beside it.
#[test]
fn a_large_item_uses_the_room_of_the_one_that_it_replaces() {
    let mut pair = Pair::new(4 << 20, WhenFull::Evict);
    for byte in 0..4 {
        assert!(pair.insert(b"large", &vec![byte; 2 << 20], 0, 0), "number {byte}");
        pair.check();
    }
    pair.engine.removed_values.clear();
    pair.check();
}

#[test]
fn expired_segments_are_removed_one_per_step() {
    let mut pair = Pair::new(4 << 20, WhenFull::Evict);
    for n in 0..10_000 {
        pair.insert(format!("{n}").as_bytes(), &[1; 100], 50, 0);
    }
    let mut held = pair.engine.counts().segments;
    assert!(held > 70 && !pair.sweep(), "{held}");
    pair.second += 50;
    while pair.sweep() {
        let now = pair.engine.counts().segments;
        assert!(now + 1 >= held, "one step removed more than one segment");
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
        assert!(pair.reclaim());
        assert!(pair.engine.counts.copied_bytes - copied <= SEGMENT as u64);
    }
    pair.check();
}

#[test]
fn any_bytes_are_a_history() {
    for seed in 1..=200 {
        let mut random = Choices::Seeded(seed, 0);
        let bytes: Vec<u8> = (0..2_000).map(|_| random.below(256) as u8).collect();
        crate::store::oracle::check(&bytes);
    }
}

#[test]
fn a_listing_shows_each_item_that_stays_once_while_tables_split() {
    // Nothing is evicted.
    let mut pair = Pair::new(4 << 20, WhenFull::Refuse);
    let name = |number: u32| format!("stays{number}").into_bytes();
    for number in 0..6_000 {
        pair.insert(&name(number), &[7; 20], 0, 0);
    }
    let (mut shown, mut position, mut steps) = (HashMap::new(), Some(0), 0);
    while let Some(at) = position {
        position = pair.engine.list(at, |listed| *shown.entry(listed.key.to_vec()).or_insert(0) += 1);
        steps += 1;
        // Tables split, items grow out of their places, and segments are packed.
        for number in 0..500 {
            pair.insert(format!("comes{steps}-{number}").as_bytes(), &[8; 30], 0, 0);
            pair.insert(&name((steps * 500 + number) % 6_000), &[7; 90], 0, number);
        }
        pair.reclaim();
        assert!(steps < 200, "the listing does not end");
    }
    assert!(steps > 4, "{steps} steps");
    for number in 0..6_000 {
        assert_eq!(shown.get(&name(number)), Some(&1), "stays{number}");
    }
}

#[test]
fn a_listing_shows_each_item_that_stays_once_while_tables_join() {
    let mut pair = Pair::new(4 << 20, WhenFull::Refuse);
    for number in 0..200 {
        pair.insert(format!("stays{number}").as_bytes(), &[7; 20], 0, 0);
    }
    for number in 0..12_000 {
        pair.insert(format!("goes{number}").as_bytes(), &[7; 20], 0, 0);
    }
    let (mut shown, mut position, mut removed) = (HashMap::new(), Some(0), 0..);
    while let Some(at) = position {
        position = pair.engine.list(at, |listed| *shown.entry(listed.key.to_vec()).or_insert(0) += 1);
        let keys = pair.engine.keys.clone();
        for number in removed.by_ref().take(2_000) {
            let name = format!("goes{number}");
            if let Some(slot) = pair.find(name.as_bytes()) {
                pair.remove(&keys.key(name.as_bytes()).unwrap(), slot);
            }
        }
    }
    for number in 0..200 {
        assert_eq!(shown.get(format!("stays{number}").as_bytes()), Some(&1), "stays{number}");
    }
}
