//! The products in PostgreSQL, whose log the server reads.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use clap::Parser;
use leasehold::options::Options;
use parking_lot::Mutex;

use super::postgres::{Cluster, Sql};
use super::shop::Database;

/// A database whose changes invalidate by themselves.
pub struct Followed {
    cluster: Cluster,
    queries: AtomicU32,
    sql: Mutex<Sql>,
}

impl Followed {
    /// A shop whose products all have this price.
    pub fn open(cluster: Cluster, products: u32, cents: u32) -> Followed {
        let mut sql = cluster.database("sale");
        sql.run(&format!(
            "CREATE TABLE product (id int PRIMARY KEY, cents int); \
             INSERT INTO product SELECT n, {cents} FROM generate_series(0, {products} - 1) n; \
             CREATE PUBLICATION leasehold FOR TABLE product"
        ));
        Followed { cluster, queries: AtomicU32::new(0), sql: Mutex::new(sql) }
    }

    /// The options of a server that follows it.
    pub fn options(&self) -> Options {
        let path = std::env::temp_dir().join(format!("leasehold-flash-sale-{}.toml", std::process::id()));
        let text = format!(
            "[source.sale]\nkind = \"postgres\"\ncreate = true\nslot = \"sale\"\npublication = \"leasehold\"\n\
             url = \"postgresql://postgres@127.0.0.1:{}/sale?sslmode=disable\"\n\
             [[rule]]\ntable = \"product\"\nkeys = [\"product:{{row.id}}:price\"]\n",
            self.cluster.port
        );
        fs::write(&path, text).expect("there is a place for temporary files");
        let flags = ["leasehold", "-p", "-1", "--config", path.to_str().expect("it is text")];
        let options = Options::try_parse_from(flags).expect("these are options");
        let options = options.checked().expect("they fit each other");
        let _ = fs::remove_file(path);
        options
    }
}

impl Database for Followed {
    fn is_followed(&self) -> bool {
        true
    }

    fn price(&self, id: u32) -> u32 {
        self.queries.fetch_add(1, Ordering::Relaxed);
        let price = self.sql.lock().value(&format!("SELECT cents FROM product WHERE id = {id}"));
        price.parse().expect("it is a number")
    }

    fn queries(&self) -> u32 {
        self.queries.load(Ordering::Relaxed)
    }

    fn reprice(&self, cents: u32) {
        self.sql.lock().run(&format!("UPDATE product SET cents = {cents}"));
        self.queries.store(0, Ordering::Relaxed);
    }
}
