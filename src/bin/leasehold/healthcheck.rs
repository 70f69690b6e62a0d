//! `leasehold healthcheck`: whether a server answers, for health checks of containers.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use leasehold::options::{self, Options, Security};

/// Exit with 0 if a server answers, and with 1 if none does.
///
/// An error reply counts as an answer: a server that requires authentication is healthy. If the server uses
/// TLS, name an address that begins with notls: there, or a Unix socket. Without an address, the check goes
/// the way of the clients of a server that the environment configures (LEASEHOLD_LISTEN, LEASEHOLD_PORT,
/// LEASEHOLD_UNIX_SOCKET): if that listens on all addresses, the check uses the machine's own.
#[derive(Debug, Parser)]
#[command(name = "healthcheck")]
pub struct HealthCheck {
    /// Address of the server with its port, or path of its Unix socket [default: 127.0.0.1:11211, or as the
    /// environment says]
    place: Option<String>,

    /// Timeout in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    timeout: u8,
}

/// Where the server should be.
#[derive(Debug, Eq, PartialEq)]
enum Place {
    /// One of these addresses.
    Tcp(Vec<SocketAddr>),
    Unix(PathBuf),
}

impl HealthCheck {
    /// The subcommand, from its flags to its exit code.
    pub fn main(self) -> ExitCode {
        match self.answer() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("leasehold healthcheck: {error}");
                ExitCode::FAILURE
            }
        }
    }

    /// Whether the reply is one of memcached's protocol.
    fn answer(&self) -> io::Result<()> {
        let patience = Duration::from_secs(self.timeout.into());
        let place = self.place()?;
        let answer = match &place {
            Place::Unix(path) => UnixStream::connect(path).and_then(|stream| {
                stream.set_read_timeout(Some(patience))?;
                ask(stream)
            }),
            Place::Tcp(addresses) => connect(addresses, patience).and_then(|stream| {
                stream.set_read_timeout(Some(patience))?;
                ask(stream)
            }),
        };
        answer.map_err(|error| io::Error::new(error.kind(), format!("{place}: {error}")))
    }

    fn place(&self) -> io::Result<Place> {
        match &self.place {
            Some(place) if place.contains('/') => Ok(Place::Unix(place.into())),
            Some(place) => {
                let named = |error| io::Error::other(format!("{place}: {error}"));
                Ok(Place::Tcp(place.to_socket_addrs().map_err(named)?.collect()))
            }
            None => {
                let parsed = options::parse(&Options::command(), vec!["leasehold".into()]);
                Place::of(&parsed.map_err(io::Error::other)?)
            }
        }
    }
}

impl Place {
    /// Where clients find the server with these options. An address without TLS comes first.
    fn of(options: &Options) -> io::Result<Place> {
        if let Some(path) = &options.socket {
            return Ok(Place::Unix(path.clone()));
        }
        let mut addresses = options.addresses()?;
        addresses.sort_by_key(|(_, listening)| listening.security != Security::Plain);
        let first = addresses.first().ok_or(io::Error::other("the server listens on no address"))?.0;
        Ok(Place::Tcp(if first.ip().is_unspecified() { own_addresses(first.port()) } else { vec![first] }))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Tcp(addresses) => {
                let all: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
                f.write_str(&all.join(", "))
            }
            Place::Unix(path) => path.display().fmt(f),
        }
    }
}

/// The addresses under which others find this machine; loopback, if it has no network. To see which route
/// packets would take sends none.
fn own_addresses(port: u16) -> Vec<SocketAddr> {
    let towards = |any: IpAddr, other: IpAddr| -> io::Result<SocketAddr> {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((other, port))?;
        Ok(SocketAddr::new(socket.local_addr()?.ip(), port))
    };
    let routes = [
        towards(Ipv4Addr::UNSPECIFIED.into(), DOCUMENTATION_V4.into()),
        towards(Ipv6Addr::UNSPECIFIED.into(), DOCUMENTATION_V6.into()),
    ];
    let mut own: Vec<_> = routes.into_iter().flatten().collect();
    if own.is_empty() {
        own.push((Ipv4Addr::LOCALHOST, port).into());
    }
    own
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
    match &first {
        first if ANSWERS.contains(&first) => Ok(()),
        TLS_ALERT => {
            Err(io::Error::other("the server requires TLS: name an address with notls:, or its socket"))
        }
        _ => Err(io::Error::other("the server does not answer like a memcached server")),
    }
}

/// How `MN` and the errors begin.
const ANSWERS: [&[u8; 2]; 4] = [b"CL", b"ER", b"MN", b"SE"];
/// How TLS answers plain text.
const TLS_ALERT: &[u8; 2] = &[0x15, 3];
/// Addresses that no network has (RFC 5737, RFC 3849).
const DOCUMENTATION_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const DOCUMENTATION_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

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

    /// A check by loopback called a server healthy that no client could reach.
    #[test]
    fn the_check_goes_the_way_of_the_clients() {
        let place = |flags: &str| {
            let line = format!("leasehold {flags}");
            Place::of(&Options::try_parse_from(line.split_whitespace()).unwrap()).unwrap()
        };
        let tcp = |address: &str| Place::Tcp(vec![address.parse().unwrap()]);
        assert_eq!(place(""), tcp("127.0.0.1:11211"));
        assert_eq!(place("-l 192.0.2.7 -p 5"), tcp("192.0.2.7:5"));
        assert_eq!(place("-Z -l 192.0.2.7,notls:127.0.0.1:9"), tcp("127.0.0.1:9"));
        assert_eq!(place("-s /run/cache -l 0.0.0.0"), Place::Unix("/run/cache".into()));
        for all in ["0.0.0.0", "[::]"] {
            let Place::Tcp(own) = place(&format!("-l {all} -p 7")) else { panic!("not a path") };
            assert!(!own.is_empty());
            assert!(
                own.iter().all(|address| !address.ip().is_unspecified() && address.port() == 7),
                "{own:?}"
            );
        }
    }

    const PATIENCE: Duration = Duration::from_secs(60);
}
