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
use super::roles::{Reader, Requests, Shared, flush, write};
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
    tasks: JoinSet<Result<Infallible, Fault>>,
    progress: &'a mut dyn FnMut(Progress),
    shared: Rc<Shared>,
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
    let work = async {
        let timer = Timer::new(Clock::system())?;
        let shared = Rc::new(Shared::new(options, target, timer));
        let mut run = Run { is_cut_short, tasks: JoinSet::new(), progress, shared };
        run.start(target).await?;
        run.measure(options, target).await
    };
    let measured = match Builder::new_current_thread().enable_io().build() {
        Ok(runtime) => LocalSet::new().block_on(&runtime, work),
        Err(error) => Err(error.into()),
    };
    measured.map_err(|fault| Failure { fault, server: target.server.clone() })
}

impl Shared {
    fn new(options: &StaleOptions, target: &Target, timer: Timer) -> Shared {
        let workload = options.workload();
        let run = wall().as_nanos() as u64 ^ u64::from(std::process::id()) << 48;
        let lives = (options.warm_up + options.duration).as_secs() + SPARE_SECONDS;
        Shared {
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
    async fn start(&mut self, target: &Target) -> Result<(), Fault> {
        let (shared, addresses) = (&self.shared, target.server.addresses()?);
        let Workload { connections, workers, .. } = shared.workload;
        let connect = async |size, order, from| {
            Pool::connect(size, order, &addresses, from, target.server.dialect).await.map(Rc::new)
        };
        let apart = connect(WRITER_CONNECTIONS, Order::Lifo, None).await?;
        let mut readers = Vec::new();
        let mut writers = Rc::clone(&apart);
        for address in 0..shared.workload.addresses {
            let (from, count) = (self.local(address), share(workers, shared.workload.addresses, address));
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
                    if address == 0 && !shared.workload.writers_apart {
                        writers = Rc::clone(&pool);
                    }
                    vec![pool; count]
                }
            };
            readers.extend(pools);
        }
        self.spawn(readers, writers, apart);
        Ok(())
    }

    fn spawn(&mut self, readers: Vec<Rc<Pool>>, writers: Rc<Pool>, apart: Rc<Pool>) {
        let shared = &self.shared;
        for (nth, pool) in readers.into_iter().enumerate() {
            self.tasks.spawn_local(Reader::new(shared, pool, nth).run());
        }
        self.tasks.spawn_local(write(Rc::clone(shared), writers));
        if let Some(seconds) = shared.workload.flush {
            self.tasks.spawn_local(flush(Rc::clone(shared), apart, seconds));
        }
        let shared = Rc::clone(shared);
        self.tasks.spawn_local(async move { Ok(shared.timer.drive().await?) });
    }

    /// The local address with this index, if there are several.
    fn local(&self, address: usize) -> Option<IpAddr> {
        let last = u8::try_from(address + 2).expect("there are at most 200 addresses");
        (self.shared.workload.addresses > 1).then(|| Ipv4Addr::new(127, 0, 0, last).into())
    }

    async fn measure(mut self, options: &StaleOptions, target: &Target) -> Result<Measured, Fault> {
        let server = &target.server;
        let mut link = Link::connect(&server.addresses()?, None, server.dialect).await?;
        let from = self.shared.timer.now() + options.warm_up.as_nanos() as u64;
        self.watch(from).await?;
        let refused_before = self.refusals(&mut link).await?;
        self.shared.tally.take();
        self.shared.timer.take_lateness();
        let start = self.shared.timer.now();
        self.watch(start + options.duration.as_nanos() as u64).await?;
        let (nanos, tally) = (self.shared.timer.now() - start, *self.shared.tally.borrow());
        let late_nanos = self.shared.timer.take_lateness();
        let refused = self.refusals(&mut link).await?;
        let refused_by_server = refused.zip(refused_before).map(|(all, before)| all.saturating_sub(before));
        Ok(Measured { nanos, late_nanos, refused_by_server, tally })
    }

    /// Refused fills by the server's statistics. An interrupted run does not request them, because the
    /// server may have stalled.
    async fn refusals(&self, link: &mut Link) -> Result<Option<u64>, Fault> {
        if self.is_cut_short() {
            return Ok(None);
        }
        tokio::select! {
            refused = link.refusals() => refused,
            () = self.shared.timer.sleep(SILENCE_SECONDS_MAX * NANOS_PER_SECOND) => {
                Err(Fault::Silent { seconds: SILENCE_SECONDS_MAX })
            }
        }
    }

    /// Runs the tasks until that moment.
    async fn watch(&mut self, end: u64) -> Result<(), Fault> {
        let timer = &self.shared.timer;
        let (start, mut silence) = (timer.now(), Silence::default());
        let mut seconds = 0;
        while timer.now() < end && !self.is_cut_short() {
            let next_check = (timer.now() + CHECK_NANOS).min(end);
            tokio::select! {
                Some(ended) = self.tasks.join_next() => {
                    let Err(fault) = ended.expect("tasks do not panic");
                    return Err(fault);
                }
                () = timer.sleep_until(next_check) => {}
            }
            let now = timer.now();
            silence.check(self.shared.requests.get(), now)?;
            if (now - start) / NANOS_PER_SECOND > seconds {
                seconds = (now - start) / NANOS_PER_SECOND;
                (self.progress)(Progress { seconds, tally: *self.shared.tally.borrow() });
            }
        }
        Ok(())
    }

    fn is_cut_short(&self) -> bool {
        self.is_cut_short.load(Ordering::Relaxed)
    }
}

/// The time since which a server has answered nothing despite open requests.
#[derive(Default)]
struct Silence {
    answered: u64,
    since: u64,
}

impl Silence {
    fn check(&mut self, requests: Requests, now: u64) -> Result<(), Fault> {
        let Requests { sent, answered } = requests;
        if sent == answered || answered != self.answered || self.since == 0 {
            *self = Silence { answered, since: now };
        }
        let seconds = (now - self.since) / NANOS_PER_SECOND;
        if seconds < SILENCE_SECONDS_MAX { Ok(()) } else { Err(Fault::Silent { seconds }) }
    }
}

/// How often the run checks whether it must end early.
const CHECK_NANOS: u64 = Duration::from_millis(50).as_nanos() as u64;
const NANOS_PER_SECOND: u64 = 1_000_000_000;
const SILENCE_SECONDS_MAX: u64 = 10;
/// Values outlive their run by this.
const SPARE_SECONDS: u64 = 60;
/// Servers take longer times for dates.
const TTL_SECONDS_MAX: u64 = 30 * 24 * 3600;
/// The connections of writers that share no pool with readers.
const WRITER_CONNECTIONS: usize = 16;
