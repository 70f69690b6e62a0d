//! The table of open connections, keyed by descriptor number, as `stats conns` shows it.
//!
//! It holds no sockets: the owner of a connection reports its state here.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

/// All connections and listening sockets of a server.
#[derive(Debug, Default)]
pub struct Connections(Mutex<Table>);

/// Connections, indexed by their numbers: the system assigns the lowest free one.
#[derive(Debug, Default)]
struct Table {
    count: usize,
    places: Vec<Option<Arc<ConnectionStats>>>,
}

/// An end of a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Address {
    /// Address and port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// A connection or a listening socket, with its current state.
#[derive(Debug)]
pub struct ConnectionStats {
    /// The address of the peer; for a listening socket, its own address.
    pub address: Address,
    /// The listener that accepted the connection; `None` for a listening socket.
    pub listen_address: Option<Address>,
    /// The descriptor number.
    pub number: u32,
    /// When the last command arrived, in monotonic seconds.
    last_command: AtomicU32,
    /// The number of its session in the cache; 0 before it has one.
    peer: AtomicU64,
    state: AtomicU8,
}

/// The states of a connection, under memcached's names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// Listens for new connections.
    Listening,
    /// Answers a request.
    Parse,
    /// Waits for the peer to send something.
    Read,
    /// Waits for the rest of a value.
    ReadValue,
    /// Skips the rest of a value that was refused.
    Skip,
    /// Waits for a lease to end.
    Waiting,
    /// Receives events as a watcher.
    Watch,
    /// Waits for the peer to read the replies.
    Write,
}

/// The name of each [`State`], in the order of the variants.
const NAMES: [&str; State::Write as usize + 1] = [
    "conn_listening",
    "conn_parse_cmd",
    "conn_read",
    "conn_nread",
    "conn_swallow",
    "conn_waiting",
    "conn_watch",
    "conn_mwrite",
];

impl Connections {
    /// Adds a connection, until [`Connections::close`].
    pub fn open(&self, connection: Arc<ConnectionStats>) {
        let mut table = self.0.lock();
        let place = connection.number as usize;
        if table.places.len() <= place {
            table.places.resize(place + 1, None);
        }
        let old = table.places[place].replace(connection);
        table.count += usize::from(old.is_none());
    }

    /// Removes a connection, unless the system has already reused its number for another one.
    pub fn close(&self, connection: &Arc<ConnectionStats>) {
        let mut table = self.0.lock();
        let place = table.places.get_mut(connection.number as usize);
        let is_it = |open: &mut Arc<ConnectionStats>| Arc::ptr_eq(open, connection);
        if place.and_then(|place| place.take_if(is_it)).is_some() {
            table.count -= 1;
        }
    }

    /// The connection whose session has this number in the cache.
    pub fn of_peer(&self, peer: u64) -> Option<Arc<ConnectionStats>> {
        let table = self.0.lock();
        let is_it = |connection: &&Arc<ConnectionStats>| connection.peer.load(Ordering::Relaxed) == peer;
        table.places.iter().flatten().find(is_it).cloned()
    }

    /// The number of connections, listening sockets included.
    pub fn count(&self) -> usize {
        self.0.lock().count
    }

    /// The next few connections, starting at a number.
    pub fn some(&self, from: u32) -> Vec<(u32, Arc<ConnectionStats>)> {
        let table = self.0.lock();
        let rest = table.places.get(from as usize..).unwrap_or_default().iter().flatten();
        rest.take(SOME).map(|connection| (connection.number, Arc::clone(connection))).collect()
    }
}

impl ConnectionStats {
    /// A connection from `address` accepted at `listen_address`; without that, a socket that listens at
    /// `address`.
    pub fn new(number: u32, address: Address, listen_address: Option<Address>, second: u32) -> Self {
        let state = if listen_address.is_some() { State::Read } else { State::Listening };
        ConnectionStats {
            address,
            listen_address,
            number,
            last_command: AtomicU32::new(second),
            peer: AtomicU64::new(0),
            state: AtomicU8::new(state as u8),
        }
    }

    /// Sets the number of the connection's session in the cache, which never changes.
    pub fn belongs_to(&self, peer: u64) {
        self.peer.store(peer, Ordering::Relaxed);
    }

    /// Sets the current state.
    pub fn is(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// Records that a command arrived in this monotonic second.
    pub fn commanded(&self, second: u32) {
        self.last_command.store(second, Ordering::Relaxed);
    }

    /// When the last command arrived, in monotonic seconds.
    pub fn last_command(&self) -> u32 {
        self.last_command.load(Ordering::Relaxed)
    }

    /// The current state, under memcached's name.
    pub fn state(&self) -> &'static str {
        NAMES[usize::from(self.state.load(Ordering::Relaxed))]
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address @ SocketAddr::V4(_)) => write!(f, "tcp:{address}"),
            Address::Tcp(address @ SocketAddr::V6(_)) => write!(f, "tcp6:{address}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Connections returned by one call.
const SOME: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_listed_in_parts_by_number() {
        let connections = Connections::default();
        let address = Address::Tcp("127.0.0.1:9".parse().unwrap());
        for number in (0..100).rev() {
            let listen_address = (number > 0).then(|| Address::Unix("/run/cache".into()));
            connections.open(Arc::new(ConnectionStats::new(number, address.clone(), listen_address, 5)));
        }
        let (seventh, eighth) = (connections.some(7)[0].1.clone(), connections.some(8)[0].1.clone());
        connections.close(&seventh);
        connections.close(&Arc::new(ConnectionStats::new(8, address.clone(), None, 5)));
        assert!(Arc::ptr_eq(&connections.some(7)[0].1, &eighth), "a newer connection has that number");
        let (first, rest) = (connections.some(0), connections.some(64));
        assert_eq!((first.len(), first[7].0, rest[0].0), (SOME, 8, 64));
        assert_eq!((rest.len(), connections.count()), (36, 99));
        assert_eq!((first[0].1.state(), first[1].1.state()), ("conn_listening", "conn_read"));
        first[1].1.is(State::Write);
        first[1].1.commanded(8);
        assert_eq!((first[1].1.state(), first[1].1.last_command()), ("conn_mwrite", 8));
        first[1].1.belongs_to(5);
        assert!(
            Arc::ptr_eq(&connections.of_peer(5).unwrap(), &first[1].1) && connections.of_peer(6).is_none()
        );
        assert_eq!(first[1].1.address.to_string(), "tcp:127.0.0.1:9");
        assert_eq!(first[1].1.listen_address.as_ref().unwrap().to_string(), "unix:/run/cache");
        assert_eq!(Address::Tcp("[::1]:9".parse().unwrap()).to_string(), "tcp6:[::1]:9");
    }
}
