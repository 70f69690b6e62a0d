//! The roles of a run: workers that read through the cache, and writers that commit and invalidate.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Exp};
use tokio::task::JoinSet;

use super::database::Database;
use super::link::{Lookup, Scope, Store, StoreOutcome};
use super::pool::Pool;
use super::report::Tally;
use super::timer::Timer;
use super::value::{Names, Stamp, group, members};
use super::workload::Invalidate;
use super::workload::Workload;
use crate::bench::connection::Fault;
use crate::bench::popularity::Draw;

/// The state that all tasks of a run share. They run on one thread.
pub struct Shared {
    pub database: RefCell<Database>,
    /// Whether fills carry the token of a lease.
    pub leases: bool,
    pub names: Names,
    pub requests: Cell<Requests>,
    pub seed: u64,
    pub tally: RefCell<Tally>,
    pub timer: Timer,
    /// Seconds until values expire.
    pub ttl: u32,
    pub workload: Workload,
}

/// The numbers of sent and answered requests.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Requests {
    pub sent: u64,
    pub answered: u64,
}

/// A worker: it reads, loads missing values, and stores them.
pub struct Reader {
    draw: Draw,
    pool: Rc<Pool>,
    random: SmallRng,
    shared: Rc<Shared>,
}

/// The way to store a missing value.
#[derive(Clone, Copy)]
enum Fill {
    /// Does not store: another reader does.
    No,
    Plain,
    Token(u64),
}

impl Shared {
    fn random(&self, task: u64) -> SmallRng {
        SmallRng::seed_from_u64(self.seed.wrapping_add(task))
    }

    fn draw(&self) -> Draw {
        self.workload.popularity.draw(self.workload.keys, 0)
    }

    /// Waits for the reply to a request.
    async fn ask<T>(&self, request: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let Requests { sent, answered } = self.requests.get();
        self.requests.set(Requests { sent: sent + 1, answered });
        let reply = request.await;
        let Requests { sent, answered } = self.requests.get();
        self.requests.set(Requests { sent, answered: answered + 1 });
        reply
    }

    fn count(&self, change: impl FnOnce(&mut Tally)) {
        change(&mut self.tally.borrow_mut());
    }

    /// Counts whether a value belongs to the key and is current.
    fn count_hit(&self, key: u64, bytes: &[u8], sent_at: u64) {
        let database = self.database.borrow();
        match Stamp::decode(bytes) {
            Some(stamp) if stamp.key == key && stamp.version <= database.committed(key) => {
                let late = database.staleness(key, stamp.version, sent_at);
                self.count(|tally| tally.hit(late));
            }
            Some(_) | None => self.count(|tally| tally.wrong_values += 1),
        }
    }

    async fn store(&self, pool: &Pool, stamp: Stamp, token: Option<u64>) -> Result<StoreOutcome, Fault> {
        let tag = (self.workload.invalidate == Invalidate::Tag).then(|| self.names.tag(group(stamp.key)));
        let (key, value) = (self.names.key(stamp.key), stamp.encode(&self.workload.value_bytes));
        let store = Store { key: &key, tag: tag.as_deref(), token, ttl: self.ttl, value: &value };
        let outcome = self.ask(pool.take().await.store(&store)).await?;
        self.count(|tally| match outcome {
            StoreOutcome::Error => tally.errors += 1,
            StoreOutcome::Refused => tally.stores_refused += 1,
            StoreOutcome::Stored => {}
        });
        Ok(outcome)
    }

    /// Invalidates a version of a key, and all older ones.
    async fn invalidate(&self, pool: &Pool, key: u64, version: u64) -> Result<(), Fault> {
        let (names, group) = (&self.names, group(key));
        let (name, scope): (_, fn(&str) -> Scope) = match self.workload.invalidate {
            Invalidate::Delete => (names.key(key), |name| Scope::Key(name)),
            Invalidate::Noreply => (names.key(key), |name| Scope::KeyNoreply(name)),
            Invalidate::Prefix => (names.prefix(group), |name| Scope::Prefix(name)),
            Invalidate::Tag => (names.tag(group), |name| Scope::Tag(name)),
        };
        let mut link = pool.take().await;
        let versions = self.versions(key, version);
        let is_done = self.ask(link.invalidate(scope(&name))).await?;
        self.count(|tally| if is_done { tally.deletes += 1 } else { tally.errors += 1 });
        if is_done {
            self.promise(versions);
        }
        Ok(())
    }

    /// The keys and versions that an invalidation sent now invalidates.
    fn versions(&self, key: u64, version: u64) -> Vec<(u64, u64)> {
        match self.workload.invalidate {
            Invalidate::Delete | Invalidate::Noreply => vec![(key, version)],
            Invalidate::Prefix | Invalidate::Tag => {
                let database = self.database.borrow();
                members(group(key), self.workload.keys).map(|key| (key, database.committed(key))).collect()
            }
        }
    }

    fn promise(&self, versions: impl IntoIterator<Item = (u64, u64)>) {
        let (mut database, now) = (self.database.borrow_mut(), self.timer.now());
        versions.into_iter().for_each(|(key, version)| database.promise(key, version, now));
    }
}

impl Reader {
    /// The nth worker.
    pub fn new(shared: &Rc<Shared>, pool: Rc<Pool>, nth: usize) -> Reader {
        Reader { draw: shared.draw(), pool, random: shared.random(nth as u64 + 1), shared: Rc::clone(shared) }
    }

    /// Reads until an error occurs.
    pub async fn run(mut self) -> Result<Infallible, Fault> {
        let start = self.random.random_range(0..START_NANOS);
        self.shared.timer.sleep(start).await;
        loop {
            self.read_and_load().await?;
            let think = self.shared.workload.think_nanos(&mut self.random);
            self.shared.timer.sleep(think).await;
        }
    }

    async fn read_and_load(&mut self) -> Result<(), Fault> {
        let key = self.draw.next(&mut self.random);
        match self.read(key).await? {
            Some(fill) => self.load(key, fill).await,
            None => Ok(()),
        }
    }

    /// Reads a key; on a miss, returns the way to store it.
    async fn read(&self, key: u64) -> Result<Option<Fill>, Fault> {
        let shared = &*self.shared;
        let name = shared.names.key(key);
        let mut link = self.pool.take().await;
        // From here to the request nothing else happens.
        let sent_at = shared.timer.now();
        let fill = match shared.ask(link.get(&name, shared.leases)).await? {
            Lookup::Busy => Some(Fill::No),
            Lookup::Error => {
                shared.count(|tally| tally.errors += 1);
                return Ok(None);
            }
            Lookup::Hit(bytes) => {
                shared.count_hit(key, bytes, sent_at);
                None
            }
            Lookup::Miss(None) => Some(Fill::Plain),
            Lookup::Miss(Some(token)) => Some(Fill::Token(token)),
        };
        shared.count(|tally| {
            tally.reads += 1;
            tally.leased_by_others += u64::from(matches!(fill, Some(Fill::No)));
        });
        Ok(fill)
    }

    /// Loads a value from the database, which reads it at a random moment within the load time, and stores
    /// it.
    async fn load(&mut self, key: u64, fill: Fill) -> Result<(), Fault> {
        let shared = &*self.shared;
        let nanos = shared.workload.load_nanos(&mut self.random);
        let end = shared.timer.now() + nanos;
        let query = (nanos as f64 * self.random.random::<f64>()) as u64;
        shared.timer.sleep(query).await;
        let version = shared.database.borrow().committed(key);
        shared.timer.sleep_until(end).await;
        shared.count(|tally| tally.loads += 1);
        if shared.workload.never.draw(&mut self.random) || shared.workload.never_stores(key) {
            return Ok(());
        }
        let token = match fill {
            Fill::No => return Ok(()),
            Fill::Plain => None,
            Fill::Token(token) => Some(token),
        };
        let noise = if shared.workload.noise { self.random.random() } else { 0 };
        shared.count(|tally| tally.stores += 1);
        shared.store(&self.pool, Stamp { key, version, noise }, token).await?;
        Ok(())
    }
}

/// Writes at random times until an error occurs. Writes do not wait for each other.
pub async fn write(shared: Rc<Shared>, pool: Rc<Pool>) -> Result<Infallible, Fault> {
    let (mut random, mut draw, workload) = (shared.random(0), shared.draw(), &shared.workload);
    let gap = Exp::new(workload.deletes / f64::from(workload.burst)).expect("the rate is above 0");
    let (mut due, mut writes) = (shared.timer.now() as f64, JoinSet::new());
    loop {
        due += gap.sample(&mut random) * NANOS_PER_SECOND;
        shared.timer.sleep_until(due as u64).await;
        let key = draw.next(&mut random);
        for nth in 0..u64::from(workload.burst) {
            let (shared, pool) = (Rc::clone(&shared), Rc::clone(&pool));
            let version = shared.database.borrow_mut().commit(key);
            if workload.through.draw(&mut random) {
                writes.spawn_local(write_through(shared, pool, Stamp { key, version, noise: 0 }));
            } else {
                let pause = WRITE_NANOS + nth * BURST_NANOS;
                writes.spawn_local(invalidate(shared, pool, key, version, pause));
            }
        }
        while let Some(ended) = writes.try_join_next() {
            ended.expect("writers do not panic")?;
        }
        while writes.len() > WRITES_MAX {
            writes.join_next().await.expect("some are left").expect("writers do not panic")?;
        }
    }
}

async fn invalidate(
    shared: Rc<Shared>,
    pool: Rc<Pool>,
    key: u64,
    version: u64,
    pause: u64,
) -> Result<(), Fault> {
    shared.timer.sleep(pause).await;
    shared.invalidate(&pool, key, version).await
}

async fn write_through(shared: Rc<Shared>, pool: Rc<Pool>, stamp: Stamp) -> Result<(), Fault> {
    shared.timer.sleep(WRITE_NANOS).await;
    shared.store(&pool, stamp, None).await?;
    Ok(())
}

/// Flushes the whole server periodically.
pub async fn flush(shared: Rc<Shared>, pool: Rc<Pool>, seconds: f64) -> Result<Infallible, Fault> {
    loop {
        shared.timer.sleep((seconds * NANOS_PER_SECOND) as u64).await;
        let mut link = pool.take().await;
        let versions = shared.database.borrow().all_committed();
        if shared.ask(link.invalidate(Scope::All)).await? {
            shared.promise((0..).zip(versions));
        } else {
            shared.count(|tally| tally.errors += 1);
        }
    }
}

/// The time between two writes of a burst.
const BURST_NANOS: u64 = 200_000;
const NANOS_PER_SECOND: f64 = 1e9;
/// Workers start within this time.
const START_NANOS: u64 = 10_000_000;
/// The time between a commit and its invalidation.
const WRITE_NANOS: u64 = 300_000;
/// The limit on concurrent writes; if the server is too slow, later ones wait.
const WRITES_MAX: usize = 10_000;
