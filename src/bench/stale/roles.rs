//! The roles of a run: workers that read through the cache, and writers that commit and invalidate.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Exp};
use tokio::task::JoinSet;

use super::database::Database;
use super::link::{Covered, Lookup, Store, StoreOutcome};
use super::pool::Pool;
use super::report::Tally;
use super::timer::Timer;
use super::value::{Names, Stamp, group, members};
use super::workload::Invalidate;
use super::workload::Workload;
use crate::bench::connection::Fault;
use crate::bench::popularity::Draw;

/// The state that all tasks of a run share. They run on one thread.
pub struct Scene {
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
    scene: Rc<Scene>,
}

/// The way to store a missing value.
#[derive(Clone, Copy)]
enum Fill {
    /// Does not store: another reader does.
    No,
    Plain,
    Token(u64),
}

impl Scene {
    fn random(&self, player: u64) -> SmallRng {
        SmallRng::seed_from_u64(self.seed.wrapping_add(player))
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
    fn judge(&self, key: u64, bytes: &[u8], asked: u64) {
        let database = self.database.borrow();
        match Stamp::decode(bytes) {
            Some(stamp) if stamp.key == key && stamp.version <= database.committed(key) => {
                let late = database.staleness(key, stamp.version, asked);
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
        let (name, covered): (_, fn(&str) -> Covered) = match self.workload.invalidate {
            Invalidate::Delete => (names.key(key), |name| Covered::Key(name)),
            Invalidate::Noreply => (names.key(key), |name| Covered::KeyNoreply(name)),
            Invalidate::Prefix => (names.prefix(group), |name| Covered::Prefix(name)),
            Invalidate::Tag => (names.tag(group), |name| Covered::Tag(name)),
        };
        let mut link = pool.take().await;
        let versions = self.covered(key, version);
        let is_done = self.ask(link.invalidate(covered(&name))).await?;
        self.count(|tally| if is_done { tally.deletes += 1 } else { tally.errors += 1 });
        if is_done {
            self.promise(versions);
        }
        Ok(())
    }

    /// Keys and versions that an invalidation covers if it is sent now.
    fn covered(&self, key: u64, version: u64) -> Vec<(u64, u64)> {
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
    pub fn new(scene: &Rc<Scene>, pool: Rc<Pool>, nth: usize) -> Reader {
        Reader { draw: scene.draw(), pool, random: scene.random(nth as u64 + 1), scene: Rc::clone(scene) }
    }

    /// Reads until an error occurs.
    pub async fn play(mut self) -> Result<Infallible, Fault> {
        let start = self.random.random_range(0..START_NANOS);
        self.scene.timer.sleep(start).await;
        loop {
            self.turn().await?;
            let think = self.scene.workload.think_nanos(&mut self.random);
            self.scene.timer.sleep(think).await;
        }
    }

    async fn turn(&mut self) -> Result<(), Fault> {
        let key = self.draw.next(&mut self.random);
        match self.read(key).await? {
            Some(fill) => self.load(key, fill).await,
            None => Ok(()),
        }
    }

    /// Reads a key; on a miss, returns the way to store it.
    async fn read(&self, key: u64) -> Result<Option<Fill>, Fault> {
        let scene = &*self.scene;
        let name = scene.names.key(key);
        let mut link = self.pool.take().await;
        // From here to the request nothing else happens.
        let asked = scene.timer.now();
        let fill = match scene.ask(link.get(&name, scene.leases)).await? {
            Lookup::Busy => Some(Fill::No),
            Lookup::Error => {
                scene.count(|tally| tally.errors += 1);
                return Ok(None);
            }
            Lookup::Hit(bytes) => {
                scene.judge(key, bytes, asked);
                None
            }
            Lookup::Miss(None) => Some(Fill::Plain),
            Lookup::Miss(Some(token)) => Some(Fill::Token(token)),
        };
        scene.count(|tally| {
            tally.reads += 1;
            tally.leased_by_others += u64::from(matches!(fill, Some(Fill::No)));
        });
        Ok(fill)
    }

    /// Loads a value from the database, which reads it at a random moment within the load time, and stores
    /// it.
    async fn load(&mut self, key: u64, fill: Fill) -> Result<(), Fault> {
        let scene = &*self.scene;
        let nanos = scene.workload.load_nanos(&mut self.random);
        let end = scene.timer.now() + nanos;
        let query = (nanos as f64 * self.random.random::<f64>()) as u64;
        scene.timer.sleep(query).await;
        let version = scene.database.borrow().committed(key);
        scene.timer.sleep_until(end).await;
        scene.count(|tally| tally.loads += 1);
        if scene.workload.never.draw(&mut self.random) || scene.workload.never_stores(key) {
            return Ok(());
        }
        let token = match fill {
            Fill::No => return Ok(()),
            Fill::Plain => None,
            Fill::Token(token) => Some(token),
        };
        let noise = if scene.workload.noise { self.random.random() } else { 0 };
        scene.count(|tally| tally.stores += 1);
        scene.store(&self.pool, Stamp { key, version, noise }, token).await?;
        Ok(())
    }
}

/// Writes at random times until an error occurs. Writes do not wait for each other.
pub async fn write(scene: Rc<Scene>, pool: Rc<Pool>) -> Result<Infallible, Fault> {
    let (mut random, mut draw, workload) = (scene.random(0), scene.draw(), &scene.workload);
    let gap = Exp::new(workload.deletes / f64::from(workload.burst)).expect("the rate is above 0");
    let (mut due, mut writes) = (scene.timer.now() as f64, JoinSet::new());
    loop {
        due += gap.sample(&mut random) * NANOS_PER_SECOND;
        scene.timer.sleep_until(due as u64).await;
        let key = draw.next(&mut random);
        for nth in 0..u64::from(workload.burst) {
            let (scene, pool) = (Rc::clone(&scene), Rc::clone(&pool));
            let version = scene.database.borrow_mut().commit(key);
            if workload.through.draw(&mut random) {
                writes.spawn_local(write_through(scene, pool, Stamp { key, version, noise: 0 }));
            } else {
                let pause = WRITE_NANOS + nth * BURST_NANOS;
                writes.spawn_local(invalidate(scene, pool, key, version, pause));
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
    scene: Rc<Scene>,
    pool: Rc<Pool>,
    key: u64,
    version: u64,
    pause: u64,
) -> Result<(), Fault> {
    scene.timer.sleep(pause).await;
    scene.invalidate(&pool, key, version).await
}

async fn write_through(scene: Rc<Scene>, pool: Rc<Pool>, stamp: Stamp) -> Result<(), Fault> {
    scene.timer.sleep(WRITE_NANOS).await;
    scene.store(&pool, stamp, None).await?;
    Ok(())
}

/// Flushes the whole server periodically.
pub async fn flush(scene: Rc<Scene>, pool: Rc<Pool>, seconds: f64) -> Result<Infallible, Fault> {
    loop {
        scene.timer.sleep((seconds * NANOS_PER_SECOND) as u64).await;
        let mut link = pool.take().await;
        let versions = scene.database.borrow().all_committed();
        if scene.ask(link.invalidate(Covered::All)).await? {
            scene.promise((0..).zip(versions));
        } else {
            scene.count(|tally| tally.errors += 1);
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
