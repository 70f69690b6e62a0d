//! At noon ten thousand products change their price at once, while two hundred readers look at nothing else.
//!
//! `cargo run --release --example flash_sale` tells it as a timeline, with a real SQLite database and real sockets: one
//! transaction changes all prices, and one `invalidate prefix product:` takes all that is cached of them. It ends with an
//! error if a reader who asked after that was shown an old price, if old prices were seen for longer than a second after
//! the commit, or if the database was asked more often than once for each product. (Of some ten thousand good fills the
//! server refuses one, because its memory of what is outdated is of fixed size; that product is asked for again.)
//!
//! All readers are tasks of one thread, and share one client.

#[path = "price_change/dice.rs"]
mod dice;
#[path = "flash_sale/shop.rs"]
mod shop;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use leasehold::Clock;
use leasehold::client::Client;
use leasehold::options::Options;
use leasehold::server::Server;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::sleep;

use self::dice::Dice;
use self::shop::Shop;

/// How fast do ten thousand prices change?
#[derive(Clone, Copy, Debug, Parser)]
struct Arguments {
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    products: u32,

    #[arg(long, default_value_t = 200)]
    readers: u64,

    /// For how long readers go on after the sale has begun
    #[arg(long, default_value_t = 3)]
    seconds: u64,
}

/// What readers share.
struct Sale {
    arguments: Arguments,
    cache: Client,
    clock: Clock,
    course: Mutex<Course>,
    shop: Shop,
}

/// What has happened so far, in milliseconds of the clock.
#[derive(Default)]
struct Course {
    committed: Option<u64>,
    ends: Option<u64>,
    invalidated: Option<u64>,
    last_old: u64,
    /// Reads that began after the invalidation was confirmed, and showed an old price.
    stale: u64,
    /// By the tenths of a second in which they ended.
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
    let options = Options::try_parse_from(["leasehold", "-p", "-1"]).expect("these are options");
    let server = Server::start(options).expect("loopback has free ports");
    let cache = Client::of(&[&server.address().to_string()]).expect("it is an address");
    let shop = Shop::open(arguments.products, OLD);
    let sale = Sale { arguments, cache, clock: Clock::system(), course: Mutex::default(), shop };
    let is_kept = Arc::new(sale).run().await;
    server.stop();
    if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Sale {
    /// Whether all promises were kept.
    async fn run(self: Arc<Self>) -> bool {
        for id in 0..self.arguments.products {
            self.look(id).await;
        }
        let mut readers = JoinSet::new();
        for seed in 0..self.arguments.readers {
            readers.spawn(Arc::clone(&self).read(Dice::new(seed)));
        }
        sleep(BEFORE).await;
        self.shop.reprice(NEW).expect("SQLite takes it");
        let committed = self.now();
        self.course.lock().committed = Some(committed);
        self.cache.invalidate_prefixes(["product:"], WITHIN).await.expect("the server confirms");
        let invalidated = self.now();
        self.course.lock().invalidated = Some(invalidated);
        self.course.lock().ends = Some(invalidated + self.arguments.seconds * 1000);
        readers.join_all().await;
        self.tell(committed, invalidated)
    }

    async fn read(self: Arc<Self>, mut dice: Dice) {
        while self.course.lock().ends.is_none_or(|ends| self.now() < ends) {
            self.look(dice.below(self.arguments.products.into()) as u32).await;
        }
    }

    /// Reads one price as a page of the shop does, and notes what it was.
    async fn look(&self, id: u32) {
        let has_begun = self.course.lock().invalidated.is_some();
        let mut queries = 0;
        let load = async {
            queries += 1;
            self.shop.price(id).map(|cents| cents.to_string())
        };
        let price = self.cache.fetch(format!("product:{id}:price"), HOUR, || load).await;
        let is_old = price.expect("SQLite answers") == OLD.to_string().as_str();
        self.course.lock().note(self.now(), queries, is_old, has_begun);
    }

    fn tell(&self, committed: u64, invalidated: u64) -> bool {
        let course = self.course.lock();
        let queries = self.shop.queries();
        println!("{:>12} {:>9} {:>9} {:>9}", "ms", "reads", "old", "queries");
        let first = committed / TENTH_MS;
        for (index, tenth) in course.tenths.iter().enumerate().skip(first.saturating_sub(3) as usize).take(14)
        {
            let from = index as i64 * TENTH_MS as i64 - committed as i64;
            println!("{from:>+12} {:>9} {:>9} {:>9}", tenth.reads, tenth.old, tenth.queries);
        }
        let last_old = course.last_old.saturating_sub(committed);
        println!(
            "\ncommitted at 0 ms, invalidated at {} ms, last old price at {last_old} ms",
            invalidated - committed
        );
        println!(
            "{} stale reads after that; {queries} queries for {} products",
            course.stale, self.arguments.products
        );
        let queries_max = self.arguments.products + self.arguments.products.div_ceil(FILLS_PER_REFUSAL_MIN);
        course.stale == 0 && last_old <= 1000 && queries <= queries_max
    }

    fn now(&self) -> u64 {
        self.clock.now().millis
    }
}

impl Course {
    fn note(&mut self, now: u64, queries: u64, is_old: bool, has_begun: bool) {
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
/// Readers are at it for so long before the sale.
const BEFORE: Duration = Duration::from_millis(500);
/// What is refused more often than that is a mistake.
const FILLS_PER_REFUSAL_MIN: u32 = 1000;
/// For how long the invalidation is tried.
const WITHIN: Duration = Duration::from_secs(5);
const TENTH_MS: u64 = 100;
