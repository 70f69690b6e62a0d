//! What is known of a key, for whoever looks after a cache. Looking changes nothing: it is no read, leaves no note, and
//! clears nothing away.

use super::invalidation::groups::Name;
use super::{Cache, Value};
use crate::clock::Now;
use crate::store::key::Key;
use crate::store::seq::Seq;

/// What is known of a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Known<'a> {
    /// Until when it may not be filled, in monotonic milliseconds.
    pub held_off_until: Option<u64>,
    /// The lease that makes others wait.
    pub lease: Option<KnownLease>,
    /// The live value or the stale copy, and the point that it is as of.
    pub value: Option<(Value<'a>, Seq)>,
    /// The newest void that covers it, whatever it holds.
    pub void: Option<KnownVoid<'a>>,
    /// Connections that sleep until the lease ends.
    pub waiting: usize,
}

/// A lease that makes others wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KnownLease {
    /// When it was granted, in monotonic milliseconds.
    pub granted_at: u64,
    /// The number of the [`Peer`](super::Peer) that holds it.
    pub holder: u64,
    /// The point of its grant.
    pub seq: Seq,
    /// Until when it makes others wait, in monotonic milliseconds.
    pub until: u64,
}

/// A void.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KnownVoid<'a> {
    /// What was voided.
    pub of: VoidOf<'a>,
    /// The point at which it was.
    pub seq: Seq,
}

/// What was voided.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum VoidOf<'a> {
    /// Everything.
    All,
    /// A tag or prefix that is not remembered any more: it may have been one of the key's.
    Forgotten,
    /// The key itself, or another one that shares its place in the table of voids.
    Key,
    /// One of its prefixes or tags.
    Name(Name<'a>),
}

impl Cache {
    /// Shows what is known of a key, under the shard's lock: `show` must be short.
    pub fn inspect<R>(&self, key: &Key, now: Now, show: impl FnOnce(Known) -> R) -> R {
        let waiting = self.waiters.count(key);
        self.locked(key, now, |shard, at| show(Known { waiting, ..shard.inspect(key, at) }))
    }

    /// The newest void of a tag or prefix, if it is remembered.
    pub fn newest_void(&self, name: Name) -> Option<Seq> {
        self.broad.newest_of(name)
    }

    /// How many seconds ago a point was taken, if that was not too long ago: a second more or less.
    pub fn age_of(&self, seq: Seq, now: Now) -> Option<u32> {
        self.ages.age(seq, &self.clock, now)
    }

    /// Keys that are held off now, as far as they are known one by one.
    pub fn held_off(&self, now: Now) -> usize {
        self.shards.iter().map(|shard| shard.lock().held_off(now)).sum()
    }
}
