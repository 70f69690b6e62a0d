//! The number of sessions, and the newest invalidation that none of them has made.
//!
//! A sequential program on the only connection sees memcached exactly: it misses a key, deletes it, sets it,
//! and reads the value that it set. Its own invalidation is no reason to refuse, as no other load can be
//! running. The same holds for a program that closes its connection after that and opens another one.

// Not the atomics of the model checker: the shard's lock orders the same accesses, and schedules would be far
// more.
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cache::clock::LogicalClock;
use crate::store::item::seq::Seq;

/// The sessions that exist.
#[derive(Default)]
pub(crate) struct Sessions {
    open: AtomicU64,
    /// The newest invalidation that no open session has made.
    foreign: AtomicU64,
}

impl Sessions {
    pub(crate) fn enter(&self) {
        self.open.fetch_add(1, Ordering::SeqCst);
    }

    /// Ends a session whose newest invalidation this was.
    pub(crate) fn leave(&self, newest: Seq) {
        self.foreign_at(newest);
        self.open.fetch_sub(1, Ordering::SeqCst);
    }

    /// Records an invalidation that no session has made.
    pub(crate) fn foreign_at(&self, seq: Seq) {
        self.foreign.fetch_max(seq.number(), Ordering::SeqCst);
    }

    /// Records that anything may have been invalidated up to now, and by no session.
    pub(crate) fn foreign_until_now(&self, clock: &LogicalClock) {
        self.foreign_at(clock.next());
    }

    /// The newest invalidation that the only session has not made; `None` if there are several sessions, or
    /// none.
    pub(crate) fn foreign_if_sole(&self) -> Option<Seq> {
        let is_sole = self.open.load(Ordering::SeqCst) == 1;
        is_sole.then(|| Seq::new(self.foreign.load(Ordering::SeqCst)).expect("it was one"))
    }
}
