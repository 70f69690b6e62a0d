//! Changes by events, which carry the version of the row that changed.

use super::{At, Shard};
use crate::cache::invalidation::record::Depth;
use crate::cache::session::Session;
use crate::cache::write::{Draft, Fence, StoreOutcome, stored};
use crate::store::expiry::seconds_after;
use crate::store::item::key::Key;

impl Shard {
    /// Invalidates a key, unless a value or an invalidation of this version or a newer one is known; returns
    /// whether there was a live value, or `None` if nothing was done.
    pub(crate) fn invalidate_version(
        &mut self,
        key: &Key,
        depth: Depth,
        version: u64,
        session: &mut Session,
        at: &At,
    ) -> Option<bool> {
        self.supersede(key, version, at).then(|| self.invalidate(key, depth, session, at))
    }

    /// Stores a value that a source sent with its version, unless that version or a newer one is known. Every
    /// lease on the key is invalidated.
    pub(crate) fn store_version(
        &mut self,
        key: &Key,
        version: u64,
        draft: Draft,
        session: &mut Session,
        at: &At,
    ) -> StoreOutcome {
        if !self.supersede(key, version, at) {
            return StoreOutcome::Outdated;
        }
        let as_of = at.clock.next();
        let state = self.state(key, at);
        self.invalidate_as_of(key, as_of, session, at);
        if self.holdoffs.end(key.hash) {
            self.woken.push(key.hash);
        }
        stored(self.put_or_drop(key, state, as_of, draft, at), Fence::None)
    }

    /// Makes this the newest known version of the key's row; false if it is known already.
    fn supersede(&mut self, key: &Key, version: u64, at: &At) -> bool {
        let until = seconds_after(at.now, at.policy.version_keep);
        self.versions.supersede(key.hash, version, at.now.seconds(), until)
    }
}
