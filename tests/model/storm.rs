//! Plain clients behind pools, with all that invalidates, evicts and forgets at once: after an invalidation
//! has returned, nothing older than what was committed before it is served, as long as no load takes longer
//! than it may.
//!
//! Workers take any connection for each request, as from a pool, and some keep to their own. Some take
//! leases, and forget their tokens. The database's replicas lag while a key is held off. Every few seconds
//! the server is handed over: values go, misses stay. Time is stepped, and every run is repeatable.

use std::time::Duration;

use leasehold::cache::{
    Cache, Config, Copies, Deletion, Depth, Draft, Expiry, Fill, Group, Lookup, Mode, OnMiss, Policy,
    Reading, Session, TagList, Token,
};
use leasehold::clock::{Clock, Now};

use crate::support::random::Random;

struct Storm {
    cache: Cache,
    clock: Clock,
    /// When a delayed flush is due, and the row and version that it was asked for.
    flush: Option<(u64, usize, u64)>,
    plan: Plan,
    random: Random,
    refused: u64,
    rows: Vec<Row>,
    hits: u64,
    stored: u64,
    workers: Vec<Worker>,
    pool: Vec<Session>,
}

/// The parts of a storm.
#[derive(Clone, Copy)]
struct Plan {
    rows: u64,
    /// How many of the requests are for the first 20 rows, in percent.
    hot_percent: u64,
    /// Whether each worker has a connection of its own.
    own_connections: bool,
    steps: u64,
    /// Steps to a millisecond.
    steps_per_ms: u64,
    /// Steps between two handovers.
    handover_every: u64,
    /// Misses of other keys at each step, which nobody answers.
    scans: u64,
    writes_percent: u64,
}

#[derive(Clone, Default)]
struct Row {
    committed: u64,
    /// The newest version whose invalidation has returned.
    invalidated: u64,
    /// Until when the replicas lag, in monotonic milliseconds.
    lags_until: u64,
}

#[derive(Default)]
struct Worker {
    load: Option<Load>,
    own: Option<Session>,
}

struct Load {
    ends: u64,
    row: usize,
    reads: u64,
    token: Option<Token>,
    version: Option<u64>,
}

impl Storm {
    fn new(plan: Plan, seed: u64) -> Self {
        let policy = Policy { load_time_max: Duration::from_millis(LOAD_MS), ..Policy::default() };
        let (copies, memory_bytes, policies) = (Copies::Always, 8 << 20, policy.into());
        let config = Config { copies, memory_bytes, policies, ..Config::default() };
        let cache = Cache::with_seed(config, [seed as u8; 32]);
        let mut storm = Storm {
            pool: (0..POOL).map(|_| cache.session()).collect(),
            cache,
            clock: Clock::manual(),
            flush: None,
            plan,
            random: Random(seed),
            refused: 0,
            rows: vec![Row::default(); plan.rows as usize],
            hits: 0,
            stored: 0,
            workers: (0..WORKERS).map(|_| Worker::default()).collect(),
        };
        if plan.own_connections {
            storm.workers.iter_mut().for_each(|worker| worker.own = Some(storm.cache.session()));
        }
        storm
    }

    fn play(&mut self) {
        for step in 1..=self.plan.steps {
            if step.is_multiple_of(self.plan.steps_per_ms) {
                self.clock.advance(Duration::from_millis(1));
            }
            if self.flush.is_some_and(|(due, ..)| self.clock.now().millis >= due) {
                self.flushed();
            }
            if step.is_multiple_of(self.plan.handover_every) {
                self.hand_over();
            }
            self.scan();
            let worker = self.random.below(WORKERS) as usize;
            match self.random.below(100) {
                percent if percent < self.plan.writes_percent => self.write(),
                _ => self.work(worker),
            }
            // No load takes longer than it may.
            (0..WORKERS as usize).for_each(|worker| self.end(worker, true));
        }
        let Storm { hits, stored, refused, .. } = self;
        let is_alive = *hits > self.plan.steps / 100 && *stored > 500 && *refused > 100;
        assert!(is_alive, "{hits} hits, {stored} stored, {refused} refused");
    }

    fn row(&mut self) -> usize {
        let rows = if self.random.below(100) < self.plan.hot_percent { 20 } else { self.plan.rows };
        self.random.below(rows) as usize
    }

    /// Somebody looks for what is not there.
    fn scan(&mut self) {
        for _ in 0..self.plan.scans {
            let name = self.random.below(u64::MAX).to_le_bytes();
            let worker = self.random.below(WORKERS) as usize;
            self.with(worker, |cache, session, now| {
                let key = cache.key(&name).expect("a legal key");
                assert!(cache.get(&key, session, now, |_| ()).is_none());
            });
        }
    }

    /// A worker goes on with its load, or begins one.
    fn work(&mut self, worker: usize) {
        let now = self.clock.now();
        let Some(load) = &mut self.workers[worker].load else { return self.read(worker) };
        if load.version.is_none() && now.millis >= load.reads {
            let row = &self.rows[load.row];
            load.version = Some(row.committed - u64::from(now.millis < row.lags_until));
        }
        if load.version.is_some() && self.random.below(4) == 0 {
            self.end(worker, false);
        }
    }

    /// Any connection of the pool, or the worker's own.
    fn with<R>(&mut self, worker: usize, act: impl FnOnce(&Cache, &mut Session, Now) -> R) -> R {
        let now = self.clock.now();
        let any = self.random.below(POOL) as usize;
        let session = self.workers[worker].own.as_mut().unwrap_or(&mut self.pool[any]);
        act(&self.cache, session, now)
    }

    fn read(&mut self, worker: usize) {
        let (row, kind, now) = (self.row(), self.random.below(8), self.clock.now());
        let name = name(row);
        let found = self.with(worker, |cache, session, now| {
            let key = cache.key(name.as_bytes()).expect("a legal key");
            let version = |bytes: &[u8]| u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
            match kind {
                0 => cache.lease(&key, session, now, |leased| match leased {
                    Lookup::Busy { .. } | Lookup::Miss => None,
                    Lookup::Granted { token, .. } => Some(Err(Some(token))),
                    Lookup::Hit { value, .. } => Some(Ok(version(value.bytes))),
                }),
                1 => {
                    let reading = Reading::new(OnMiss::MetaLease { window: Some(Duration::from_secs(5)) });
                    // The token is lost on the way, as by a client that cuts it.
                    cache.read(&key, &reading, session, now, |found| match found {
                        Lookup::Hit { value, .. } => Some(Ok(version(value.bytes))),
                        _ => Some(Err(None)),
                    })
                }
                2 => {
                    let expiry = Expiry::after(Duration::from_secs(3), now);
                    let reading = Reading { expiry: Some(expiry), ..Reading::new(OnMiss::Report) };
                    cache.read(&key, &reading, session, now, |found| match found {
                        Lookup::Hit { value, .. } => Some(Ok(version(value.bytes))),
                        Lookup::Busy { .. } | Lookup::Granted { .. } | Lookup::Miss => Some(Err(None)),
                    })
                }
                _ => Some(cache.get(&key, session, now, |value| version(value.bytes)).ok_or(None)),
            }
        });
        match found {
            None => {}
            Some(Ok(version)) => {
                self.hits += 1;
                let newest = self.rows[row].invalidated;
                assert!(
                    version >= newest,
                    "row {row} of version {version} is served after {newest} at {now:?}"
                );
            }
            Some(Err(token)) => {
                let (reads, ends) = (self.random.below(LOAD_MS), now.millis + LOAD_MS);
                self.workers[worker].load = Some(Load {
                    ends,
                    row,
                    reads: now.millis + reads * reads / LOAD_MS / 4,
                    token,
                    version: None,
                });
            }
        }
    }

    /// A worker sets what it has read, or nothing; `is_late` for those that must end now.
    fn end(&mut self, worker: usize, is_late: bool) {
        let now = self.clock.now();
        let Some(load) = self.workers[worker].load.take_if(|load| !is_late || now.millis >= load.ends) else {
            return;
        };
        let Load { row, token, version, .. } = load;
        let (Some(version), kind) = (version, self.random.below(16)) else { return };
        let (name, group) = (name(row), group(row));
        let tags = TagList::new([group.as_bytes()]).expect("it is short");
        let value = version.to_le_bytes();
        let lives = Expiry::after(Duration::from_millis(200 + 100 * kind), now);
        let draft = Draft { expiry: lives, tags: tags.tags(), ..Draft::new(&value) };
        let done = self.with(worker, |cache, session, now| {
            let key = cache.key(name.as_bytes()).expect("a legal key");
            match (token, kind) {
                (_, 0) => None,
                (Some(token), 1..14) => {
                    Some(cache.fill(&key, token, Fill::Value(draft), session, now).is_ok())
                }
                (_, 1) => Some(cache.store(&key, Mode::Add, draft, session, now).is_stored()),
                (_, 2) => Some(cache.store(&key, Mode::Replace, draft, session, now).is_stored()),
                (_, _) => Some(cache.store(&key, Mode::Set, draft, session, now).is_stored()),
            }
        });
        match done {
            Some(true) => self.stored += 1,
            Some(false) => self.refused += 1,
            None => {}
        }
    }

    /// Commits, and invalidates in one of many ways.
    fn write(&mut self) {
        let (row, kind, now) = (self.row(), self.random.below(256), self.clock.now());
        let (name, group) = (name(row), group(row));
        let is_held_off = now.millis < self.rows[row].lags_until;
        // A group or everything would not hold off a row whose replicas lag.
        let lag = if (1..8).contains(&kind) && !is_held_off { 50 } else { 0 };
        if is_held_off && lag == 0 {
            return;
        }
        self.rows[row].committed += 1;
        self.rows[row].lags_until = now.millis + lag;
        if kind == 57 && self.flush.is_none() {
            let due = now.millis + 30;
            self.with(0, |cache, session, now| cache.invalidate_all(Some(due), Depth::Hard, session, now));
            self.flush = Some((due, row, self.rows[row].committed));
            return;
        }
        self.with(0, |cache, session, now| {
            let key = cache.key(name.as_bytes()).expect("a legal key");
            match kind {
                0 => cache.invalidate_all(None, Depth::Hard, session, now),
                1..8 => {
                    let held_until = (lag > 0).then_some(now.millis + lag);
                    cache.delete(&key, &Deletion { held_until, ..Deletion::default() }, session, now);
                }
                8..24 => cache.invalidate([Group::Tag(group.as_bytes())], Depth::Hard, now),
                24..40 => cache.invalidate([Group::Prefix(group.as_bytes())], Depth::Soft, now),
                40..56 => _ = cache.invalidate_key(&key, Depth::Soft, session, now),
                56 => cache.invalidate_all(None, Depth::Soft, session, now),
                _ => _ = cache.delete(&key, &Deletion::default(), session, now),
            }
        });
        self.rows[row].invalidated = self.rows[row].committed;
        if kind == 0 || kind == 56 {
            self.flushed();
        }
    }

    /// Everything was invalidated, so that a delayed flush has nothing left to do.
    fn flushed(&mut self) {
        if let Some((_, row, version)) = self.flush.take() {
            self.rows[row].invalidated = self.rows[row].invalidated.max(version);
        }
    }

    /// The next process knows what was missed, and nothing else. Clients connect again, and go on where they
    /// were.
    fn hand_over(&mut self) {
        let (now, mut guards) = (self.clock.now(), Vec::new());
        self.cache.guards(now, |guard| guards.push(guard));
        let next = Cache::after(self.cache.config().clone(), self.cache.lineage());
        guards.into_iter().for_each(|guard| next.guard(guard, now));
        self.cache = next;
        // All values ended with the former process.
        self.flushed();
        self.pool = (0..POOL).map(|_| self.cache.session()).collect();
        for worker in &mut self.workers {
            worker.own = worker.own.as_ref().map(|_| self.cache.session());
        }
    }
}

fn group(row: usize) -> String {
    format!("{}:", row % 10)
}

fn name(row: usize) -> String {
    format!("{}row{row}", group(row))
}

const PLAN: Plan = Plan {
    rows: 300,
    hot_percent: 60,
    own_connections: false,
    steps: 150_000,
    steps_per_ms: 5,
    handover_every: u64::MAX,
    scans: 0,
    writes_percent: 1,
};
const LOAD_MS: u64 = 100;
const POOL: u64 = 5;
const WORKERS: u64 = 16;

#[test]
fn pools_serve_nothing_stale() {
    (1..=4).for_each(|seed| Storm::new(PLAN, seed).play());
}

#[test]
fn connections_of_their_own_serve_nothing_stale() {
    (1..=4).for_each(|seed| Storm::new(Plan { own_connections: true, ..PLAN }, seed).play());
}

#[test]
fn handovers_lose_no_miss() {
    (1..=4).for_each(|seed| Storm::new(Plan { handover_every: 5_000, ..PLAN }, seed).play());
}

/// More keys are missed than there are records.
#[test]
fn what_is_forgotten_lets_nothing_stale_in() {
    let plan = Plan { scans: 30, steps: 60_000, ..PLAN };
    (1..=2).for_each(|seed| Storm::new(plan, seed).play());
}

/// The same, and each worker misses more keys on its own connection than that remembers.
#[test]
fn what_connections_forget_lets_nothing_stale_in() {
    let plan = Plan { own_connections: true, scans: 30, steps: 60_000, ..PLAN };
    (1..=2).for_each(|seed| Storm::new(plan, seed).play());
}
