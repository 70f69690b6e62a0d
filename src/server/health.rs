//! `leasehold healthcheck`: whether a server answers, for those who start containers.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

/// Exit with 0 if a server answers, and with 1 if none does.
///
/// Errors are answers, too: that only users are let in is no sickness. Where the server speaks TLS, ask at an address that
/// begins with notls:, or at a Unix socket.
#[derive(Debug, Parser)]
#[command(name = "healthcheck")]
pub struct HealthCheck {
    /// Where it listens: an address with its port, or the path of a Unix socket
    #[arg(default_value = "127.0.0.1:11211")]
    place: String,

    /// Seconds that it may take
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

    /// Whether there is one that memcached's protocol has.
    fn answer(&self) -> io::Result<()> {
        let patience = Duration::from_secs(self.timeout.into());
        if self.place.contains('/') {
            let stream = UnixStream::connect(&self.place)?;
            stream.set_read_timeout(Some(patience))?;
            return ask(stream);
        }
        let none = || io::Error::from(io::ErrorKind::NotFound);
        let address = self.place.to_socket_addrs()?.next().ok_or_else(none)?;
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        ask(stream)
    }
}

fn ask(mut stream: impl Read + Write) -> io::Result<()> {
    let mut first = [0; 2];
    stream.write_all(b"mn\r\n")?;
    stream.read_exact(&mut first)?;
    if ANSWERS.contains(&&first) { Ok(()) } else { Err(io::Error::other("what answers is no such server")) }
}

/// How `MN` and the errors begin.
const ANSWERS: [&[u8; 2]; 4] = [b"CL", b"ER", b"MN", b"SE"];
