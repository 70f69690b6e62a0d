//! The connections to one server: some that are shared, and some on which fetches wait.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::config::{Config, Server};
use super::connection::Connection;
use super::stream::Target;
use super::wire::Key;

pub(super) struct Pool {
    shared: Vec<Connection>,
    target: Arc<Target>,
    /// While it waits, a server answers nothing else on that connection, so waits need connections of their
    /// own.
    waits: Arc<Mutex<Vec<Connection>>>,
    waits_left: Arc<Semaphore>,
}

/// A connection for one wait, which returns to the pool afterwards.
pub(super) struct Waiting {
    connection: Connection,
    home: Arc<Mutex<Vec<Connection>>>,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    pub(super) fn new(server: Server, config: Config) -> Pool {
        let target = Arc::new(Target { config, name: server.to_string().into(), server });
        Pool {
            shared: (0..target.config.connections.max(1))
                .map(|_| Connection::new(Arc::clone(&target)))
                .collect(),
            waits: Arc::default(),
            waits_left: Arc::new(Semaphore::new(target.config.waits.max(1))),
            target,
        }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.target.name
    }

    /// A connection for requests without a key.
    pub(super) fn any(&self) -> &Connection {
        &self.shared[0]
    }

    /// Always returns the same connection for a key, so that the server sees a miss and the subsequent
    /// store on one connection.
    pub(super) fn connection_of(&self, key: &Key) -> &Connection {
        &self.shared[self.index_of(key)]
    }

    pub(super) fn index_of(&self, key: &Key) -> usize {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        hasher.finish() as usize % self.shared.len()
    }

    pub(super) fn connection(&self, index: usize) -> &Connection {
        &self.shared[index]
    }

    /// Takes a connection, as soon as one is free.
    pub(super) async fn waiting(&self) -> Waiting {
        let permit = Arc::clone(&self.waits_left).acquire_owned().await.expect("it is never closed");
        let idle = self.waits.lock().pop();
        let connection = idle.unwrap_or_else(|| Connection::new(Arc::clone(&self.target)));
        Waiting { connection, home: Arc::clone(&self.waits), _permit: permit }
    }
}

impl AsRef<Connection> for Waiting {
    fn as_ref(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.home.lock().push(self.connection.clone());
    }
}
