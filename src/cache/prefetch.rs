//! Memory fetched before it is needed.
//!
//! A request looks at two lines of memory that no cache of the processor holds, one after the other: where its item is
//! told to lie, and the item. One by one, requests that came together would wait for all of them in turn; that was half the
//! time of a get among a hundred thousand keys (docs/performance.md). So the lines of several are asked for at once.
//!
//! Deliberately absent: whatever could be seen. Nothing is read, counted or changed, and what is fetched in vain is only
//! slower.

use super::Cache;

impl Cache {
    /// Has the processor fetch what requests for the next of these keys will look at, and says for how many.
    pub fn prefetch<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> usize {
        let (mut hashes, mut count) = ([0; KEYS_MAX], 0);
        for (hash, key) in hashes.iter_mut().zip(keys) {
            *hash = self.keys.hash(key);
            count += 1;
        }
        if let hashes @ [_, _, ..] = &hashes[..count] {
            hashes.iter().for_each(|hash| self.shards[self.shard_of(*hash)].lock().prefetch_places(*hash));
            hashes.iter().for_each(|hash| self.shards[self.shard_of(*hash)].lock().prefetch_item(*hash));
        }
        count
    }
}

/// About as many as a processor waits for at a time.
const KEYS_MAX: usize = 8;
