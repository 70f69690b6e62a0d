//! memcached's verbs, each sent once.
//!
//! The lease verbs are in `lease`; operations that repeat until they succeed are in `invalidate`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::wire::{Counting, Item, Key, Reply, Request, Storing, Word};
use super::{Client, Error, Value};
use crate::limits::TAGS_MAX;

/// The outcome of a compare-and-swap.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Changed {
    /// There is no value.
    Absent,
    /// The value has changed since it was read.
    Meanwhile,
    /// The new value is stored.
    Stored,
}

/// Options of a store. A [`Duration`] converts to options with this `ttl` and defaults otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub struct Store<'a> {
    /// At most 16 tags, by which [`invalidate_tags`](Client::invalidate_tags) finds the value.
    pub tags: &'a [&'a str],
    /// The lifetime of the value; zero leaves it to the server's policy, which usually means no expiry.
    pub ttl: Duration,
    /// The version of the database row, if it has one that only grows. The server refuses a value with an
    /// older version than it knows for the key.
    pub version: Option<u64>,
}

impl From<Duration> for Store<'_> {
    fn from(ttl: Duration) -> Self {
        Store { ttl, ..Store::default() }
    }
}

impl Store<'_> {
    pub(super) fn tags(&self) -> Result<Vec<Key>, Error> {
        if self.tags.len() > TAGS_MAX {
            return Err(Error::TooManyTags);
        }
        self.tags.iter().map(Key::new).collect()
    }
}

impl Client {
    /// The value, or `None` if there is none.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>, Error> {
        let key = Key::new(key)?;
        let request = Request::get(vec![key.clone()]);
        Ok(only(self.ask(&key, request).await?).map(|item| item.value))
    }

    /// The values of many keys in the same order, with an error for each that could not be read: a server
    /// that is down does not hide the values of the others.
    pub async fn get_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Vec<Result<Option<Value>, Error>> {
        let keys: Vec<_> = keys.into_iter().map(Key::new).collect();
        let mut shares: HashMap<(usize, usize), Vec<(usize, Key)>> = HashMap::new();
        for (place, key) in
            keys.iter().enumerate().filter_map(|(place, key)| Some((place, key.clone().ok()?)))
        {
            let server = self.0.ring.server_of(&key);
            let connection = self.0.pools[server].index_of(&key);
            shares.entry((server, connection)).or_default().push((place, key));
        }
        let mut values: Vec<_> = keys.into_iter().map(|key| key.map(|_| None)).collect();
        let mut requests = JoinSet::new();
        for ((server, connection), share) in shares {
            for part in share.chunks(KEYS_PER_GET) {
                let (places, keys): (Vec<_>, Vec<_>) = part.iter().cloned().unzip();
                let connection = self.0.pools[server].connection(connection).clone();
                requests.spawn(async move {
                    let answer = connection.ask(Request::get(keys)).await;
                    (places, answer.map(Reply::items))
                });
            }
        }
        for (places, answer) in requests.join_all().await {
            match answer {
                Err(error) => places.into_iter().for_each(|place| values[place] = Err(error.clone())),
                Ok(items) => {
                    for (place, item) in places.into_iter().zip(items) {
                        values[place] = Ok(item.map(|item| item.value));
                    }
                }
            }
        }
        values
    }

    /// The value and its unique, for [`Client::cas`].
    pub async fn gets(&self, key: impl AsRef<[u8]>) -> Result<Option<(Value, u64)>, Error> {
        let key = Key::new(key)?;
        let item = only(self.ask(&key, Request::gets(key.clone())).await?);
        Ok(item.and_then(|item| Some((item.value, item.unique?))))
    }

    /// The value, whose lifetime becomes `ttl`.
    pub async fn gat(&self, key: impl AsRef<[u8]>, ttl: Duration) -> Result<Option<Value>, Error> {
        let key = Key::new(key)?;
        let request = Request::gat(key.clone(), self.exptime(ttl));
        Ok(only(self.ask(&key, request).await?).map(|item| item.value))
    }

    /// Stores the value unconditionally. Returns false if the server reports a refusal: because of a newer
    /// version of the row, or because of an invalidated implicit lease (which is reported for plain values
    /// only with `--implicit-reply not-stored`).
    pub async fn set<'a>(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Value>,
        how: impl Into<Store<'a>>,
    ) -> Result<bool, Error> {
        let (key, value, how) = (Key::new(key)?, value.into(), how.into());
        let (exptime, tags) = (self.exptime(how.ttl), how.tags()?);
        let request = if tags.is_empty() && how.version.is_none() {
            Request::store(Storing::Set, &key, &value, exptime)
        } else {
            Request::meta_store(&key, &value, exptime, None, &tags, how.version)
        };
        Ok(matches!(self.ask(&key, request).await?.word(), Word::MetaDone | Word::Stored))
    }

    /// Stores the value if there is none; returns whether it did.
    pub async fn add(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Value>,
        ttl: Duration,
    ) -> Result<bool, Error> {
        self.store(Storing::Add, key, value.into(), ttl).await
    }

    /// Stores the value if there is one already; returns whether it did.
    pub async fn replace(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Value>,
        ttl: Duration,
    ) -> Result<bool, Error> {
        self.store(Storing::Replace, key, value.into(), ttl).await
    }

    /// Appends bytes to an existing value; returns whether there was one.
    pub async fn append(&self, key: impl AsRef<[u8]>, value: impl Into<Value>) -> Result<bool, Error> {
        self.store(Storing::Append, key, value.into(), Duration::ZERO).await
    }

    /// Prepends bytes to an existing value; returns whether there was one.
    pub async fn prepend(&self, key: impl AsRef<[u8]>, value: impl Into<Value>) -> Result<bool, Error> {
        self.store(Storing::Prepend, key, value.into(), Duration::ZERO).await
    }

    /// Stores the value if the existing one still has this unique.
    pub async fn cas(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Value>,
        ttl: Duration,
        unique: u64,
    ) -> Result<Changed, Error> {
        let key = Key::new(key)?;
        let request = Request::cas(&key, &value.into(), self.exptime(ttl), unique);
        Ok(match self.ask(&key, request).await?.word() {
            Word::Exists => Changed::Meanwhile,
            Word::NotFound => Changed::Absent,
            Word::Stored => Changed::Stored,
            word => unreachable!("its parser does not expect {word:?}"),
        })
    }

    /// Increments an existing number; returns the new one.
    pub async fn incr(&self, key: impl AsRef<[u8]>, delta: u64) -> Result<Option<u64>, Error> {
        self.count(Counting::Up, key, delta).await
    }

    /// Decrements an existing number, down to 0 at most; returns the new one.
    pub async fn decr(&self, key: impl AsRef<[u8]>, delta: u64) -> Result<Option<u64>, Error> {
        self.count(Counting::Down, key, delta).await
    }

    /// Sets the lifetime of an existing value to `ttl` from now; returns whether there was one.
    pub async fn touch(&self, key: impl AsRef<[u8]>, ttl: Duration) -> Result<bool, Error> {
        let key = Key::new(key)?;
        let request = Request::touch(&key, self.exptime(ttl));
        Ok(self.ask(&key, request).await?.word() == Word::Touched)
    }

    /// Deletes a value; returns whether there was one. After an error it may still be there;
    /// [`Client::delete_surely`] retries.
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        let key = Key::new(key)?;
        Ok(self.ask(&key, Request::delete(&key)).await?.word() == Word::Deleted)
    }

    /// Deletes values up to this version of the row, and refuses them from now on. Returns false if the
    /// server knows a newer version and did nothing.
    pub async fn delete_version(&self, key: impl AsRef<[u8]>, version: u64) -> Result<bool, Error> {
        let key = Key::new(key)?;
        Ok(self.ask(&key, Request::meta_delete(&key, version)).await?.word() != Word::MetaNotStored)
    }

    /// The statistics of each server, by its name.
    pub async fn stats(&self) -> Vec<(Arc<str>, Result<BTreeMap<String, String>, Error>)> {
        self.each(Request::stats, |reply| reply.stats().into_iter().collect()).await
    }

    /// The version that each server reports.
    pub async fn version(&self) -> Vec<(Arc<str>, Result<String, Error>)> {
        self.each(Request::version, Reply::version).await
    }

    async fn store(
        &self,
        storing: Storing,
        key: impl AsRef<[u8]>,
        value: Value,
        ttl: Duration,
    ) -> Result<bool, Error> {
        let key = Key::new(key)?;
        let request = Request::store(storing, &key, &value, self.exptime(ttl));
        Ok(self.ask(&key, request).await?.word() == Word::Stored)
    }

    async fn count(
        &self,
        counting: Counting,
        key: impl AsRef<[u8]>,
        delta: u64,
    ) -> Result<Option<u64>, Error> {
        let key = Key::new(key)?;
        Ok(self.ask(&key, Request::count(counting, &key, delta)).await?.number())
    }

    async fn each<T>(
        &self,
        request: fn() -> Request,
        understand: fn(Reply) -> T,
    ) -> Vec<(Arc<str>, Result<T, Error>)> {
        let mut answers = Vec::new();
        for pool in &self.0.pools {
            let answer = pool.any().ask(request()).await;
            answers.push((Arc::clone(pool.name()), answer.map(understand)));
        }
        answers
    }
}

fn only(reply: Reply) -> Option<Item> {
    reply.items().pop().flatten()
}

/// More keys of one server go in several lines, so that no line is too long for any memcached.
const KEYS_PER_GET: usize = 30;
