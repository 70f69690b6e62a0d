//! What went for want of memory, for who wants to know.
//!
//! Shards note it down while they are locked, and only while somebody collects it; it is handed out later.

use std::collections::VecDeque;

use super::Cache;
use super::expiry::Expiry;

/// A value that was evicted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Evicted {
    /// When it was last read or stored, in monotonic seconds.
    pub accessed: u32,
    /// When it would have ended.
    pub expiry: Expiry,
    /// Whether anybody had read it.
    pub is_fetched: bool,
    /// Its key.
    pub key: Box<[u8]>,
    /// Its length.
    pub value_bytes: usize,
}

/// What was evicted and nobody has taken yet.
#[derive(Default)]
pub(super) struct Collected {
    evicted: VecDeque<Evicted>,
    /// How many were too many to be kept.
    lost: u64,
}

impl Cache {
    /// Somebody more wants to know what is evicted: they take it from [`Cache::take_evicted`].
    pub fn begin_collecting(&self) {
        self.shards.iter().for_each(|shard| shard.lock().collect_evicted(1));
    }

    /// Undoes one [`Cache::begin_collecting`].
    pub fn end_collecting(&self) {
        self.shards.iter().for_each(|shard| shard.lock().collect_evicted(-1));
    }

    /// What was evicted since this was last asked, and how many more there were than [`EVICTED_MAX`].
    pub fn take_evicted(&self) -> (impl Iterator<Item = Evicted> + use<>, u64) {
        let Collected { evicted, lost } = std::mem::take(&mut *self.evicted.lock());
        (evicted.into_iter(), lost)
    }

    /// Keeps what a shard has noted, once it is free.
    pub(super) fn collect(&self, evicted: Vec<Evicted>) {
        if evicted.is_empty() {
            return;
        }
        let mut collected = self.evicted.lock();
        let room = EVICTED_MAX - collected.evicted.len();
        collected.lost += evicted.len().saturating_sub(room) as u64;
        collected.evicted.extend(evicted.into_iter().take(room));
    }
}

/// Evicted values that wait to be taken at most.
pub const EVICTED_MAX: usize = 1 << 16;
