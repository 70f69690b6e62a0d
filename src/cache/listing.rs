//! Going through all live values in small steps, for whoever lists or keeps them.
//!
//! A step looks at the slots of one small table under the lock of its shard. Tables only ever split, and the halves lie
//! where the whole one lay; so a value that is there from the first step to the last is shown exactly once, wherever
//! packing and eviction move it meanwhile. One that is stored or goes in between may be shown or not.
//!
//! Deliberately absent: a moment that all of it is true of.

use super::{Cache, SHARD_SHIFT, Seq, Value};
use crate::clock::Now;
use crate::store::Listed;

/// A live value with its key, and what is known of its use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entry<'a> {
    /// The point on the void clock that the value is as of.
    pub as_of: Seq,
    /// When it was last read, or stored, in monotonic seconds.
    pub accessed: u32,
    /// What it takes in memory, its key and header included.
    pub bytes: usize,
    /// Whether anybody has read it.
    pub is_fetched: bool,
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: Value<'a>,
}

impl Cache {
    /// Shows the live values of one step; returns where the next one begins, if this was not the last. The first one
    /// begins at 0.
    pub fn list(&self, from: u64, now: Now, mut show: impl FnMut(Entry)) -> Option<u64> {
        let (shard, position) = (from >> POSITION_BITS, from as u32);
        let next = self.in_shard(shard << SHARD_SHIFT, now, |shard, at| {
            shard.list(position, at, |listed| show(listed.into()))
        });
        let next = next.map_or((shard + 1) << POSITION_BITS, |next| shard << POSITION_BITS | u64::from(next));
        (next >> POSITION_BITS < self.shards.len() as u64).then_some(next)
    }
}

impl<'a> From<Listed<'a>> for Entry<'a> {
    fn from(listed: Listed<'a>) -> Self {
        let Listed { accessed, bytes, is_fetched, item, key } = listed;
        let as_of = item.meta().as_of;
        Entry { accessed, as_of, bytes, is_fetched, key, value: item.into() }
    }
}

/// Bits of a place in a listing that tell where in its shard.
const POSITION_BITS: u32 = 32;
