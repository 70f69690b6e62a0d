//! The measured servers: processes on free loopback ports, which end when their values are dropped.

use std::env;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use clap::ValueEnum;

use crate::built;
use crate::replayer::pause;
use crate::wire::{Connection, Dialect};

/// A server that can be started.
#[derive(Clone)]
pub struct Program {
    pub kind: Kind,
    path: PathBuf,
}

/// The kinds of servers, in the order of the table's columns.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Kind {
    #[value(skip)]
    Leasehold,
    Memcached,
    /// Redis that evicts what was used longest ago, by its estimate.
    RedisLru,
    /// Redis that evicts what is used least often, by its estimate.
    RedisLfu,
}

/// A running server.
pub struct Server {
    address: SocketAddr,
    child: Child,
    kind: Kind,
}

impl Program {
    /// The leasehold at `path`, or the one of this checkout, which cargo builds first if possible, so that no
    /// outdated program is measured.
    pub fn leasehold(path: Option<PathBuf>) -> io::Result<Self> {
        let path = match path {
            Some(path) => path,
            None => built::leasehold()?,
        };
        Ok(Program { kind: Kind::Leasehold, path })
    }

    /// `None` if it is not installed.
    pub fn peer(kind: Kind) -> Option<Self> {
        let (name, flag) = match kind {
            Kind::Leasehold => return None,
            Kind::Memcached => ("memcached", "-V"),
            Kind::RedisLru | Kind::RedisLfu => ("redis-server", "-v"),
        };
        let version = Command::new(name).arg(flag).stdin(Stdio::null()).output().ok()?;
        let version = String::from_utf8_lossy(&version.stdout);
        eprintln!("comparing with {}: {}", kind.name(), version.trim_end());
        Some(Program { kind, path: name.into() })
    }

    /// Starts it with one worker thread and this many megabytes for items.
    pub fn start(&self, megabytes: u32) -> io::Result<Server> {
        self.launch(megabytes, "")
    }

    /// Starts it so that it stores each fill. Many misses at once over the only connection look to leasehold
    /// like threads that share it, so that shortly after a delete it refuses fills that may be stale.
    pub fn start_unfenced(&self, megabytes: u32) -> io::Result<Server> {
        self.launch(megabytes, if self.kind == Kind::Leasehold { " --implicit-leases off" } else { "" })
    }

    fn launch(&self, megabytes: u32, more: &str) -> io::Result<Server> {
        let address: SocketAddr = (Ipv4Addr::LOCALHOST, free_port()?).into();
        let (port, memory) = (address.port(), megabytes);
        let flags = match self.kind {
            Kind::Leasehold => format!("-l 127.0.0.1 -p {port} -t 1 -m {memory}{more}"),
            Kind::Memcached => format!("-l 127.0.0.1 -p {port} -t 1 -m {memory} -U 0 -u nobody"),
            Kind::RedisLru => redis(port, memory, "allkeys-lru"),
            Kind::RedisLfu => redis(port, memory, "allkeys-lfu"),
        };
        let mut command = Command::new(&self.path);
        command.args(flags.split(' ')).current_dir(env::temp_dir());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut server = Server { address, child, kind: self.kind };
        server.await_listener()?;
        Ok(server)
    }

    /// Adds the name of the server to an error.
    pub fn named<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| io::Error::other(format!("{}: {error}", self.kind.name())))
    }
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Leasehold, Kind::Memcached, Kind::RedisLru, Kind::RedisLfu];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Leasehold => "leasehold",
            Kind::Memcached => "memcached",
            Kind::RedisLru => "redis-lru",
            Kind::RedisLfu => "redis-lfu",
        }
    }
}

impl Server {
    pub fn connect(&self) -> io::Result<Connection> {
        let dialect = match self.kind {
            Kind::Leasehold | Kind::Memcached => Dialect::Memcached,
            Kind::RedisLru | Kind::RedisLfu => Dialect::Redis,
        };
        Connection::open(self.address, dialect)
    }

    /// The current resident memory.
    pub fn resident_bytes(&self) -> io::Result<u64> {
        self.kibibytes("smaps_rollup", "Rss:")
    }

    /// The peak resident memory.
    pub fn peak_bytes(&self) -> io::Result<u64> {
        self.kibibytes("status", "VmHWM:")
    }

    /// Memory that the program has written to, without the pages of its file. This is exact, unlike `status`.
    pub fn written_bytes(&self) -> io::Result<u64> {
        self.kibibytes("smaps_rollup", "Anonymous:")
    }

    /// The same, once it no longer changes: a hash table may still be growing in the background.
    pub fn settled_bytes(&self) -> io::Result<u64> {
        let mut last = self.written_bytes()?;
        for _ in 0..SETTLE_ROUNDS_MAX {
            pause(SETTLE_MS);
            let now = self.written_bytes()?;
            if now.abs_diff(last) <= SETTLED_BYTES {
                return Ok(now);
            }
            last = now;
        }
        Ok(last)
    }

    fn await_listener(&mut self) -> io::Result<()> {
        for _ in 0..START_MS_MAX {
            let listens = TcpStream::connect(self.address).is_ok();
            // Checked after connecting: if our server could not bind the port, another one answered.
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("the server exited: {status}")));
            }
            if listens {
                return Ok(());
            }
            pause(1);
        }
        Err(io::Error::other("the server does not listen"))
    }

    fn kibibytes(&self, file: &str, field: &str) -> io::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/{file}", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        number.map(|number| number << 10).ok_or_else(|| io::Error::other(format!("no {field} in {file}")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The arguments of Redis, which wants an empty word after `--save`; `split` gives it one.
fn redis(port: u16, megabytes: u32, policy: &str) -> String {
    format!(
        "--bind 127.0.0.1 --port {port} --appendonly no --maxmemory {megabytes}mb \
         --maxmemory-policy {policy} --save "
    )
}

/// A port that is free now. Each server of this program gets another one, and none is in the range from which
/// systems choose ports for connections, because many servers and connections start at once.
fn free_port() -> io::Result<u16> {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let first = process::id() as u16;
    loop {
        let offset = first.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % PORTS;
        let address = (Ipv4Addr::LOCALHOST, PORT_MIN + offset);
        match TcpListener::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            bound => return bound.map(|_| address.1),
        }
    }
}

const PORT_MIN: u16 = 16_384;
const PORTS: u16 = 16_000;
const SETTLE_MS: u64 = 150;
const SETTLE_ROUNDS_MAX: usize = 40;
const SETTLED_BYTES: u64 = 64 << 10;
const START_MS_MAX: u64 = 10_000;
