//! One run against one server: connect, start all tasks, watch the time, report.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::task::{JoinSet, LocalSet};

use super::database::Database;
use super::link::Link;
use super::options::{StaleOptions, Target};
use super::pool::Pool;
use super::report::{Measured, Tally};
use super::roles::{Reader, Requests, Scene, flush, write};
use super::timer::Timer;
use super::value::Names;
use super::workload::{Connections, Order, Workload};
use crate::bench::connection::Fault;
use crate::bench::run::Failure;
use crate::bench::worker::share;
use crate::clock::{Clock, wall};

/// The progress of a run, reported once a second.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub seconds: u64,
    /// The counts so far.
    pub tally: Tally,
}

/// A run in progress.
struct Run<'a> {
    is_cut_short: &'a AtomicBool,
    players: JoinSet<Result<Infallible, Fault>>,
    progress: &'a mut dyn FnMut(Progress),
    scene: Rc<Scene>,
}

/// Tests one server. An interrupted run returns the results up to then.
///
/// # Errors
/// If the server cannot be reached, stops answering, or sends something that is not an answer.
pub fn run(
    options: &StaleOptions,
    target: &Target,
    is_cut_short: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<Measured, Failure> {
    let play = async {
        let timer = Timer::new(Clock::system())?;
        let scene = Rc::new(Scene::new(options, target, timer));
        let mut run = Run { is_cut_short, players: JoinSet::new(), progress, scene };
        run.cast(target).await?;
        run.measure(options, target).await
    };
    let measured = match Builder::new_current_thread().enable_io().build() {
        Ok(runtime) => LocalSet::new().block_on(&runtime, play),
        Err(error) => Err(error.into()),
    };
    measured.map_err(|fault| Failure { fault, server: target.server.clone() })
}

impl Scene {
    fn new(options: &StaleOptions, target: &Target, timer: Timer) -> Scene {
        let workload = options.workload();
        let run = wall().as_nanos() as u64 ^ u64::from(std::process::id()) << 48;
        let lives = (options.warm_up + options.duration).as_secs() + SPARE_SECONDS;
        Scene {
            database: RefCell::new(Database::new(workload.keys)),
            leases: target.leases,
            names: Names::new(run),
            requests: Cell::default(),
            seed: options.seed,
            tally: RefCell::default(),
            timer,
            ttl: if lives > TTL_SECONDS_MAX { 0 } else { lives as u32 },
            workload,
        }
    }
}

impl Run<'_> {
    /// Connects all workers and writers, then runs them.
    async fn cast(&mut self, target: &Target) -> Result<(), Fault> {
        let (scene, addresses) = (&self.scene, target.server.addresses()?);
        let Workload { connections, workers, .. } = scene.workload;
        let connect = async |size, order, from| {
            Pool::connect(size, order, &addresses, from, target.server.dialect).await.map(Rc::new)
        };
        let apart = connect(WRITER_CONNECTIONS, Order::Lifo, None).await?;
        let mut readers = Vec::new();
        let mut writers = Rc::clone(&apart);
        for address in 0..scene.workload.addresses {
            let (from, count) = (self.local(address), share(workers, scene.workload.addresses, address));
            let pools = match connections {
                Connections::Own => {
                    let mut pools = Vec::with_capacity(count);
                    for _ in 0..count {
                        pools.push(connect(1, Order::Lifo, from).await?);
                    }
                    pools
                }
                Connections::Pool { order, size } => {
                    let pool = connect(size, order, from).await?;
                    if address == 0 && !scene.workload.writers_apart {
                        writers = Rc::clone(&pool);
                    }
                    vec![pool; count]
                }
            };
            readers.extend(pools);
        }
        self.play(readers, writers, apart);
        Ok(())
    }

    fn play(&mut self, readers: Vec<Rc<Pool>>, writers: Rc<Pool>, apart: Rc<Pool>) {
        let scene = &self.scene;
        for (nth, pool) in readers.into_iter().enumerate() {
            self.players.spawn_local(Reader::new(scene, pool, nth).play());
        }
        self.players.spawn_local(write(Rc::clone(scene), writers));
        if let Some(seconds) = scene.workload.flush {
            self.players.spawn_local(flush(Rc::clone(scene), apart, seconds));
        }
        let scene = Rc::clone(scene);
        self.players.spawn_local(async move { Ok(scene.timer.drive().await?) });
    }

    /// The local address with this index, if there are several.
    fn local(&self, address: usize) -> Option<IpAddr> {
        let last = u8::try_from(address + 2).expect("there are at most 200 addresses");
        (self.scene.workload.addresses > 1).then(|| Ipv4Addr::new(127, 0, 0, last).into())
    }

    async fn measure(mut self, options: &StaleOptions, target: &Target) -> Result<Measured, Fault> {
        let server = &target.server;
        let mut link = Link::connect(&server.addresses()?, None, server.dialect).await?;
        let from = self.scene.timer.now() + options.warm_up.as_nanos() as u64;
        self.watch(from).await?;
        let refused_before = self.refusals(&mut link).await?;
        self.scene.tally.take();
        self.scene.timer.take_lateness();
        let start = self.scene.timer.now();
        self.watch(start + options.duration.as_nanos() as u64).await?;
        let (nanos, tally) = (self.scene.timer.now() - start, *self.scene.tally.borrow());
        let late_nanos = self.scene.timer.take_lateness();
        let refused = self.refusals(&mut link).await?;
        let refused_by_server = refused.zip(refused_before).map(|(all, before)| all.saturating_sub(before));
        Ok(Measured { nanos, late_nanos, refused_by_server, tally })
    }

    /// Refused fills by the server's statistics. A stalled server is not asked when the run is interrupted.
    async fn refusals(&self, link: &mut Link) -> Result<Option<u64>, Fault> {
        if self.is_cut_short() {
            return Ok(None);
        }
        tokio::select! {
            refused = link.refusals() => refused,
            () = self.scene.timer.sleep(SILENCE_SECONDS_MAX * NANOS_PER_SECOND) => {
                Err(Fault::Silent { seconds: SILENCE_SECONDS_MAX })
            }
        }
    }

    /// Runs the tasks until that moment.
    async fn watch(&mut self, end: u64) -> Result<(), Fault> {
        let timer = &self.scene.timer;
        let (start, mut silence) = (timer.now(), Silence::default());
        let mut seconds = 0;
        while timer.now() < end && !self.is_cut_short() {
            let look = (timer.now() + LOOK_NANOS).min(end);
            tokio::select! {
                Some(ended) = self.players.join_next() => {
                    let Err(fault) = ended.expect("players do not panic");
                    return Err(fault);
                }
                () = timer.sleep_until(look) => {}
            }
            let now = timer.now();
            silence.listen(self.scene.requests.get(), now)?;
            if (now - start) / NANOS_PER_SECOND > seconds {
                seconds = (now - start) / NANOS_PER_SECOND;
                (self.progress)(Progress { seconds, tally: *self.scene.tally.borrow() });
            }
        }
        Ok(())
    }

    fn is_cut_short(&self) -> bool {
        self.is_cut_short.load(Ordering::Relaxed)
    }
}

/// Since when a server has answered nothing despite open requests.
#[derive(Default)]
struct Silence {
    answered: u64,
    since: u64,
}

impl Silence {
    fn listen(&mut self, requests: Requests, now: u64) -> Result<(), Fault> {
        let Requests { sent, answered } = requests;
        if sent == answered || answered != self.answered || self.since == 0 {
            *self = Silence { answered, since: now };
        }
        let seconds = (now - self.since) / NANOS_PER_SECOND;
        if seconds < SILENCE_SECONDS_MAX { Ok(()) } else { Err(Fault::Silent { seconds }) }
    }
}

/// How often the run checks whether it must end early.
const LOOK_NANOS: u64 = Duration::from_millis(50).as_nanos() as u64;
const NANOS_PER_SECOND: u64 = 1_000_000_000;
const SILENCE_SECONDS_MAX: u64 = 10;
/// Values outlive their run by this.
const SPARE_SECONDS: u64 = 60;
/// Servers take longer times for dates.
const TTL_SECONDS_MAX: u64 = 30 * 24 * 3600;
/// The connections of writers that share no pool with readers.
const WRITER_CONNECTIONS: usize = 16;
