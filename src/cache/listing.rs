//! A walk through all live values in small steps, for dumps and snapshots.
//!
//! A step shows the slots of one small table under the lock of its shard. Tables only ever split, and the
//! halves keep the place of the whole; so a value that is stored from the first step to the last is shown
//! exactly once, wherever packing and eviction move it meanwhile. A value that is stored or removed in
//! between may be shown or not: there is no moment at which the whole list is true.

use super::read::Value;
use crate::store::Listed;
use crate::store::item::seq::Seq;
use crate::store::tick::Tick;

/// A live value with its key, and what is known of its use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entry<'a> {
    /// The sequence number that the value is as of.
    pub as_of: Seq,
    /// When it was last read, or stored.
    pub accessed: Tick,
    /// Its memory use in bytes, its key and header included.
    pub bytes: usize,
    /// Whether it has been read.
    pub is_fetched: bool,
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: Value<'a>,
}

impl<'a> From<Listed<'a>> for Entry<'a> {
    fn from(listed: Listed<'a>) -> Self {
        let Listed { accessed, bytes, is_fetched, item, key } = listed;
        let as_of = item.meta().as_of;
        Entry { accessed, as_of, bytes, is_fetched, key, value: item.into() }
    }
}

/// The shard and the position in it at which a step begins.
pub(super) fn position(from: u64) -> (usize, u32) {
    ((from >> POSITION_BITS) as usize, from as u32)
}

/// Where the next step begins, if there is one: at this position of a shard, or at the beginning of the next
/// shard.
pub(super) fn next(shard: usize, position: Option<u32>, shards: usize) -> Option<u64> {
    let shard = shard as u64;
    let next = position
        .map_or((shard + 1) << POSITION_BITS, |position| shard << POSITION_BITS | u64::from(position));
    (next >> POSITION_BITS < shards as u64).then_some(next)
}

/// Bits of a position that stand for the position in its shard.
const POSITION_BITS: u32 = 32;
