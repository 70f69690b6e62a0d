//! The socket server: accept, read, execute, write.
//!
//! One thread accepts connections and sweeps the cache. Each worker thread runs a current-thread runtime of
//! its own, in which every connection is one task. Only new connections pass from thread to thread.
//!
//! There is no UDP (memcached disabled it after the amplification attacks of 2018).

mod client_limits;
mod connection;
mod events;
mod fence_cost;
mod heartbeat;
mod invalidations;
mod listener;
mod origins;
mod permit;
mod receiving;
mod service;
mod shutdown;
mod tasks;
mod tls;
mod view;
mod worker;
mod workspace;

use std::future::pending;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

use self::fence_cost::FenceCost;
use self::service::Service;
use crate::cache::Policies;
use crate::clock;
use crate::command::{self, Users};
use crate::events::rule::Rules;
use crate::events::runner::Runner;
use crate::handover::{Completion, ControlSocket, Offer, Successor};
use crate::metrics::{Metrics, Prefixes, Samples, Watchers};
use crate::options::{self, Options};
use crate::process::{self, Inherited, systemd};
use crate::protocol::Shutdown;
use crate::shown::word;
use crate::snapshot::{Boot, SnapshotFile};

pub use self::listener::Listeners;
pub use self::view::View;

/// A running server.
pub struct Server {
    addresses: Vec<SocketAddr>,
    /// The socket where the next server asks for a handover.
    control: Option<ControlSocket>,
    /// The sources of events.
    events: Option<Runner>,
    snapshot_file: Option<SnapshotFile>,
    service: Arc<Service>,
    /// Duplicates for the next server.
    sockets: Vec<OwnedFd>,
    threads: Vec<JoinHandle<()>>,
}

/// A server that does not serve clients yet.
pub struct Prepared {
    addresses: Vec<SocketAddr>,
    control: Option<ControlSocket>,
    listeners: Listeners,
    options: Options,
    service: Arc<Service>,
    snapshot_file: Option<SnapshotFile>,
    sockets: Vec<OwnedFd>,
}

impl Prepared {
    /// A handle on the server.
    pub fn view(&self) -> View {
        View::new(&self.service)
    }

    /// Tries the sources of events, which may take seconds, and serves clients.
    ///
    /// # Errors
    /// If a thread or runtime cannot be created.
    pub fn serve(self) -> io::Result<Server> {
        let Prepared { addresses, control, listeners, options, service, snapshot_file, sockets } = self;
        let events = events::start(&service, options.policies.events())?;
        let mut threads = Vec::new();
        let mut workers = Vec::new();
        for index in 0..options.threads {
            let (sender, accepted) = mpsc::unbounded_channel();
            let (runtime, service) = (runtime()?, Arc::clone(&service));
            let work = move || runtime.block_on(worker::work(service, index, accepted));
            threads.push(thread::Builder::new().name(format!("worker-{index}")).spawn(work)?);
            workers.push(sender);
        }
        let (runtime, listening) = (runtime()?, Arc::clone(&service));
        let listen = move || {
            runtime.block_on(async {
                tokio::join!(
                    listener::accept(listeners, &listening, workers),
                    sweep_until_shutdown(&listening)
                );
            });
        };
        threads.push(thread::Builder::new().name("listener".to_owned()).spawn(listen)?);
        Ok(Server { addresses, control, events, snapshot_file, service, sockets, threads })
    }
}

impl Server {
    /// Binds the sockets that `options` ask for, and serves them on threads of its own.
    ///
    /// # Errors
    /// If a socket cannot be bound, a certificate or the memory file is unusable, or a thread or runtime
    /// cannot be created.
    pub fn start(options: Options) -> io::Result<Server> {
        let users = options.users()?;
        let listeners = Listeners::bind(&options, Inherited::default())?;
        Server::serve(Boot::resume(&options)?, listeners, users, options)
    }

    /// Serves bound listeners, with the cache of `boot`.
    ///
    /// # Errors
    /// If a thread or runtime cannot be created.
    pub fn serve(
        boot: Boot,
        listeners: Listeners,
        users: Option<Users>,
        options: Options,
    ) -> io::Result<Server> {
        Server::prepare(boot, listeners, users, options)?.serve()
    }

    /// Everything that comes before the sources of events are tried.
    ///
    /// # Errors
    /// If a socket cannot be duplicated.
    pub fn prepare(
        boot: Boot,
        mut listeners: Listeners,
        users: Option<Users>,
        options: Options,
    ) -> io::Result<Prepared> {
        let (addresses, sockets) = (listeners.addresses(), listeners.copies()?);
        let Boot { cache, clock, file: snapshot_file } = boot.start_serving(&options);
        let control = snapshot_file.as_ref().and_then(control);
        let mut metrics = Metrics::new(options.threads, options.connections.into());
        metrics.prefixes = Prefixes::new(options.prefix_delimiter(), options.delimiter.is_some());
        metrics.samples = options.admin.address.map(|_| Samples::default());
        metrics.receive_limit = options.receive_bytes() as u64;
        metrics.settings = options::settings(&options);
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
        Ok(Prepared { addresses, control, listeners, options, service, snapshot_file, sockets })
    }

    /// The first TCP address that the server listens on.
    ///
    /// # Panics
    /// If it was started without TCP.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// A handle on the server.
    pub fn view(&self) -> View {
        View::new(&self.service)
    }

    /// Waits until a client requests a shutdown; returns how to stop.
    pub async fn stopped(&self) -> Shutdown {
        self.service.shutdown.requested().await
    }

    /// Replaces the users, if authentication is required. Clients that have logged in stay connected.
    pub fn set_users(&self, users: Users) {
        if let Some(admitted) = &self.service.users {
            *admitted.lock() = users;
        }
    }

    /// Replaces the policies.
    pub fn set_policies(&self, policies: Policies) {
        self.service.cache.set_policies(policies);
    }

    /// Replaces the rules for events. Sources stay as they are.
    pub fn set_rules(&self, rules: Arc<Rules>) {
        if let Some(runner) = &self.events {
            runner.set_rules(rules);
        }
    }

    /// Reads the certificates again, if TLS is enabled; otherwise `None`. Open connections keep theirs.
    ///
    /// # Errors
    /// If a file is unusable; then the old certificates stay.
    pub fn reload_certificates(&self) -> Option<io::Result<()>> {
        self.service.tls.as_ref().map(|_| self.service.refresh_certificates())
    }

    /// Answers the requests that were read, and returns when the server is down.
    pub fn stop(mut self) {
        self.join();
    }

    /// As [`Server::stop`], and writes a snapshot, if the server was started with `-e`.
    ///
    /// # Errors
    /// If the snapshot cannot be written.
    pub fn stop_gracefully(mut self) -> io::Result<()> {
        self.join();
        match &self.snapshot_file {
            Some(file) => {
                file.save(&self.service.cache, &self.service.clock, None, systemd::extend_timeout).map(|_| ())
            }
            None => Ok(()),
        }
    }

    /// Resolves once another process takes over; then call [`Server::hand_over`]. The process receives all
    /// sockets, including that of `--admin`, and the period of systemd's watchdog.
    pub async fn successor(&self, admin: Option<&TcpListener>, watchdog: Option<Duration>) -> Successor {
        let Some(control) = &self.control else { return pending().await };
        let sockets = self.sockets.iter().map(AsFd::as_fd).chain(admin.map(AsFd::as_fd)).collect();
        let file = self.snapshot_file.as_ref().expect("the control socket is next to the memory file");
        let may = || file.has_room(&self.service.cache);
        match control.successor(&Offer { admin, may: &may, sockets, watchdog }).await {
            Ok(successor) => successor,
            Err(error) => {
                tracing::error!("no other server can take over: {error}");
                pending().await
            }
        }
    }

    /// As [`Server::stop_gracefully`], within the time that the successor allows. The successor starts to
    /// serve when it receives the returned line.
    pub fn hand_over(mut self, successor: Successor) -> Completion {
        let deadline = self.service.now().after(successor.max_gap);
        self.join();
        let file = self.snapshot_file.as_ref().expect("the control socket was next to the memory file");
        let Service { cache, clock, .. } = &*self.service;
        // The successor is the main process now, so systemd listens to it.
        let line = match file.save(cache, clock, Some(deadline), || successor.be_patient()) {
            Ok(items) => format!("kept {items}\n"),
            Err(error) => {
                tracing::error!("cannot hand over the items: {error}");
                format!("empty {error}\n")
            }
        };
        Completion { line, successor }
    }

    /// Resolves once each worker has responded, and every shard was swept, which takes all locks.
    pub async fn heartbeat(&self) {
        self.service.heartbeat.check(self.threads.len()).await;
    }

    fn join(&mut self) {
        self.service.shutdown.request(Shutdown::AtOnce);
        for thread in self.threads.drain(..) {
            thread.join().expect("threads of a server do not panic");
        }
        // Last, so that what the snapshot has of a source fits the values in it.
        if let Some(mut runner) = self.events.take() {
            runner.stop();
        }
        // Close the sockets: clients must not connect while the values are written, and the next server
        // must be able to bind.
        self.sockets.clear();
    }
}

/// Frees the memory of expired and flushed items in small steps, so that other tasks run in between.
async fn sweep_until_shutdown(service: &Service) {
    let mut heartbeat = service.heartbeat.responder();
    let mut fence_cost = FenceCost::default();
    let sweep = async {
        loop {
            while service.cache.sweep(service.now()) {
                tokio::task::yield_now().await;
            }
            // A lowered limit evicts items outside of any command that would report them.
            command::publish_evicted(&service.cache, &service.metrics, service.now());
            heartbeat.answer();
            service.receiving.close_slow(service.now());
            warn_of_fence_cost(service, &mut fence_cost);
            tokio::time::sleep(SWEEP_EVERY).await;
        }
    };
    tokio::select! {
        () = sweep => {}
        _ = service.shutdown.requested() => {}
    }
}

/// Logs a warning once a minute about classes of keys for which the fence is expensive.
fn warn_of_fence_cost(service: &Service, fence_cost: &mut FenceCost) {
    let now = service.now();
    if !fence_cost.is_due(now) {
        return;
    }
    for (class, percent) in fence_cost.check(service.cache.classes(now), now) {
        tracing::warn!(
            class = %word(&class.name),
            refused_percent = percent,
            mode = class.mode,
            load_time_ms = class.load_time.max_ms,
            "many plain sets are refused as possibly stale: set load-time-max or herd-wait for these keys, or use leases",
        );
    }
}

/// The socket for a handover. The server works without it, too.
fn control(file: &SnapshotFile) -> Option<ControlSocket> {
    let control = ControlSocket::bind(file.path());
    control.inspect_err(|error| tracing::warn!("no other server can take over: {error}")).ok()
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

const SWEEP_EVERY: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use clap::Parser;

    use super::*;

    /// The duplicates used to stay open until the values were written: new clients waited in vain, and the
    /// next server could not bind.
    #[test]
    fn a_stopped_server_does_not_listen() {
        let options = Options::try_parse_from(["leasehold", "-p", "-1", "-t", "1"]).unwrap();
        let mut server = Server::start(options).unwrap();
        server.join();
        assert!(TcpStream::connect(server.address()).is_err());
    }
}
