//! Who sleeps until the lease of a key has ended, and how he is woken.
//!
//! Deliberately absent: sleeping. A waker is left here, and called once the shard is free again.

use std::task::Waker;

use super::{Cache, Key, Peer};
use crate::clock::Now;

/// One who sleeps.
pub(super) struct Waiter {
    key: Box<[u8]>,
    peer: u64,
    waker: Waker,
}

impl Cache {
    /// Leaves a waker that is called when the lease of a key has ended; false if it has already, and asking again
    /// is worth while. Undone by [`Cache::stop_waiting`].
    pub fn wait(&self, key: &Key, peer: &Peer, waker: &Waker, now: Now) -> bool {
        // Left before the lease is looked at: a void of its prefix, which takes no lock of a shard, finds one or the other.
        let waiter = Waiter { key: key.bytes.into(), peer: peer.id, waker: waker.clone() };
        self.waiters.entry(key.hash).or_default().push(waiter);
        let must_wait = self.locked(key, now, |shard, at| shard.await_lease(key, at));
        if !must_wait {
            self.stop_waiting(key, peer);
        }
        must_wait
    }

    /// Takes back what [`Cache::wait`] left.
    pub fn stop_waiting(&self, key: &Key, peer: &Peer) {
        if let Some(mut waiters) = self.waiters.get_mut(&key.hash) {
            waiters.retain(|waiter| waiter.peer != peer.id);
        }
        self.waiters.remove_if(&key.hash, |_, waiters| waiters.is_empty());
    }

    /// How many sleep until the lease of a key has ended.
    pub(super) fn waiting_for(&self, key: &Key) -> usize {
        let is_it = |waiter: &&Waiter| *waiter.key == *key.bytes;
        self.waiters.get(&key.hash).map_or(0, |waiters| waiters.iter().filter(is_it).count())
    }

    pub(super) fn wake(&self, hash: u64) {
        if let Some((_, waiters)) = self.waiters.remove(&hash) {
            waiters.into_iter().for_each(|waiter| waiter.waker.wake());
        }
    }

    /// Wakes whoever waits for a key that begins so: its lease has ended.
    pub(super) fn wake_below(&self, prefix: &[u8]) {
        let is_below = |waiter: &Waiter| waiter.key.starts_with(prefix);
        let awaited: Vec<u64> = self
            .waiters
            .iter()
            .filter(|waiters| waiters.iter().any(is_below))
            .map(|waiters| *waiters.key())
            .collect();
        awaited.into_iter().for_each(|hash| self.wake(hash));
    }
}
