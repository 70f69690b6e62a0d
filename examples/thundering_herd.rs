//! A thousand readers read one hot key, which is deleted every second. How many of them query the database?
//!
//! `cargo run --release --example thundering_herd` counts queries. With plain `get` and `set` every reader
//! that misses queries the database until the value is stored again. With leases one reader queries, and the
//! others poll (`lease-get`) or wait for the value (`lease-wait`). It fails if a delete cost more than one
//! query under leases.
//!
//! The simulated database always takes 50 ms. A real one would slow down under load.

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
    /// Seconds for each row of the table, with one delete per second
    #[arg(long, default_value_t = 10)]
    seconds: u64,

    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    readers: u32,

    /// Duration of a query
    #[arg(long, default_value_t = 50)]
    query_ms: u64,

    /// Pause between two reads of one reader
    #[arg(long, default_value_t = 50)]
    pause_ms: u64,
}

/// The way in which a reader gets a value.
#[derive(Clone, Copy)]
enum Method {
    /// `get` and `set`.
    Plain,
    /// `lease-get` every few milliseconds until the value is there.
    Polling,
    /// `lease-wait`: the server answers once the value is there.
    Waiting,
}

/// Whether leasehold promises at most one query per delete.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Promise {
    Nothing,
    OneQuery,
}

/// The state shared by all readers of one row.
struct Readers {
    clock: Clock,
    is_done: AtomicBool,
    longest_read_ms: AtomicU64,
    method: Method,
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
    for (name, flags, method, promise) in ROWS {
        let target = Target::leasehold(&format!("{connections} {flags}"));
        let queries = row(name, target, method, &arguments).await;
        is_broken |= promise == Promise::OneQuery && queries > seconds;
    }
    match Target::memcached(&connections).await {
        Some(memcached) => _ = row("memcached, get and set", memcached, Method::Plain, &arguments).await,
        None => println!("memcached is not installed"),
    }
    if is_broken {
        println!("\nA delete cost more than one query.");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Runs all readers against one server, and prints a row of the table; returns the number of queries.
async fn row(name: &str, target: Target, method: Method, arguments: &Arguments) -> u64 {
    let shared = Readers::run(target.address, method, arguments).await;
    let [reads, queries, longest] =
        [&shared.reads, &shared.queries, &shared.longest_read_ms].map(|count| count.load(Ordering::Relaxed));
    let per_delete = queries as f64 / arguments.seconds as f64;
    println!("{name:<32} {reads:>9} {queries:>9} {per_delete:>19.2} {longest:>17}");
    target.stop();
    queries
}

impl Readers {
    async fn run(cache: SocketAddr, method: Method, arguments: &Arguments) -> Arc<Readers> {
        let shared = Arc::new(Readers::new(method, arguments));
        let mut writer = Client::connect(cache).await;
        // In the beginning the value is cached.
        writer.set(KEY, VALUE).await;
        let mut readers = Vec::new();
        for index in 0..arguments.readers {
            let (cache, shared) = (Client::connect(cache).await, Arc::clone(&shared));
            // Readers start at different times.
            let phase = shared.pause * index / arguments.readers;
            readers.push(tokio::spawn(async move {
                sleep(phase).await;
                shared.read_repeatedly(cache).await;
            }));
        }
        for _ in 0..arguments.seconds {
            sleep(DELETE_EVERY / 2).await;
            writer.delete(KEY).await;
            sleep(DELETE_EVERY / 2).await;
        }
        shared.is_done.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.await.expect("readers do not panic");
        }
        shared
    }

    fn new(method: Method, arguments: &Arguments) -> Readers {
        Readers {
            clock: Clock::system(),
            is_done: AtomicBool::new(false),
            longest_read_ms: AtomicU64::new(0),
            method,
            pause: Duration::from_millis(arguments.pause_ms),
            queries: AtomicU64::new(0),
            query: Duration::from_millis(arguments.query_ms),
            reads: AtomicU64::new(0),
        }
    }

    /// Reads until the row is done.
    async fn read_repeatedly(&self, mut cache: Client) {
        while !self.is_done.load(Ordering::Relaxed) {
            let started_ms = self.clock.now().millis;
            match self.method {
                Method::Plain => self.read(&mut cache).await,
                Method::Polling => self.read_leased(&mut cache, Duration::ZERO).await,
                Method::Waiting => self.read_leased(&mut cache, PATIENCE).await,
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

/// The rows for leasehold; memcached comes last, if it is installed.
const ROWS: [(&str, &str, Method, Promise); 3] = [
    ("leases off, get and set", "--implicit-leases off", Method::Plain, Promise::Nothing),
    ("lease-get, polling", "", Method::Polling, Promise::OneQuery),
    ("lease-wait", "", Method::Waiting, Promise::OneQuery),
];
/// The writer, and memcached's own descriptors.
const CONNECTIONS_BESIDE: u32 = 32;
const KEY: &str = "hot";
const VALUE: &str = "a popular value";
const DELETE_EVERY: Duration = Duration::from_secs(1);
const POLL_EVERY: Duration = Duration::from_millis(10);
/// Longer than a query takes.
const PATIENCE: Duration = Duration::from_secs(5);
