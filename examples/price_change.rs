//! Monday, 2:47 PM: the price goes from $99 to $79. The writer commits and deletes the cached product. A reader that
//! had missed it a moment before comes back from the database with $99, and stores it: the shop shows the wrong price
//! until the next change.
//!
//! `cargo run --release --example price_change` tells this story with a real SQLite database and real sockets, again
//! and again for a minute: once to a cache that stores whatever it is given, and then to leases. It ends with an error
//! if leasehold has served a single stale price where it promised not to.
//!
//! A price is stale if it is older than a change whose commit was over, and whose delete was answered, before the
//! reader asked. All readers and writers are tasks of one thread: what races here are delays, not processors.

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
    /// How long each row of the table takes
    #[arg(long, default_value_t = 60)]
    seconds: u64,

    #[arg(long, default_value_t = 16)]
    readers: u64,

    #[arg(long, default_value_t = 2)]
    writers: u64,

    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    products: u32,

    /// How long a reader takes on average between its query and its fill
    #[arg(long, default_value_t = 30)]
    delay_ms: u64,
}

/// How a reader treats a cache.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Manner {
    /// `get` and `set`; what `set` failed to store is deleted, as Django does.
    Django,
    /// `lease-wait` and `lease-set`.
    Leases,
    /// `get` and `set`.
    Plain,
    /// The same, each request on whichever connection of a pool was unused for the longest, as by pymemcache's `PooledClient`.
    Pooled,
}

/// The connections that a reader may take: its own, or those of a pool.
#[derive(Clone)]
struct Connections {
    address: SocketAddr,
    free: Arc<Mutex<VecDeque<Client>>>,
}

/// What all parties of one storm share.
struct Scene {
    arguments: Arguments,
    cache: SocketAddr,
    clock: Clock,
    ends_ms: u64,
    ledger: Ledger,
    manner: Manner,
}

struct Reader {
    cache: Connections,
    database: Database,
    dice: Dice,
    scene: Arc<Scene>,
    tally: Tally,
}

struct Writer {
    cache: Client,
    database: Database,
    dice: Dice,
    scene: Arc<Scene>,
}

/// What readers have seen.
#[derive(Clone, Copy, Default)]
struct Tally {
    longest_stale_ms: u64,
    queries: u64,
    reads: u64,
    stale: u64,
}

/// Whether leasehold has promised that a row shows no stale price.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Promise {
    Fresh,
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
    for (name, flags, manner, promise) in ROWS {
        let tally = row(name, Target::leasehold(flags), manner, &arguments).await;
        is_broken |= promise == Promise::Fresh && tally.stale > 0;
    }
    match Target::memcached("").await {
        Some(memcached) => _ = row("memcached, get and set", memcached, Manner::Plain, &arguments).await,
        None => println!("memcached is not installed"),
    }
    println!();
    hot_key::tell().await;
    if is_broken {
        println!("\nA stale price was served where none may be.");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Plays the storm against one server, and prints what came of it.
async fn row(name: &str, target: Target, manner: Manner, arguments: &Arguments) -> Tally {
    let tally = storm(target.address, manner, arguments).await;
    let refused = refusals(&mut Client::connect(target.address).await).await;
    let Tally { longest_stale_ms, queries, reads, stale } = tally;
    println!("{name:<42} {reads:>8} {queries:>8} {stale:>7} {longest_stale_ms:>15} {refused:>8}");
    target.stop();
    tally
}

async fn storm(cache: SocketAddr, manner: Manner, arguments: &Arguments) -> Tally {
    let shop = Shop::open(arguments.products);
    let clock = Clock::system();
    let ends_ms = arguments.seconds * 1000;
    let ledger = Ledger::new(arguments.products);
    let scene = Arc::new(Scene { arguments: arguments.clone(), cache, clock, ends_ms, ledger, manner });
    let mut readers = Vec::new();
    let mut writers = Vec::new();
    let pool = Connections::new(cache);
    for seed in 1..=arguments.readers {
        let cache = if manner == Manner::Pooled { pool.clone() } else { Connections::new(cache) };
        readers.push(tokio::spawn(Reader::new(seed, &shop, &scene, cache).browse()));
    }
    for seed in 1..=arguments.writers {
        writers.push(tokio::spawn(Writer::new(seed, &shop, &scene).await.change_prices()));
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

impl Scene {
    fn is_over(&self) -> bool {
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

    /// One that is free, or a new one.
    async fn take(&self) -> Client {
        let free = self.free.lock().expect("nobody panics").pop_front();
        match free {
            Some(client) => client,
            None => Client::connect(self.address).await,
        }
    }

    fn give_back(&self, client: Client) {
        self.free.lock().expect("nobody panics").push_back(client);
    }
}

impl Reader {
    fn new(seed: u64, shop: &Shop, scene: &Arc<Scene>, cache: Connections) -> Reader {
        let (database, dice) = (shop.connect(), Dice::new(seed));
        Reader { cache, database, dice, scene: Arc::clone(scene), tally: Tally::default() }
    }

    async fn browse(mut self) -> Tally {
        while !self.scene.is_over() {
            let id = self.dice.below(self.scene.arguments.products.into()) as u32;
            // Before the request: a price that is older than this was out of date when it was asked for.
            let required = self.scene.ledger.required(id);
            let seen = match self.scene.manner {
                Manner::Django | Manner::Plain | Manner::Pooled => self.read(id).await,
                Manner::Leases => self.read_leased(id).await,
            };
            self.judge(id, required, seen);
            sleep(BROWSE).await;
        }
        self.tally
    }

    /// The loop that every user of memcached knows by heart.
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
        if !is_stored && self.scene.manner == Manner::Django {
            cache.delete(&key).await;
        }
        self.cache.give_back(cache);
        product
    }

    /// The same with leases: two verbs, and nothing to think about.
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

    /// Reads the database, and is in no hurry afterwards: a page is rendered, a thread waits for its turn.
    async fn query(&mut self, id: u32) -> Product {
        self.tally.queries += 1;
        let product = self.database.read(id);
        let delay_ms = self.scene.arguments.delay_ms;
        sleep(Duration::from_millis(delay_ms / 2 + self.dice.below(delay_ms + 1))).await;
        product
    }

    fn judge(&mut self, id: u32, required: u32, seen: Product) {
        self.tally.reads += 1;
        if seen.version < required {
            self.tally.stale += 1;
            let overdue_ms = self.scene.ledger.overdue_ms(id, seen.version, self.scene.now_ms());
            self.tally.longest_stale_ms = self.tally.longest_stale_ms.max(overdue_ms);
        }
    }
}

impl Writer {
    async fn new(seed: u64, shop: &Shop, scene: &Arc<Scene>) -> Writer {
        let cache = Client::connect(scene.cache).await;
        Writer { cache, database: shop.connect(), dice: Dice::new(!seed), scene: Arc::clone(scene) }
    }

    async fn change_prices(mut self) {
        while !self.scene.is_over() {
            sleep(Duration::from_millis(self.dice.below(2 * CHANGE_EVERY_MS))).await;
            let id = self.dice.below(self.scene.arguments.products.into()) as u32;
            let version = self.database.change(id, 7900 + self.dice.below(2000) as u32);
            self.cache.delete(&key(id)).await;
            self.scene.ledger.promise(id, version, self.scene.now_ms());
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

/// Fills that the server has turned away, whether their clients heard of it or not. memcached does not know the word.
async fn refusals(cache: &mut Client) -> u64 {
    let mut sum = 0;
    cache.send("stats\r\n").await;
    loop {
        let line = cache.line().await;
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["END"] => return sum,
            // Reasons are counted beside the sum.
            ["STAT", name, value] if name.contains("_refused") && !name.starts_with("implicit_refused_") => {
                sum += value.parse::<u64>().expect("a number");
            }
            _ => {}
        }
    }
}

/// What is told of leasehold; memcached comes last, where it is installed.
const ROWS: [(&str, &str, Manner, Promise); 5] = [
    ("leases off, get and set", "--implicit-leases off", Manner::Plain, Promise::Nothing),
    ("implicit leases, get and set", "", Manner::Plain, Promise::Fresh),
    ("the same through a pool (PooledClient)", "", Manner::Pooled, Promise::Fresh),
    (
        "implicit leases, failed sets are deleted",
        "--implicit-reply not-stored",
        Manner::Django,
        Promise::Fresh,
    ),
    ("lease-wait and lease-set", "", Manner::Leases, Promise::Fresh),
];
/// Between two pages of one reader.
const BROWSE: Duration = Duration::from_millis(1);
/// Between two changes of one writer, on average.
const CHANGE_EVERY_MS: u64 = 20;
/// Longer than a fill takes.
const PATIENCE: Duration = Duration::from_secs(1);
