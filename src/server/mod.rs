//! Sockets and tasks around the heart: accept, read, execute, write.
//!
//! One thread accepts and keeps house; each worker thread runs a current-thread runtime of its own, in which every
//! connection is one task. Nothing is handed from task to task but a new connection.
//!
//! Deliberately absent: UDP (memcached turned it off after the amplification attacks of 2018) and the binary protocol.

mod connection;
mod listener;
pub mod logging;
mod options;
pub mod process;
mod settings;
mod suboptions;
mod tls;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, mpsc, watch};

use crate::cache::Cache;
use crate::clock::{Clock, Now};
use crate::command::Rules;
use crate::metrics::{Metrics, Prefixes};

use self::tls::Tls;

pub use self::listener::Listeners;
pub use self::options::Options;
pub use self::suboptions::Suboption;
pub use self::tls::{Security, TlsOption, TlsSettings, Verify};

/// A running server.
pub struct Server {
    addresses: Vec<SocketAddr>,
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
    stop: watch::Sender<bool>,
    tls: Option<Tls>,
}

impl Server {
    /// Binds what `options` ask for, and serves it on threads of its own.
    ///
    /// # Errors
    /// If a socket cannot be bound, a certificate not be used, or a thread or runtime not be made.
    pub fn start(options: Options) -> io::Result<Server> {
        Server::serve(Listeners::bind(&options)?, options)
    }

    /// Serves listeners that are bound already.
    ///
    /// # Errors
    /// If a thread or runtime cannot be made.
    pub fn serve(mut listeners: Listeners, options: Options) -> io::Result<Server> {
        let addresses = listeners.addresses();
        let clock = Clock::system();
        let mut metrics = Metrics::new(options.threads, options.connections.into());
        metrics.prefixes = Prefixes::new(options.prefix_delimiter(), options.delimiter.is_some());
        metrics.settings = settings::settings(&options);
        metrics.usage = process::usage;
        metrics.certificates_read =
            listeners.tls.as_ref().map(|_| clock.now().seconds()).map(u64::from).map(AtomicU64::new);
        metrics.verbosity.store(options.verbose.into(), Ordering::Relaxed);
        for (number, connection) in listeners.connections(clock.now()) {
            metrics.open.open(number, Arc::new(connection));
        }
        let service = Arc::new(Service {
            binary: Once::new(),
            cache: Cache::new(options.cache()),
            clock,
            freed: Notify::new(),
            idle: options.idle(),
            metrics: Arc::new(metrics),
            refuses_when_crowded: options.refuses_when_crowded(),
            requests_per_turn: options.requests_per_event,
            rules: options.rules(),
            stop: watch::Sender::new(false),
            tls: listeners.tls.take(),
        });
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
        Ok(Server { addresses, service, threads })
    }

    /// The first TCP address it listens on.
    ///
    /// # Panics
    /// If it was started without TCP.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Waits until a client has asked it to stop.
    pub async fn stopped(&self) {
        // An error would mean that the sender is gone, and it lives in `self`.
        let _ = self.service.stop.subscribe().wait_for(|stop| *stop).await;
    }

    /// Answers what was read, waits for nobody, and is down when this returns.
    pub fn stop(self) {
        self.service.stop.send_replace(true);
        for thread in self.threads {
            thread.join().expect("threads of a server do not panic");
        }
    }
}

impl Service {
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

    /// Resolves once the server is to stop.
    async fn stopping(&self) {
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }
}

/// Gives memory of expired and flushed items back, step by step, so that others work between the steps.
async fn keep_house(service: &Service) {
    let sweep = async {
        loop {
            while service.cache.sweep(service.now()) {
                tokio::task::yield_now().await;
            }
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
