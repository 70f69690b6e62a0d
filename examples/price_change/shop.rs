//! The products in SQLite, and a ledger of the versions that readers must see.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, TransactionBehavior};

/// A product read from the database or from the cache.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Product {
    pub cents: u32,
    /// Rises by one with every change.
    pub version: u32,
}

/// A database in its own folder, which is removed when this is dropped.
pub struct Shop {
    folder: PathBuf,
}

/// One session with the database.
pub struct Database(Connection);

/// For each product, the versions that reads must see, and since when.
pub struct Ledger(Vec<Mutex<Vec<Promise>>>);

/// From `since` on (monotonic milliseconds) no read may return an older version.
struct Promise {
    since: u64,
    version: u32,
}

impl Product {
    pub fn to_text(self) -> String {
        format!("{} {}", self.version, self.cents)
    }

    pub fn from_text(text: &str) -> Product {
        let (version, cents) = text.split_once(' ').expect("two numbers");
        Product { cents: cents.parse().expect("a number"), version: version.parse().expect("a number") }
    }
}

impl Shop {
    /// A shop with this many products, each in its first version.
    pub fn open(products: u32) -> Shop {
        let folder = std::env::temp_dir().join(format!("leasehold-price-change-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("there is a place for temporary files");
        let shop = Shop { folder };
        let Database(connection) = shop.connect();
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL;
                 DROP TABLE IF EXISTS product;
                 CREATE TABLE product (id INTEGER PRIMARY KEY, cents INTEGER, version INTEGER);",
            )
            .expect("a new file takes a new table");
        let fill = "WITH RECURSIVE n(id) AS (SELECT 0 UNION ALL SELECT id + 1 FROM n WHERE id + 1 < ?1)
                    INSERT INTO product SELECT id, 9900, 1 FROM n";
        connection.execute(fill, [products]).expect("an empty table takes rows");
        shop
    }

    pub fn connect(&self) -> Database {
        let connection = Connection::open(self.folder.join("shop.sqlite")).expect("SQLite opens its file");
        connection.busy_timeout(BUSY_MAX).expect("a timeout is legal");
        // A crash may cost the last transactions; this database does not outlive its process.
        connection.pragma_update(None, "synchronous", "OFF").expect("SQLite supports it");
        Database(connection)
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Database {
    pub fn read(&self, id: u32) -> Product {
        let query = "SELECT cents, version FROM product WHERE id = ?1";
        let mut statement = self.0.prepare_cached(query).expect("this is SQL");
        let product = |row: &rusqlite::Row| Ok(Product { cents: row.get(0)?, version: row.get(1)? });
        statement.query_row([id], product).expect("the product exists")
    }

    /// Sets a price and commits; returns the version that readers must see after the invalidation.
    pub fn change(&mut self, id: u32, cents: u32) -> u32 {
        let transaction =
            self.0.transaction_with_behavior(TransactionBehavior::Immediate).expect("a writer gets its turn");
        let update = "UPDATE product SET cents = ?2, version = version + 1 WHERE id = ?1 RETURNING version";
        let version =
            transaction.query_row(update, (id, cents), |row| row.get(0)).expect("the product exists");
        transaction.commit().expect("a lone writer commits");
        version
    }
}

impl Ledger {
    pub fn new(products: u32) -> Ledger {
        Ledger((0..products).map(|_| Mutex::default()).collect())
    }

    /// Records that the change is committed and the cache has answered the delete.
    pub fn promise(&self, id: u32, version: u32, now_ms: u64) {
        let mut promises = self.0[id as usize].lock();
        if promises.last().is_none_or(|last| last.version < version) {
            promises.push(Promise { since: now_ms, version });
        }
    }

    /// The oldest version that a read beginning now may return.
    pub fn required(&self, id: u32) -> u32 {
        self.0[id as usize].lock().last().map_or(0, |last| last.version)
    }

    /// The time since which this version must not be returned any more, in milliseconds.
    pub fn overdue_ms(&self, id: u32, version: u32, now_ms: u64) -> u64 {
        let promises = self.0[id as usize].lock();
        let newer = promises.iter().find(|promise| promise.version > version);
        newer.map_or(0, |promise| now_ms.saturating_sub(promise.since))
    }
}

const BUSY_MAX: Duration = Duration::from_secs(10);
