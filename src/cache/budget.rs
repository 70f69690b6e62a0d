//! The bytes that all shards together may take.

use super::sync::{AtomicUsize, Ordering};

/// One limit, one sum.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Self {
        Budget { limit, used: AtomicUsize::new(0) }
    }

    pub(crate) fn charge(&self, more: usize, less: usize) {
        if more >= less {
            self.used.fetch_add(more - less, Ordering::Relaxed);
        } else {
            self.used.fetch_sub(less - more, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_exceeded(&self) -> bool {
        self.used() > self.limit
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}
