//! The products in SQLite.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;

/// A database in its own folder, which is removed when this is dropped.
pub struct Shop {
    connection: Mutex<Connection>,
    folder: PathBuf,
}

impl Shop {
    /// A shop with this many products; the first `imported` are in category 0, the others in 1 to 9.
    pub fn open(products: u32, imported: u32) -> rusqlite::Result<Shop> {
        let folder = std::env::temp_dir().join(format!("leasehold-storefront-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("there is a place for temporary files");
        let connection = Connection::open(folder.join("shop.sqlite"))?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; DROP TABLE IF EXISTS product;
             CREATE TABLE product (id INTEGER PRIMARY KEY, category INTEGER, version INTEGER, text TEXT,
                                   price INTEGER, reviews TEXT, stock INTEGER);",
        )?;
        let fill = "WITH RECURSIVE n(id) AS (SELECT 0 UNION ALL SELECT id + 1 FROM n WHERE id + 1 < ?1)
                    INSERT INTO product SELECT id, iif(id < ?2, 0, 1 + id % 9), 1, 'product ' || id, 9900, 'good', 7
                    FROM n";
        connection.execute(fill, [products, imported])?;
        Ok(Shop { connection: Mutex::new(connection), folder })
    }

    /// One part of a product, preceded by its version.
    pub fn part(&self, name: &str, id: u32) -> rusqlite::Result<String> {
        let connection = self.connection.lock();
        let query = format!("SELECT version || ' ' || {name} FROM product WHERE id = ?1");
        connection.prepare_cached(&query)?.query_row([id], |row| row.get(0))
    }

    /// Updates row by row in one transaction, while readers continue.
    pub fn import(folder: PathBuf, rows: u32) -> rusqlite::Result<()> {
        let mut connection = Connection::open(folder.join("shop.sqlite"))?;
        connection.busy_timeout(BUSY_MAX)?;
        let transaction = connection.transaction()?;
        let update =
            "UPDATE product SET version = 2, text = 'new product ' || id, price = 7900 WHERE id = ?1";
        for id in 0..rows {
            transaction.prepare_cached(update)?.execute([id])?;
        }
        transaction.commit()
    }

    pub fn folder(&self) -> PathBuf {
        self.folder.clone()
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

const BUSY_MAX: Duration = Duration::from_secs(10);
