//! A complete look-aside read: get the value; or get the lease, load and fill; or wait for the holder of
//! the lease.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::single_flight::{self, Joined};
use super::wire::Key;
use super::{Client, Error, FetchError, Lease, Leased, Store, Value, WithoutCache};

/// Options of a fetch. A [`Duration`] converts to options with this `ttl` and defaults otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Fetch<'a> {
    /// How long to wait for a value that another client loads. After that the value is loaded here, too,
    /// and not stored.
    pub patience: Duration,
    /// Whether to use a stale copy while another client loads.
    pub stale: Stale,
    /// At most 16 tags, by which [`invalidate_tags`](Client::invalidate_tags) finds the value.
    pub tags: &'a [&'a str],
    /// The lifetime of the value; zero leaves it to the server's policy.
    pub ttl: Duration,
}

/// Whether to use the stale copy that a server's policy keeps of an invalidated or expired value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stale {
    /// Waits for the new value.
    Avoid,
    /// Takes the copy instead of waiting.
    Serve,
}

/// The result of a fetch before anything is loaded.
enum Found {
    /// The caller must load and fill.
    Lease(Lease),
    /// The caller must load and not fill: another client fills, or no one can.
    Nothing,
    Value(Value),
}

impl From<Duration> for Fetch<'_> {
    fn from(ttl: Duration) -> Self {
        Fetch { patience: PATIENCE, stale: Stale::Avoid, tags: &[], ttl }
    }
}

impl Client {
    /// Returns the value of `key` from the cache; on a miss, returns the result of `load` and stores it for
    /// later reads.
    ///
    /// If several clients miss a key at the same time, in this program or in others, one loads and the
    /// others wait. If the loader fails, or the fetch is dropped, the next client loads. `load` is called
    /// at most once, and only after it is certain that any later invalidation will stop the fill. So the
    /// result of a fetch is never older than an invalidation that was confirmed before the fetch began,
    /// except with [`Stale::Serve`]. A loaded value is returned even if the cache refuses it: it is the
    /// database's answer, although it may have changed since.
    ///
    /// A failing server is not an error (see [`WithoutCache`]), but then every fetch loads. The same
    /// happens with servers that do not support leases, such as memcached.
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
                // Stored or not, it is the database's answer.
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

    /// Waits for the load of the key: for a task of this program that loads or waits already, or else at
    /// the server.
    async fn behind(&self, key: &Key, until: u64) -> Result<Leased, Error> {
        match self.0.flights.join(key) {
            Joined::Behind(flight) => {
                let _ = timeout(self.until(until), single_flight::finished(flight)).await;
                self.lease_get(key.bytes()).await
            }
            Joined::First(flight) => match self.lease_wait(key, until).await? {
                Leased::Busy(copy) => {
                    // The server does not wait for a lease that the connection itself holds, granted by a
                    // `lease_get`.
                    sleep(PAUSE.min(self.until(until))).await;
                    Ok(Leased::Busy(copy))
                }
                Leased::Granted(mut lease, copy) => {
                    lease.flight = Some(flight);
                    Ok(Leased::Granted(lease, copy))
                }
                Leased::Hit(value) => Ok(Leased::Hit(value)),
            },
        }
    }

    /// Lets later fetches wait for this lease.
    fn ahead(&self, key: &Key, mut lease: Lease) -> Lease {
        if lease.flight.is_none()
            && let Joined::First(flight) = self.0.flights.join(key)
        {
            lease.flight = Some(flight);
        }
        lease
    }
}

async fn loaded<V: Into<Value>, E>(load: impl Future<Output = Result<V, E>>) -> Result<Value, FetchError<E>> {
    load.await.map(Into::into).map_err(FetchError::Load)
}

/// Longer than most queries take, and than most users wait.
const PATIENCE: Duration = Duration::from_secs(5);
/// The time between two requests if the server does not wait.
const PAUSE: Duration = Duration::from_millis(10);
