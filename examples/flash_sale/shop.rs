//! The products in SQLite, and a count of queries.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use rusqlite::Connection;

/// A database in its own folder, which is removed when this is dropped.
pub struct Shop {
    connection: Mutex<Connection>,
    folder: PathBuf,
    queries: AtomicU32,
}

impl Shop {
    /// A shop whose products all have this price.
    pub fn open(products: u32, cents: u32) -> Shop {
        let folder = std::env::temp_dir().join(format!("leasehold-flash-sale-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("there is a place for temporary files");
        let connection = Connection::open(folder.join("shop.sqlite")).expect("SQLite opens its file");
        let create = "PRAGMA journal_mode = WAL; DROP TABLE IF EXISTS product;
                      CREATE TABLE product (id INTEGER PRIMARY KEY, cents INTEGER);";
        connection.execute_batch(create).expect("a new file takes a new table");
        let fill = "WITH RECURSIVE n(id) AS (SELECT 0 UNION ALL SELECT id + 1 FROM n WHERE id + 1 < ?1)
                    INSERT INTO product SELECT id, ?2 FROM n";
        connection.execute(fill, [products, cents]).expect("an empty table takes rows");
        Shop { connection: Mutex::new(connection), folder, queries: AtomicU32::new(0) }
    }

    pub fn price(&self, id: u32) -> rusqlite::Result<u32> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        let connection = self.connection.lock();
        let mut statement = connection.prepare_cached("SELECT cents FROM product WHERE id = ?1")?;
        statement.query_row([id], |row| row.get(0))
    }

    /// Changes all prices in one transaction, and resets the count of queries.
    pub fn reprice(&self, cents: u32) -> rusqlite::Result<()> {
        self.connection.lock().execute("UPDATE product SET cents = ?1", [cents])?;
        self.queries.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// The number of queries since the last change.
    pub fn queries(&self) -> u32 {
        self.queries.load(Ordering::Relaxed)
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
