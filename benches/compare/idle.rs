//! The memory of idle connections.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::peers::Peer;

/// The resident bytes of a server per idle connection, after a get and a set on each.
pub fn bytes_each(peer: &Peer, connections: usize) -> io::Result<f64> {
    let open = |count: usize| (0..count).map(|_| used(peer)).collect::<io::Result<Vec<_>>>();
    // What the server allocates once is not counted.
    let first = open(connections / 10)?;
    let before = peer.resident_bytes();
    let others = open(connections)?;
    let grown = peer.resident_bytes().saturating_sub(before);
    drop((first, others));
    Ok(grown as f64 / connections as f64)
}

/// A connection after a get that misses, and a set.
fn used(peer: &Peer) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(&peer.server.address)?;
    let exchanges: [(&[u8], &[u8]); 2] = match peer.server.is_redis() {
        false => [(b"get none\r\n", b"END\r\n"), (b"set one 0 0 1\r\nx\r\n", b"STORED\r\n")],
        true => [(b"GET none\r\n", b"$-1\r\n"), (b"SET one x\r\n", b"+OK\r\n")],
    };
    for (request, answer) in exchanges {
        stream.write_all(request)?;
        let mut reply = vec![0; answer.len()];
        stream.read_exact(&mut reply)?;
        assert_eq!(reply, answer);
    }
    Ok(stream)
}

/// Raises the limit on descriptors as far as the system allows.
pub fn allow_connections() -> io::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).map_err(io::Error::from)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).map_err(io::Error::from)
}
