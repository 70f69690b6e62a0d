//! Whether a session is the only one, and since when.
//!
//! A sequential program on the only connection sees memcached exactly: it misses a key, deletes it, sets it, and reads
//! what it set. Its own invalidation is no reason to refuse, as no other load can be running.

use crate::cache::seq::{Seq, SeqClock};
use crate::cache::sync::{AtomicU64, Ordering};

/// The sessions that exist.
#[derive(Default)]
pub(crate) struct Sessions {
    open: AtomicU64,
    /// The sequence number at which another session than the present one existed last.
    others: AtomicU64,
}

impl Sessions {
    pub(crate) fn enter(&self, clock: &SeqClock) {
        if self.open.fetch_add(1, Ordering::SeqCst) > 0 {
            self.had_others(clock);
        }
    }

    /// There were others until now.
    pub(crate) fn had_others(&self, clock: &SeqClock) {
        self.others.fetch_max(clock.fresh().number(), Ordering::SeqCst);
    }

    pub(crate) fn leave(&self, clock: &SeqClock) {
        self.had_others(clock);
        self.open.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether only one session has existed since a sequence number.
    pub(crate) fn is_sole_since(&self, since: Seq) -> bool {
        self.open.load(Ordering::SeqCst) == 1 && self.others.load(Ordering::SeqCst) <= since.number()
    }
}
