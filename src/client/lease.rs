//! The right to fill one key, which is released automatically.

use std::fmt;
use std::future::pending;
use std::panic::resume_unwind;
use std::time::Duration;

use tokio::time::timeout;

use super::connection::Connection;
use super::single_flight::Flight;
use super::wire::{Key, LeaseReply, Request, Word};
use super::{Client, Error, Store, Value};

/// The server's answer for a key that a client wants to read or fill. Copies are of an invalidated or
/// expired value, if the server's policy keeps such copies.
#[derive(Debug)]
pub enum Leased {
    /// Another client is loading the value: use the copy, retry later, or use [`fetch`](Client::fetch),
    /// which waits.
    Busy(Option<Value>),
    /// Load the value, then [`fill`](Lease::fill).
    Granted(Lease, Option<Value>),
    /// The value.
    Hit(Value),
}

/// The outcome of a fill.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Filled {
    /// The fill came too late: the key was invalidated after the grant, or has a newer value. Nothing was
    /// stored.
    NotStored,
    /// The fill came too late, but is newer than the stale copy, and has replaced it.
    StaleStored,
    /// The value is live.
    Stored,
}

/// Load the value only after you hold this: that makes the fill safe. If it is dropped without a fill, it
/// is released in the background, and the next reader gets a lease.
pub struct Lease {
    client: Client,
    key: Key,
    /// `None` once it is used.
    token: Option<u64>,
    /// In a fetch: the waiters of this program. They continue when the lease has been released.
    pub(super) flight: Option<Flight>,
}

impl Client {
    /// Returns the value, a lease to fill it, or the information that another client holds the lease.
    pub async fn lease_get(&self, key: impl AsRef<[u8]>) -> Result<Leased, Error> {
        let key = Key::new(key)?;
        let answer = self.lease(&key, self.connection_of(&key).clone(), None);
        timeout(self.0.config.timeout, answer)
            .await
            .unwrap_or_else(|_| Err(self.connection_of(&key).timed_out()))
    }

    /// Asks the server to wait as long as the answer would be [`Leased::Busy`], at most until `until` by
    /// our clock. If all waiting connections are taken, asks without waiting.
    pub(super) async fn lease_wait(&self, key: &Key, until: u64) -> Result<Leased, Error> {
        let Ok(waiting) = timeout(POLL.min(self.until(until)), self.pool_of(key).waiting()).await else {
            return self.lease_get(key.bytes()).await;
        };
        let wait = self.until(until);
        let answer = self.lease(key, waiting, Some(wait));
        timeout(wait + self.0.config.timeout, answer)
            .await
            .unwrap_or_else(|_| Err(self.connection_of(key).timed_out()))
    }

    /// Runs in a task of its own: if the caller no longer waits, the answer may still be a lease, which is
    /// released when it is dropped.
    async fn lease<C>(&self, key: &Key, connection: C, wait: Option<Duration>) -> Result<Leased, Error>
    where
        C: AsRef<Connection> + Send + Sync + 'static,
    {
        let (client, key) = (self.clone(), key.clone());
        let task = tokio::spawn(async move {
            let request = match wait {
                None => Request::lease_get(key.clone()),
                Some(wait) => Request::lease_wait(key.clone(), wait),
            };
            let reply = connection.as_ref().ask_without_limit(request, wait.unwrap_or_default()).await?;
            Ok(match reply.lease() {
                LeaseReply::Busy(copy) => Leased::Busy(copy),
                LeaseReply::Granted(token, copy) => {
                    Leased::Granted(Lease { client, key, token: Some(token), flight: None }, copy)
                }
                LeaseReply::Hit(value) => Leased::Hit(value),
            })
        });
        match task.await {
            Ok(leased) => leased,
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            // The runtime shuts down, and this task with it.
            Err(_) => pending().await,
        }
    }

    /// The time left until then.
    pub(super) fn until(&self, until: u64) -> Duration {
        Duration::from_millis(until.saturating_sub(self.0.clock.now().millis))
    }
}

impl Lease {
    /// Stores the value. After an error it may have been stored or not; in both cases stale values stay
    /// invisible.
    pub async fn fill<'a>(
        mut self,
        value: impl Into<Value>,
        how: impl Into<Store<'a>>,
    ) -> Result<Filled, Error> {
        let token = self.token.expect("only fill takes it");
        let (value, how) = (value.into(), how.into());
        let (exptime, tags) = (self.client.exptime(how.ttl), how.tags()?);
        let request = match how.version {
            None => Request::lease_set(&self.key, token, &value, exptime, &tags),
            version => Request::meta_store(&self.key, &value, exptime, Some(token), &tags, version),
        };
        let filled = match self.client.ask(&self.key, request).await?.word() {
            Word::MetaDone | Word::Stored => Filled::Stored,
            Word::StaleStored => Filled::StaleStored,
            Word::MetaExists | Word::MetaNotFound | Word::MetaNotStored | Word::NotStored => {
                Filled::NotStored
            }
            word => unreachable!("its parser does not expect {word:?}"),
        };
        self.token = None;
        Ok(filled)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(token) = self.token {
            self.client.connection_of(&self.key).send_unanswered(Request::lease_release(&self.key, token));
        }
    }
}

/// Omits the token, which is a secret between the server and the holder.
impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Lease").field("key", &self.key).finish_non_exhaustive()
    }
}

/// The retry interval for clients that cannot wait at the server.
const POLL: Duration = Duration::from_millis(20);
