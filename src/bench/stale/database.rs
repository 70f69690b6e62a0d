//! The database behind the cache, which also detects stale reads.
//!
//! It knows the committed version of each key, and for each version the time at which the server answered
//! the invalidation after its commit. A read that begins later and returns an older version is stale. All
//! workers and writers are tasks of one thread, so their actions have a total order.

use std::collections::VecDeque;

/// A database with one row for each key.
pub struct Database {
    rows: Vec<Row>,
}

#[derive(Clone, Default)]
struct Row {
    committed: u64,
    /// Answered invalidations, oldest first; versions and times only increase.
    promises: VecDeque<Promise>,
}

/// Reads from `since` on (nanoseconds of the run's clock) must not return an older version.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Promise {
    since: u64,
    version: u64,
}

impl Database {
    /// A database with this many keys, all in version 0.
    pub fn new(keys: usize) -> Database {
        Database { rows: vec![Row::default(); keys] }
    }

    /// Commits a change; returns the new version.
    pub fn commit(&mut self, key: u64) -> u64 {
        let row = self.row(key);
        row.committed += 1;
        row.committed
    }

    /// The version that a query returns.
    pub fn committed(&self, key: u64) -> u64 {
        self.rows[key as usize].committed
    }

    /// The versions that an invalidation of all keys covers if it is sent now.
    pub fn all_committed(&self) -> Vec<u64> {
        self.rows.iter().map(|row| row.committed).collect()
    }

    /// Records that an invalidation was answered at `now`; it was sent after this version was committed.
    pub fn promise(&mut self, key: u64, version: u64, now: u64) {
        let promises = &mut self.row(key).promises;
        if promises.back().is_none_or(|last| last.version < version) {
            if promises.len() == PROMISES_MAX {
                promises.pop_front();
            }
            promises.push_back(Promise { since: now, version });
        }
    }

    /// How long this version had been invalidated when a get was sent at `sent`, in nanoseconds; `None` if
    /// it was not stale. For a key with many changes the oldest are dropped, so that the real time may be
    /// longer.
    pub fn staleness(&self, key: u64, version: u64, sent: u64) -> Option<u64> {
        let promises = &self.rows[key as usize].promises;
        let newer = promises.partition_point(|promise| promise.version <= version);
        promises.get(newer).and_then(|promise| sent.checked_sub(promise.since)).filter(|late| *late > 0)
    }

    fn row(&mut self, key: u64) -> &mut Row {
        &mut self.rows[key as usize]
    }
}

/// The limit for each key.
const PROMISES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_stale_only_after_an_answered_invalidation() {
        let mut database = Database::new(2);
        assert_eq!(database.staleness(1, 0, 5), None);
        let version = database.commit(1);
        assert_eq!((version, database.committed(1), database.committed(0)), (1, 1, 0));
        assert_eq!(database.staleness(1, 0, 5), None, "committed, but not invalidated yet");
        database.promise(1, version, 10);
        for (sent, late) in [(9, None), (10, None), (11, Some(1)), (25, Some(15))] {
            assert_eq!(database.staleness(1, 0, sent), late, "sent at {sent}");
        }
        assert_eq!(database.staleness(1, 1, 25), None);
        assert_eq!(database.staleness(0, 0, 25), None, "another key");
    }

    #[test]
    fn staleness_counts_from_the_first_newer_invalidation() {
        let mut database = Database::new(1);
        for now in [10, 20, 30] {
            let version = database.commit(0);
            database.promise(0, version, now);
        }
        assert_eq!(
            [0, 1, 2].map(|version| database.staleness(0, version, 31)),
            [Some(21), Some(11), Some(1)]
        );
        assert_eq!(database.staleness(0, 2, 29), None, "the third was not answered yet");
    }

    #[test]
    fn invalidations_may_be_answered_in_any_order() {
        let mut database = Database::new(1);
        let (first, second) = (database.commit(0), database.commit(0));
        database.promise(0, second, 10);
        database.promise(0, first, 20);
        assert_eq!(database.staleness(0, 0, 15), Some(5));
        assert_eq!(database.staleness(0, first, 30), Some(20), "the later answer is for an older version");
        assert_eq!(database.staleness(0, second, 30), None);
    }

    #[test]
    fn dropped_promises_shorten_the_time_but_hide_no_stale_read() {
        let mut database = Database::new(1);
        for now in 1..=PROMISES_MAX as u64 + 10 {
            let version = database.commit(0);
            database.promise(0, version, now);
        }
        assert_eq!(database.staleness(0, 0, 20), Some(9));
        assert_eq!(database.rows[0].promises.len(), PROMISES_MAX);
    }
}
