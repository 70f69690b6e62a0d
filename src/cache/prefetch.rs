//! Memory fetched before it is needed.
//!
//! A read looks at two lines of memory that no cache of the processor holds, one after the other: where its item is
//! told to lie, and the item; a change looks at what guards the key, too. One by one, requests that came together would wait for all of them in turn; that was half the
//! time of a get among a hundred thousand keys (docs/performance.md). So the lines of several are asked for at once.
//!
//! Deliberately absent: whatever could be seen. Nothing is read, counted or changed, and what is fetched in vain is only
//! slower.

use super::{Cache, Key};

/// What will be done with a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// Its value is stored or voided.
    Change,
    /// Its value is read, if it has one.
    Read,
}

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
    pub fn prefetch<'k>(&self, keys: impl Iterator<Item = (&'k [u8], Access)>) -> Batch<'k> {
        let mut batch = Batch { count: 0, keys: [Key { bytes: &[], hash: 0 }; KEYS_MAX] };
        let mut accesses = [Access::Read; KEYS_MAX];
        for ((key, access), next) in batch.keys.iter_mut().zip(&mut accesses).zip(keys) {
            *key = self.key(next.0).expect("only what may be a key");
            *access = next.1;
            batch.count += 1;
        }
        // One alone would be fetched no sooner than it is needed.
        if let keys @ [_, _, ..] = batch.keys() {
            let shard = |key: &Key| self.shards[self.shard_of(key.hash)].lock();
            keys.iter().zip(accesses).for_each(|(key, access)| shard(key).prefetch_places(key.hash, access));
            keys.iter().for_each(|key| shard(key).prefetch_item(key.hash));
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
