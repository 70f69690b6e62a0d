//! A server that follows a real database: changes are seen without deletes, also over restarts and failures.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::support::postgres::{Cluster, Sql};
use crate::support::served::{Client, Process, eventually, scratch};

/// A database with a product, and the files of a server that follows it.
struct Shop {
    config: PathBuf,
    items: PathBuf,
    sql: Sql,
}

impl Shop {
    fn new(cluster: &Cluster, name: &'static str) -> Shop {
        let mut sql = cluster.database(name);
        sql.run(
            "CREATE TABLE products (id int PRIMARY KEY, price int); INSERT INTO products VALUES (7, 1); \
             CREATE PUBLICATION leasehold FOR TABLE products",
        );
        let config = scratch(&format!("{name}-config"));
        let url = format!("postgresql://postgres@127.0.0.1:{}/{name}?sslmode=disable", cluster.port);
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
        Server { client: Client::connect(address), process }
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
    client: Client,
    process: Process,
}

impl Server {
    fn set(&mut self, key: &str) {
        self.client.check(&format!("set {key} 0 0 1\r\na"), &["STORED"]);
    }

    fn has(&mut self, key: &str) -> bool {
        self.client.send(format!("get {key}\r\n").as_bytes());
        let is_hit = self.client.line().starts_with("VALUE");
        if is_hit {
            assert_eq!((self.client.line(), self.client.line()), ("a\r\n".to_owned(), "END\r\n".to_owned()));
        }
        is_hit
    }

    fn count(&mut self, name: &str) -> u64 {
        self.client.stat_of("stats events", &format!("db:{name}"))
    }

    fn stop(self) {
        let Server { client: _client, process } = self;
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
    eventually("the slot is free", || {
        shop.sql.value("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'slotless' AND active")
            == "0"
    });
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
