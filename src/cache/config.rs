//! The limits of a cache.

use super::fence::Table;
use super::invalidation::groups::Groups;
use super::policies::Policies;
use super::shard::sizes::fixed_table_bytes;
use crate::mrc::Shadow;
use crate::store::budget::{Layout, WhenFull};

/// The limits of a cache, and its policy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// Bytes that items may take, bookkeeping included.
    pub memory_bytes: usize,
    /// Which items threads copy, to read them without a lock.
    pub copies: Copies,
    /// The longest value, in bytes.
    pub value_bytes_max: usize,
    /// How leases behave, and how long values live.
    pub policies: Policies,
    /// The behavior of a store when memory is full.
    pub when_full: WhenFull,
}

/// Which items threads copy, to read them without the lock of their shard.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Copies {
    /// All that they read, for tests.
    Always,
    /// Those for which they waited for another thread, twice.
    #[default]
    Hot,
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

    /// Tags whose invalidations are remembered one by one, and as many prefixes. Beyond that, the one that
    /// was invalidated longest ago is dropped. If the sweep has not looked for its items since, values of a
    /// few other groups count as invalidated, too.
    pub fn groups_max(&self) -> usize {
        self.memory_bytes / MEMORY_BYTES_PER_GROUP
    }

    /// By how much the tables that guard keys (their invalidations, misses and leases) are smaller than the
    /// largest: 1 above 32 MiB, 2 above 16 MiB, otherwise 4, because fewer keys have values there.
    pub(crate) fn guards_part(&self) -> usize {
        1 << (GUARDED_BYTES / self.memory_bytes.max(1)).clamp(1, GUARDS_PART_MAX).ilog2()
    }

    /// Bytes that hold-offs of single keys may take.
    pub(crate) fn hold_off_bytes(&self) -> usize {
        (self.memory_bytes / HOLD_OFFS_PART).min(HOLD_OFF_BYTES_MAX)
    }

    /// Bytes of the table of tags that values bear.
    pub(crate) fn tag_bytes(&self) -> usize {
        (self.memory_bytes / TAGS_PART).min(TAG_BYTES_MAX)
    }

    /// Bytes that the newest versions of rows may take.
    pub(crate) fn version_bytes(&self) -> usize {
        self.memory_bytes / VERSIONS_PART
    }

    /// Bytes of the fixed tables, beside `memory_bytes`: invalidations of keys and of groups, misses, tokens,
    /// lease records, hold-offs, versions, and the sample of the miss-ratio curve.
    pub fn fixed_table_bytes(&self) -> usize {
        fixed_table_bytes(self.guards_part())
            + self.hold_off_bytes()
            + Table::bytes(self.shards(), self.guards_part())
            + Groups::bytes(self.groups_max())
            + self.tag_bytes()
            + self.version_bytes()
            + Shadow::BYTES
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            copies: Copies::default(),
            memory_bytes: 64 << 20,
            value_bytes_max: VALUE_BYTES_MAX_DEFAULT,
            policies: Policies::default(),
            when_full: WhenFull::Evict,
        }
    }
}

/// The memory from which on the tables that guard keys do not grow.
const GUARDED_BYTES: usize = 64 << 20;
const GUARDS_PART_MAX: usize = 4;
/// 3,276 tags and as many prefixes at `-m 64`.
#[cfg(not(shuttle))]
const MEMORY_BYTES_PER_GROUP: usize = 20 << 10;
/// The model checker has two of each.
#[cfg(shuttle)]
const MEMORY_BYTES_PER_GROUP: usize = 2 << 20;
/// About 230,000 different tags at `-m 64`, one for each 290 bytes.
#[cfg(not(shuttle))]
const TAGS_PART: usize = 64;
/// The model checker has one bucket of them.
#[cfg(shuttle)]
const TAGS_PART: usize = usize::MAX;
/// About 61,000 hold-offs at `-m 64`.
#[cfg(not(shuttle))]
const HOLD_OFFS_PART: usize = 32;
/// The model checker has none.
#[cfg(shuttle)]
const HOLD_OFFS_PART: usize = usize::MAX;
/// A quarter of a million hold-offs.
const HOLD_OFF_BYTES_MAX: usize = 8 << 20;
/// 117 million different tags.
const TAG_BYTES_MAX: usize = 512 << 20;
/// About 2,000 versions at `-m 64`.
const VERSIONS_PART: usize = 256;
/// memcached's `-I 1m`.
pub const VALUE_BYTES_MAX_DEFAULT: usize = 1 << 20;
