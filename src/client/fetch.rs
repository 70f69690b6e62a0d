//! The whole of a look-aside read: the value, or the lease and the load, or the wait for who has it.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::single_flight::{self, Joined};
use super::wire::Key;
use super::{Client, Error, FetchError, Lease, Leased, Store, Value, WithoutCache};

/// How to fetch. A [`Duration`] is one that says how long the value lives, and nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Fetch<'a> {
    /// For how long to wait for a value that somebody else loads. After that it is loaded here, too, and not
    /// stored.
    pub patience: Duration,
    /// Whether to use a stale copy while another client loads.
    pub stale: Stale,
    /// The names, at most 16, by which [`invalidate_tags`](Client::invalidate_tags) finds the value.
    pub tags: &'a [&'a str],
    /// For how long the value lives; zero leaves that to the server's policy.
    pub ttl: Duration,
}

/// Whether to use the copy that a server's policy keeps of an invalidated or expired value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stale {
    /// Wait for the new value.
    Avoid,
    /// Take the copy rather than wait.
    Serve,
}

/// The outcome of a fetch before anything is loaded.
enum Found {
    /// Load and fill.
    Lease(Lease),
    /// Load; somebody else fills, or nobody can.
    Nothing,
    Value(Value),
}

impl From<Duration> for Fetch<'_> {
    fn from(ttl: Duration) -> Self {
        Fetch { patience: PATIENCE, stale: Stale::Avoid, tags: &[], ttl }
    }
}

impl Client {
    /// The value of `key` from the cache, or else what `load` returns, which is then stored for whoever comes
    /// next.
    ///
    /// Of all who miss a key at the same time, in this program and in others, one loads and the others wait.
    /// If the loader fails, or the fetch is dropped, the next one loads. `load` is called at most once, and
    /// only after it is certain that an invalidation from then on will stop the fill. So what a fetch returns
    /// is never older than an invalidation that was confirmed before the fetch began, save for
    /// [`Stale::Serve`]. What was loaded is returned also where the cache refuses it: it is what the database
    /// said, though it may have changed since.
    ///
    /// A server in trouble is no error (see [`WithoutCache`]), but then every fetch loads; as it does where
    /// the server knows nothing of leases, such as memcached.
    pub async fn fetch<'a, V, E, L>(
        &self,
        key: impl AsRef<[u8]>,
        how: impl Into<Fetch<'a>>,
        load: impl FnOnce() -> L,
    ) -> Result<Value, FetchError<E>>
    where
        L: Future<Output = Result<V, E>>,
        V: Into<Value>,
    {
        let how = how.into();
        let key = Key::new(key).map_err(FetchError::Cache)?;
        let store = Store { tags: how.tags, ttl: how.ttl, version: None };
        store.tags().map_err(FetchError::Cache)?;
        match self.find(&key, &how).await {
            Ok(Found::Value(value)) => Ok(value),
            Ok(Found::Nothing) => loaded(load()).await,
            Ok(Found::Lease(lease)) => {
                let value = loaded(load()).await?;
                // Stored or not, it is what the database said.
                let _ = lease.fill(value.clone(), store).await;
                Ok(value)
            }
            Err(error) => match self.0.config.without_cache {
                WithoutCache::Fail => Err(FetchError::Cache(error)),
                WithoutCache::Load => loaded(load()).await,
            },
        }
    }

    async fn find(&self, key: &Key, how: &Fetch<'_>) -> Result<Found, Error> {
        let until = self.0.clock.now().after(how.patience);
        let mut next = self.lease_get(key.bytes()).await?;
        loop {
            match next {
                Leased::Busy(Some(copy)) if how.stale == Stale::Serve => return Ok(Found::Value(copy)),
                Leased::Busy(_) if self.until(until).is_zero() => return Ok(Found::Nothing),
                Leased::Busy(_) => next = self.behind(key, until).await?,
                Leased::Granted(lease, _) => return Ok(Found::Lease(self.ahead(key, lease))),
                Leased::Hit(value) => return Ok(Found::Value(value)),
            }
        }
    }

    /// Waits for who loads the key: a task of this program, if one does or waits already, else at the server.
    async fn behind(&self, key: &Key, until: u64) -> Result<Leased, Error> {
        match self.0.flights.join(key) {
            Joined::Behind(turn) => {
                let _ = timeout(self.until(until), single_flight::finished(turn)).await;
                self.lease_get(key.bytes()).await
            }
            Joined::First(turn) => match self.lease_wait(key, until).await? {
                Leased::Busy(copy) => {
                    // The server does not wait for what the connection itself has been granted, by a
                    // `lease_get`.
                    sleep(PAUSE.min(self.until(until))).await;
                    Ok(Leased::Busy(copy))
                }
                Leased::Granted(mut lease, copy) => {
                    lease.turn = Some(turn);
                    Ok(Leased::Granted(lease, copy))
                }
                Leased::Hit(value) => Ok(Leased::Hit(value)),
            },
        }
    }

    /// Lets those who come later wait for this lease.
    fn ahead(&self, key: &Key, mut lease: Lease) -> Lease {
        if lease.turn.is_none()
            && let Joined::First(turn) = self.0.flights.join(key)
        {
            lease.turn = Some(turn);
        }
        lease
    }
}

async fn loaded<V: Into<Value>, E>(load: impl Future<Output = Result<V, E>>) -> Result<Value, FetchError<E>> {
    load.await.map(Into::into).map_err(FetchError::Load)
}

/// As long as most queries take, and most users.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two questions where the server does not do the waiting.
const PAUSE: Duration = Duration::from_millis(10);
