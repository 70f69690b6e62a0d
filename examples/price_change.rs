//! A price changes from $99 to $79. The writer commits and deletes the cached product. A reader that missed
//! the product just before has read $99 from the database, and stores it: the shop shows the wrong price
//! until the next change.
//!
//! `cargo run --release --example price_change` repeats this race for a minute with a real SQLite database
//! and real sockets, first without leases and then with them. It fails if leasehold serves a stale price
//! where it promises not to.
//!
//! A price is stale if it is older than a change that was committed, and whose delete was answered, before
//! the read began. All readers and writers are tasks of one thread: delays race here, not processors.

mod common;
#[path = "price_change/dice.rs"]
mod dice;
#[path = "price_change/hot_key.rs"]
mod hot_key;
#[path = "price_change/shop.rs"]
mod shop;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Add;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;
use leasehold::Clock;
use tokio::time::sleep;

use self::common::client::{Client, Leased};
use self::common::target::Target;
use self::dice::Dice;
use self::shop::{Database, Ledger, Product, Shop};

/// How many stale prices does a cache show?
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// Seconds for each row of the table
    #[arg(long, default_value_t = 60)]
    seconds: u64,

    #[arg(long, default_value_t = 16)]
    readers: u64,

    #[arg(long, default_value_t = 2)]
    writers: u64,

    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    products: u32,

    /// Average delay of a reader between its query and its fill
    #[arg(long, default_value_t = 30)]
    delay_ms: u64,
}

/// The way in which a reader uses a cache.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Method {
    /// `get` and `set`; a key whose `set` failed is deleted, as Django does.
    Django,
    /// `lease-wait` and `lease-set`.
    Leases,
    /// `get` and `set`.
    Plain,
    /// `get` and `set`, each on the connection of a pool that was unused for longest, as in pymemcache's
    /// `PooledClient`.
    Pooled,
}

/// The connections of a reader: its own, or those of a pool.
#[derive(Clone)]
struct Connections {
    address: SocketAddr,
    free: Arc<Mutex<VecDeque<Client>>>,
}

/// The state shared by all readers and writers of one row.
struct Shared {
    arguments: Arguments,
    cache: SocketAddr,
    clock: Clock,
    ends_ms: u64,
    ledger: Ledger,
    method: Method,
}

struct Reader {
    cache: Connections,
    database: Database,
    dice: Dice,
    shared: Arc<Shared>,
    tally: Tally,
}

struct Writer {
    cache: Client,
    database: Database,
    dice: Dice,
    shared: Arc<Shared>,
}

/// The counts of readers.
#[derive(Clone, Copy, Default)]
struct Tally {
    longest_stale_ms: u64,
    queries: u64,
    reads: u64,
    stale: u64,
}

/// Whether leasehold promises that a row has no stale price.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Promise {
    NoStale,
    Nothing,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Arguments { seconds, readers, writers, products, delay_ms } = arguments;
    println!(
        "{readers} readers, {writers} writers, {products} products, {delay_ms} ms to fill, {seconds} s a row\n"
    );
    println!(
        "{:<42} {:>8} {:>8} {:>7} {:>15} {:>8}",
        "", "reads", "queries", "stale", "stale up to, ms", "refused"
    );
    let mut is_broken = false;
    for (name, flags, method, promise) in ROWS {
        let tally = row(name, Target::leasehold(flags), method, &arguments).await;
        is_broken |= promise == Promise::NoStale && tally.stale > 0;
    }
    match Target::memcached("").await {
        Some(memcached) => _ = row("memcached, get and set", memcached, Method::Plain, &arguments).await,
        None => println!("memcached is not installed"),
    }
    println!();
    hot_key::run().await;
    if is_broken {
        println!("\nA stale price was served where none is allowed.");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Runs readers and writers against one server, and prints a row of the table.
async fn row(name: &str, target: Target, method: Method, arguments: &Arguments) -> Tally {
    let tally = storm(target.address, method, arguments).await;
    let refused = refusals(&mut Client::connect(target.address).await).await;
    let Tally { longest_stale_ms, queries, reads, stale } = tally;
    println!("{name:<42} {reads:>8} {queries:>8} {stale:>7} {longest_stale_ms:>15} {refused:>8}");
    target.stop();
    tally
}

async fn storm(cache: SocketAddr, method: Method, arguments: &Arguments) -> Tally {
    let shop = Shop::open(arguments.products);
    let clock = Clock::system();
    let ends_ms = arguments.seconds * 1000;
    let ledger = Ledger::new(arguments.products);
    let shared = Arc::new(Shared { arguments: arguments.clone(), cache, clock, ends_ms, ledger, method });
    let mut readers = Vec::new();
    let mut writers = Vec::new();
    let pool = Connections::new(cache);
    for seed in 1..=arguments.readers {
        let cache = if method == Method::Pooled { pool.clone() } else { Connections::new(cache) };
        readers.push(tokio::spawn(Reader::new(seed, &shop, &shared, cache).browse()));
    }
    for seed in 1..=arguments.writers {
        writers.push(tokio::spawn(Writer::new(seed, &shop, &shared).await.change_prices()));
    }
    let mut sum = Tally::default();
    for reader in readers {
        sum = sum + reader.await.expect("readers do not panic");
    }
    for writer in writers {
        writer.await.expect("writers do not panic");
    }
    sum
}

impl Shared {
    fn is_done(&self) -> bool {
        self.now_ms() >= self.ends_ms
    }

    fn now_ms(&self) -> u64 {
        self.clock.now().millis
    }
}

impl Connections {
    fn new(address: SocketAddr) -> Connections {
        Connections { address, free: Arc::default() }
    }

    /// A free connection, or a new one.
    async fn take(&self) -> Client {
        let free = self.free.lock().expect("no thread panics while holding it").pop_front();
        match free {
            Some(client) => client,
            None => Client::connect(self.address).await,
        }
    }

    fn give_back(&self, client: Client) {
        self.free.lock().expect("no thread panics while holding it").push_back(client);
    }
}

impl Reader {
    fn new(seed: u64, shop: &Shop, shared: &Arc<Shared>, cache: Connections) -> Reader {
        let (database, dice) = (shop.connect(), Dice::new(seed));
        Reader { cache, database, dice, shared: Arc::clone(shared), tally: Tally::default() }
    }

    async fn browse(mut self) -> Tally {
        while !self.shared.is_done() {
            let id = self.dice.below(self.shared.arguments.products.into()) as u32;
            // Taken before the request: an older price was stale when the read began.
            let required = self.shared.ledger.required(id);
            let seen = match self.shared.method {
                Method::Django | Method::Plain | Method::Pooled => self.read(id).await,
                Method::Leases => self.read_leased(id).await,
            };
            self.count_read(id, required, seen);
            sleep(BROWSE).await;
        }
        self.tally
    }

    /// The usual look-aside read.
    async fn read(&mut self, id: u32) -> Product {
        let key = key(id);
        let mut cache = self.cache.take().await;
        let found = cache.get(&key).await;
        self.cache.give_back(cache);
        if let Some(text) = found {
            return Product::from_text(&text);
        }
        let product = self.query(id).await;
        let mut cache = self.cache.take().await;
        let is_stored = cache.set(&key, &product.to_text()).await;
        if !is_stored && self.shared.method == Method::Django {
            cache.delete(&key).await;
        }
        self.cache.give_back(cache);
        product
    }

    /// The same with leases.
    async fn read_leased(&mut self, id: u32) -> Product {
        let key = key(id);
        let mut cache = self.cache.take().await;
        let product = match cache.lease(&key, PATIENCE).await {
            Leased::Hit(text) => Product::from_text(&text),
            Leased::Granted(token) => {
                let product = self.query(id).await;
                cache.lease_set(&key, token, &product.to_text()).await;
                product
            }
            Leased::Busy => self.query(id).await,
        };
        self.cache.give_back(cache);
        product
    }

    /// Reads the database, and then pauses, as if a page were rendered or a thread waited.
    async fn query(&mut self, id: u32) -> Product {
        self.tally.queries += 1;
        let product = self.database.read(id);
        let delay_ms = self.shared.arguments.delay_ms;
        sleep(Duration::from_millis(delay_ms / 2 + self.dice.below(delay_ms + 1))).await;
        product
    }

    fn count_read(&mut self, id: u32, required: u32, seen: Product) {
        self.tally.reads += 1;
        if seen.version < required {
            self.tally.stale += 1;
            let overdue_ms = self.shared.ledger.overdue_ms(id, seen.version, self.shared.now_ms());
            self.tally.longest_stale_ms = self.tally.longest_stale_ms.max(overdue_ms);
        }
    }
}

impl Writer {
    async fn new(seed: u64, shop: &Shop, shared: &Arc<Shared>) -> Writer {
        let cache = Client::connect(shared.cache).await;
        Writer { cache, database: shop.connect(), dice: Dice::new(!seed), shared: Arc::clone(shared) }
    }

    async fn change_prices(mut self) {
        while !self.shared.is_done() {
            sleep(Duration::from_millis(self.dice.below(2 * CHANGE_EVERY_MS))).await;
            let id = self.dice.below(self.shared.arguments.products.into()) as u32;
            let version = self.database.change(id, 7900 + self.dice.below(2000) as u32);
            self.cache.delete(&key(id)).await;
            self.shared.ledger.promise(id, version, self.shared.now_ms());
        }
    }
}

impl Add for Tally {
    type Output = Tally;

    fn add(self, other: Tally) -> Tally {
        Tally {
            longest_stale_ms: self.longest_stale_ms.max(other.longest_stale_ms),
            queries: self.queries + other.queries,
            reads: self.reads + other.reads,
            stale: self.stale + other.stale,
        }
    }
}

fn key(id: u32) -> String {
    format!("product:{id}")
}

/// Fills that the server refused, reported to their clients or not. memcached has no such statistics.
async fn refusals(cache: &mut Client) -> u64 {
    let mut sum = 0;
    cache.send("stats\r\n").await;
    loop {
        let line = cache.line().await;
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["END"] => return sum,
            // Reasons are counted in addition to the sum.
            ["STAT", name, value] if name.contains("_refused") && !name.starts_with("implicit_refused_") => {
                sum += value.parse::<u64>().expect("a number");
            }
            _ => {}
        }
    }
}

/// The rows for leasehold; memcached comes last, if it is installed.
const ROWS: [(&str, &str, Method, Promise); 5] = [
    ("leases off, get and set", "--implicit-leases off", Method::Plain, Promise::Nothing),
    ("implicit leases, get and set", "", Method::Plain, Promise::NoStale),
    ("the same through a pool (PooledClient)", "", Method::Pooled, Promise::NoStale),
    (
        "implicit leases, failed sets are deleted",
        "--implicit-reply not-stored",
        Method::Django,
        Promise::NoStale,
    ),
    ("lease-wait and lease-set", "", Method::Leases, Promise::NoStale),
];
/// The pause between two pages of one reader.
const BROWSE: Duration = Duration::from_millis(1);
/// The average pause between two changes of one writer.
const CHANGE_EVERY_MS: u64 = 20;
/// Longer than a fill takes.
const PATIENCE: Duration = Duration::from_secs(1);
