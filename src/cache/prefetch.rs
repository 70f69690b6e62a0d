//! Memory fetched before it is needed.
//!
//! A read looks at two lines of memory that no cache of the processor holds, one after the other: where its item is
//! told to lie, and the item; a change looks at what guards the key, too. One by one, requests that came together would wait for all of them in turn; that was half the
//! time of a get among a hundred thousand keys (docs/performance.md). So the lines of several are asked for at once.
//!
//! Deliberately absent: whatever could be seen. Nothing is read, counted or changed, and what is fetched in vain is only
//! slower.

use crate::store::key::Key;

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
    accesses: [Access; KEYS_MAX],
    count: usize,
    keys: [Key<'k>; KEYS_MAX],
}

impl<'k> Batch<'k> {
    pub(super) fn new(
        keys: impl Iterator<Item = (&'k [u8], Access)>,
        hash: impl Fn(&'k [u8]) -> Key<'k>,
    ) -> Self {
        let none = Key { bytes: &[], hash: 0 };
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

/// About as many as a processor waits for at a time.
const KEYS_MAX: usize = 8;
