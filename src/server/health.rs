//! `leasehold healthcheck`: whether a server answers, for those who start containers.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

/// Exit with 0 if a server answers, and with 1 if none does.
///
/// Any answer will do: that only users are let in is no sickness. Where the server speaks TLS, ask at an address that
/// begins with notls:, or at a Unix socket.
#[derive(Debug, Parser)]
#[command(name = "healthcheck", bin_name = "leasehold healthcheck")]
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
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("leasehold healthcheck: {}: {error}", self.place);
                ExitCode::FAILURE
            }
        }
    }

    /// The first byte of its answer.
    fn answer(&self) -> io::Result<u8> {
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

fn ask(mut stream: impl Read + Write) -> io::Result<u8> {
    let mut first = [0];
    stream.write_all(b"mn\r\n")?;
    stream.read_exact(&mut first)?;
    Ok(first[0])
}
