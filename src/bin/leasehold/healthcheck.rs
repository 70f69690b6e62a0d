//! `leasehold healthcheck`: whether a server answers, for health checks of containers.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

/// Exit with 0 if a server answers, and with 1 if none does.
///
/// An error reply counts as an answer: a server that requires authentication is healthy. If the server uses
/// TLS, name an address that begins with notls: there, or a Unix socket.
#[derive(Debug, Parser)]
#[command(name = "healthcheck")]
pub struct HealthCheck {
    /// Address of the server with its port, or path of its Unix socket
    #[arg(default_value = "127.0.0.1:11211")]
    place: String,

    /// Timeout in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    timeout: u8,
}

impl HealthCheck {
    /// The subcommand, from its flags to its exit code.
    pub fn main(self) -> ExitCode {
        match self.answer() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("leasehold healthcheck: {}: {error}", self.place);
                ExitCode::FAILURE
            }
        }
    }

    /// Whether the reply is one of memcached's protocol.
    fn answer(&self) -> io::Result<()> {
        let patience = Duration::from_secs(self.timeout.into());
        if self.place.contains('/') {
            let stream = UnixStream::connect(&self.place)?;
            stream.set_read_timeout(Some(patience))?;
            return ask(stream);
        }
        let addresses: Vec<_> = self.place.to_socket_addrs()?.collect();
        let stream = connect(&addresses, patience)?;
        stream.set_read_timeout(Some(patience))?;
        ask(stream)
    }
}

/// Connects to the first address on which a server listens.
fn connect(addresses: &[SocketAddr], patience: Duration) -> io::Result<TcpStream> {
    // An address that does not answer leaves time for the others.
    let each = patience / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut tried = Err(io::Error::other("the name has no address"));
    for address in addresses {
        tried = TcpStream::connect_timeout(address, each);
        if tried.is_ok() {
            break;
        }
    }
    tried
}

fn ask(mut stream: impl Read + Write) -> io::Result<()> {
    let mut first = [0; 2];
    stream.write_all(b"mn\r\n")?;
    stream.read_exact(&mut first)?;
    if ANSWERS.contains(&&first) {
        Ok(())
    } else {
        Err(io::Error::other("the server does not answer like a memcached server"))
    }
}

/// How `MN` and the errors begin.
const ANSWERS: [&[u8; 2]; 4] = [b"CL", b"ER", b"MN", b"SE"];

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn every_address_of_a_name_is_tried() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for addresses in [&[closed, address][..], &[address, closed]] {
            assert_eq!(connect(addresses, PATIENCE).unwrap().peer_addr().unwrap(), address);
        }
        assert_eq!(connect(&[closed], PATIENCE).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert!(connect(&[], PATIENCE).is_err());
    }

    const PATIENCE: Duration = Duration::from_secs(60);
}
