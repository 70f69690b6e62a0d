//! The connections that are open now, each under the number of its descriptor, as `stats conns` tells them.
//!
//! Deliberately absent: sockets. Who owns one says what it does, and nobody here looks.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use parking_lot::Mutex;

/// All connections and listening sockets of a server.
#[derive(Debug, Default)]
pub struct Connections(Mutex<BTreeMap<u32, Arc<Connection>>>);

/// One end of a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Address {
    /// Address and port.
    Tcp(SocketAddr),
    /// The path of a socket.
    Unix(PathBuf),
}

/// What is known of one connection, or of a listening socket.
#[derive(Debug)]
pub struct Connection {
    /// Of the peer; where it listens, its own.
    pub address: Address,
    /// Where the peer came in; `None` for a listening socket.
    pub listen_address: Option<Address>,
    /// The number of its descriptor.
    pub number: u32,
    /// When its last command came, in monotonic seconds.
    last_command: AtomicU32,
    /// The party that the cache knows it as.
    peer: OnceLock<u64>,
    state: AtomicU8,
}

/// What a connection is doing, under memcached's names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// It accepts others.
    Listening,
    /// A request is being answered.
    Parse,
    /// The peer is to speak.
    Read,
    /// A request waits for a lease to end.
    Waiting,
    /// It is told what happens.
    Watch,
    /// The peer is to take what is written.
    Write,
}

/// The name of each [`State`], in the order of the variants.
const NAMES: [&str; State::Write as usize + 1] =
    ["conn_listening", "conn_parse_cmd", "conn_read", "conn_waiting", "conn_watch", "conn_mwrite"];

impl Connections {
    /// Notes a connection down, until [`Connections::close`].
    pub fn open(&self, connection: Arc<Connection>) {
        self.0.lock().insert(connection.number, connection);
    }

    /// Forgets a connection, unless the system has given its number to another one by now.
    pub fn close(&self, connection: &Arc<Connection>) {
        let mut connections = self.0.lock();
        if connections.get(&connection.number).is_some_and(|open| Arc::ptr_eq(open, connection)) {
            connections.remove(&connection.number);
        }
    }

    /// The connection that the cache knows as the peer of this number.
    pub fn of_peer(&self, peer: u64) -> Option<Arc<Connection>> {
        let connections = self.0.lock();
        connections.values().find(|connection| connection.peer.get() == Some(&peer)).cloned()
    }

    /// How many there are, listening sockets included.
    pub fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// The next few from a number on.
    pub fn some(&self, from: u32) -> Vec<(u32, Arc<Connection>)> {
        let connections = self.0.lock();
        let found = connections.range(from..).take(SOME);
        found.map(|(number, connection)| (*number, Arc::clone(connection))).collect()
    }
}

impl Connection {
    /// Connection `number`, of `address` to `listen_address`, or, without that, a socket that listens at `address`.
    pub fn new(number: u32, address: Address, listen_address: Option<Address>, second: u32) -> Self {
        let state = if listen_address.is_some() { State::Read } else { State::Listening };
        Connection {
            address,
            listen_address,
            number,
            last_command: AtomicU32::new(second),
            peer: OnceLock::new(),
            state: AtomicU8::new(state as u8),
        }
    }

    /// The cache knows it as the peer of this number, and never as another.
    pub fn belongs_to(&self, peer: u64) {
        let _ = self.peer.set(peer);
    }

    /// Says what it does from now on.
    pub fn is(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// A command came in this monotonic second.
    pub fn commanded(&self, second: u32) {
        self.last_command.store(second, Ordering::Relaxed);
    }

    /// When the last command came, in monotonic seconds.
    pub fn last_command(&self) -> u32 {
        self.last_command.load(Ordering::Relaxed)
    }

    /// What it does, under memcached's name for it.
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

/// Connections that are told at once.
const SOME: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_told_a_few_at_a_time_in_the_order_of_their_numbers() {
        let connections = Connections::default();
        let address = Address::Tcp("127.0.0.1:9".parse().unwrap());
        for number in (0..100).rev() {
            let listen_address = (number > 0).then(|| Address::Unix("/run/cache".into()));
            connections.open(Arc::new(Connection::new(number, address.clone(), listen_address, 5)));
        }
        let (seventh, eighth) = (connections.some(7)[0].1.clone(), connections.some(8)[0].1.clone());
        connections.close(&seventh);
        connections.close(&Arc::new(Connection::new(8, address.clone(), None, 5)));
        assert!(Arc::ptr_eq(&connections.some(7)[0].1, &eighth), "another one has that number");
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
