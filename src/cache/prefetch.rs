//! Memory prefetched before it is needed.
//!
//! A read touches two cold cache lines, one after the other: its slot in the index, and the item. A change
//! touches more: the cell of the key, its records. Requests that arrived together would wait for all of them
//! in turn; that was half the time of a get among a hundred thousand keys (docs/performance.md). So the lines
//! of several keys are prefetched at once.
//!
//! Prefetching has no visible effect: nothing is read, counted or changed.

use super::Cache;
use crate::store::item::key::{Key, KeyHash};

/// The kind of access that will follow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// The value is stored or invalidated.
    Change,
    /// The value is read, if the key has one.
    Read,
}

/// The next few keys, hashed.
pub struct Batch<'k> {
    accesses: [Access; KEYS_MAX],
    count: usize,
    keys: [Key<'k>; KEYS_MAX],
}

impl<'k> Batch<'k> {
    pub(super) fn new(
        keys: impl Iterator<Item = (&'k [u8], Access)>,
        hash: impl Fn(&'k [u8]) -> Key<'k>,
    ) -> Self {
        let none = Key { bytes: &[], hash: KeyHash::NONE };
        let mut batch = Batch { accesses: [Access::Read; KEYS_MAX], count: 0, keys: [none; KEYS_MAX] };
        for ((key, access), next) in batch.keys.iter_mut().zip(&mut batch.accesses).zip(keys) {
            *key = hash(next.0);
            *access = next.1;
            batch.count += 1;
        }
        batch
    }

    pub(super) fn accesses(&self) -> impl Iterator<Item = (&Key<'k>, Access)> {
        self.keys().iter().zip(self.accesses)
    }

    /// The keys, in their order.
    pub fn keys(&self) -> &[Key<'k>] {
        &self.keys[..self.count]
    }

    /// Whether none follow.
    pub fn is_last(&self) -> bool {
        self.count < KEYS_MAX
    }
}

impl Cache {
    /// Prefetches the memory that requests for the next of these keys will touch.
    ///
    /// # Panics
    /// If one of them is no [`Cache::key`].
    pub fn prefetch<'k>(&self, keys: impl Iterator<Item = (&'k [u8], Access)>) -> Batch<'k> {
        let batch = Batch::new(keys, |bytes| self.key(bytes).expect("keys were checked before"));
        // A single key would be fetched no sooner than it is needed.
        if batch.keys().len() > 1 {
            // Left out are items that this thread has copied, and shards that another thread uses: waiting
            // would take longer than what it saves.
            let shard = |key: &Key| {
                let is_copied = self.has_copy(key.hash);
                if is_copied { None } else { self.shards[self.shard_of(key.hash)].try_lock() }
            };
            for (key, access) in batch.accesses() {
                if let Some(shard) = shard(key) {
                    shard.prefetch_places(key.hash, access);
                }
            }
            for key in batch.keys() {
                if let Some(shard) = shard(key) {
                    shard.prefetch_item(key.hash);
                }
            }
        }
        batch
    }
}

/// About as many as a processor waits for at a time.
const KEYS_MAX: usize = 8;
