//! The sizes of the tables of a shard.

use crate::cache::invalidation::cells::Cells;
use crate::cache::invalidation::holdoffs::Holdoffs;
use crate::cache::lease::guesses::Guesses;
use crate::cache::lease::records::Leases;

/// The sizes of the tables of one shard.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    /// The most bytes that hold-offs of single keys may take.
    pub(crate) hold_off_bytes: usize,
    /// By how much the tables that guard keys are smaller than the largest.
    pub(crate) guards_part: usize,
    /// The most bytes that versions of rows may take.
    pub(crate) version_bytes: usize,
}

/// Bytes of the tables of all shards that depend on nothing but `guards_part`: invalidations, tokens, lease
/// records, cells of hold-offs.
pub(crate) const fn fixed_table_bytes(guards_part: usize) -> usize {
    let guards = (INVALIDATION_CELLS + SUPERSEDED_CELLS) * Cells::BYTES + LEASES * Leases::BYTES;
    guards / guards_part + Guesses::BYTES + Holdoffs::CELL_BYTES
}

/// Over all shards 3 MiB from `-m 64` on; at 10,000 invalidations/s and 50 ms from lease to fill, 500 of
/// 524,288 cells refuse wrongly: 1 in 1,049.
#[cfg(not(shuttle))]
pub(super) const INVALIDATION_CELLS: usize = 1 << 19;
/// The model checker makes many of them.
#[cfg(shuttle)]
pub(super) const INVALIDATION_CELLS: usize = 1 << 12;
pub(super) const SUPERSEDED_CELLS: usize = INVALIDATION_CELLS / 2;
/// Lease records over all shards, from `-m 64` on.
pub(super) const LEASES: usize = INVALIDATION_CELLS / 128 * 3;
