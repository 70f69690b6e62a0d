//! Listening sockets, and the limits on connections.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{self, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use socket2::SockRef;
use tokio::sync::mpsc::UnboundedSender;

use super::client_limits::ClientAddress;
use super::permit::Admission;
use super::service::Service;
use super::tls::Tls;
use crate::clock::Now;
use crate::metrics::{Address, ConnectionStats};
use crate::options::{Listening, Options, Security};
use crate::process::Inherited;
use crate::process::sockets::{bind_tcp, bind_unix, pause};
use crate::protocol::{Output, Replies, Status};

/// Bound sockets that have not accepted connections yet.
pub struct Listeners {
    /// Whether they are inherited and not named by a flag.
    pub are_passed: bool,
    tcp: Vec<(TcpListener, Listening)>,
    /// Read with the privileges that bind sockets: only root may be able to read a key.
    pub(super) tls: Option<Tls>,
    unix: Vec<UnixListener>,
}

/// A connection that is passed to a worker.
pub(super) enum Accepted {
    Tcp(TcpStream, Listening),
    Unix(UnixStream),
}

impl Listeners {
    /// Inherits or binds the sockets that `options` name, and reads the certificates. If they name none,
    /// all inherited sockets are served; otherwise inherited sockets that are not named are closed.
    ///
    /// # Errors
    /// The first unusable file, or the first socket that cannot be bound; the error names it.
    pub fn bind(options: &Options, mut inherited: Inherited) -> io::Result<Listeners> {
        let tls = options.tls().map(Tls::load).transpose()?;
        if options.serves_all_of(&inherited) {
            let listening = options.listening();
            let (tcp, unix) = inherited.take_all();
            let tcp = tcp.into_iter().map(|listener| (listener, listening)).collect();
            return Ok(Listeners { are_passed: true, tcp, tls, unix });
        }
        let are_passed = false;
        let listeners = match &options.socket {
            Some(path) => {
                let unix = inherited.take_unix(path).map_or_else(|| bind_unix(path, options.socket_mode), Ok);
                let unix = unix.map_err(|error| named(error, &path.display().to_string()))?;
                Listeners { are_passed, tcp: Vec::new(), tls, unix: vec![unix] }
            }
            None => {
                let bind = |(address, listening): (SocketAddr, Listening)| {
                    let taken = inherited.take_tcp(address);
                    let bound = taken.map_or_else(|| bind_tcp(address, options.backlog), Ok);
                    let bound = bound.map_err(|error| named(error, &address.to_string()))?;
                    Ok((bound, listening))
                };
                let tcp = options.addresses()?.into_iter().map(bind).collect::<io::Result<_>>()?;
                Listeners { are_passed, tcp, tls, unix: Vec::new() }
            }
        };
        for name in inherited.names() {
            tracing::warn!("not listening on {name} any more, which no flag names");
        }
        Ok(listeners)
    }

    /// Duplicated descriptors, for the next server.
    pub(super) fn copies(&self) -> io::Result<Vec<OwnedFd>> {
        let tcp = self.tcp.iter().map(|(listener, _)| listener.as_fd().try_clone_to_owned());
        tcp.chain(self.unix.iter().map(|listener| listener.as_fd().try_clone_to_owned())).collect()
    }

    /// The TCP addresses, with the ports that the system chose.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.tcp.iter().filter_map(|(listener, _)| listener.local_addr().ok()).collect()
    }

    /// The paths of the Unix sockets.
    pub fn paths(&self) -> Vec<PathBuf> {
        let addresses = self.unix.iter().filter_map(|listener| listener.local_addr().ok());
        addresses.filter_map(|address| address.as_pathname().map(Path::to_owned)).collect()
    }

    /// The entries of all listeners in `stats conns`.
    pub(super) fn connections(&self, now: Now) -> Vec<ConnectionStats> {
        let listening = |fd: RawFd, address| ConnectionStats::new(number(fd), address, None, now.seconds());
        let tcp = self.tcp.iter().filter_map(|(listener, _)| {
            let address = listener.local_addr().ok()?;
            Some(listening(listener.as_raw_fd(), Address::Tcp(address)))
        });
        let unix = self.unix.iter().filter_map(|listener| {
            let address = listener.local_addr().ok()?;
            Some(listening(listener.as_raw_fd(), path(&address)))
        });
        tcp.chain(unix).collect()
    }
}

impl Accepted {
    /// The client's address; `None` over Unix sockets, or if the client has disconnected.
    fn client(&self) -> Option<ClientAddress> {
        match self {
            Accepted::Tcp(stream, _) => stream.peer_addr().ok().map(|address| address.ip().into()),
            Accepted::Unix(_) => None,
        }
    }

    /// Refuses the connection with a reason. A new socket's buffer has room for a line; if not, the close
    /// suffices.
    fn refuse(self, why: Status) {
        let mut output = Output::default();
        Replies::text(&mut output).status(why);
        let why = output.take();
        let _ = match self {
            // A TLS client would not understand plain text.
            Accepted::Tcp(_, Listening { security: Security::Tls(_), .. }) => Ok(0),
            Accepted::Tcp(mut stream, Listening { security: Security::Plain, .. }) => stream.write(&why),
            Accepted::Unix(mut stream) => stream.write(&why),
        };
    }

    /// Its entry in `stats conns`.
    pub(super) fn connection(&self, now: Now) -> io::Result<ConnectionStats> {
        let (fd, peer, own) = match self {
            Accepted::Tcp(stream, _) => {
                let (peer, own) = (stream.peer_addr()?, stream.local_addr()?);
                (stream.as_raw_fd(), Address::Tcp(peer), Address::Tcp(own))
            }
            Accepted::Unix(stream) => {
                (stream.as_raw_fd(), path(&stream.peer_addr()?), path(&stream.local_addr()?))
            }
        };
        Ok(ConnectionStats::new(number(fd), peer, Some(own), now.seconds()))
    }
}

fn number(fd: RawFd) -> u32 {
    fd.try_into().expect("an open descriptor is not negative")
}

/// Clients do not bind their end of a Unix socket: its path is empty.
fn path(address: &net::SocketAddr) -> Address {
    Address::Unix(address.as_pathname().unwrap_or(Path::new("")).to_owned())
}

/// Accepts connections until the server stops, and distributes them among the workers.
pub(super) async fn accept(
    listeners: Listeners,
    service: &Arc<Service>,
    workers: Vec<UnboundedSender<(Accepted, Admission)>>,
) {
    let turn = std::cell::Cell::new(0);
    let hand_out = |socket: Accepted| {
        turn.set((turn.get() + 1) % workers.len());
        if let Some(admitted) = admit(service, socket) {
            // It fails only during a shutdown, and then the connection closes here.
            let _ = workers[turn.get()].send(admitted);
        }
    };
    let tcp = listeners
        .tcp
        .into_iter()
        .map(|(listener, listening)| accept_tcp(listener, listening, service, &hand_out));
    let unix = listeners.unix.into_iter().map(|listener| accept_unix(listener, service, &hand_out));
    tokio::select! {
        () = all(tcp.collect()) => {}
        () = all(unix.collect()) => {}
        _ = service.shutdown.requested() => {}
    }
}

/// Polls all listeners in turn; none of them ever ends.
async fn all(listeners: Vec<impl Future<Output = ()>>) {
    let mut listeners: Vec<_> = listeners.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|context| {
        for listener in &mut listeners {
            let _ = listener.as_mut().poll(context);
        }
        std::task::Poll::Pending
    })
    .await
}

async fn accept_tcp(
    listener: TcpListener,
    listening: Listening,
    service: &Service,
    hand_out: &impl Fn(Accepted),
) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a bound, non-blocking listener");
    loop {
        wait_for_capacity(service).await;
        match listener.accept().await.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => {
                // Each reply is written in one piece: waiting for more data would only delay it.
                let _ = stream.set_nodelay(true);
                // A client whose machine has vanished does not hold its connection and its leases for ever.
                let _ = SockRef::from(&stream).set_keepalive(true);
                hand_out(Accepted::Tcp(stream, listening));
            }
            Err(error) => pause(error).await,
        }
    }
}

async fn accept_unix(listener: UnixListener, service: &Service, hand_out: &impl Fn(Accepted)) {
    let listener = tokio::net::UnixListener::from_std(listener).expect("a bound, non-blocking listener");
    loop {
        wait_for_capacity(service).await;
        match listener.accept().await.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => hand_out(Accepted::Unix(stream)),
            Err(error) => pause(error).await,
        }
    }
}

/// Waits for a free connection, if connections above the limit are not refused.
async fn wait_for_capacity(service: &Service) {
    let metrics = &service.metrics;
    if service.refuses_when_full || !service.is_full() {
        return;
    }
    // Several listeners count as one.
    let is_first = metrics.accepting.swap(false, Ordering::Relaxed);
    if is_first {
        metrics.listen_disabled.fetch_add(1, Ordering::Relaxed);
    }
    let since = service.now();
    loop {
        let freed = service.freed.notified();
        if !service.is_full() {
            break;
        }
        freed.await;
    }
    if is_first {
        let micros = (service.now().millis - since.millis) * 1000;
        metrics.listen_disabled_us.fetch_add(micros, Ordering::Relaxed);
        metrics.accepting.store(true, Ordering::Relaxed);
    }
}

/// Counts a connection, or refuses it if there are too many.
fn admit(service: &Arc<Service>, socket: Accepted) -> Option<(Accepted, Admission)> {
    let metrics = &service.metrics;
    let client = socket.client();
    if service.refuses_when_full && service.is_full() {
        metrics.connections_rejected.fetch_add(1, Ordering::Relaxed);
        socket.refuse(Status::TooManyConnections);
        return None;
    }
    if client.is_some_and(|client| !service.clients.lock().acquire(client)) {
        metrics.connections_rejected.fetch_add(1, Ordering::Relaxed);
        metrics.connections_rejected_per_client.fetch_add(1, Ordering::Relaxed);
        socket.refuse(Status::TooManyFromThere);
        return None;
    }
    Some((socket, Admission::new(service, client)))
}

fn named(error: io::Error, name: &str) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {name}: {error}"))
}
