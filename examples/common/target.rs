//! Servers for the examples: leasehold in this process, or the installed memcached.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::Parser;
use leasehold::options::Options;
use leasehold::server::Server;

/// A running server on a free port of loopback.
pub struct Target {
    pub address: SocketAddr,
    running: Running,
}

enum Running {
    Leasehold(Box<Server>),
    Memcached(Daemon),
}

/// A process that is killed when this is dropped.
struct Daemon(Child);

impl Target {
    /// Leasehold with these flags, separated by spaces.
    pub fn leasehold(flags: &str) -> Target {
        let words = ["leasehold", "-p", "-1"].into_iter().chain(flags.split_whitespace());
        let options = Options::try_parse_from(words).expect("these are options");
        let server = Server::start(options).expect("loopback has free ports");
        Target { address: server.address(), running: Running::Leasehold(Box::new(server)) }
    }

    /// `None` if it is not installed.
    pub async fn memcached(flags: &str) -> Option<Target> {
        let port = free_port();
        let child = Command::new("memcached")
            .args(["-U", "0", "-u", "nobody", "-l", "127.0.0.1", "-p", &port.to_string()])
            .args(flags.split_whitespace())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let target = Target {
            address: (Ipv4Addr::LOCALHOST, port).into(),
            running: Running::Memcached(Daemon(child)),
        };
        for _ in 0..ATTEMPTS_MAX {
            if TcpStream::connect(target.address).is_ok() {
                return Some(target);
            }
            tokio::time::sleep(ATTEMPT_EVERY).await;
        }
        panic!("memcached does not listen");
    }

    pub fn stop(self) {
        match self.running {
            Running::Leasehold(server) => server.stop(),
            Running::Memcached(daemon) => drop(daemon),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that is free now, and most likely still when the server binds it.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
    listener.local_addr().expect("it is bound").port()
}

const ATTEMPTS_MAX: usize = 500;
const ATTEMPT_EVERY: Duration = Duration::from_millis(20);
