//! Invalidation in bulk: everything, or all that a tag or a prefix covers.
//!
//! What it costs does not depend on how many items that are. Their memory comes back when they are met, or swept.

use super::invalidation::groups::Name;
use super::invalidation::record::{Depth, Void};
use super::policies::Policies;
use super::{Cache, Key, Peer};
use crate::clock::Now;
use crate::store::seq::Seq;

impl Cache {
    /// Voids everything, now or at `due` (monotonic milliseconds). A later call takes the place of one not yet due.
    pub fn flush_all(&self, due: Option<u64>, peer: &mut Peer, now: Now) {
        self.flush(due, Depth::Hard, peer, now);
    }

    /// Voids everything, at once.
    pub fn invalidate_all(&self, depth: Depth, peer: &mut Peer, now: Now) {
        self.flush(None, depth, peer, now);
    }

    /// Voids a key, and leaves a stale copy or nothing, whatever the policy says; true if it had a live value.
    pub fn invalidate_key(&self, key: &Key, depth: Depth, peer: &mut Peer, now: Now) -> bool {
        let was_live = self.locked(key, now, |shard, at| shard.invalidate(key, depth, peer, at));
        self.follow(key, true, now);
        was_live
    }

    /// Voids all that these names cover, one name after the other.
    pub fn invalidate<'a>(&self, names: impl IntoIterator<Item = Name<'a>> + Clone, depth: Depth, now: Now) {
        let kept_seconds = self.policies.with(Policies::longest_kept);
        self.broad.void(names.clone().into_iter(), Void { depth, kept_seconds, now }, &self.clock);
        for name in names {
            if let Name::Prefix(prefix) = name {
                self.waiters.wake_prefix(prefix);
            }
        }
    }

    /// Tags and prefixes whose voids are remembered, and how many were forgotten since the start.
    pub fn voided_names(&self) -> (usize, u64) {
        self.broad.counts()
    }

    fn flush(&self, due: Option<u64>, depth: Depth, peer: &mut Peer, now: Now) {
        self.shadow.flush(due);
        let floors: Vec<(Seq, Seq)> = self
            .hashes()
            .map(|hash| self.in_shard(hash, now, |shard, at| shard.flush_all(due, depth, at)))
            .collect();
        if due.is_some() {
            return;
        }
        let newest = floors.iter().map(|(_, own)| *own).max().unwrap_or_default();
        peer.invalidated(newest, &self.sessions);
        peer.notes.own_flush(|hash| {
            let (before, own) = floors[self.shard_of(hash)];
            (self.shards[self.shard_of(hash)].lock().newest_void(hash).max(before), own)
        });
    }
}
