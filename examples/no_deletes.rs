//! An application that never deletes anything from its cache, with a real PostgreSQL.
//!
//! `cargo run --release --example no_deletes` plays a shop three times: readers use `get` and `set` over a
//! pool of connections, and writers change prices. Only the way in which old prices leave the cache differs:
//!
//! * by events: leasehold reads the log of the database. In the middle the database is killed and restarted;
//! * by expiry alone, after two seconds;
//! * by deletes of the application after each commit, of which one in a hundred is forgotten.
//!
//! It prints how many prices were older than 10, 50 and 100 ms, counted from the answer to the commit to the
//! begin of the read, and fails if events serve any that is older than the bound.

#[path = "price_change/dice.rs"]
mod dice;
#[path = "no_deletes/ledger.rs"]
mod ledger;
#[path = "../tests/support/postgres.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod postgres;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use clap::Parser;
use leasehold::options::Options;
use leasehold::server::Server;

use self::dice::Dice;
use self::ledger::{AGES, Ledger, Seen, now};
use self::postgres::{Cluster, Sql};

/// How old are prices in a cache that nobody deletes from?
#[derive(Clone, Copy, Debug, Parser)]
struct Arguments {
    /// Seconds for each row of the table
    #[arg(long, default_value_t = 10)]
    seconds: u64,

    #[arg(long, default_value_t = 4)]
    readers: u64,

    #[arg(long, default_value_t = 2)]
    writers: u64,

    #[arg(long, default_value_t = 200)]
    products: usize,

    /// Milliseconds between two changes of a writer
    #[arg(long, default_value_t = 5)]
    pause_ms: u64,
}

/// How old prices leave the cache.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Method {
    Deletes,
    Events,
    Expiry,
}

/// All that the threads share.
struct Shop {
    arguments: Arguments,
    is_over: AtomicBool,
    ledger: Ledger,
    method: Method,
    /// Connections to the cache: each request takes any of them.
    pool: Vec<Mutex<BufReader<TcpStream>>>,
    port: u16,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(mut cluster) = Cluster::start("") else { return ExitCode::SUCCESS };
    println!("stale prices in {} s, by age", arguments.seconds);
    let heads = AGES.map(|age| format!("{:>10}", format!("> {age} ms"))).concat();
    println!("{:<34}{:>10}{:>7}{heads}{:>12}", "", "reads", "hits", "oldest");
    let mut is_bounded = true;
    for method in [Method::Events, Method::Expiry, Method::Deletes] {
        let seen = play(method, arguments, &mut cluster);
        let counts = seen.stale.map(|count| format!("{count:>10}")).concat();
        let hits = 100.0 * seen.hits as f64 / seen.reads.max(1) as f64;
        println!("{:<34}{:>10}{hits:>6.1}%{counts:>10}{:>12.1?}", method.name(), seen.reads, seen.oldest);
        is_bounded &= method != Method::Events || seen.oldest <= BOUND + Duration::from_secs(1);
    }
    if is_bounded { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn play(method: Method, arguments: Arguments, cluster: &mut Cluster) -> Seen {
    let database = format!("shop_{}", format!("{method:?}").to_lowercase());
    let mut sql = cluster.database(&database);
    let products = arguments.products;
    sql.run(&format!(
        "CREATE TABLE products (id int PRIMARY KEY, price int NOT NULL); \
         INSERT INTO products SELECT n, 0 FROM generate_series(0, {products} - 1) n; \
         CREATE PUBLICATION leasehold FOR TABLE products"
    ));
    let server = server(method, cluster.port, &database);
    let shop = Arc::new(Shop {
        arguments,
        is_over: AtomicBool::new(false),
        ledger: Ledger::new(products),
        method,
        pool: (0..8).map(|_| Mutex::new(connect(server.address()))).collect(),
        port: cluster.port,
    });
    let mut threads = Vec::new();
    for seed in 0..arguments.readers + arguments.writers {
        let (shop, database) = (Arc::clone(&shop), database.clone());
        let is_writer = seed < arguments.writers;
        let work = move || match is_writer {
            true => shop.write(&database, seed),
            false => shop.read(&database, seed),
        };
        threads.push(thread::spawn(work));
    }
    let half = Duration::from_secs(arguments.seconds) / 2;
    pause(half);
    if method == Method::Events {
        cluster.kill();
        pause(half.min(BOUND));
        cluster.run();
    }
    pause(half);
    shop.is_over.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().expect("no thread panics"));
    server.stop();
    shop.ledger.seen()
}

/// A cache that follows the database, or a plain one.
fn server(method: Method, port: u16, database: &str) -> Server {
    let mut flags = vec!["leasehold".to_owned(), "-p".to_owned(), "-1".to_owned()];
    let path = std::env::temp_dir().join(format!("no-deletes-{}.toml", std::process::id()));
    if method == Method::Events {
        let text = format!(
            "[default]\ndepends-on = [\"shop\"]\nmax-staleness = {}\n\
             [source.shop]\nkind = \"postgres\"\ncreate = true\nheartbeat = \"250ms\"\n\
             url = \"postgresql://postgres@127.0.0.1:{port}/{database}?sslmode=disable\"\n\
             slot = \"{database}\"\npublication = \"leasehold\"\n\
             [[rule]]\ntable = \"products\"\nkeys = [\"product:{{row.id}}\"]\n",
            BOUND.as_secs()
        );
        std::fs::write(&path, text).expect("there is a place for temporary files");
        flags.extend(["--config".to_owned(), path.display().to_string()]);
    }
    let options = Options::try_parse_from(flags).expect("these are options").checked();
    let server = Server::start(options.expect("they fit each other")).expect("loopback has free ports");
    let _ = std::fs::remove_file(path);
    server
}

impl Shop {
    /// Shows prices until the end.
    fn read(&self, database: &str, seed: u64) {
        let (mut dice, mut sql) = (Dice::new(seed + 1), self.open(database));
        while let (Some(open), false) = (&mut sql, self.is_over.load(Ordering::Relaxed)) {
            let product = dice.below(self.arguments.products as u64) as usize;
            if self.show(product, open, &mut dice).is_none() {
                sql = self.open(database);
            }
        }
    }

    /// Changes prices until the end. Each product has one writer.
    fn write(&self, database: &str, writer: u64) {
        let (mut dice, mut sql) = (Dice::new(writer + 1), self.open(database));
        let own = self.arguments.products as u64 / self.arguments.writers;
        while let (Some(open), false) = (&mut sql, self.is_over.load(Ordering::Relaxed)) {
            let product = (dice.below(own) * self.arguments.writers + writer) as usize;
            if open.try_run(&format!("UPDATE products SET price = price + 1 WHERE id = {product}")).is_some()
            {
                self.ledger.committed(product);
                if self.method == Method::Deletes && dice.below(100) > 0 {
                    self.ask(&format!("delete product:{product}\r\n"), &mut dice);
                }
                pause(Duration::from_millis(self.arguments.pause_ms));
                continue;
            }
            // The commit may have succeeded, and only its answer be lost.
            sql = self.open(database);
            let price = format!("SELECT price FROM products WHERE id = {product}");
            let rows = sql.as_mut().and_then(|open| open.try_run(&price)).unwrap_or_default();
            let price = rows.first().and_then(|row| row.first()?.as_ref()?.parse().ok());
            self.ledger.committed_up_to(product, price.unwrap_or(0));
        }
    }

    /// A connection to the database, once it runs; none at the end.
    fn open(&self, database: &str) -> Option<Sql> {
        while !self.is_over.load(Ordering::Relaxed) {
            if let Some(sql) = Sql::try_open(self.port, database) {
                return Some(sql);
            }
            pause(Duration::from_millis(5));
        }
        None
    }

    /// A price is shown: from the cache, or else from the database.
    fn show(&self, product: usize, sql: &mut Sql, dice: &mut Dice) -> Option<()> {
        let began = now();
        if let Some(price) = self.ask(&format!("get product:{product}\r\n"), dice) {
            self.ledger.read(product, price, began, true);
            return Some(());
        }
        let rows = sql.try_run(&format!("SELECT price FROM products WHERE id = {product}"))?;
        let price = rows.first()?.first()?.clone()?;
        self.ledger.read(product, price.parse().ok()?, began, false);
        let exptime = if self.method == Method::Expiry { 2 } else { 0 };
        self.ask(&format!("set product:{product} 0 {exptime} {}\r\n{price}\r\n", price.len()), dice);
        Some(())
    }

    /// Sends a request over any connection, and returns the value of the reply, if it has one.
    fn ask(&self, request: &str, dice: &mut Dice) -> Option<usize> {
        let nth = dice.below(self.pool.len() as u64) as usize;
        let mut connection = self.pool[nth].lock().expect("nobody panics");
        connection.get_mut().write_all(request.as_bytes()).expect("the server runs");
        let mut line = || {
            let mut line = String::new();
            connection.read_line(&mut line).expect("the server answers");
            line
        };
        if !line().starts_with("VALUE") {
            return None;
        }
        let value = line();
        line();
        value.trim().parse().ok()
    }
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Method::Deletes => "deletes, 1 % of them forgotten",
            Method::Events => "events, database killed once",
            Method::Expiry => "expiry after 2 s",
        }
    }
}

fn connect(address: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(address).expect("the server listens");
    stream.set_nodelay(true).expect("it is connected");
    BufReader::new(stream)
}

#[expect(clippy::disallowed_methods, reason = "time passes in this example")]
fn pause(span: Duration) {
    thread::sleep(span);
}

/// `max-staleness`
const BOUND: Duration = Duration::from_secs(2);
