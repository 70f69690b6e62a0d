//! The memory of idle connections.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::peers::Peer;

/// The resident bytes of a server per idle connection, after one request on each.
pub fn bytes_each(peer: &Peer, connections: usize) -> io::Result<f64> {
    let before = peer.resident_bytes();
    let mut open = Vec::new();
    for _ in 0..connections {
        let mut stream = TcpStream::connect(&peer.server.address)?;
        let (request, answer): (&[u8], &[u8]) = match peer.server.is_redis() {
            false => (b"get none\r\n", b"END\r\n"),
            true => (b"GET none\r\n", b"$-1\r\n"),
        };
        stream.write_all(request)?;
        let mut reply = vec![0; answer.len()];
        stream.read_exact(&mut reply)?;
        assert_eq!(reply, answer);
        open.push(stream);
    }
    Ok(peer.resident_bytes().saturating_sub(before) as f64 / connections as f64)
}

/// Raises the limit on descriptors as far as the system allows.
pub fn allow_connections() -> io::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).map_err(io::Error::from)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).map_err(io::Error::from)
}
