//! A thousand readers want one hot key, and every second somebody deletes it. How many of them does the database see?
//!
//! `cargo run --release --example thundering_herd` counts: with plain `get` and `set` everybody who misses goes to the
//! database until somebody has stored the value again; with leases one goes, and the others poll (`lease-get`) or are
//! told when it is there (`lease-wait`). It ends with an error if a delete cost more than one query under leases.
//!
//! The database is one that takes 50 ms to answer and never gets slower; a real one would, and that is the point.

mod common;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser;
use leasehold::Clock;
use leasehold::process;
use tokio::time::sleep;

use self::common::client::{Client, Leased};
use self::common::target::Target;

/// How many queries does one delete of a hot key cost?
#[derive(Debug, Parser)]
struct Arguments {
    /// How long each row of the table takes; there is one delete a second
    #[arg(long, default_value_t = 10)]
    seconds: u64,

    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    readers: u32,

    /// How long a query takes
    #[arg(long, default_value_t = 50)]
    query_ms: u64,

    /// Between two reads of one reader
    #[arg(long, default_value_t = 50)]
    pause_ms: u64,
}

/// How a reader gets at a value.
#[derive(Clone, Copy)]
enum Manner {
    /// `get` and `set`.
    Plain,
    /// `lease-get` every few milliseconds until the value is there.
    Polling,
    /// `lease-wait`: the server answers once the value is there.
    Waiting,
}

/// Leasehold has promised one query for each delete, or nothing.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Promise {
    Nothing,
    OneQuery,
}

/// What all readers of one row share.
struct Herd {
    clock: Clock,
    is_over: AtomicBool,
    longest_read_ms: AtomicU64,
    manner: Manner,
    pause: Duration,
    queries: AtomicU64,
    query: Duration,
    reads: AtomicU64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Arguments { seconds, readers, query_ms, pause_ms } = arguments;
    let connections = readers + CONNECTIONS_BESIDE;
    // Both ends of each connection are in this process.
    process::allow_descriptors(2 * connections).expect("`ulimit -n` allows two files for each reader");
    println!("{readers} readers, each every {pause_ms} ms; {seconds} deletes; {query_ms} ms for a query\n");
    println!(
        "{:<32} {:>9} {:>9} {:>19} {:>17}",
        "", "reads", "queries", "queries per delete", "longest read, ms"
    );
    let connections = format!("-c {connections}");
    let mut is_broken = false;
    for (name, flags, manner, promise) in ROWS {
        let target = Target::leasehold(&format!("{connections} {flags}"));
        let queries = row(name, target, manner, &arguments).await;
        is_broken |= promise == Promise::OneQuery && queries > seconds;
    }
    match Target::memcached(&connections).await {
        Some(memcached) => _ = row("memcached, get and set", memcached, Manner::Plain, &arguments).await,
        None => println!("memcached is not installed"),
    }
    if is_broken {
        println!("\nA delete cost more than one query.");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Lets the herd graze on one server, and prints what came of it; returns the number of queries.
async fn row(name: &str, target: Target, manner: Manner, arguments: &Arguments) -> u64 {
    let herd = Herd::graze(target.address, manner, arguments).await;
    let [reads, queries, longest] =
        [&herd.reads, &herd.queries, &herd.longest_read_ms].map(|count| count.load(Ordering::Relaxed));
    let per_delete = queries as f64 / arguments.seconds as f64;
    println!("{name:<32} {reads:>9} {queries:>9} {per_delete:>19.2} {longest:>17}");
    target.stop();
    queries
}

impl Herd {
    async fn graze(cache: SocketAddr, manner: Manner, arguments: &Arguments) -> Arc<Herd> {
        let herd = Arc::new(Herd::new(manner, arguments));
        let mut shepherd = Client::connect(cache).await;
        // The story begins with a value that everybody can read.
        shepherd.set(KEY, VALUE).await;
        let mut readers = Vec::new();
        for index in 0..arguments.readers {
            let (cache, herd) = (Client::connect(cache).await, Arc::clone(&herd));
            // So that they do not all ask in the same moment.
            let phase = herd.pause * index / arguments.readers;
            readers.push(tokio::spawn(async move {
                sleep(phase).await;
                herd.roam(cache).await;
            }));
        }
        for _ in 0..arguments.seconds {
            sleep(DELETE_EVERY / 2).await;
            shepherd.delete(KEY).await;
            sleep(DELETE_EVERY / 2).await;
        }
        herd.is_over.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.await.expect("readers do not panic");
        }
        herd
    }

    fn new(manner: Manner, arguments: &Arguments) -> Herd {
        Herd {
            clock: Clock::system(),
            is_over: AtomicBool::new(false),
            longest_read_ms: AtomicU64::new(0),
            manner,
            pause: Duration::from_millis(arguments.pause_ms),
            queries: AtomicU64::new(0),
            query: Duration::from_millis(arguments.query_ms),
            reads: AtomicU64::new(0),
        }
    }

    /// The life of one reader.
    async fn roam(&self, mut cache: Client) {
        while !self.is_over.load(Ordering::Relaxed) {
            let started_ms = self.clock.now().millis;
            match self.manner {
                Manner::Plain => self.read(&mut cache).await,
                Manner::Polling => self.read_leased(&mut cache, Duration::ZERO).await,
                Manner::Waiting => self.read_leased(&mut cache, PATIENCE).await,
            }
            self.longest_read_ms.fetch_max(self.clock.now().millis - started_ms, Ordering::Relaxed);
            self.reads.fetch_add(1, Ordering::Relaxed);
            sleep(self.pause).await;
        }
    }

    async fn read(&self, cache: &mut Client) {
        if cache.get(KEY).await.is_none() {
            self.query().await;
            cache.set(KEY, VALUE).await;
        }
    }

    async fn read_leased(&self, cache: &mut Client, patience: Duration) {
        loop {
            match cache.lease(KEY, patience).await {
                Leased::Busy => sleep(POLL_EVERY).await,
                Leased::Granted(token) => {
                    self.query().await;
                    cache.lease_set(KEY, token, VALUE).await;
                    return;
                }
                Leased::Hit(value) => return assert_eq!(value, VALUE),
            }
        }
    }

    async fn query(&self) {
        self.queries.fetch_add(1, Ordering::Relaxed);
        sleep(self.query).await;
    }
}

/// What is told of leasehold; memcached comes last, where it is installed.
const ROWS: [(&str, &str, Manner, Promise); 3] = [
    ("leases off, get and set", "--implicit-leases off", Manner::Plain, Promise::Nothing),
    ("lease-get, polling", "", Manner::Polling, Promise::OneQuery),
    ("lease-wait", "", Manner::Waiting, Promise::OneQuery),
];
/// The shepherd, and what memcached keeps for itself.
const CONNECTIONS_BESIDE: u32 = 32;
const KEY: &str = "hot";
const VALUE: &str = "what everybody wants";
const DELETE_EVERY: Duration = Duration::from_secs(1);
const POLL_EVERY: Duration = Duration::from_millis(10);
/// Longer than a query takes.
const PATIENCE: Duration = Duration::from_secs(5);
