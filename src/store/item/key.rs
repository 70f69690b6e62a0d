//! Keys, hashed once.

use std::hash::{BuildHasher, Hasher};

use foldhash::quality::FixedState;

use crate::limits::KEY_BYTES_MAX;

/// A key and its hash, by which its shard, its cells and its slot are found.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) hash: KeyHash,
}

/// The hash of a key, in a cache with a certain seed. It never stands for a value, a tag or a prefix.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(transparent)]
pub struct KeyHash(u64);

impl KeyHash {
    /// Stands for no key in tables whose places may be empty.
    pub(crate) const NONE: KeyHash = KeyHash(0);

    /// A hash with these bits, for instance one that was saved.
    #[inline]
    pub const fn new(bits: u64) -> Self {
        KeyHash(bits)
    }

    /// From this bit on, a hash says in which shard its key is, and then in which cell of a table there. So
    /// cells contain the same keys, or are parts of each other, whatever the number of shards is.
    pub(crate) const SHARD_SHIFT: u32 = 48;

    /// All bits, from which tables take those that they use.
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The number of its shard, of so many: a power of two.
    #[inline]
    pub(crate) fn shard(self, shards: usize) -> usize {
        (self.0 >> KeyHash::SHARD_SHIFT) as usize & (shards - 1)
    }
}

impl Key<'_> {
    /// The hash; caches with the same seed have the same hashes.
    pub fn hash(&self) -> KeyHash {
        self.hash
    }
}

/// Hashes keys with the boot's own seed, so that clients cannot choose keys that collide.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    seed: u64,
    state: FixedState,
}

impl Keys {
    pub(crate) fn new(seed: u64) -> Self {
        Keys { seed, state: FixedState::with_seed(seed) }
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    pub(crate) fn key<'a>(&self, bytes: &'a [u8]) -> Option<Key<'a>> {
        if !(1..=KEY_BYTES_MAX).contains(&bytes.len()) {
            return None;
        }
        Some(Key { bytes, hash: self.hash(bytes) })
    }

    pub(crate) fn hash(&self, key: &[u8]) -> KeyHash {
        KeyHash(self.hash_name(key))
    }

    /// The hash of a tag or a prefix.
    pub(crate) fn hash_name(&self, bytes: &[u8]) -> u64 {
        let mut hasher = self.state.build_hasher();
        hasher.write(bytes);
        hasher.finish()
    }

    /// The hash of a value and its client flags, for comparison under this key only.
    pub(crate) fn hash_value(&self, key: KeyHash, flags: u32, value: &[u8]) -> u64 {
        let mut hasher = self.state.build_hasher();
        hasher.write_u64(key.bits());
        hasher.write_u32(flags);
        hasher.write(value);
        hasher.finish()
    }
}
