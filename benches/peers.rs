//! leasehold beside Debian's memcached, in the same minute, on the same machine, with one worker thread each.
//!
//! `cargo bench --bench peers` starts both on loopback, drives them in turn over fifty connections that always have
//! one batch on its way, and prints medians and their ratio. Where `taskset` is, the servers keep to one core and the
//! client to another. `-- --test` makes it one short round that shows no more than that it works.
//!
//! The client serves its connections in turn and never sleeps, so that no server pays for waking it. `busy` is the
//! share of its core that the server used: far below 100 % it was the client that was measured. memcached's lease
//! cycle is its nearest thing to one: `mg … N c` and `ms … C`.

use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;

use leasehold::Clock;

/// How long everything takes.
#[derive(Clone, Copy)]
struct Plan {
    rounds: usize,
    span_ms: u64,
}

/// A server of its own process, which dies with this value.
struct Peer {
    address: SocketAddr,
    child: Child,
    dialect: Dialect,
}

#[derive(Clone, Copy)]
enum Dialect {
    Leasehold,
    Memcached,
}

/// What a line of the table tells: `work`, `depth` requests at once.
#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    work: Work,
    depth: usize,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Work {
    Get,
    /// Delete, get the lease, fill: so that there is something to lease again.
    LeaseCycle,
    Set,
}

const ROWS: [Row; 5] = [
    Row { name: "get/1", work: Work::Get, depth: 1 },
    Row { name: "set/1", work: Work::Set, depth: 1 },
    Row { name: "get/16", work: Work::Get, depth: 16 },
    Row { name: "set/16", work: Work::Set, depth: 16 },
    Row { name: "lease cycle/16", work: Work::LeaseCycle, depth: 16 },
];

/// What was seen in one round.
#[derive(Clone, Copy)]
struct Sample {
    /// Of one core, as a percentage.
    busy: f64,
    per_second: f64,
}

/// Requests that are sent at once, and the keys in them.
struct Batch {
    keys: Vec<String>,
    request: Vec<u8>,
}

/// One connection: what it asks for round and round, and what it waits for.
struct Connection {
    batches: Vec<Batch>,
    dialect: Dialect,
    inbox: Box<[u8]>,
    /// Bytes of the inbox that the last reply fills.
    inbox_bytes: usize,
    /// The batch that is being answered.
    now_at: usize,
    row: Row,
    stream: TcpStream,
    waits_for: Reply,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Reply {
    /// To the request itself.
    First,
    /// To the fills for the leases that the first one granted.
    Fills,
}

fn main() {
    let plan = Plan::from_arguments();
    let is_pinned = pin_client();
    let mut peers = vec![Peer::leasehold(is_pinned)];
    match Peer::memcached(is_pinned) {
        Ok(memcached) => peers.push(memcached),
        Err(_) => println!("memcached is not installed: leasehold runs alone"),
    }
    if !is_pinned {
        println!("nothing is pinned: that takes taskset and two cores");
    }
    println!(
        "{:<16}{:>11} {:>6} {:>12} {:>6} {:>7}",
        "per second", "leasehold", "busy", "memcached", "busy", "ratio"
    );
    for peer in &peers {
        peer.fill();
    }
    for row in ROWS {
        let mut samples = vec![Vec::new(); peers.len()];
        for _ in 0..plan.rounds {
            for (peer, samples) in peers.iter().zip(&mut samples) {
                samples.push(peer.measure(row, plan.span_ms));
            }
        }
        print(row, &samples);
    }
}

impl Plan {
    /// Like criterion, it is only a test unless cargo says that it is a benchmark.
    fn from_arguments() -> Self {
        let has = |flag: &str| env::args().any(|argument| argument == flag);
        if has("--bench") && !has("--test") {
            Plan { rounds: 5, span_ms: 2_000 }
        } else {
            Plan { rounds: 1, span_ms: 100 }
        }
    }
}

impl Peer {
    fn leasehold(is_pinned: bool) -> Peer {
        let port = free_port().to_string();
        let command = [env!("CARGO_BIN_EXE_leasehold"), "-t", "1", "-p", &port];
        Peer::start(Dialect::Leasehold, &command, &port, is_pinned)
            .expect("leasehold was built for this bench")
    }

    /// An error if it is not installed.
    fn memcached(is_pinned: bool) -> io::Result<Peer> {
        Command::new("memcached").arg("-V").stdout(Stdio::null()).status()?;
        let port = free_port().to_string();
        let command = ["memcached", "-t", "1", "-U", "0", "-u", "nobody", "-l", "127.0.0.1", "-p", &port];
        Peer::start(Dialect::Memcached, &command, &port, is_pinned)
    }

    fn start(dialect: Dialect, command: &[&str], port: &str, is_pinned: bool) -> io::Result<Peer> {
        // taskset becomes the server it starts, so the child's id is the server's.
        let pinned = [&["taskset", "-c", SERVER_CORE], command].concat();
        let command = if is_pinned { &pinned } else { command };
        let child = Command::new(command[0]).args(&command[1..]).stderr(Stdio::null()).spawn()?;
        let port = port.parse().expect("it was made from a number");
        Ok(Peer { address: (Ipv4Addr::LOCALHOST, port).into(), child, dialect })
    }

    /// Stores every key, once the server is there.
    fn fill(&self) {
        let row = Row { name: "fill", work: Work::Set, depth: 16 };
        let clock = Clock::system();
        while TcpStream::connect(self.address).is_err() {
            assert!(clock.now().millis < PATIENCE_MS, "the server does not listen");
            thread::yield_now();
        }
        for mut connection in self.connect(row) {
            for _ in 0..connection.batches.len() {
                connection.step();
            }
            connection.receive();
        }
    }

    /// Drives the server for one round.
    fn measure(&self, row: Row, span_ms: u64) -> Sample {
        // Alone: a delete may, seldom, void another key's lease, and then the answer is not the one that is expected.
        self.connect_one(row, 0).prove();
        let mut connections = self.connect(row);
        let (clock, ticks, mut answered) = (Clock::system(), self.cpu_ticks(), 0);
        while clock.now().millis < span_ms {
            answered += connections.iter_mut().map(Connection::step).sum::<usize>();
        }
        let seconds = clock.now().millis as f64 / 1e3;
        let busy_seconds = (self.cpu_ticks() - ticks) as f64 / TICKS_PER_SECOND;
        connections.iter_mut().for_each(Connection::receive);
        Sample { busy: 100.0 * busy_seconds / seconds, per_second: answered as f64 / seconds }
    }

    /// Connections that have sent their first batch.
    fn connect(&self, row: Row) -> Vec<Connection> {
        (0..CONNECTIONS).map(|index| self.connect_one(row, index)).collect()
    }

    fn connect_one(&self, row: Row, index: usize) -> Connection {
        let batches = row.batches(index, self.dialect);
        Connection::open(self.address, row, batches, self.dialect).expect("the server listens")
    }

    /// The processor time that the server has used (`man 5 proc`: utime and stime are fields 14 and 15).
    fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("the server runs");
        let (_, fields) = stat.rsplit_once(") ").expect("the name of the program stands in brackets");
        fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Row {
    /// All the requests of one connection, which go round and round. No two connections share a key.
    fn batches(self, connection: usize, dialect: Dialect) -> Vec<Batch> {
        let first = connection * KEYS_PER_CONNECTION;
        let keys: Vec<String> =
            (first..first + KEYS_PER_CONNECTION).map(|n| format!("bench:{n:018}")).collect();
        let batch = |keys: &[String]| Batch {
            keys: keys.to_vec(),
            request: keys.iter().flat_map(|key| self.work.request(dialect, key).into_bytes()).collect(),
        };
        keys.chunks_exact(self.depth).map(batch).collect()
    }
}

impl Work {
    fn request(self, dialect: Dialect, key: &str) -> String {
        match (self, dialect) {
            (Work::Get, _) => format!("get {key}\r\n"),
            (Work::LeaseCycle, Dialect::Leasehold) => format!("delete {key}\r\nlease-get {key}\r\n"),
            (Work::LeaseCycle, Dialect::Memcached) => format!("delete {key}\r\nmg {key} N10 c\r\n"),
            (Work::Set, _) => format!("set {key} 0 0 {}\r\n{VALUE}\r\n", VALUE.len()),
        }
    }

    /// Lines of the reply to such a request. The value has none.
    fn lines(self, dialect: Dialect) -> usize {
        match (self, dialect) {
            (Work::Get, _) => 3,
            (Work::LeaseCycle, Dialect::Leasehold) => 4,
            (Work::LeaseCycle, Dialect::Memcached) => 2,
            (Work::Set, _) => 1,
        }
    }

    /// What comes back last.
    fn reply(self, dialect: Dialect, key: &str) -> String {
        match (self, dialect) {
            (Work::Get, _) => format!("VALUE {key} 0 {}\r\n{VALUE}\r\nEND\r\n", VALUE.len()),
            (Work::LeaseCycle, Dialect::Memcached) => "HD\r\n".to_owned(),
            (Work::LeaseCycle, Dialect::Leasehold) | (Work::Set, _) => "STORED\r\n".to_owned(),
        }
    }
}

impl Batch {
    /// The fills for the leases that were just granted.
    fn fills(&self, dialect: Dialect, granted: &[u8]) -> Vec<u8> {
        let granted = str::from_utf8(granted).expect("these replies are plain text");
        let begin = match dialect {
            Dialect::Leasehold => "LVALUE ",
            Dialect::Memcached => "HD c",
        };
        let grants = granted.lines().filter_map(|line| line.strip_prefix(begin));
        let fill = |(key, grant): (&String, &str)| match dialect {
            Dialect::Leasehold => {
                let token = grant.split(' ').nth(1).expect("LVALUE <key> <token> …");
                format!("lease-set {key} {token} 0 0 {}\r\n{VALUE}\r\n", VALUE.len())
            }
            Dialect::Memcached => {
                let unique = grant.split(' ').next().expect("c<unique> W");
                format!("ms {key} {} C{unique}\r\n{VALUE}\r\n", VALUE.len())
            }
        };
        self.keys.iter().zip(grants).flat_map(|pair| fill(pair).into_bytes()).collect()
    }
}

impl Connection {
    fn open(address: SocketAddr, row: Row, batches: Vec<Batch>, dialect: Dialect) -> io::Result<Connection> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        stream.write_all(&batches[0].request)?;
        let inbox = vec![0; INBOX_BYTES].into_boxed_slice();
        Ok(Connection {
            batches,
            dialect,
            inbox,
            inbox_bytes: 0,
            now_at: 0,
            row,
            stream,
            waits_for: Reply::First,
        })
    }

    /// Takes one reply and sends what follows it; returns how many requests are through.
    fn step(&mut self) -> usize {
        self.receive();
        if self.waits_for == Reply::First && self.row.work == Work::LeaseCycle {
            let fills = self.batches[self.now_at].fills(self.dialect, self.reply());
            self.stream.write_all(&fills).expect("the socket has room for one batch");
            self.waits_for = Reply::Fills;
            return 0;
        }
        self.now_at = (self.now_at + 1) % self.batches.len();
        self.stream.write_all(&self.batches[self.now_at].request).expect("the socket has room for one batch");
        self.waits_for = Reply::First;
        self.row.depth
    }

    /// Takes the reply that is on its way.
    fn receive(&mut self) {
        let mut missing = match self.waits_for {
            Reply::First => self.row.depth * self.row.work.lines(self.dialect),
            Reply::Fills => self.row.depth,
        };
        let mut started = None;
        self.inbox_bytes = 0;
        while missing > 0 {
            let room = &mut self.inbox[self.inbox_bytes..];
            match self.stream.read(room) {
                Ok(0) => panic!("the server has closed a connection"),
                Ok(bytes) => {
                    missing -= memchr::memchr_iter(b'\n', &room[..bytes]).count();
                    self.inbox_bytes += bytes;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let waited = started.get_or_insert_with(Clock::system).now().millis;
                    assert!(waited < PATIENCE_MS, "a reply is missing");
                    thread::yield_now();
                }
                Err(error) => panic!("cannot read a reply: {error}"),
            }
        }
    }

    fn reply(&self) -> &[u8] {
        &self.inbox[..self.inbox_bytes]
    }

    /// Looks at every byte of the first answer; afterwards only lines are counted.
    fn prove(mut self) {
        if self.row.work == Work::LeaseCycle {
            self.step();
        }
        self.receive();
        let batch = &self.batches[self.now_at];
        let expected: String = batch.keys.iter().map(|key| self.row.work.reply(self.dialect, key)).collect();
        assert_eq!(String::from_utf8_lossy(self.reply()), expected);
    }
}

fn print(row: Row, samples: &[Vec<Sample>]) {
    let per_second = |samples: &Vec<Sample>| median(samples.iter().map(|sample| sample.per_second));
    let busy = |samples: &Vec<Sample>| median(samples.iter().map(|sample| sample.busy));
    let mut line = format!("{:<16}", row.name);
    for (samples, width) in samples.iter().zip([11, 13]) {
        line += &format!("{:>width$.0} {:>4.0} %", per_second(samples), busy(samples));
    }
    if let [leasehold, memcached] = samples {
        let ratios =
            || leasehold.iter().zip(memcached).map(|(ours, theirs)| ours.per_second / theirs.per_second);
        let (lowest, highest) = (ratios().fold(f64::MAX, f64::min), ratios().fold(0.0, f64::max));
        let ratio = per_second(leasehold) / per_second(memcached);
        line += &format!(" {ratio:>7.2}  ({lowest:.2} to {highest:.2})");
    }
    println!("{line}");
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Pins this process, if both cores may be used; true if so.
fn pin_client() -> bool {
    let taskset = |arguments: &[&str]| {
        let status =
            Command::new("taskset").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let id = std::process::id().to_string();
    taskset(&["-c", SERVER_CORE, "true"]) && taskset(&["-cp", CLIENT_CORE, &id])
}

/// A port that is free now; nobody else here takes one in the moment until the server does.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
    listener.local_addr().expect("it is bound").port()
}

const CONNECTIONS: usize = 50;
/// A multiple of every depth.
const KEYS_PER_CONNECTION: usize = 192;
/// 100 bytes.
const VALUE: &str =
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789";
const INBOX_BYTES: usize = 16 * 1024;
const SERVER_CORE: &str = "0";
const CLIENT_CORE: &str = "1";
/// Whatever takes longer has failed.
const PATIENCE_MS: u64 = 10_000;
/// Linux tells processor time to user space in these, whatever its timer does (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;
