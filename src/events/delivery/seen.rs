//! Identities of the newest events, so that a repeated one is not applied twice.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

/// The hashes of the last identities. Forgetting one costs an invalidation that was not needed.
#[derive(Debug, Default)]
pub(super) struct Seen {
    hasher: RandomState,
    hashes: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Seen {
    /// Remembers an identity; false if it is known already.
    pub(super) fn insert(&mut self, id: &str) -> bool {
        let hash = self.hasher.hash_one(id);
        if !self.hashes.insert(hash) {
            return false;
        }
        self.order.push_back(hash);
        if self.order.len() > SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.hashes.remove(&oldest);
        }
        true
    }
}

const SEEN_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_identities_are_known() {
        let mut seen = Seen::default();
        assert!(seen.insert("first") && !seen.insert("first"));
        assert!((0..SEEN_MAX).all(|n| seen.insert(&n.to_string())));
        assert!(seen.insert("first"), "it was forgotten");
        assert!(!seen.insert("9"));
    }
}
