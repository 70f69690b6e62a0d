//! A server that follows a real database: changes are seen without deletes, also over restarts and failures.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::postgres::{Cluster, Sql};
use crate::support::proxy::proxy_beside;
use crate::support::served::{Client, Process, eventually, scratch};

/// A database with a product, and the files of a server that follows it.
struct Shop {
    config: PathBuf,
    items: PathBuf,
    sql: Sql,
}

impl Shop {
    fn new(cluster: &Cluster, name: &'static str) -> Shop {
        Shop::behind(cluster.port, cluster, name)
    }

    /// A server that reaches the database by this port.
    fn behind(port: u16, cluster: &Cluster, name: &'static str) -> Shop {
        let mut sql = cluster.database(name);
        sql.run(
            "CREATE TABLE products (id int PRIMARY KEY, price int); INSERT INTO products VALUES (7, 1); \
             CREATE PUBLICATION leasehold FOR TABLE products",
        );
        let config = scratch(&format!("{name}-config"));
        let url = format!("postgresql://postgres@127.0.0.1:{port}/{name}?sslmode=disable");
        let text = format!(
            "[source.db]\nkind = \"postgres\"\nurl = \"{url}\"\nslot = \"{name}\"\npublication = \"leasehold\"\n\
             create = true\nheartbeat = \"200ms\"\nslow = \"100ms\"\nmessages = \"leasehold\"\n\
             covers = [\"product:\", \"page:\"]\n\
             [[rule]]\ntable = \"products\"\nkeys = [\"product:{{row.id}}\"]\n\
             [prefix.\"product:\"]\ndepends-on = [\"db\"]\nmax-staleness = 1\n"
        );
        fs::write(&config, text).expect("it can be written");
        Shop { config, items: scratch(&format!("{name}-items")), sql }
    }

    fn start(&self) -> Server {
        let (config, items) = (self.config.display(), self.items.display());
        let mut process = Process::start(&format!("-p -1 -t 2 --config {config} -e {items}"));
        let address = process.address();
        Server { address, client: Client::connect(address), process }
    }

    /// Waits until PostgreSQL has noticed that a server has let go of its slot.
    fn wait_until_free(&mut self, slot: &str) {
        let query =
            format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}' AND active");
        eventually("the slot is free", || self.sql.value(&query) == "0");
    }

    fn change(&mut self) {
        self.sql.run("UPDATE products SET price = price + 1 WHERE id = 7");
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.config);
        let _ = fs::remove_file(&self.items);
    }
}

struct Server {
    address: SocketAddr,
    client: Client,
    process: Process,
}

impl Server {
    fn set(&mut self, key: &str) {
        self.client.check(&format!("set {key} 0 0 1\r\na"), &["STORED"]);
    }

    fn get(&mut self, key: &str) -> Option<String> {
        self.client.send(format!("get {key}\r\n").as_bytes());
        self.client.line().starts_with("VALUE").then(|| {
            let value = self.client.line();
            assert_eq!(self.client.line(), "END\r\n");
            value.trim_end().to_owned()
        })
    }

    fn has(&mut self, key: &str) -> bool {
        let value = self.get(key);
        value.inspect(|value| assert_eq!(value, "a")).is_some()
    }

    fn count(&mut self, name: &str) -> u64 {
        self.client.stat_of("stats events", &format!("db:{name}"))
    }

    fn stop(self) {
        let Server { client: _client, process, .. } = self;
        // With SIGUSR1 a server keeps its items, as memcached does.
        process.signal(Signal::SIGUSR1);
        assert_eq!(process.exit_code(), 0);
    }
}

#[test]
fn a_change_in_the_database_ends_the_value_and_a_rollback_does_not() {
    let Some(cluster) = Cluster::shared() else { return };
    let mut shop = Shop::new(cluster, "fresh");
    let mut server = shop.start();
    server.set("product:7");
    server.set("page:front");
    shop.sql.run("BEGIN; UPDATE products SET price = 0; ROLLBACK");
    shop.change();
    eventually("the change arrives", || server.count("applied") > 0);
    assert!(!server.has("product:7") && server.has("page:front"));
    assert_eq!(server.count("applied"), 1);
    shop.sql.run("SELECT pg_logical_emit_message(true, 'leasehold', '{\"keys\": [\"page:front\"]}')");
    eventually("the message arrives", || !server.has("page:front"));
    eventually("its delay was measured", || server.count("delay_us_p99") > 0);
    server.stop();
}

#[test]
fn changes_of_a_time_without_a_server_are_made_up_for() {
    let Some(cluster) = Cluster::shared() else { return };
    let mut shop = Shop::new(cluster, "resumed");
    let mut server = shop.start();
    server.set("product:7");
    server.set("product:8");
    server.stop();
    shop.change();
    // Or the next server has to wait for PostgreSQL before it can attach, and does so for a few seconds only.
    shop.wait_until_free("resumed");
    let mut server = shop.start();
    eventually("the change arrives", || server.count("applied") > 0);
    assert!(!server.has("product:7"));
    eventually("the source has caught up", || server.has("product:8"));
    assert_eq!(server.count("gaps"), 0);
    server.stop();
}

/// The log between the old position and the new slot is lost: any loaded value may be old.
#[test]
fn loaded_values_are_invalidated_before_the_first_client_if_the_slot_is_missing() {
    let Some(cluster) = Cluster::shared() else { return };
    let mut shop = Shop::new(cluster, "slotless");
    let mut server = shop.start();
    server.set("product:7");
    server.set("other");
    server.stop();
    shop.wait_until_free("slotless");
    shop.sql.run("SELECT pg_drop_replication_slot('slotless')");
    shop.change();
    let mut server = shop.start();
    assert!(!server.has("product:7") && server.has("other"));
    assert_eq!(server.count("gaps"), 1);
    server.stop();
}

#[test]
fn values_are_withheld_while_the_database_is_down_and_served_again_after_it() {
    let Some(mut cluster) = Cluster::start("") else { return };
    let shop = Shop::new(&cluster, "outage");
    let mut server = shop.start();
    server.set("product:7");
    server.set("other");
    eventually("the source is proven", || server.count("withheld") == 0 && server.has("product:7"));
    cluster.kill();
    eventually("the value is withheld", || !server.has("product:7"));
    assert!(server.has("other"));
    assert!(server.count("withheld") == 1 && server.count("withheld_misses") > 0);
    cluster.run();
    eventually("it is served again", || server.has("product:7"));
    assert_eq!(server.count("gaps"), 0);
    server.stop();
}

/// Nobody had watched a gap of a real database: the slot is dropped under a server that follows it.
#[test]
fn a_slot_that_is_dropped_under_a_running_server_is_a_gap_that_watchers_see() {
    let Some(cluster) = Cluster::shared() else { return };
    let mut shop = Shop::new(cluster, "dropped_live");
    let mut server = shop.start();
    server.set("product:7");
    server.set("other");
    eventually("the source is proven", || server.count("withheld") == 0 && server.has("product:7"));
    let mut watcher = Client::connect(server.address);
    watcher.check("watch events", &["OK"]);
    // The server takes the slot again as soon as it can.
    shop.sql.run(
        "DO $$ BEGIN LOOP BEGIN \
         PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'dropped_live' AND active; \
         PERFORM pg_drop_replication_slot('dropped_live'); EXIT; \
         EXCEPTION WHEN object_in_use THEN NULL; END; END LOOP; END $$",
    );
    shop.change();
    let mut next = || watcher.line();
    let gap = std::iter::repeat_with(&mut next).find(|line| line.contains("type=source_gap"));
    let gap = gap.expect("the lines have no end");
    assert!(gap.trim_end().ends_with("source=db why=slot%20dropped_live%20is%20missing"), "{gap}");
    std::iter::repeat_with(&mut next).find(|line| line.contains("state=live"));
    eventually("nothing is withheld", || server.count("withheld") == 0);
    assert!(!server.has("product:7") && server.has("other"));
    assert_eq!(server.count("gaps"), 1);
    let applied = server.count("applied");
    shop.change();
    eventually("the stream goes on", || server.count("applied") > applied);
    server.stop();
}

const PRODUCTS: usize = 20;
/// `max-staleness`, and the second that is promised beyond it.
const BOUND: Duration = Duration::from_secs(2);

/// Prices that change, and a cache of them that nobody deletes from.
struct Market {
    /// When each price of each product was committed at the latest; the prices count up from 0.
    committed: Vec<Vec<Instant>>,
    hits: u64,
    oldest: Duration,
    round: usize,
    server: Server,
    shop: Shop,
}

#[expect(clippy::disallowed_methods, reason = "staleness is a time between two processes")]
fn now() -> Instant {
    Instant::now()
}

impl Market {
    fn new(mut shop: Shop) -> Market {
        shop.sql.run("DELETE FROM products");
        shop.sql.run(&format!("INSERT INTO products SELECT n, 0 FROM generate_series(0, {PRODUCTS} - 1) n"));
        let (server, committed) = (shop.start(), vec![vec![now()]; PRODUCTS]);
        Market { committed, hits: 0, oldest: Duration::ZERO, round: 0, server, shop }
    }

    /// Changes a price, and reads another one, until this says so.
    fn trade(&mut self, mut is_enough: impl FnMut(&mut Server) -> bool) {
        while !is_enough(&mut self.server) {
            self.round += 1;
            let product = self.round % PRODUCTS;
            self.shop.sql.run(&format!("UPDATE products SET price = price + 1 WHERE id = {product}"));
            self.committed[product].push(now());
            self.read(self.round * 7 % PRODUCTS);
            // Some hundred changes in a second are enough.
            self.shop.sql.run("SELECT pg_sleep(0.002)");
        }
    }

    fn read(&mut self, product: usize) {
        let (key, asked) = (format!("product:{product}"), now());
        match self.server.get(&key) {
            Some(price) => {
                self.hits += 1;
                let price: usize = price.parse().expect("it is a price");
                let outdated = self.committed[product].get(price + 1);
                let staleness = outdated.map_or(Duration::ZERO, |at| asked.saturating_duration_since(*at));
                assert!(staleness <= BOUND, "a price was too old by {staleness:?}");
                self.oldest = self.oldest.max(staleness);
            }
            None => {
                let price = self.shop.sql.value(&format!("SELECT price FROM products WHERE id = {product}"));
                self.server.client.check(&format!("set {key} 0 0 {}\r\n{price}", price.len()), &["STORED"]);
            }
        }
    }
}

/// A network that swallows everything looks like a database in which nothing changes. The source waited for
/// ever for the answer to a query of its own, whether the last changes are visible.
#[test]
fn no_price_is_older_than_the_bound_while_the_network_swallows_everything() {
    let Some(cluster) = Cluster::shared() else { return };
    let (port, flows) = proxy_beside(cluster.port);
    let mut market = Market::new(Shop::behind(port, cluster, "swallowed"));
    eventually("the source is proven", || market.server.count("withheld") == 0);
    let start = now();
    market.trade(|_| start.elapsed() > Duration::from_secs(1));
    flows.send_replace(1);
    let cut = now();
    market.trade(|server| cut.elapsed() > 2 * BOUND && server.count("withheld") == 1);
    assert!(market.oldest > Duration::ZERO && market.hits > 0, "nothing was measured");
    // The source notices the silence, and connects anew.
    market.trade(|server| server.count("withheld") == 0);
    let end = now();
    eventually("it has caught up", || {
        let age = Duration::from_millis(market.server.count("watermark_age_ms"));
        age < end.elapsed()
    });
    for product in 0..PRODUCTS {
        let price = market.server.get(&format!("product:{product}"));
        let newest = (market.committed[product].len() - 1).to_string();
        assert!(price.is_none_or(|price| price == newest), "product {product}");
    }
    assert_eq!(market.server.count("gaps"), 0);
    println!("the oldest price: {:?}, {} hits in {} rounds", market.oldest, market.hits, market.round);
    market.server.stop();
}
