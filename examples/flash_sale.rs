//! At noon ten thousand products change their price at once, while two hundred readers read them.
//!
//! `cargo run --release --example flash_sale` prints a timeline, with a real SQLite database and real
//! sockets: one transaction changes all prices, and one `invalidate prefix product:` invalidates their cached
//! values. Then it does so again with a real PostgreSQL, if there is one, whose log the server reads: the
//! application invalidates nothing. It fails if a read that began after that returned an old price, if old
//! prices were returned for longer than a second after the commit, or if the database was queried more than
//! once per product. (The
//! server refuses about one in ten thousand good fills, because its tables of invalidations have a fixed
//! size; such a product is queried again.)
//!
//! All readers are tasks of one thread, and share one client.

#[path = "price_change/dice.rs"]
mod dice;
#[path = "flash_sale/followed.rs"]
mod followed;
#[path = "../tests/support/postgres.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod postgres;
#[path = "flash_sale/shop.rs"]
mod shop;

use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use leasehold::Clock;
use leasehold::client::Client;
use leasehold::metrics::SourceCount;
use leasehold::options::Options;
use leasehold::server::Server;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::sleep;

use self::dice::Dice;
use self::followed::Followed;
use self::postgres::Cluster;
use self::shop::{Database, Sqlite};

/// How fast do ten thousand prices change?
#[derive(Clone, Copy, Debug, Parser)]
struct Arguments {
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    products: u32,

    #[arg(long, default_value_t = 200)]
    readers: u64,

    /// Seconds for which readers continue after the start of the sale
    #[arg(long, default_value_t = 3)]
    seconds: u64,
}

/// The state shared by all readers.
struct Sale {
    arguments: Arguments,
    cache: Client,
    clock: Clock,
    database: Box<dyn Database>,
    server: Server,
    timeline: Mutex<Timeline>,
}

/// The events so far, in milliseconds of the clock.
#[derive(Default)]
struct Timeline {
    committed: Option<u64>,
    ends: Option<u64>,
    invalidated: Option<u64>,
    last_old: u64,
    /// Reads that began after the invalidation was confirmed and returned an old price.
    stale: u64,
    /// Reads by the tenth of a second in which they ended.
    tenths: Vec<Tenth>,
}

#[derive(Clone, Copy, Default)]
struct Tenth {
    old: u64,
    queries: u64,
    reads: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    println!("the application invalidates");
    let options = Options::try_parse_from(["leasehold", "-p", "-1"]).expect("these are options");
    let mut is_kept = Sale::new(arguments, options, Sqlite::open(arguments.products, OLD)).run().await;
    if let Some(cluster) = Cluster::start("") {
        println!("\nthe log of the database invalidates");
        let database = Followed::open(cluster, arguments.products, OLD);
        let options = database.options();
        is_kept &= Sale::new(arguments, options, database).run().await;
    }
    if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Sale {
    fn new(arguments: Arguments, options: Options, database: impl Database + 'static) -> Arc<Sale> {
        let server = Server::start(options).expect("loopback has free ports");
        let cache = Client::of(&[&server.address().to_string()]).expect("it is an address");
        let (clock, timeline) = (Clock::system(), Mutex::default());
        Arc::new(Sale { arguments, cache, clock, database: Box::new(database), server, timeline })
    }

    /// Returns whether all promises were kept.
    async fn run(self: Arc<Self>) -> bool {
        for id in 0..self.arguments.products {
            self.read_price(id).await;
        }
        let mut readers = JoinSet::new();
        for seed in 0..self.arguments.readers {
            readers.spawn(Arc::clone(&self).read(Dice::new(seed)));
        }
        sleep(BEFORE).await;
        self.database.reprice(NEW);
        let committed = self.now();
        self.timeline.lock().committed = Some(committed);
        match self.database.is_followed() {
            true => self.wait_for_events().await,
            false => {
                self.cache.invalidate_prefixes(["product:"], WITHIN).await.expect("the server confirms");
            }
        }
        let invalidated = self.now();
        self.timeline.lock().invalidated = Some(invalidated);
        self.timeline.lock().ends = Some(invalidated + self.arguments.seconds * 1000);
        readers.join_all().await;
        self.print_report(committed, invalidated)
    }

    /// Waits until the server has applied all changes.
    async fn wait_for_events(&self) {
        let sources = self.server.view().metrics().sources.all();
        while sources[0].count(SourceCount::Applied) < self.arguments.products.into() {
            sleep(Duration::from_millis(1)).await;
        }
    }

    async fn read(self: Arc<Self>, mut dice: Dice) {
        while self.timeline.lock().ends.is_none_or(|ends| self.now() < ends) {
            self.read_price(dice.below(self.arguments.products.into()) as u32).await;
        }
    }

    /// Reads one price, as a page of the shop would, and records it.
    async fn read_price(&self, id: u32) {
        let has_begun = self.timeline.lock().invalidated.is_some();
        let mut queries = 0;
        let load = async {
            queries += 1;
            Ok::<_, Infallible>(self.database.price(id).to_string())
        };
        let price = self.cache.fetch(format!("product:{id}:price"), HOUR, || load).await;
        let is_old = price.expect("the database answers") == OLD.to_string().as_str();
        self.timeline.lock().record(self.now(), queries, is_old, has_begun);
    }

    fn print_report(&self, committed: u64, invalidated: u64) -> bool {
        let timeline = self.timeline.lock();
        let queries = self.database.queries();
        println!("{:>12} {:>9} {:>9} {:>9}", "ms", "reads", "old", "queries");
        let first = committed / TENTH_MS;
        for (index, tenth) in
            timeline.tenths.iter().enumerate().skip(first.saturating_sub(3) as usize).take(14)
        {
            let from = index as i64 * TENTH_MS as i64 - committed as i64;
            println!("{from:>+12} {:>9} {:>9} {:>9}", tenth.reads, tenth.old, tenth.queries);
        }
        let last_old = timeline.last_old.saturating_sub(committed);
        println!(
            "\ncommitted at 0 ms, invalidated at {} ms, last old price at {last_old} ms",
            invalidated - committed
        );
        println!(
            "{} stale reads after that; {queries} queries for {} products",
            timeline.stale, self.arguments.products
        );
        let queries_max = self.arguments.products + self.arguments.products.div_ceil(FILLS_PER_REFUSAL_MIN);
        timeline.stale == 0 && last_old <= 1000 && queries <= queries_max
    }

    fn now(&self) -> u64 {
        self.clock.now().millis
    }
}

impl Timeline {
    fn record(&mut self, now: u64, queries: u64, is_old: bool, has_begun: bool) {
        let index = (now / TENTH_MS) as usize;
        self.tenths.resize(self.tenths.len().max(index + 1), Tenth::default());
        let tenth = &mut self.tenths[index];
        tenth.reads += 1;
        tenth.queries += queries;
        if is_old {
            tenth.old += 1;
            self.last_old = now;
            self.stale += u64::from(has_begun);
        }
    }
}

const OLD: u32 = 9900;
const NEW: u32 = 7900;
const HOUR: Duration = Duration::from_secs(3600);
/// The time for which readers run before the sale.
const BEFORE: Duration = Duration::from_millis(500);
/// More refusals than one in this many fills are an error.
const FILLS_PER_REFUSAL_MIN: u32 = 1000;
/// The time limit for the invalidation.
const WITHIN: Duration = Duration::from_secs(5);
const TENTH_MS: u64 = 100;
