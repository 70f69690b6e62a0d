//! A client for one server or many: leases for fills that are never stale, invalidations that are never lost.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use leasehold::client::{Client, Fetch};
//!
//! # async fn read_price(id: u64) -> Result<String, std::io::Error> { Ok(format!("{id}")) }
//! # async fn write_price(id: u64, price: &str) -> Result<(), std::io::Error> { Ok(()) }
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let cache = Client::of(&["cache-1", "cache-2:11212"])?;
//!
//! // From the cache; on a miss, one client loads the value while all others wait.
//! let minute = Duration::from_secs(60);
//! let price = cache.fetch("product:7:price", minute, || read_price(7)).await?;
//!
//! // The same for a part of a page, which is invalidated with its category.
//! let fetch = Fetch { tags: &["category:3"], ..Fetch::from(minute) };
//! let part = cache.fetch("page:7:price", fetch, || read_price(7)).await?;
//!
//! // A writer commits, and then invalidates. Once this is Ok, no client reads the old value.
//! write_price(7, "79").await?;
//! cache.invalidate_prefixes(["product:7:"], Duration::from_secs(5)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! A client is cheap to clone and is shared by all tasks of a program. It belongs to the tokio runtime in
//! which it was created.
//!
//! # `get` and `set`, or `fetch`?
//!
//! With [`Client::fetch`] and [`Client::lease_get`] every fill carries a token: one task loads, the others
//! wait, and a late fill is refused.
//!
//! A plain `get` and `set` have no token; the server's implicit leases fence them. After `delete`,
//! `delete_surely` or an invalidation has returned, the server refuses a plain `set` of a value that was
//! read before it, on any connection, if the load took no longer than the server's `load-time-max`. A later
//! `set` is refused if the server still remembers the miss.
//!
//! Not fenced are: a `set` of a value that was read without a miss (a write, as in memcached), a load that
//! began before the server started, keys under `implicit-leases = off`, and values that went to another
//! server meanwhile.

mod config;
mod connection;
mod error;
mod fetch;
mod invalidate;
mod lease;
mod pool;
mod ring;
mod single_flight;
mod stream;
mod value;
mod verbs;
mod wire;

use std::sync::Arc;
use std::time::Duration;

pub use self::config::{BadServer, Config, Login, Server, Spread, WithoutCache};
use self::connection::Connection;
pub use self::error::{Error, FetchError, NotInvalidated};
pub use self::fetch::{Fetch, Stale};
pub use self::invalidate::Invalidate;
pub use self::lease::{Filled, Lease, Leased};
use self::pool::Pool;
use self::ring::Ring;
use self::single_flight::SingleFlight;
#[cfg(feature = "console")]
pub(crate) use self::stream::Stream;
pub use self::value::Value;
pub use self::verbs::{Changed, Store};
pub use self::wire::Copies;
use self::wire::{Key, Reply, Request};
use crate::clock::Clock;

/// A client of one or many servers.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    clock: Clock,
    config: Config,
    flights: SingleFlight,
    pools: Vec<Pool>,
    ring: Ring,
}

impl Client {
    /// A client of these servers with the default configuration. Connections open on demand.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn of(servers: &[&str]) -> Result<Client, BadServer> {
        let servers: Vec<Server> = servers.iter().map(|server| server.parse()).collect::<Result<_, _>>()?;
        if servers.is_empty() { Err(BadServer) } else { Ok(Client::new(servers, Config::default())) }
    }

    /// A client of these servers. As in libmemcached, their order does not matter.
    ///
    /// # Panics
    /// Without a server, or outside a tokio runtime.
    pub fn new(servers: Vec<Server>, config: Config) -> Client {
        assert!(!servers.is_empty(), "a client has a server");
        Client(Arc::new(Inner {
            clock: Clock::system(),
            flights: SingleFlight::default(),
            ring: Ring::new(config.spread, &servers),
            pools: servers.into_iter().map(|server| Pool::new(server, config.clone())).collect(),
            config,
        }))
    }

    /// The name of the server that stores this key.
    pub fn server_of(&self, key: impl AsRef<[u8]>) -> Result<&str, Error> {
        Ok(self.pool_of(&Key::new(key)?).name())
    }

    fn pool_of(&self, key: &Key) -> &Pool {
        &self.0.pools[self.0.ring.server_of(key)]
    }

    fn connection_of(&self, key: &Key) -> &Connection {
        self.pool_of(key).connection_of(key)
    }

    async fn ask(&self, key: &Key, request: Request) -> Result<Reply, Error> {
        self.connection_of(key).ask(request).await
    }

    /// Seconds from now, a date if that is too far away, or 0 for no expiry. Fractions are rounded up.
    fn exptime(&self, ttl: Duration) -> u64 {
        let seconds = ttl.as_secs().saturating_add(u64::from(ttl.subsec_nanos() > 0));
        if seconds <= RELATIVE_SECONDS_MAX {
            seconds
        } else if seconds <= SECONDS_MAX {
            self.0.clock.now().unix + seconds
        } else {
            0
        }
    }
}

/// Thirty days: the protocol takes larger numbers as dates.
const RELATIVE_SECONDS_MAX: u64 = 30 * 24 * 60 * 60;
/// Effectively unlimited, yet small enough that dates do not overflow to negative numbers.
const SECONDS_MAX: u64 = 50 * 365 * 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::MANUAL_UNIX;

    #[tokio::test]
    async fn times_to_live_are_rounded_up() {
        let mut client = Client::of(&["127.0.0.1"]).expect("a server");
        Arc::get_mut(&mut client.0).expect("there is one handle").clock = Clock::manual();
        let month = Duration::from_secs(30 * 24 * 60 * 60);
        for (ttl, exptime) in [
            (Duration::ZERO, 0),
            (Duration::from_millis(1), 1),
            (Duration::from_millis(1000), 1),
            (month, 2_592_000),
            (month + Duration::from_millis(1), MANUAL_UNIX + 2_592_001),
            (Duration::MAX, 0),
        ] {
            assert_eq!(client.exptime(ttl), exptime, "{ttl:?}");
        }
    }
}
