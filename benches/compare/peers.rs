//! The servers: processes on free loopback ports, which end when their values are dropped.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use leasehold::Clock;
use leasehold::bench::{Dialect, Server};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::Arguments;

/// The kind of a server, in the order of the columns.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    Leasehold,
    Memcached,
    Redis,
    Limit,
}

/// A server in its own process.
pub struct Peer {
    pub kind: Kind,
    pub server: Server,
    child: Child,
}

/// All installed servers.
pub struct Fleet {
    pub cores: Cores,
    pub peers: Vec<Peer>,
}

/// The cores of the servers and the generator.
#[derive(Clone, Copy)]
pub struct Cores {
    /// All cores of this process.
    all: CpuSet,
    /// The core of the servers and that of the generator; `None` leaves the choice to the system.
    pinned: Option<[CpuSet; 2]>,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Leasehold, Kind::Memcached, Kind::Redis, Kind::Limit];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Leasehold => "leasehold",
            Kind::Memcached => "memcached",
            Kind::Redis => "redis",
            Kind::Limit => "limit",
        }
    }
}

impl Cores {
    /// To be called before this thread is pinned.
    pub fn find() -> Cores {
        let all = sched_getaffinity(Pid::from_raw(0)).expect("a process can read its own cores");
        let mut cores = (0..CpuSet::count()).filter(|core| all.is_set(*core).unwrap_or(false)).map(|core| {
            let mut set = CpuSet::new();
            set.set(core).expect("there is such a core");
            set
        });
        let pinned = cores.next().zip(cores.next()).map(|(server, client)| [server, client]);
        Cores { all, pinned }
    }

    /// All cores for all processes.
    pub fn free(self) -> Cores {
        Cores { pinned: None, ..self }
    }

    pub fn are_pinned(self) -> bool {
        self.pinned.is_some()
    }

    /// Moves this thread, and processes that it starts, to the servers' core.
    pub fn be_server(self) {
        pin(self.pinned.map_or(self.all, |[server, _]| server));
    }

    /// Moves this thread, and processes that it starts, to the generator's core.
    fn be_client(self) {
        pin(self.pinned.map_or(self.all, |[_, client]| client));
    }
}

fn pin(cores: CpuSet) {
    sched_setaffinity(Pid::from_raw(0), &cores).expect("a thread can choose among its own cores");
}

impl Fleet {
    pub fn start(arguments: &Arguments, cores: Cores, threads: usize) -> Fleet {
        cores.be_server();
        let threads = threads.to_string();
        let peers = [
            Peer::start(
                Kind::Leasehold,
                &arguments.leasehold,
                &["-t", &threads, "-m", MEMORY_MB, "-c", CONNECTIONS, "-p"],
            ),
            Peer::start(
                Kind::Memcached,
                &arguments.memcached,
                &[
                    "-t",
                    &threads,
                    "-m",
                    MEMORY_MB,
                    "-c",
                    CONNECTIONS,
                    "-U",
                    "0",
                    "-u",
                    "nobody",
                    "-l",
                    "127.0.0.1",
                    "-p",
                ],
            ),
            Peer::start(
                Kind::Redis,
                &arguments.redis,
                &[
                    "--bind",
                    "127.0.0.1",
                    "--save",
                    "",
                    "--appendonly",
                    "no",
                    "--maxclients",
                    CONNECTIONS,
                    "--port",
                ],
            ),
        ];
        cores.be_client();
        let peers = peers.into_iter().flatten().filter(Peer::listens).collect();
        Fleet { cores, peers }
    }

    pub fn of(&self, kind: Kind) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.kind == kind)
    }
}

impl Peer {
    /// `None` if it is not installed.
    fn start(kind: Kind, program: &Path, flags: &[&str]) -> Option<Peer> {
        let port = free_port().to_string();
        let child =
            Command::new(program).args(flags).arg(&port).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let Ok(child) = child else {
            println!("{} is not installed", kind.name());
            return None;
        };
        let dialect = if kind == Kind::Redis { Dialect::Redis } else { Dialect::Text };
        Some(Peer { kind, server: Server { address: format!("127.0.0.1:{port}"), dialect }, child })
    }

    /// Waits until the server listens.
    fn listens(&self) -> bool {
        let clock = Clock::system();
        while TcpStream::connect(&self.server.address).is_err() {
            if clock.now().millis >= PATIENCE_MS {
                println!("{} does not listen", self.kind.name());
                return false;
            }
            thread::yield_now();
        }
        true
    }

    /// The resident memory (`man 5 proc`: `VmRSS`).
    pub fn resident_bytes(&self) -> u64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is always there");
        let kilobytes = line.trim().trim_end_matches(" kB");
        kilobytes.parse::<u64>().expect("a number") * 1024
    }

    /// Seconds of processor time that the server has used.
    pub fn busy_seconds(&self) -> f64 {
        busy_seconds(&format!("/proc/{}/stat", self.child.id()))
    }
}

/// The processor time in a `stat` file (`man 5 proc`: utime and stime are fields 14 and 15).
pub fn busy_seconds(stat: &str) -> f64 {
    let stat = fs::read_to_string(stat).expect("the server runs");
    let (_, fields) = stat.rsplit_once(") ").expect("the name of the program is in parentheses");
    let ticks = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number"));
    ticks.sum::<u64>() as f64 / TICKS_PER_SECOND
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that is free now, and most likely still when the server binds it.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
    listener.local_addr().expect("it is bound").port()
}

/// Nothing is evicted.
const MEMORY_MB: &str = "1024";
/// More than the idle connections of any row.
const CONNECTIONS: &str = "12000";
const PATIENCE_MS: u64 = 10_000;
/// The unit of processor time in `/proc`, independent of the kernel's timer (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;
