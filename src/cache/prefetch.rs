//! Memory fetched before it is needed.
//!
//! A request looks at two lines of memory that no cache of the processor holds, one after the other: where its item is
//! told to lie, and the item. One by one, requests that came together would wait for all of them in turn; that was half the
//! time of a get among a hundred thousand keys (docs/performance.md). So the lines of several are asked for at once.
//!
//! Deliberately absent: whatever could be seen. Nothing is read, counted or changed, and what is fetched in vain is only
//! slower.

use super::{Cache, Key};

/// The next few keys, hashed.
pub struct Batch<'k> {
    count: usize,
    keys: [Key<'k>; KEYS_MAX],
}

impl Cache {
    /// Has the processor fetch what requests for the next of these keys will look at.
    ///
    /// # Panics
    /// If one of them is no [`Cache::key`].
    pub fn prefetch<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Batch<'k> {
        let mut batch = Batch { count: 0, keys: [Key { bytes: &[], hash: 0 }; KEYS_MAX] };
        for (next, bytes) in batch.keys.iter_mut().zip(keys) {
            *next = self.key(bytes).expect("only what may be a key");
            batch.count += 1;
        }
        // One alone would be fetched no sooner than it is needed.
        if let keys @ [_, _, ..] = batch.keys() {
            keys.iter().for_each(|key| self.shards[self.shard_of(key.hash)].lock().prefetch_places(key.hash));
            keys.iter().for_each(|key| self.shards[self.shard_of(key.hash)].lock().prefetch_item(key.hash));
        }
        batch
    }
}

impl<'k> Batch<'k> {
    /// The keys, in their order.
    pub fn keys(&self) -> &[Key<'k>] {
        &self.keys[..self.count]
    }

    /// Whether none follow.
    pub fn is_last(&self) -> bool {
        self.count < KEYS_MAX
    }
}

/// About as many as a processor waits for at a time.
const KEYS_MAX: usize = 8;
