//! Invalidations, repeated until every server involved has confirmed or the caller's time is up. A
//! repetition changes nothing.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::connection::Connection;
use super::pool::Pool;
use super::wire::{Copies, Key, Names, Request};
use super::{Client, Error, NotInvalidated};

/// Options of an invalidation. A [`Duration`] converts to options with this time limit that keep no copies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Invalidate {
    /// Whether stale copies stay.
    pub copies: Copies,
    /// The time limit for all attempts.
    pub within: Duration,
}

impl From<Duration> for Invalidate {
    fn from(within: Duration) -> Self {
        Invalidate { copies: Copies::Drop, within }
    }
}

/// When one of these returns Ok, values loaded before it began are neither read from the cache nor stored
/// any more. On an error this may still hold for the listed servers. A dropped future guarantees nothing.
impl Client {
    /// Invalidates single keys, each on its server.
    pub async fn invalidate_keys<N: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = N>,
        how: impl Into<Invalidate>,
    ) -> Result<(), NotInvalidated> {
        let Invalidate { copies, within } = how.into();
        let mut shares = vec![Vec::new(); self.0.pools.len()];
        for key in parsed(keys)? {
            shares[self.0.ring.server_of(&key)].push(key);
        }
        let shares = self.0.pools.iter().zip(&shares);
        let requests = shares.flat_map(|(pool, keys)| {
            keys.chunks(NAMES_MAX).map(move |keys| (pool, Request::invalidate(Names::Keys(keys), copies)))
        });
        confirmed(requests, within).await
    }

    /// Invalidates all values that were filled with one of these tags.
    pub async fn invalidate_tags<N: AsRef<[u8]>>(
        &self,
        tags: impl IntoIterator<Item = N>,
        how: impl Into<Invalidate>,
    ) -> Result<(), NotInvalidated> {
        self.everywhere(&parsed(tags)?, |tags| Names::Tags(tags), how.into()).await
    }

    /// Invalidates all keys that begin with one of these prefixes. A prefix ends in the server's delimiter:
    /// `product:7:`.
    pub async fn invalidate_prefixes<N: AsRef<[u8]>>(
        &self,
        prefixes: impl IntoIterator<Item = N>,
        how: impl Into<Invalidate>,
    ) -> Result<(), NotInvalidated> {
        self.everywhere(&parsed(prefixes)?, |prefixes| Names::Prefixes(prefixes), how.into()).await
    }

    /// Invalidates everything on every server.
    pub async fn invalidate_all(&self, how: impl Into<Invalidate>) -> Result<(), NotInvalidated> {
        let Invalidate { copies, within } = how.into();
        confirmed(self.0.pools.iter().map(|pool| (pool, Request::invalidate(Names::All, copies))), within)
            .await
    }

    /// Deletes a key as reliably as [`invalidate_keys`](Client::invalidate_keys), but with memcached's own
    /// command: any server understands it.
    pub async fn delete_surely(&self, key: impl AsRef<[u8]>, within: Duration) -> Result<(), NotInvalidated> {
        let key = Key::new(key).map_err(|_| NotInvalidated::BadName)?;
        confirmed([(self.pool_of(&key), Request::delete(&key))], within).await
    }

    /// Deletes everything on every server, with memcached's own command.
    pub async fn flush_all(&self, within: Duration) -> Result<(), NotInvalidated> {
        confirmed(self.0.pools.iter().map(|pool| (pool, Request::flush_all())), within).await
    }

    async fn everywhere(
        &self,
        names: &[Key],
        of_kind: fn(&[Key]) -> Names<'_>,
        how: Invalidate,
    ) -> Result<(), NotInvalidated> {
        let parts = names.chunks(NAMES_MAX).map(|names| Request::invalidate(of_kind(names), how.copies));
        let requests = parts.flat_map(|part| self.0.pools.iter().map(move |pool| (pool, part.clone())));
        confirmed(requests, how.within).await
    }
}

fn parsed<N: AsRef<[u8]>>(names: impl IntoIterator<Item = N>) -> Result<Vec<Key>, NotInvalidated> {
    names.into_iter().map(Key::new).collect::<Result<_, _>>().map_err(|_| NotInvalidated::BadName)
}

/// Runs all in parallel, so that a server that is down does not delay the others.
async fn confirmed<'a>(
    requests: impl IntoIterator<Item = (&'a Pool, Request)>,
    within: Duration,
) -> Result<(), NotInvalidated> {
    let mut attempts = JoinSet::new();
    for (pool, request) in requests {
        attempts.spawn(persist(pool.any().clone(), request, within));
    }
    let mut servers: Vec<Error> = attempts.join_all().await.into_iter().filter_map(Result::err).collect();
    servers.sort_by_key(|error| error.to_string());
    servers.dedup();
    if servers.is_empty() { Ok(()) } else { Err(NotInvalidated::Unconfirmed { servers }) }
}

/// Repeats the request until the server has confirmed or refused it, or time is up.
async fn persist(connection: Connection, request: Request, within: Duration) -> Result<(), Error> {
    let mut last = None;
    let attempts = async {
        let mut pause = PAUSE_MIN;
        loop {
            match connection.ask(request.clone()).await {
                Ok(_) => return Ok(()),
                Err(refused @ Error::Refused { .. }) => return Err(refused),
                Err(error) => last = Some(error),
            }
            sleep(pause).await;
            pause = PAUSE_MAX.min(pause * 2);
        }
    };
    match timeout(within, attempts).await {
        Ok(answer) => answer,
        Err(_) => Err(last.unwrap_or_else(|| connection.timed_out())),
    }
}

/// The server's limit on names in one line.
const NAMES_MAX: usize = 1000;
/// The time between two attempts; the connection adds pauses of its own.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(200);
