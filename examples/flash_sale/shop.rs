//! The products in a database, and a count of queries.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use rusqlite::Connection;

/// A database of products.
pub trait Database: Send + Sync {
    /// Whether the server reads its log, so that the application need not invalidate anything.
    fn is_followed(&self) -> bool;

    fn price(&self, id: u32) -> u32;

    /// The number of queries since the last change.
    fn queries(&self) -> u32;

    /// Changes all prices in one transaction, and resets the count of queries.
    fn reprice(&self, cents: u32);
}

/// A database in its own folder, which is removed when this is dropped.
pub struct Sqlite {
    connection: Mutex<Connection>,
    folder: PathBuf,
    queries: AtomicU32,
}

impl Sqlite {
    /// A shop whose products all have this price.
    pub fn open(products: u32, cents: u32) -> Sqlite {
        let folder = std::env::temp_dir().join(format!("leasehold-flash-sale-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("there is a place for temporary files");
        let connection = Connection::open(folder.join("shop.sqlite")).expect("SQLite opens its file");
        let create = "PRAGMA journal_mode = WAL; DROP TABLE IF EXISTS product;
                      CREATE TABLE product (id INTEGER PRIMARY KEY, cents INTEGER);";
        connection.execute_batch(create).expect("a new file takes a new table");
        let fill = "WITH RECURSIVE n(id) AS (SELECT 0 UNION ALL SELECT id + 1 FROM n WHERE id + 1 < ?1)
                    INSERT INTO product SELECT id, ?2 FROM n";
        connection.execute(fill, [products, cents]).expect("an empty table takes rows");
        Sqlite { connection: Mutex::new(connection), folder, queries: AtomicU32::new(0) }
    }
}

impl Database for Sqlite {
    fn is_followed(&self) -> bool {
        false
    }

    fn price(&self, id: u32) -> u32 {
        self.queries.fetch_add(1, Ordering::Relaxed);
        let connection = self.connection.lock();
        let statement = connection.prepare_cached("SELECT cents FROM product WHERE id = ?1");
        statement.and_then(|mut statement| statement.query_row([id], |row| row.get(0))).expect("it is there")
    }

    fn queries(&self) -> u32 {
        self.queries.load(Ordering::Relaxed)
    }

    fn reprice(&self, cents: u32) {
        self.connection.lock().execute("UPDATE product SET cents = ?1", [cents]).expect("SQLite takes it");
        self.queries.store(0, Ordering::Relaxed);
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
