//! Waiters: connections parked until a key's lease ends, and how they are woken.
//!
//! A waker is left here and called once the shard is unlocked. Sleeping is the caller's business.

use std::task::Waker;

use crate::store::item::key::{Key, KeyHash};
use crate::sync::DashMap;

/// The waiters of all keys, by the hash of the key.
pub(crate) struct Waiters(DashMap<KeyHash, Vec<Waiter>>);

struct Waiter {
    key: Box<[u8]>,
    session: u64,
    waker: Waker,
}

impl Waiters {
    pub(crate) fn new() -> Self {
        Waiters(DashMap::new())
    }

    /// Adds the waker of a session for a key.
    pub(crate) fn add(&self, key: &Key, session: u64, waker: &Waker) {
        let waiter = Waiter { key: key.bytes.into(), session, waker: waker.clone() };
        self.0.entry(key.hash).or_default().push(waiter);
    }

    /// Removes the wakers of a session for a key.
    pub(crate) fn remove(&self, key: &Key, session: u64) {
        if let Some(mut waiters) = self.0.get_mut(&key.hash) {
            waiters.retain(|waiter| waiter.session != session);
        }
        self.0.remove_if(&key.hash, |_, waiters| waiters.is_empty());
    }

    /// The number of waiters for a key.
    pub(crate) fn count(&self, key: &Key) -> usize {
        let is_of_key = |waiter: &&Waiter| *waiter.key == *key.bytes;
        self.0.get(&key.hash).map_or(0, |waiters| waiters.iter().filter(is_of_key).count())
    }

    /// Wakes all that wait for a key with this hash.
    pub(crate) fn wake(&self, hash: KeyHash) {
        if let Some((_, waiters)) = self.0.remove(&hash) {
            waiters.into_iter().for_each(|waiter| waiter.waker.wake());
        }
    }

    /// Wakes all that wait for a key with this prefix, and for keys with the same hash as one of those.
    pub(crate) fn wake_prefix(&self, prefix: &[u8]) {
        let is_below = |waiter: &Waiter| waiter.key.starts_with(prefix);
        let hashes: Vec<KeyHash> = self
            .0
            .iter()
            .filter(|waiters| waiters.iter().any(is_below))
            .map(|waiters| *waiters.key())
            .collect();
        hashes.into_iter().for_each(|hash| self.wake(hash));
    }
}
