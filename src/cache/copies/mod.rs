//! Hits of hot keys without a lock: each thread has copies of a few items that it has waited for.
//!
//! A copy is valid while nothing that it depends on has changed: the item ([`Changes`]), the invalidations of
//! groups, the policies, and the tick. Each of these changes before anybody is answered that it has, so a
//! read that begins after that sees it. At the moment at which the first of the numbers is loaded, all of
//! them are those of the copy, since none ever returns: that is when the read takes place.
//!
//! Not copied are values that a source may withhold, and values of a shard that waits for a delayed flush:
//! their time is not that of a tick.
//!
//! The first read in a tick and one of 64 take the lock, and count as uses for those between them. So the
//! time of the last access is that of the item, to the tick. Reads that change anything take the lock anyway.

mod served;
mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use self::served::AllServed;
use self::table::{Found, Stamp, Table};
use super::Cache;
use super::config::Copies;
use super::invalidation::record::Effect;
use super::read::{Lookup, Value};
use super::session::Session;
use super::shard::{At, Shard};
use crate::clock::Now;
use crate::store::changes::Changes;
use crate::store::item::key::{Key, KeyHash};
use crate::store::item::uses::USES_MAX;

pub(super) use self::table::may_have;

/// The part of a cache that is for the copies of its items.
pub(super) struct CopiesOf {
    /// Of each shard.
    changes: Box<[Arc<Changes>]>,
    /// No other cache of this process has it.
    number: u64,
    pub(super) served: AllServed,
    /// See [`Copies::Always`].
    are_all: bool,
}

impl CopiesOf {
    pub(super) fn new(changes: Box<[Arc<Changes>]>, copies: Copies) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        CopiesOf { changes, number, served: AllServed::default(), are_all: copies == Copies::Always }
    }
}

impl Cache {
    /// The table of this thread, if it has a copy of a key by which a read is served; otherwise whether it
    /// had one lately. Counts the read.
    #[inline(never)]
    pub(super) fn find_copy(&self, key: &Key, session: &mut Session, now: Now) -> Result<Box<Table>, bool> {
        let Some(mut table) = table::take_out() else {
            if !self.copies.are_all {
                table::has_none();
            }
            return Err(self.copies.are_all);
        };
        let found = match table.cache == self.copies.number {
            true => table.find(key, now.tick(), |stamp| self.is_current(key, stamp)),
            false => None,
        };
        if let Some(Found::Valid(copy)) = found {
            if !session.misses.is_empty() {
                session.misses.remove(key.hash, copy.miss_age(now.seconds()));
            }
            copy.read();
            return Ok(table);
        }
        let was_copied = found.is_some() || self.copies.are_all;
        table::put_back(table);
        Err(was_copied)
    }

    /// Whether this thread has a copy of the item of a key with this hash, valid or not.
    pub(super) fn has_copy(&self, hash: KeyHash) -> bool {
        may_have(hash) && table::has(hash)
    }

    /// Shows the copy that was found.
    #[inline(never)]
    pub(super) fn show_copy<R>(
        &self,
        table: Box<Table>,
        key: &Key,
        now: Now,
        show: impl FnOnce(Lookup<Value>) -> R,
    ) -> R {
        let item = table.item(key.hash);
        table.served.count(item.value_bytes());
        let result = show(Lookup::hit(item.into()));
        table::put_back(table);
        self.shadow.read(key.hash, now);
        result
    }

    fn newest_change(&self, key: &Key) -> u64 {
        self.copies.changes[self.shard_of(key.hash)].newest(key.hash)
    }

    fn is_current(&self, key: &Key, stamp: &Stamp) -> bool {
        self.newest_change(key) == stamp.change
            && self.groups.word() == Some(stamp.groups)
            && self.policies.times() == stamp.policies
    }

    /// Copies the item of a key that this thread has just read, if it is hot: if the thread had a copy
    /// lately, or has waited again for the lock of the shard, which it holds.
    #[inline(always)]
    pub(super) fn copy_if_hot(
        &self,
        key: &Key,
        shard: &mut Shard,
        at: &At,
        has_waited: bool,
        was_copied: bool,
    ) {
        if has_waited | was_copied {
            self.copy_if_worth(key, shard, has_waited, at);
        }
    }

    #[cold]
    #[inline(never)]
    fn copy_if_worth(&self, key: &Key, shard: &mut Shard, has_waited: bool, at: &At) {
        let mut table = match table::take_out() {
            Some(table) if table.cache == self.copies.number => table,
            _ => Table::new(self.copies.number, self.copies.served.enter(), self.copies.are_all),
        };
        let (reads, is_hot) = table.end(key.hash, has_waited);
        if reads > 0 {
            shard.used_by_copies(key, reads.min(USES_MAX), at);
        }
        if is_hot || self.copies.are_all {
            self.copy(key, &mut table, shard, at);
        }
        table::put_back(table);
    }

    fn copy(&self, key: &Key, table: &mut Table, shard: &Shard, at: &At) {
        // Before the item is looked at: it may have been invalidated since it was found to be live.
        let (policies, Some(groups)) = (self.policies.times(), self.groups.word()) else { return };
        let miss_age_max = self.policies.with(|policies| {
            let policy = policies.of(key.bytes);
            (!policy.is_bounded()).then_some(policy.lease_max_age.as_secs() as u32)
        });
        let (Some(miss_age_max), Some(item)) = (miss_age_max, shard.copyable(key)) else { return };
        let meta = item.meta();
        if !table::is_small(&item) || self.groups.effect(key.bytes, item.tags(), meta.as_of) != Effect::None {
            return;
        }
        let stamp = Stamp { change: self.newest_change(key), groups, policies, tick: at.tick };
        table.copy(key.hash, item, stamp, miss_age_max);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::cache::{Config, Deletion, Depth, Draft, Mode, Policy};
    use crate::clock::Clock;

    struct Fixture {
        cache: Cache,
        clock: Clock,
        session: Session,
    }

    impl Fixture {
        fn new(copies: Copies) -> Fixture {
            let cache = Cache::with_seed(Config { copies, ..Config::default() }, [8; 32]);
            Fixture { session: cache.session(), cache, clock: Clock::manual() }
        }

        fn key<'a>(&self, name: &'a str) -> Key<'a> {
            self.cache.key(name.as_bytes()).unwrap()
        }

        fn set(&mut self, name: &str, value_bytes: usize) {
            let (key, value) = (self.key(name), vec![b'v'; value_bytes]);
            self.cache.store(&key, Mode::Set, Draft::new(&value), &mut self.session, self.clock.now());
        }

        fn get(&mut self, name: &str) -> Option<usize> {
            let key = self.key(name);
            self.cache.get(&key, &mut self.session, self.clock.now(), |value| value.bytes.len())
        }

        /// Whether a read is served by a copy.
        fn is_copied(&mut self, name: &str) -> bool {
            let (key, now) = (self.key(name), self.clock.now());
            self.cache.find_copy(&key, &mut self.session, now).map(table::put_back).is_ok()
        }

        /// As a read that has waited for the lock does after its hit.
        fn waits(&mut self, name: &str) {
            let key = self.key(name);
            self.cache.locked(&key, self.clock.now(), |shard, at| {
                self.cache.copy_if_hot(&key, shard, at, true, false);
            });
        }
    }

    #[test]
    fn an_item_is_copied_once_its_lock_was_taken_twice() {
        let mut fixture = Fixture::new(Copies::Hot);
        fixture.set("key", 100);
        assert!(fixture.get("key").is_some() && !fixture.is_copied("key"));
        fixture.waits("key");
        assert!(!fixture.is_copied("key"));
        fixture.waits("key");
        assert!(fixture.is_copied("key"));
    }

    #[test]
    fn a_copy_is_made_again_while_its_predecessors_were_read() {
        let mut fixture = Fixture::new(Copies::Hot);
        fixture.set("key", 100);
        (0..2).for_each(|_| fixture.waits("key"));
        for _ in 0..3 {
            assert!((0..8).all(|_| fixture.is_copied("key")));
            fixture.set("key", 100);
            assert!(!fixture.is_copied("key") && fixture.get("key").is_some());
        }
        for _ in 0..WORTHLESS {
            assert!(fixture.get("key").is_some());
            fixture.set("key", 100);
            assert!(fixture.get("key").is_some());
        }
        assert!(!fixture.is_copied("key"), "writes are more frequent than reads");
    }

    #[test]
    fn everything_that_a_reader_could_see_outdates_a_copy() {
        let changes: [fn(&mut Fixture, &Key); 6] = [
            |fixture, _| fixture.set("a:key", 100),
            |Fixture { cache, clock, session }, key| {
                cache.delete(key, &Deletion::default(), session, clock.now());
            },
            |Fixture { cache, clock, session }, _| {
                cache.invalidate_all(None, Depth::Hard, session, clock.now());
            },
            |Fixture { cache, clock, session }, _| {
                cache.invalidate_all(Some(1_000), Depth::Hard, session, clock.now());
            },
            |Fixture { cache, clock, .. }, _| {
                cache.invalidate([crate::cache::Group::Prefix(b"a:")], Depth::Soft, clock.now());
            },
            |Fixture { cache, .. }, _| cache.set_policies(Policy::default().into()),
        ];
        for (nth, change) in changes.into_iter().enumerate() {
            let mut fixture = Fixture::new(Copies::Always);
            fixture.set("a:key", 100);
            assert!(fixture.get("a:key").is_some() && fixture.is_copied("a:key"));
            let key = fixture.key("a:key");
            change(&mut fixture, &key);
            assert!(!fixture.is_copied("a:key"), "{nth}");
        }
    }

    #[test]
    fn a_copy_ends_with_its_tick_and_after_63_reads() {
        let mut fixture = Fixture::new(Copies::Always);
        fixture.set("key", 100);
        assert!(fixture.get("key").is_some());
        assert_eq!((0..100).filter(|_| fixture.is_copied("key")).count(), 63);
        assert!(fixture.get("key").is_some() && fixture.is_copied("key"));
        fixture.clock.advance(Duration::from_millis(62));
        assert!(fixture.is_copied("key"));
        fixture.clock.advance(Duration::from_millis(1));
        assert!(!fixture.is_copied("key"));
    }

    #[test]
    fn reads_of_copies_count_as_hits_and_as_uses() {
        let mut fixture = Fixture::new(Copies::Always);
        fixture.set("key", 100);
        (0..1_000).for_each(|_| assert_eq!(fixture.get("key"), Some(100)));
        let counts = fixture.cache.counts();
        assert_eq!((counts.hits(), counts.sizes[7].hits), (1_000, 1_000));
        fixture.cache.reset_counts();
        assert_eq!(fixture.cache.counts().hits(), 0);
        let Fixture { cache, clock, .. } = &fixture;
        thread::scope(|scope| {
            scope.spawn(|| {
                let (key, mut session) = (cache.key(b"key").unwrap(), cache.session());
                (0..10).for_each(|_| assert!(cache.get(&key, &mut session, clock.now(), |_| ()).is_some()));
            });
        });
        assert_eq!(fixture.cache.counts().hits(), 10, "also of a thread that has ended");
    }

    #[test]
    fn large_items_are_not_copied() {
        let mut fixture = Fixture::new(Copies::Always);
        for (value_bytes, is_copied) in [(4_000, true), (4_096, false), (1 << 20, false)] {
            fixture.set("key", value_bytes);
            assert!(fixture.get("key").is_some());
            assert_eq!(fixture.is_copied("key"), is_copied, "{value_bytes}");
        }
    }

    #[test]
    fn a_thread_has_copies_of_one_cache_and_of_so_many_items() {
        let (mut one, mut other) = (Fixture::new(Copies::Always), Fixture::new(Copies::Always));
        let names: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
        for name in &names {
            one.set(name, 10);
            assert!(one.get(name).is_some());
        }
        let copied = names.iter().filter(|name| one.is_copied(name)).count();
        assert!((50..=64).contains(&copied), "{copied}");
        other.set("key", 10);
        assert!(other.get("key").is_some() && other.is_copied("key"));
        assert!(names.iter().all(|name| !one.is_copied(name)));
        assert_eq!(one.cache.counts().hits(), 1_000);
    }

    /// Otherwise a client's next set would answer a miss that it has seen answered.
    #[test]
    fn a_copy_removes_the_miss_of_its_reader_as_every_hit_does() {
        let mut fixture = Fixture::new(Copies::Always);
        let mut reader = fixture.cache.session();
        let (key, now) = (fixture.key("key"), fixture.clock.now());
        assert!(fixture.cache.get(&key, &mut reader, now, |_| ()).is_none());
        fixture.set("key", 10);
        assert!(fixture.get("key").is_some());
        assert!(fixture.cache.find_copy(&key, &mut reader, now).map(table::put_back).is_ok());
        let age = crate::cache::fence::miss_log::Age { max: 60, now: now.seconds() };
        assert!(reader.misses.take(key.hash, age).is_none());
    }

    #[test]
    fn a_read_within_a_read_takes_the_lock() {
        let mut fixture = Fixture::new(Copies::Always);
        fixture.set("key", 10);
        assert!(fixture.get("key").is_some());
        let (key, now) = (fixture.key("key"), fixture.clock.now());
        let (mut outer, mut inner) = (fixture.cache.session(), fixture.cache.session());
        let cache = &fixture.cache;
        let shown = cache.get(&key, &mut outer, now, |_| cache.get(&key, &mut inner, now, |_| ()));
        assert_eq!(shown, Some(Some(())));
        assert_eq!(fixture.cache.counts().hits(), 3);
    }

    /// More than the credit that copies can have.
    const WORTHLESS: usize = 6;
}
