//! Product pages in four parts, each with its own policy, and a nightly import that changes most of them.
//!
//! `cargo run --release --example storefront` counts the database queries for each part, with a real SQLite
//! database and policies from a file. After the import of 100,000 rows one `invalidate tag` invalidates
//! everything cached from them, under any key. It fails if a page requested after that shows an old part, or
//! if the import caused queries for other categories.
//!
//! All readers are tasks of one thread, and share one client.

#[path = "price_change/dice.rs"]
mod dice;
#[path = "storefront/shop.rs"]
mod shop;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser;
use leasehold::Clock;
use leasehold::client::{Client, Fetch, Stale};
use leasehold::options::Options;
use leasehold::server::Server;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::sleep;

use self::dice::Dice;
use self::shop::Shop;

/// How many queries do pages cost, and an import?
#[derive(Clone, Copy, Debug, Parser)]
struct Arguments {
    /// Rows that the import changes; half as many more are unchanged
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(2..))]
    rows: u32,

    #[arg(long, default_value_t = 100)]
    readers: u64,

    /// Seconds of reading pages, before and after the import
    #[arg(long, default_value_t = 3)]
    seconds: u64,
}

/// One part of every page.
struct Part {
    name: &'static str,
    queries: AtomicU64,
    reads: AtomicU64,
    stale: Stale,
}

/// The state shared by all readers.
struct Storefront {
    cache: Client,
    has_closed: AtomicBool,
    /// Whether the import is committed and the invalidation confirmed.
    is_imported: AtomicBool,
    /// Queries after the import for texts and prices that it did not change.
    needless: AtomicU64,
    parts: [Part; 4],
    rows: u32,
    shop: Shop,
    /// Old parts that were returned to requests after the import.
    stale: AtomicU64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = ["leasehold", "-p", "-1", "--config", POLICIES];
    let options = Options::try_parse_from(options).expect("these are options");
    let options = options.checked().expect("the policies can be read");
    let server = Server::start(options).expect("loopback has free ports");
    let cache = Client::of(&[&server.address().to_string()]).expect("it is an address");
    let is_kept = Arc::new(Storefront::new(cache, arguments.rows)).run(arguments).await;
    server.stop();
    if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Storefront {
    fn new(cache: Client, rows: u32) -> Storefront {
        let part = |name, stale| Part { name, queries: AtomicU64::new(0), reads: AtomicU64::new(0), stale };
        Storefront {
            cache,
            has_closed: AtomicBool::new(false),
            is_imported: AtomicBool::new(false),
            needless: AtomicU64::new(0),
            parts: [
                part("text", Stale::Avoid),
                part("price", Stale::Avoid),
                part("reviews", Stale::Serve),
                part("stock", Stale::Serve),
            ],
            rows,
            shop: Shop::open(rows + rows / 2, rows).expect("SQLite makes a shop"),
            stale: AtomicU64::new(0),
        }
    }

    /// Returns whether all promises were kept.
    async fn run(self: Arc<Self>, arguments: Arguments) -> bool {
        // All unchanged products on the pages are cached first.
        for id in self.rows..self.rows + SHOWN {
            self.page(id).await;
        }
        let mut readers = JoinSet::new();
        for seed in 0..arguments.readers {
            readers.spawn(Arc::clone(&self).read(Dice::new(seed)));
        }
        sleep(Duration::from_secs(arguments.seconds)).await;
        self.import().await;
        sleep(Duration::from_secs(arguments.seconds)).await;
        self.has_closed.store(true, Ordering::Relaxed);
        readers.join_all().await;
        self.print_report()
    }

    async fn import(&self) {
        let clock = Clock::system();
        let (folder, rows, began) = (self.shop.folder(), self.rows, clock.now().millis);
        spawn_blocking(move || Shop::import(folder, rows)).await.expect("no panic").expect("SQLite takes it");
        let committed = clock.now().millis;
        self.cache.invalidate_tags(["category:0"], WITHIN).await.expect("the server confirms");
        self.is_imported.store(true, Ordering::Relaxed);
        let (imported, invalidated) = (committed - began, clock.now().millis - committed);
        println!("{rows} rows imported in {imported} ms, and invalidated in {invalidated} ms\n");
    }

    async fn read(self: Arc<Self>, mut dice: Dice) {
        while !self.has_closed.load(Ordering::Relaxed) {
            let first = if dice.below(2) == 0 { 0 } else { self.rows };
            self.page(first + dice.below(SHOWN.into()) as u32).await;
        }
    }

    async fn page(&self, id: u32) {
        for part in &self.parts {
            self.part(part, id).await;
        }
    }

    async fn part(&self, part: &Part, id: u32) {
        let was_imported = self.is_imported.load(Ordering::Relaxed);
        let is_new = id < self.rows;
        let category = if is_new { 0 } else { 1 + id % 9 };
        let tags = [&*format!("category:{category}")];
        // A time to live of zero leaves it to the policy.
        let fetch = Fetch { stale: part.stale, tags: &tags, ..Duration::ZERO.into() };
        let load = async {
            part.queries.fetch_add(1, Ordering::Relaxed);
            let is_needless = was_imported && !is_new && part.stale == Stale::Avoid;
            self.needless.fetch_add(is_needless.into(), Ordering::Relaxed);
            self.shop.part(part.name, id)
        };
        let shown =
            self.cache.fetch(format!("{}:{id}", part.name), fetch, || load).await.expect("SQLite answers");
        let is_old = is_new && was_imported && shown.starts_with(b"1 ");
        self.stale.fetch_add(is_old.into(), Ordering::Relaxed);
        part.reads.fetch_add(1, Ordering::Relaxed);
    }

    fn print_report(&self) -> bool {
        println!("{:<10} {:>10} {:>10} {:>12}", "part", "reads", "queries", "from cache");
        for part in &self.parts {
            let [reads, queries] = [&part.reads, &part.queries].map(|count| count.load(Ordering::Relaxed));
            let saved = 100.0 * (reads - queries) as f64 / reads as f64;
            println!("{:<10} {reads:>10} {queries:>10} {saved:>10.1} %", part.name);
        }
        let [stale, needless] = [&self.stale, &self.needless].map(|count| count.load(Ordering::Relaxed));
        println!("\n{stale} stale parts after the import, {needless} needless queries for other categories");
        stale == 0 && needless == 0
    }
}

const POLICIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/storefront/policies.toml");
/// Products of each kind on the pages.
const SHOWN: u32 = 1000;
/// The time limit for the invalidation.
const WITHIN: Duration = Duration::from_secs(5);
