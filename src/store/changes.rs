//! The newest change of the items in each part of a shard, which is known without the lock of the shard.
//!
//! A copy of an item is as good as the item while the number of its part is the one that was read, under the
//! lock, when the copy was made. Every change that a reader could see raises it before the lock is released,
//! and so before anybody is answered: a removal, another value, another description. A move of an item is no
//! change, nor is a use. Nothing else is said about an item without the lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Engine;
use super::index::slot::Slot;
use super::item::key::KeyHash;

/// The numbers of one shard, in a cache line of their own: readers of copies do not touch the lock.
///
/// They are not those of the model checker, which explores the steps around them: each change would have one
/// step more, under its lock.
#[derive(Default)]
#[repr(align(64))]
pub(crate) struct Changes([AtomicU64; PARTS]);

/// The same for the engine of the shard, which alone raises them.
#[derive(Default)]
pub(crate) struct OwnChanges {
    /// The last number; that of a part is stored, never loaded, so that no store waits for it.
    last: u64,
    parts: Arc<Changes>,
}

impl Changes {
    /// The newest change of a key's part.
    #[inline]
    pub(crate) fn newest(&self, hash: KeyHash) -> u64 {
        self.of(hash.bits()).load(Ordering::Acquire)
    }

    fn of(&self, tag: u64) -> &AtomicU64 {
        &self.0[tag as usize % PARTS]
    }
}

impl OwnChanges {
    /// The numbers, for readers.
    pub(crate) fn shared(&self) -> Arc<Changes> {
        Arc::clone(&self.parts)
    }

    /// A reader could see a change of an item with these bits of a hash.
    #[inline(always)]
    pub(super) fn raise(&mut self, tag: u64) {
        self.last += 1;
        self.parts.of(tag).store(self.last, Ordering::Release);
    }

    /// A reader could see a change of any item.
    pub(super) fn raise_all(&mut self) {
        (0..PARTS as u64).for_each(|part| self.raise(part));
    }
}

impl Engine {
    /// No copy of an item that was made until now is valid any more.
    pub(crate) fn outdate_copies(&mut self) {
        self.changes.raise_all();
    }

    /// Removes an item from the index: every removal comes here, before the tags of the item cease to be in
    /// use. Or an invalidation of a tag that no item bears any more is answered while a copy is valid.
    #[inline(always)]
    pub(super) fn unlink(&mut self, slot: Slot) {
        self.changes.raise(slot.tag());
        self.with_index(|index| index.remove(slot));
    }
}

/// Numbers of one shard. Keys that share one lose their copies together.
const PARTS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::budget::WhenFull;
    use crate::store::item::key::Key;
    use crate::store::item::seq::Seq;
    use crate::store::item::tags::Tags;
    use crate::store::oracle::Pair;
    use crate::store::{Dead, Meta};

    #[test]
    fn every_change_that_a_reader_could_see_raises_the_number_and_a_use_or_a_move_does_not() {
        let mut pair = Pair::new(1 << 20, WhenFull::Evict);
        let name = pair.engine.keys.key(b"key").unwrap().bytes.to_vec();
        assert!(pair.insert(&name, &[1; 100], 300, 0));
        let hash = pair.engine.keys.key(&name).unwrap().hash;
        let key = Key { bytes: &name, hash };
        let newest = |pair: &Pair| pair.engine.changes.parts.newest(hash);
        let slot = |pair: &Pair| pair.engine.find(&key).unwrap();
        let check = |pair: &mut Pair, is_change, what, act: &dyn Fn(&mut Engine)| {
            let before = newest(pair);
            act(&mut pair.engine);
            assert_eq!(newest(pair) != before, is_change, "{what}");
        };
        let (found, tick) = (slot(&pair), pair.tick());
        let meta = pair.engine.meta(found);
        check(&mut pair, false, "a hit", &|engine| _ = engine.hit(found, tick));
        check(&mut pair, false, "a use", &|engine| engine.used(found, tick));
        let stale = Meta { is_stale: true, ..meta };
        check(&mut pair, true, "a description", &|engine| _ = engine.set_meta(&key, found, stale, tick));
        for len in [50, 5_000] {
            check(&mut pair, true, "a value", &|engine| {
                let (slot, value) = (engine.find(&key), vec![2; len]);
                engine.insert(&key, slot, meta, Tags::NONE, value.into(), tick).unwrap();
            });
        }
        check(&mut pair, true, "all", &|engine| engine.outdate_copies());
        check(&mut pair, true, "a removal", &|engine| engine.remove(&key, engine.find(&key).unwrap(), tick));
        check(&mut pair, false, "the first value", &|engine| {
            engine.insert(&key, None, meta, Tags::NONE, vec![3; 5].into(), tick).unwrap();
        });
        check(&mut pair, true, "the sweep", &|engine| {
            engine.mark_all();
            let copy_until = |_: Seq, _: &[u8], _: Tags| None;
            while engine.sweep(Dead { floor: meta.as_of, tick, copy_until: &copy_until }) {}
        });
    }
}
