//! Inspection of keys and of the whole cache, for operators. It changes nothing: it is no read, is remembered
//! as no miss, and removes no expired item.

use super::invalidation::groups::Group;
use super::listing::{self, Entry};
use super::read::Value;
use super::{Cache, ClassCounts, Counts, Curve, Evicted, Key, Now};
use crate::store::item::seq::Seq;

/// The state of a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyReport<'a> {
    /// Until when it may not be filled, in monotonic milliseconds.
    pub held_off_until: Option<u64>,
    /// The lease that makes others wait.
    pub lease: Option<LeaseReport>,
    /// The live value or the stale copy, and its `as_of`.
    pub value: Option<(Value<'a>, Seq)>,
    /// The newest invalidation that applies to it, whether it holds a value or not.
    pub invalidation: Option<InvalidationReport<'a>>,
    /// Connections that sleep until the lease ends.
    pub waiting: usize,
}

/// A lease that makes others wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LeaseReport {
    /// When it was granted, in monotonic milliseconds.
    pub granted_at: u64,
    /// The number of the [`Session`](super::Session) that holds it.
    pub holder: u64,
    /// The sequence number of its grant.
    pub seq: Seq,
    /// Until when it makes others wait, in monotonic milliseconds.
    pub until: u64,
}

/// An invalidation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InvalidationReport<'a> {
    /// The target: the key, a group, or everything.
    pub of: InvalidationOf<'a>,
    /// Its sequence number.
    pub seq: Seq,
}

/// The target of an invalidation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InvalidationOf<'a> {
    /// Everything.
    All,
    /// A tag or prefix that is not remembered any more: it may have been one of the key's.
    Forgotten,
    /// The key itself, or another one with the same cell.
    Key,
    /// One of its prefixes or tags.
    Group(Group<'a>),
}

impl Cache {
    /// Counts over all shards: what they hold, and what they have done.
    pub fn counts(&self) -> Counts {
        let counts = self.shards.iter().fold(Counts::default(), |sum, shard| sum + shard.lock().counts());
        self.copies.served.add_to(counts)
    }

    /// Resets the counts of what was done; what is held stays.
    pub fn reset_counts(&self) {
        self.shards.iter().for_each(|shard| shard.lock().reset_counts());
        self.copies.served.reset();
        self.shadow.reset();
        self.classes.reset_counts();
    }

    /// Miss ratios that caches of other sizes would have.
    pub fn curve(&self) -> Curve {
        let counts = self.counts();
        self.shadow.curve(self.budget.limit(), counts.hits(), counts.hits() + counts.misses)
    }

    /// The classes of keys in which plain sets were judged.
    pub fn classes(&self, now: Now) -> Vec<ClassCounts> {
        self.policies.with(|policies| self.classes.counts(policies, now))
    }

    /// Leases that make others wait now.
    pub fn leases_outstanding(&self, now: Now) -> usize {
        self.shards.iter().map(|shard| shard.lock().leases_outstanding(now)).sum()
    }

    /// Keys that are held off now, as far as they are remembered one by one.
    pub fn held_off(&self, now: Now) -> usize {
        self.shards.iter().map(|shard| shard.lock().held_off(now)).sum()
    }

    /// Groups whose invalidations are remembered, and how many were dropped at the cost of values.
    pub fn groups_remembered(&self) -> (usize, u64) {
        self.groups.counts()
    }

    /// The newest invalidation of a group, if it is remembered.
    pub fn newest_invalidation(&self, name: Group) -> Option<Seq> {
        self.groups.newest_of(name)
    }

    /// The last sequence number that was given out.
    pub fn last_seq(&self) -> Seq {
        self.clock.last()
    }

    /// How many seconds ago a sequence number was given out, within a second; `None` if that was too long
    /// ago.
    pub fn age_of(&self, seq: Seq, now: Now) -> Option<u32> {
        self.ages.age(seq, &self.clock, now)
    }

    /// When everything will be invalidated (monotonic milliseconds), if a delayed flush is not due yet.
    pub fn flush_due(&self) -> Option<u64> {
        self.shards[0].lock().flush_due()
    }

    /// Shows what is known of a key, under the lock of its shard.
    pub fn inspect<R>(&self, key: &Key, now: Now, show: impl FnOnce(KeyReport) -> R) -> R {
        let waiting = self.waiters.count(key);
        self.locked(key, now, |shard, at| show(KeyReport { waiting, ..shard.inspect(key, at) }))
    }

    /// Shows the live value of a key, without counting as a read; `None` if there is none.
    pub fn entry<R>(&self, key: &Key, now: Now, show: impl FnOnce(Entry) -> R) -> Option<R> {
        self.locked(key, now, |shard, at| shard.entry(key, at).map(|listed| show(listed.into())))
    }

    /// Shows the live values of one step of a walk through all shards; returns where the next step begins, if
    /// this was not the last. The first one begins at 0. See [`Entry`].
    pub fn list(&self, from: u64, now: Now, mut show: impl FnMut(Entry)) -> Option<u64> {
        let (shard, position) = listing::position(from);
        let hash = self.hashes().nth(shard)?;
        let next =
            self.in_shard(hash, now, |shard, at| shard.list(position, at, |listed| show(listed.into())));
        listing::next(shard, next, self.shards.len())
    }

    /// Evictions are recorded from now on, for [`Cache::take_evicted`].
    pub fn begin_collecting(&self) {
        self.shards.iter().for_each(|shard| shard.lock().collect_evicted(1));
    }

    /// Undoes one [`Cache::begin_collecting`].
    pub fn end_collecting(&self) {
        self.shards.iter().for_each(|shard| shard.lock().collect_evicted(-1));
    }

    /// Evictions since the last call, and how many more there were than [`EVICTED_MAX`](super::EVICTED_MAX).
    pub fn take_evicted(&self) -> (impl Iterator<Item = Evicted> + use<>, u64) {
        self.evictions.take()
    }
}
