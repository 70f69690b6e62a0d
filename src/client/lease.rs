//! The permission to fill one key, which is given back whatever happens.

use std::fmt;
use std::future::pending;
use std::panic::resume_unwind;
use std::time::Duration;

use tokio::time::timeout;

use super::connection::Connection;
use super::single_flight::Flight;
use super::wire::{Answered, Key, Question, Word};
use super::{Client, Error, Store, Value};

/// What the server says of a key that somebody wants to read or to fill. Copies are of a value that was
/// voided or has expired, where the server's policy keeps such.
#[derive(Debug)]
pub enum Leased {
    /// Somebody else is loading it: use the copy, come back later, or [`fetch`](Client::fetch), which waits.
    Busy(Option<Value>),
    /// Load the value, and [`fill`](Lease::fill).
    Granted(Lease, Option<Value>),
    /// There is a value.
    Hit(Value),
}

/// The outcome of a fill.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Filled {
    /// It came too late: the key was voided since the lease was granted, or a newer value is there. Nothing
    /// was kept.
    NotStored,
    /// It came too late, but is newer than the stale copy, which it replaces.
    StaleStored,
    /// Everybody can read it.
    Stored,
}

/// Load the value only after you have it: that is what makes the fill safe. Dropped without a fill, it is
/// given back in the background, and the next one who asks gets a lease.
pub struct Lease {
    client: Client,
    key: Key,
    /// Until it is used.
    token: Option<u64>,
    /// In a fetch: those of this program who wait for it. They go on when the lease has been given back.
    pub(super) turn: Option<Flight>,
}

impl Client {
    /// The value; or the lease to fill it; or the word that somebody else has that.
    pub async fn lease_get(&self, key: impl AsRef<[u8]>) -> Result<Leased, Error> {
        let key = Key::new(key)?;
        let asked = self.lease(&key, self.connection_of(&key).clone(), None);
        timeout(self.0.config.timeout, asked)
            .await
            .unwrap_or_else(|_| Err(self.connection_of(&key).timed_out()))
    }

    /// Asks the server to hold its answer back for as long as that would be [`Leased::Busy`], but not for
    /// longer than until then, by our clock; or asks at once, if all connections that may wait do.
    pub(super) async fn lease_wait(&self, key: &Key, until: u64) -> Result<Leased, Error> {
        let Ok(waiting) = timeout(POLL.min(self.until(until)), self.pool_of(key).waiting()).await else {
            return self.lease_get(key.bytes()).await;
        };
        let wait = self.until(until);
        let asked = self.lease(key, waiting, Some(wait));
        timeout(wait + self.0.config.timeout, asked)
            .await
            .unwrap_or_else(|_| Err(self.connection_of(key).timed_out()))
    }

    /// In a task of its own: when nobody wants the answer any more it may yet be a lease, and that is given
    /// back when it is dropped.
    async fn lease<C>(&self, key: &Key, connection: C, wait: Option<Duration>) -> Result<Leased, Error>
    where
        C: AsRef<Connection> + Send + Sync + 'static,
    {
        let (client, key) = (self.clone(), key.clone());
        let asking = tokio::spawn(async move {
            let question = match wait {
                None => Question::lease_get(key.clone()),
                Some(wait) => Question::lease_wait(key.clone(), wait),
            };
            let reply = connection.as_ref().hear_out(question, wait.unwrap_or_default()).await?;
            Ok(match reply.lease() {
                Answered::Busy(copy) => Leased::Busy(copy),
                Answered::Granted(token, copy) => {
                    Leased::Granted(Lease { client, key, token: Some(token), turn: None }, copy)
                }
                Answered::Hit(value) => Leased::Hit(value),
            })
        });
        match asking.await {
            Ok(leased) => leased,
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            // The runtime ends, and this task with it.
            Err(_) => pending().await,
        }
    }

    /// The time left until then.
    pub(super) fn until(&self, until: u64) -> Duration {
        Duration::from_millis(until.saturating_sub(self.0.clock.now().millis))
    }
}

impl Lease {
    /// Stores the value. On an error it may have been stored; then, too, nobody reads it if it is not fresh.
    pub async fn fill<'a>(
        mut self,
        value: impl Into<Value>,
        how: impl Into<Store<'a>>,
    ) -> Result<Filled, Error> {
        let token = self.token.expect("nothing but this takes it");
        let (value, how) = (value.into(), how.into());
        let (exptime, tags) = (self.client.exptime(how.ttl), how.tags()?);
        let question = match how.version {
            None => Question::lease_set(&self.key, token, &value, exptime, &tags),
            version => Question::meta_store(&self.key, &value, exptime, Some(token), &tags, version),
        };
        let filled = match self.client.ask(&self.key, question).await?.word() {
            Word::MetaDone | Word::Stored => Filled::Stored,
            Word::StaleStored => Filled::StaleStored,
            Word::MetaExists | Word::MetaNotFound | Word::MetaNotStored | Word::NotStored => {
                Filled::NotStored
            }
            word => unreachable!("its listener does not expect {word:?}"),
        };
        self.token = None;
        Ok(filled)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(token) = self.token {
            self.client.connection_of(&self.key).tell(Question::lease_release(&self.key, token));
        }
    }
}

/// Its token is a secret between the server and its holder.
impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Lease").field("key", &self.key).finish_non_exhaustive()
    }
}

/// How soon somebody asks again who cannot wait at the server.
const POLL: Duration = Duration::from_millis(20);
