//! The limits of a cache.

use super::fence::Table;
use super::invalidation::groups::Groups;
use super::policies::Policies;
use super::shard::fixed_table_bytes;
use crate::mrc::Shadow;
use crate::store::budget::{Layout, WhenFull};

/// The limits of a cache, and its policy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// Bytes that items may take, bookkeeping included.
    pub memory_bytes: usize,
    /// The longest value, in bytes.
    pub value_bytes_max: usize,
    /// How leases behave, and how long values live.
    pub policies: Policies,
    /// The behavior of a store when memory is full.
    pub when_full: WhenFull,
}

impl Config {
    /// Bytes of one segment of the log, the unit in which memory is given to shards.
    pub fn segment_bytes(&self) -> usize {
        Layout::new(self.memory_bytes).segment_bytes
    }

    /// Shards, each with a lock of its own.
    pub fn shards(&self) -> usize {
        Layout::new(self.memory_bytes).shards
    }

    /// Groups (tags and prefixes) whose invalidations are remembered one by one. Beyond that, a group that is
    /// not remembered counts as invalidated when the last one was forgotten.
    pub fn groups_max(&self) -> usize {
        self.memory_bytes / MEMORY_BYTES_PER_GROUP
    }

    /// Bytes that the newest versions of rows may take.
    pub(crate) fn version_bytes(&self) -> usize {
        self.memory_bytes / VERSIONS_PART
    }

    /// Bytes of the fixed tables, beside `memory_bytes`: invalidations of keys and of groups, misses, tokens,
    /// lease records, hold-offs, versions, and the sample of the miss-ratio curve.
    pub fn fixed_table_bytes(&self) -> usize {
        fixed_table_bytes(self.shards())
            + Table::bytes(self.shards())
            + Groups::bytes(self.groups_max())
            + self.version_bytes()
            + Shadow::BYTES
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            memory_bytes: 64 << 20,
            value_bytes_max: VALUE_BYTES_MAX_DEFAULT,
            policies: Policies::default(),
            when_full: WhenFull::Evict,
        }
    }
}

/// 6,553 names at `-m 64`, which take 0.4 MiB.
#[cfg(not(shuttle))]
const MEMORY_BYTES_PER_GROUP: usize = 10 << 10;
/// The model checker has two names.
#[cfg(shuttle)]
const MEMORY_BYTES_PER_GROUP: usize = 2 << 20;
/// About 2,000 versions at `-m 64`.
const VERSIONS_PART: usize = 256;
/// memcached's `-I 1m`.
pub const VALUE_BYTES_MAX_DEFAULT: usize = 1 << 20;
