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
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};

use crate::cache::Cache;
use crate::clock::{Clock, Now};
use crate::command::Rules;
use crate::metrics::Metrics;

pub use self::listener::Listeners;
pub use self::options::Options;

/// A running server.
pub struct Server {
    addresses: Vec<SocketAddr>,
    service: Arc<Service>,
    threads: Vec<JoinHandle<()>>,
}

/// What all threads of a server share.
struct Service {
    cache: Cache,
    clock: Clock,
    /// After so long without a byte from or to the peer a connection is closed.
    idle: Option<Duration>,
    metrics: Arc<Metrics>,
    rules: Rules,
    stop: watch::Sender<bool>,
}

impl Server {
    /// Binds what `options` ask for, and serves it on threads of its own.
    ///
    /// # Errors
    /// If a socket cannot be bound, or a thread or runtime cannot be made.
    pub fn start(options: Options) -> io::Result<Server> {
        Server::serve(Listeners::bind(&options)?, options)
    }

    /// Serves listeners that are bound already.
    ///
    /// # Errors
    /// If a thread or runtime cannot be made.
    pub fn serve(listeners: Listeners, options: Options) -> io::Result<Server> {
        let addresses = listeners.addresses();
        let service = Arc::new(Service {
            cache: Cache::new(options.cache()),
            clock: Clock::system(),
            idle: options.idle(),
            metrics: Arc::new(Metrics::new(options.threads, options.connections.into())),
            rules: options.rules(),
            stop: watch::Sender::new(false),
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

    fn is_stopping(&self) -> bool {
        *self.stop.borrow()
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
