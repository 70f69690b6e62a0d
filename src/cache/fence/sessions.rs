//! Whether a session is the only one, and whether any other has invalidated something.
//!
//! A sequential program on the only connection sees memcached exactly: it misses a key, deletes it, sets it,
//! and reads what it set. Its own invalidation is no reason to refuse, as no other load can be running. So it
//! is for one that opens a connection, does all that, closes it, and opens another one.

// Not those of the model checker: what they order, the shard's lock orders, too, and schedules would be far
// more.
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cache::clock::LogicalClock;
use crate::store::seq::Seq;

/// The sessions that exist.
#[derive(Default)]
pub(crate) struct Sessions {
    open: AtomicU64,
    /// The newest invalidation by any other than the sessions that exist.
    foreign: AtomicU64,
}

impl Sessions {
    pub(crate) fn enter(&self) {
        self.open.fetch_add(1, Ordering::SeqCst);
    }

    /// A session ends, of which this was the newest invalidation.
    pub(crate) fn leave(&self, newest: Seq) {
        self.foreign_at(newest);
        self.open.fetch_sub(1, Ordering::SeqCst);
    }

    /// An invalidation that was made by no session.
    pub(crate) fn foreign_at(&self, seq: Seq) {
        self.foreign.fetch_max(seq.number(), Ordering::SeqCst);
    }

    /// Anything may have been invalidated by others until now.
    pub(crate) fn foreign_until_now(&self, clock: &LogicalClock) {
        self.foreign_at(clock.next());
    }

    /// If there is only one session: the newest invalidation that it has not made.
    pub(crate) fn foreign_if_sole(&self) -> Option<Seq> {
        let is_sole = self.open.load(Ordering::SeqCst) == 1;
        is_sole.then(|| Seq::new(self.foreign.load(Ordering::SeqCst)).expect("it was one"))
    }
}
