//! What the server forgets for want of room must never let a stale value in: notes that a ring had no place for,
//! lease records that were overwritten, hold-offs that a full table gave up.
//!
//! There are more keys than any table holds, a database whose replicas lag for as long as a key is held off, and one
//! rule: once a void has returned, nothing older than what was committed before it is served. What is fresh may well
//! be refused.

mod random;

use std::time::Duration;

use leasehold::cache::{Cache, Config, Draft, Fill, Implicit, Leased, Mode, Peer, Policy, Token};
use leasehold::clock::Clock;

use random::Random;

/// A database, its cache, and who reads both.
struct World {
    cache: Cache,
    clock: Clock,
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
    peer: Peer,
    underway: Vec<Query>,
}

struct Query {
    at: u64,
    row: usize,
    token: Option<Token>,
    version: u64,
}

impl World {
    fn new(implicit: Implicit) -> Self {
        let policy = Policy { implicit, ..Policy::default() };
        let cache = Cache::with_seed(Config { policy, ..Config::default() }, [4; 32]);
        let readers = (0..READERS).map(|_| Reader { peer: cache.peer(), underway: Vec::new() }).collect();
        World { cache, clock: Clock::manual(), readers, rows: vec![Row::default(); ROWS] }
    }

    /// A plain get or a lease-get; on a miss the database is asked, on a hit the rule.
    fn read(&mut self, reader: usize, row: usize, by_lease: bool) {
        let (now, Row { committed, lags_until }) = (self.clock.now(), self.rows[row].clone());
        let Reader { peer, underway } = &mut self.readers[reader];
        if underway.iter().any(|query| query.row == row) {
            return;
        }
        let name = row.to_string();
        let key = self.cache.key(name.as_bytes()).expect("a legal key");
        let judge = |value: &[u8]| {
            let version = u64::from_le_bytes(value.try_into().expect("eight bytes"));
            assert_eq!(version, committed, "row {row} is stale at {now:?}");
        };
        let token = if by_lease {
            let leased = self.cache.lease(&key, peer, now, |leased| match leased {
                Leased::Busy { .. } => None,
                Leased::Granted { token, .. } => Some(token),
                Leased::Hit(value) => {
                    judge(value.bytes);
                    None
                }
            });
            if leased.is_none() {
                return;
            }
            leased
        } else {
            if self.cache.get(&key, peer, now, |value| judge(value.bytes)).is_some() {
                return;
            }
            None
        };
        let version = committed - u64::from(now.millis < lags_until);
        underway.push(Query { at: now.millis, row, token, version });
    }

    /// Stores what was queried, unless that took longer than anything is remembered for.
    fn store(&mut self, reader: usize, pick: u64) {
        let (now, Reader { peer, underway }) = (self.clock.now(), &mut self.readers[reader]);
        if underway.is_empty() {
            return;
        }
        let Query { at, row, token, version } = underway.swap_remove(pick as usize % underway.len());
        if now.millis - at > 59_000 {
            return;
        }
        let name = row.to_string();
        let key = self.cache.key(name.as_bytes()).expect("a legal key");
        let version = version.to_le_bytes();
        let draft = Draft::new(&version);
        // Whether it was let in shows when it is read.
        match token {
            Some(token) => _ = self.cache.lease_set(&key, token, Fill::Value(draft), peer, now),
            None => _ = self.cache.store(&key, Mode::Set, draft, peer, now),
        }
    }

    /// Commits and voids, in the name of a reader who is not in the middle of loading that row.
    fn write(&mut self, reader: usize, row: usize, lag: Duration) {
        let (now, Reader { peer, underway }) = (self.clock.now(), &mut self.readers[reader]);
        if underway.iter().any(|query| query.row == row) {
            return;
        }
        let (name, until) = (row.to_string(), now.after(lag));
        let key = self.cache.key(name.as_bytes()).expect("a legal key");
        let Row { committed, lags_until } = &mut self.rows[row];
        if now.millis < *lags_until && lag.is_zero() {
            return;
        }
        *committed += 1;
        *lags_until = until.max(*lags_until);
        self.cache.delete(&key, (!lag.is_zero()).then_some(until), peer, now);
    }

    fn reconnect(&mut self, reader: usize) {
        let mut gone = Reader { peer: self.cache.peer(), underway: Vec::new() };
        std::mem::swap(&mut gone, &mut self.readers[reader]);
        self.cache.leave(&mut gone.peer, self.clock.now());
    }
}

/// Reading, storing and writing in changing proportions, so that every table overflows and empties again.
fn live(implicit: Implicit, by_lease: bool) {
    let (mut world, mut random) = (World::new(implicit), Random(1));
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
    assert!(counts.total_items > STEPS / 200, "next to nothing was let in: {counts:?}");
}

#[test]
fn plain_clients() {
    live(Implicit::On, false);
}

#[test]
fn clients_on_shared_connections() {
    live(Implicit::Strict, false);
}

#[test]
fn clients_of_leases() {
    live(Implicit::On, true);
}

const LAG: Duration = Duration::from_secs(5);
const PHASE_STEPS: u64 = 10_000;
const READERS: usize = 3;
const ROWS: usize = 6_000;
const STEPS: u64 = 240_000;
