//! Sockets and tasks around the heart: accept, read, execute, write.
//!
//! One thread accepts and keeps house; each worker thread runs a current-thread runtime of its own, in which every
//! connection is one task. Nothing is handed from task to task but a new connection.
//!
//! Deliberately absent: UDP (memcached turned it off after the amplification attacks of 2018) and the binary protocol.

mod addresses;
mod administration;
mod connection;
mod keep;
mod listener;
pub mod logging;
mod options;
mod policies;
pub mod process;
mod settings;
mod suboptions;
mod tls;
mod view;
mod worker;

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, mpsc, watch};

use crate::cache::{Cache, Policies};
use crate::clock::{self, Clock, Now};
use crate::command::{self, Rules, Users};
use crate::metrics::{Metrics, Prefixes, Samples, Watchers};
use crate::protocol::Shutdown;

use self::keep::{Kept, Unfit};
use self::tls::Tls;

pub use self::administration::AdminOptions;
pub use self::keep::probe as probe_memory_file;
pub use self::listener::Listeners;
pub use self::options::{MEMORY_MIN, Options, read_users};
pub use self::policies::{ImplicitLeases, PolicyOptions};
pub use self::suboptions::Suboption;
pub use self::tls::{Security, TlsOption, TlsSettings, Verify};
pub use self::view::View;

/// A running server.
pub struct Server {
    addresses: Vec<SocketAddr>,
    /// Where a graceful stop leaves the items.
    memory_file: Option<PathBuf>,
    /// Held until the process ends: whoever comes next waits until the file is whole.
    _memory_lock: Option<File>,
    service: Arc<Service>,
    threads: Vec<JoinHandle<()>>,
}

/// What all threads of a server share.
struct Service {
    /// The first client that speaks the binary protocol is told of in the log.
    binary: Once,
    cache: Cache,
    clock: Clock,
    /// A connection has ended.
    freed: Notify,
    /// After so long without a byte from or to the peer a connection is closed.
    idle: Option<Duration>,
    metrics: Arc<Metrics>,
    /// Whether a connection too many is told so; otherwise it waits to be accepted.
    refuses_when_crowded: bool,
    /// After so many requests in one go a connection lets others have their turn.
    requests_per_turn: u32,
    rules: Rules,
    stop: watch::Sender<Option<Shutdown>>,
    tls: Option<Tls>,
    /// Who may come in, if not everybody may.
    users: Option<Arc<Mutex<Users>>>,
}

impl Server {
    /// Binds what `options` ask for, and serves it on threads of its own.
    ///
    /// # Errors
    /// If a socket cannot be bound, a certificate not be used, or a thread or runtime not be made.
    pub fn start(options: Options) -> io::Result<Server> {
        let users = options.users()?;
        Server::serve(Listeners::bind(&options)?, users, options)
    }

    /// Serves listeners that are bound already.
    ///
    /// # Errors
    /// If a thread or runtime cannot be made.
    pub fn serve(mut listeners: Listeners, users: Option<Users>, options: Options) -> io::Result<Server> {
        let addresses = listeners.addresses();
        let clock = Clock::system();
        let memory_lock = options.memory_file.as_deref().map(keep::hold).transpose()?;
        let (cache, memory_file) = resume(&options, clock.now())?;
        let mut metrics = Metrics::new(options.threads, options.connections.into());
        metrics.prefixes = Prefixes::new(options.prefix_delimiter(), options.delimiter.is_some());
        metrics.samples = options.admin.address.map(|_| Samples::default());
        metrics.settings = settings::settings(&options);
        metrics.usage = process::usage;
        metrics.watchers = Watchers::new(options.watcher_bytes(), clock::wall);
        metrics.certificates_read =
            listeners.tls.as_ref().map(|_| clock.now().seconds()).map(u64::from).map(AtomicU64::new);
        metrics.verbosity.store(options.verbose.into(), Ordering::Relaxed);
        for connection in listeners.connections(clock.now()) {
            metrics.open.open(Arc::new(connection));
        }
        let service = Service {
            tls: listeners.tls.take(),
            users: users.map(|users| Arc::new(Mutex::new(users))),
            ..Service::new(cache, clock, metrics, &options)
        };
        let service = Arc::new(service);
        let mut threads = Vec::new();
        let mut workers = Vec::new();
        for index in 0..options.threads {
            let (sender, accepted) = mpsc::unbounded_channel();
            let (runtime, service) = (runtime()?, Arc::clone(&service));
            let work = move || runtime.block_on(worker::work(service, index, accepted));
            threads.push(thread::Builder::new().name(format!("worker-{index}")).spawn(work)?);
            workers.push(sender);
        }
        let (runtime, keeper) = (runtime()?, Arc::clone(&service));
        let keep = move || {
            runtime.block_on(async {
                tokio::join!(listener::accept(listeners, &keeper, workers), keep_house(&keeper));
            });
        };
        threads.push(thread::Builder::new().name("listener".to_owned()).spawn(keep)?);
        Ok(Server { addresses, memory_file, _memory_lock: memory_lock, service, threads })
    }

    /// The first TCP address it listens on.
    ///
    /// # Panics
    /// If it was started without TCP.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// What others see of it.
    pub fn view(&self) -> View {
        View::new(&self.service)
    }

    /// Waits until a client has asked it to stop, and how.
    pub async fn stopped(&self) -> Shutdown {
        let mut stop = self.service.stop.subscribe();
        let asked = stop.wait_for(Option::is_some).await.expect("the sender lives in this server");
        asked.expect("that is what was waited for")
    }

    /// Lets others in from now on, if not everybody may come in. Who is in stays.
    pub fn admit(&self, users: Users) {
        if let Some(admitted) = &self.service.users {
            *admitted.lock() = users;
        }
    }

    /// From now on keys are under these policies.
    pub fn decide(&self, policies: Policies) {
        self.service.cache.set_policies(policies);
    }

    /// Answers what was read, waits for nobody, and is down when this returns.
    pub fn stop(mut self) {
        self.join();
    }

    /// As [`Server::stop`], and leaves its items for the next one, if it was started with `-e`.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn stop_gracefully(mut self) -> io::Result<()> {
        self.join();
        if let Some(path) = &self.memory_file {
            let items = keep::save(&self.service.cache, path, self.service.now())?;
            tracing::info!(items, "kept in {}", path.display());
        }
        Ok(())
    }

    fn join(&mut self) {
        self.service.stop.send_replace(Some(Shutdown::AtOnce));
        for thread in self.threads.drain(..) {
            thread.join().expect("threads of a server do not panic");
        }
    }
}

impl Service {
    /// What serves everybody, without TLS.
    fn new(cache: Cache, clock: Clock, metrics: Metrics, options: &Options) -> Service {
        Service {
            binary: Once::new(),
            cache,
            clock,
            freed: Notify::new(),
            idle: options.idle(),
            metrics: Arc::new(metrics),
            refuses_when_crowded: options.refuses_when_crowded(),
            requests_per_turn: options.requests_per_event,
            rules: options.rules(),
            stop: watch::Sender::new(None),
            tls: None,
            users: None,
        }
    }

    fn now(&self) -> Now {
        self.clock.now()
    }

    /// A connection has ended: another one may be accepted.
    fn left(&self) {
        self.metrics.connections.fetch_sub(1, Ordering::Relaxed);
        self.freed.notify_waiters();
    }

    fn is_crowded(&self) -> bool {
        self.metrics.connections.load(Ordering::Relaxed) >= self.metrics.connections_max
    }

    /// # Errors
    /// If TLS is off, or what is in the files cannot be used; then the certificates stay as they are.
    fn refresh_certificates(&self) -> io::Result<()> {
        let tls = self.tls.as_ref().ok_or(io::Error::other("TLS is not enabled"))?;
        tls.reload()?;
        if let Some(read) = &self.metrics.certificates_read {
            read.store(self.now().seconds().into(), Ordering::Relaxed);
        }
        Ok(())
    }

    fn is_stopping(&self) -> bool {
        self.stop.borrow().is_some()
    }

    /// Resolves once the server is to stop.
    async fn stopping(&self) {
        let _ = self.stop.subscribe().wait_for(Option::is_some).await;
    }
}

/// A cache with what a former server has left in the file of `-e`, and that file, if it may be written again.
fn resume(options: &Options, now: Now) -> io::Result<(Cache, Option<PathBuf>)> {
    let Some(path) = &options.memory_file else { return Ok((Cache::new(options.cache()), None)) };
    keep::probe(path)?;
    let unfit = match keep::load(path, options.cache(), options.restart_max_gap(), now) {
        Ok((cache, kept)) => {
            let Kept { gap, items } = kept;
            let gap = gap.map_or("unknown, for the clock went back".to_owned(), |gap| format!("{gap:?}"));
            tracing::info!(items, gap, "loaded from {}; what was deleted meanwhile is not", path.display());
            return Ok((cache, Some(path.clone())));
        }
        Err(unfit) => unfit,
    };
    tell_unfit(&unfit, path);
    let is_anothers = matches!(unfit, Unfit::Foreign | Unfit::Unreadable(_));
    Ok((Cache::new(options.cache()), (!is_anothers).then(|| path.clone())))
}

fn tell_unfit(unfit: &Unfit, path: &Path) {
    let path = path.display();
    match unfit {
        Unfit::Damaged => tracing::error!("{path} is damaged: beginning with an empty cache"),
        Unfit::Foreign => {
            tracing::error!(
                "{path} is no file of ours: beginning with an empty cache, and keeping nothing at the end"
            );
        }
        Unfit::Late(gap) => {
            tracing::warn!(?gap, "{path} is older than --restart-max-gap: beginning with an empty cache");
        }
        Unfit::Missing => tracing::info!("{path} is not there yet: beginning with an empty cache"),
        Unfit::Unreadable(error) => {
            tracing::error!(
                "{path} cannot be read: {error}; beginning with an empty cache, and keeping nothing at the end"
            );
        }
    }
}

/// Gives memory of expired and flushed items back, step by step, so that others work between the steps.
async fn keep_house(service: &Service) {
    let sweep = async {
        loop {
            while service.cache.sweep(service.now()) {
                tokio::task::yield_now().await;
            }
            // What a lower limit has thrown away has no command that would tell it.
            command::tell_evicted(&service.cache, &service.metrics, service.now());
            tokio::time::sleep(SWEEP_EVERY).await;
        }
    };
    tokio::select! {
        () = sweep => {}
        () = service.stopping() => {}
    }
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

const SWEEP_EVERY: Duration = Duration::from_millis(250);
