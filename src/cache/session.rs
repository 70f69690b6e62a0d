//! A client of the cache: one connection, or one thread of an embedding program.

use std::sync::Arc;

use super::fence::Sessions;
use super::fence::miss_log::MissLog;
use super::fence::origin::Origin;
use crate::clock::Now;
use crate::store::item::key::KeyHash;
use crate::store::item::seq::Seq;

/// A party that reads and stores: its misses, and the leases it holds.
///
/// Made by [`Cache::session`](super::Cache::session); hand it back to [`Cache::leave`](super::Cache::leave)
/// when it has left.
pub struct Session {
    pub(crate) id: u64,
    /// Its newest invalidation of a key.
    pub(crate) newest_key_invalidation: Seq,
    /// The same, or its last flush.
    pub(crate) newest_invalidation: Seq,
    pub(crate) misses: MissLog,
    /// Whether threads or tasks share it: it has sent a request before it had the reply to the last one, or
    /// more sets than its own misses explain.
    pub(crate) is_shared: bool,
    /// Whether it counts as a session, until it has left.
    pub(crate) is_open: bool,
    /// Where it comes from.
    pub(crate) origin: Arc<Origin>,
    /// Key hash and sequence number of the leases it was granted lately, oldest first.
    held: Option<Box<Held>>,
}

/// Behind a pointer, because most sessions never hold a lease.
#[derive(Default)]
struct Held(Vec<(KeyHash, Seq)>);

impl Session {
    pub(crate) fn new(id: u64, is_open: bool) -> Self {
        Session {
            id,
            newest_key_invalidation: Seq::ZERO,
            newest_invalidation: Seq::ZERO,
            misses: MissLog::new(),
            is_shared: false,
            is_open,
            origin: Arc::default(),
            held: None,
        }
    }

    /// It comes from the same address as others: if one of them turns out to be shared, all are taken for
    /// shared.
    pub fn comes_from(&mut self, origin: Arc<Origin>) {
        self.origin = origin;
    }

    /// It has invalidated something.
    pub(crate) fn invalidated(&mut self, seq: Seq, sessions: &Sessions) {
        self.newest_invalidation = self.newest_invalidation.max(seq);
        if !self.is_open {
            sessions.foreign_at(seq);
        }
    }

    /// It sends requests before it has the replies to those before them, as only a shared connection does.
    #[inline]
    pub fn pipelines(&mut self, now: Now) {
        if !self.is_shared {
            self.is_shared = true;
            self.origin.shares(now);
        }
    }

    /// Its number, which no other session of this cache has.
    pub fn number(&self) -> u64 {
        self.id
    }

    /// The sequence number of its newest invalidation of a key, by whatever command; invalidations of groups
    /// and of everything do not count.
    pub fn newest_key_invalidation(&self) -> Seq {
        self.newest_key_invalidation
    }

    /// Remembers a grant. Where there are too many the oldest is forgotten: its lease ends with its window.
    pub(crate) fn hold(&mut self, hash: KeyHash, seq: Seq) {
        let Held(held) = &mut **self.held.get_or_insert_default();
        if held.len() == HELD_MAX {
            held.remove(0);
        }
        held.push((hash, seq));
    }

    pub(crate) fn drop_held(&mut self, hash: KeyHash) {
        if let Some(held) = &mut self.held {
            held.0.retain(|(held, _)| *held != hash);
        }
    }

    pub(crate) fn take_held(&mut self) -> Vec<(KeyHash, Seq)> {
        self.held.take().map(|held| held.0).unwrap_or_default()
    }
}

/// Leases that are freed at once when their holder goes.
pub const HELD_MAX: usize = 256;
