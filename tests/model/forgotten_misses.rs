//! The cost of misses that the table forgets: good fills that are refused, against the bounds in
//! docs/design/figures.md.
//!
//! Some keys are missed, and nobody sets them. Meanwhile other keys are deleted, then missed and set at once,
//! so that no set is stale. A set that is refused is refused only because misses of other keys were
//! forgotten.

use std::time::Duration;

use leasehold::cache::{Cache, Config, Deletion, Draft, Mode, Policy, Reason, Session, StoreOutcome};
use leasehold::clock::Clock;

struct World {
    added: u64,
    cache: Cache,
    clock: Clock,
    deleted: u64,
    filled: u64,
    missed: u64,
    reader: Session,
    writer: Session,
}

impl World {
    /// A server whose keys are known to be set after a miss, and only then.
    fn new() -> Self {
        let policy = Policy { load_time_max: Duration::from_millis(LOAD_MS), ..Policy::default() };
        let cache = Cache::with_seed(Config { policies: policy.into(), ..Config::default() }, [6; 32]);
        let (clock, [reader, writer]) = (Clock::manual(), [cache.session(), cache.session()]);
        let mut world = World { added: 0, cache, clock, deleted: 0, filled: 0, missed: 0, reader, writer };
        // A shared connection does not show that a store is a write.
        world.writer.pipelines(world.clock.now());
        // Nothing is known during the first second.
        world.clock.advance(Duration::from_secs(1));
        assert_eq!((0..1_000).filter(|_| world.is_refused()).count(), 0);
        world
    }

    fn miss(&mut self) {
        self.missed += 1;
        let name = format!("absent:{}", self.missed);
        let key = self.cache.key(name.as_bytes()).expect("a legal key");
        assert_eq!(self.cache.get(&key, &mut self.reader, self.clock.now(), |_| ()), None);
    }

    fn delete(&mut self) {
        self.deleted += 1;
        let name = format!("user:{}", 1_000 + self.deleted);
        let key = self.cache.key(name.as_bytes()).expect("a legal key");
        self.cache.delete(&key, &Deletion::default(), &mut self.writer, self.clock.now());
    }

    /// Whether a good fill is refused.
    fn is_refused(&mut self) -> bool {
        self.filled += 1;
        let (name, now) = (format!("user:{}", self.filled), self.clock.now());
        let key = self.cache.key(name.as_bytes()).expect("a legal key");
        assert_eq!(self.cache.get(&key, &mut self.reader, now, |_| ()), None);
        match self.cache.store(&key, Mode::Set, Draft::new("value"), &mut self.reader, now) {
            StoreOutcome::Stored { .. } => false,
            StoreOutcome::Refused(Reason::Closed) => true,
            other => panic!("{other:?}"),
        }
    }

    /// Stores a value without a miss before, as a lock is taken.
    fn add(&mut self) {
        self.added += 1;
        let name = format!("lock:{}", self.added);
        let key = self.cache.key(name.as_bytes()).expect("a legal key");
        self.cache.store(&key, Mode::Add, Draft::new("mine"), &mut self.writer, self.clock.now());
    }

    /// How many of [`FILLS`] good fills are refused, of keys that were deleted so many milliseconds before,
    /// or never. Within each load time so many other keys are missed.
    fn refused(&mut self, misses: u64, deleted_ms: Option<u64>) -> u64 {
        let mut refused = 0;
        // The table is as full as it gets after one load time.
        let (first, per_ms) = (LOAD_MS + deleted_ms.unwrap_or(0), FILLS / ROUNDS / LOAD_MS);
        for ms in 0..first + ROUNDS * LOAD_MS {
            self.clock.advance(Duration::from_millis(1));
            let missed = |ms| ms * misses / LOAD_MS;
            (missed(ms)..missed(ms + 1)).for_each(|_| self.miss());
            (0..ADDS).for_each(|_| self.add());
            if deleted_ms.is_some() && ms >= LOAD_MS {
                (0..per_ms).for_each(|_| self.delete());
            }
            if ms >= first {
                refused += (0..per_ms).filter(|_| self.is_refused()).count() as u64;
            }
        }
        refused
    }
}

const ADDS: u64 = 100;
const FILLS: u64 = 20_000;
const LOAD_MS: u64 = 100;
const ROUNDS: u64 = 20;

/// The bounds are those of docs/design/figures.md.
#[test]
fn few_good_fills_of_keys_that_were_just_deleted_are_refused() {
    for (misses, one_in) in [(3_000, 4_000), (6_000, 100), (12_000, 4)] {
        let refused = World::new().refused(misses, Some(0));
        assert!(refused * one_in <= FILLS, "{refused} of {FILLS} at {misses} misses");
    }
}

/// Scanners miss keys all the time, more than any table holds. Once each cell stayed closed to every key that
/// was deleted since the scan began.
#[test]
fn keys_that_were_deleted_before_can_be_filled_whatever_is_missed() {
    for misses in [12_000, 24_000, 100_000] {
        let refused = World::new().refused(misses, Some(4 * LOAD_MS));
        assert!(refused * 300 <= FILLS, "{refused} of {FILLS} at {misses} misses");
    }
}

#[test]
fn keys_that_were_not_deleted_can_be_filled_whatever_is_missed() {
    assert_eq!(World::new().refused(100_000, None), 0);
}
