//! Tables that forget must never cause a stale value: misses that a log had no place for, lease records that
//! were overwritten, hold-offs that a full table gave up, groups whose invalidations were dropped.
//!
//! There are more keys than any table holds, a database whose replicas lag for as long as a key is held off,
//! and one rule: once an invalidation has returned, nothing older than what was committed before it is
//! served. What is fresh may well be refused.

use std::time::Duration;

use leasehold::cache::{
    Cache, Config, Copies, Deletion, Depth, Draft, Fill, Group, Implicit, Lookup, MISS_LOG_MAX, Mode, Policy,
    Session, TagList, Token,
};
use leasehold::clock::Clock;

use crate::support::random::Random;

/// How writers invalidate: each row has a key, a prefix and a tag of its own.
#[derive(Clone, Copy, PartialEq)]
enum By {
    Key,
    Prefix,
    Tag,
}

/// A database, its cache, and who reads both.
struct World {
    by: By,
    cache: Cache,
    clock: Clock,
    implicit: Implicit,
    readers: Vec<Reader>,
    rows: Vec<Row>,
}

#[derive(Clone, Default)]
struct Row {
    committed: u64,
    /// Until when the replicas lag, in monotonic milliseconds.
    lags_until: u64,
}

/// A connection that one thread uses: it may have queried many rows before it stores the first.
struct Reader {
    /// How many keys it has missed.
    misses: usize,
    session: Session,
    underway: Vec<Query>,
}

struct Query {
    at: u64,
    /// Its number among the misses of its reader.
    miss: usize,
    row: usize,
    token: Option<Token>,
    version: u64,
}

impl World {
    fn new(implicit: Implicit, by: By) -> Self {
        let load_time_max = LOAD_TIME;
        let policy = Policy { implicit, load_time_max, ..Policy::default() };
        let cache = Cache::with_seed(
            Config {
                copies: Copies::Always,
                memory_bytes: 8 << 20,
                policies: policy.into(),
                ..Config::default()
            },
            [4; 32],
        );
        assert!(cache.config().groups_max() < ROWS / 4, "names are forgotten");
        let readers = (0..READERS)
            .map(|_| Reader { misses: 0, session: cache.session(), underway: Vec::new() })
            .collect();
        World { by, cache, clock: Clock::manual(), implicit, readers, rows: vec![Row::default(); ROWS] }
    }

    /// A plain get or a lease-get; on a miss the database is asked, on a hit the rule.
    fn read(&mut self, reader: usize, row: usize, by_lease: bool) {
        let (now, Row { committed, lags_until }) = (self.clock.now(), self.rows[row].clone());
        let Reader { misses, session, underway } = &mut self.readers[reader];
        if underway.iter().any(|query| query.row == row) {
            return;
        }
        let name = prefix_of(row) + "row";
        let key = self.cache.key(name.as_bytes()).expect("a legal key");
        let judge = |value: &[u8]| {
            let version = u64::from_le_bytes(value.try_into().expect("eight bytes"));
            assert_eq!(version, committed, "row {row} is stale at {now:?}");
        };
        let token = if by_lease {
            let leased = self.cache.lease(&key, session, now, |leased| match leased {
                Lookup::Busy { .. } | Lookup::Miss => None,
                Lookup::Granted { token, .. } => Some(token),
                Lookup::Hit { value, .. } => {
                    judge(value.bytes);
                    None
                }
            });
            if leased.is_none() {
                return;
            }
            leased
        } else {
            if self.cache.get(&key, session, now, |value| judge(value.bytes)).is_some() {
                return;
            }
            None
        };
        let version = committed - u64::from(now.millis < lags_until);
        *misses += 1;
        underway.push(Query { at: now.millis, miss: *misses, row, token, version });
    }

    /// Stores what was queried, unless that took longer than anything is remembered for.
    fn store(&mut self, reader: usize, pick: u64) {
        let (now, Reader { misses, session, underway }) = (self.clock.now(), &mut self.readers[reader]);
        if underway.is_empty() {
            return;
        }
        let Query { at, miss, row, token, version } = underway.swap_remove(pick as usize % underway.len());
        // Of longer loads only tokens and the newest misses of a connection of one worker protect.
        let is_known = self.implicit != Implicit::Shared && *misses - miss < MISS_LOG_MAX;
        let longest = if token.is_some() || is_known { 59_000 } else { LOAD_TIME.as_millis() as u64 };
        if now.millis - at > longest {
            return;
        }
        let name = prefix_of(row) + "row";
        let key = self.cache.key(name.as_bytes()).expect("a legal key");
        let version = version.to_le_bytes();
        let prefix = prefix_of(row);
        let tags = if self.by == By::Tag { vec![prefix.as_bytes()] } else { Vec::new() };
        let tags = TagList::new(tags).expect("it is short");
        let draft = Draft { tags: tags.tags(), ..Draft::new(&version) };
        // Whether it was stored shows when it is read.
        match token {
            Some(token) => _ = self.cache.fill(&key, token, Fill::Value(draft), session, now),
            None => _ = self.cache.store(&key, Mode::Set, draft, session, now),
        }
    }

    /// Commits and invalidates, as a client that is not loading that row.
    fn write(&mut self, reader: usize, row: usize, lag: Duration) {
        let (now, Reader { session, underway, .. }) = (self.clock.now(), &mut self.readers[reader]);
        if underway.iter().any(|query| query.row == row) {
            return;
        }
        let (prefix, until) = (prefix_of(row), now.after(lag));
        let name = prefix.clone() + "row";
        let key = self.cache.key(name.as_bytes()).expect("a legal key");
        let Row { committed, lags_until } = &mut self.rows[row];
        let is_held_off = now.millis < *lags_until || !lag.is_zero();
        if now.millis < *lags_until && lag.is_zero() || is_held_off && self.by != By::Key {
            return;
        }
        *committed += 1;
        *lags_until = until.max(*lags_until);
        match self.by {
            By::Key => {
                let held_until = (!lag.is_zero()).then_some(until);
                self.cache.delete(&key, &Deletion { held_until, ..Deletion::default() }, session, now);
            }
            By::Prefix => self.cache.invalidate([Group::Prefix(prefix.as_bytes())], Depth::Hard, now),
            By::Tag => self.cache.invalidate([Group::Tag(prefix.as_bytes())], Depth::Soft, now),
        }
    }

    fn reconnect(&mut self, reader: usize) {
        let mut gone = Reader { misses: 0, session: self.cache.session(), underway: Vec::new() };
        std::mem::swap(&mut gone, &mut self.readers[reader]);
        self.cache.leave(&mut gone.session, self.clock.now());
    }
}

/// Reading, storing and writing in changing proportions, so that every table overflows and empties again.
fn live(implicit: Implicit, by_lease: bool, by: By) {
    let (mut world, mut random) = (World::new(implicit, by), Random(1));
    for step in 0..STEPS {
        let (phase, reader) = (step / PHASE_STEPS, random.below(READERS as u64) as usize);
        let row = random.below(ROWS as u64) as usize;
        let lag = if phase % 3 == 1 { LAG } else { Duration::ZERO };
        match (random.below(10), phase % 4) {
            (0, _) => world.write(reader, row, lag),
            (1, 3) => world.write(reader, row, lag),
            (1, _) | (2.., 0 | 1) => world.read(reader, row, by_lease),
            (2.., _) => world.store(reader, random.below(u64::MAX)),
        }
        match random.below(2_000) {
            0 => world.clock.advance(Duration::from_millis(500)),
            1 => world.reconnect(reader),
            _ => {}
        }
        if step % (PHASE_STEPS * 4) == PHASE_STEPS {
            (0..ROWS).for_each(|row| world.write(row % READERS, row, LAG));
        }
    }
    let counts = world.cache.counts();
    assert!(counts.total_items > STEPS / 200, "almost nothing was stored: {counts:?}");
}

#[test]
fn plain_clients() {
    live(Implicit::On, false, By::Key);
}

#[test]
fn clients_on_shared_connections() {
    live(Implicit::Shared, false, By::Key);
}

#[test]
fn clients_of_leases() {
    live(Implicit::On, true, By::Key);
}

#[test]
fn plain_clients_and_invalidations_of_tags() {
    live(Implicit::On, false, By::Tag);
}

#[test]
fn clients_on_shared_connections_and_invalidations_of_prefixes() {
    live(Implicit::Shared, false, By::Prefix);
}

#[test]
fn clients_of_leases_and_invalidations_of_tags() {
    live(Implicit::On, true, By::Tag);
}

fn prefix_of(row: usize) -> String {
    format!("{row}:")
}

const LOAD_TIME: Duration = Duration::from_secs(1);
const LAG: Duration = Duration::from_secs(5);
const PHASE_STEPS: u64 = 10_000;
const READERS: usize = 3;
const ROWS: usize = 6_000;
const STEPS: u64 = 240_000;
