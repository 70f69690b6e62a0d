//! leasehold: a memcached-compatible cache whose fills are race-free.
//!
//! A look-aside cache goes wrong when a reader loads a row, a writer changes it and deletes the key, and the
//! reader then stores the old row. Here a miss returns a lease, every delete invalidates the leases before
//! it, and a fill that comes too late is refused.
//!
//! The server, in the module `server` and the binary, speaks memcached's text and binary
//! protocols (`protocol.md`). The module `client` is a client for one server or many. The cache can also be
//! embedded, without sockets and with the time as an argument
//! (`default-features = false, features = ["cache"]`):
//!
//! ```
//! use leasehold::cache::{Deletion, Draft, Fill, Lookup, Refused};
//! use leasehold::{Cache, Clock, Config};
//!
//! let (cache, clock) = (Cache::new(Config::default()), Clock::system());
//! let (mut reader, mut writer) = (cache.session(), cache.session());
//! let key = cache.key(b"price:7").expect("1 to 250 bytes");
//! let leased = cache.lease(&key, &mut reader, clock.now(), |leased| match leased {
//!     Lookup::Granted { token, .. } => Some(token),
//!     Lookup::Busy { .. } | Lookup::Hit { .. } | Lookup::Miss => None,
//! });
//! let fill = Fill::Value(Draft::new("99"));
//! // The price changes while the reader loads it.
//! cache.delete(&key, &Deletion::default(), &mut writer, clock.now());
//! let token = leased.expect("no other client loads it");
//! assert_eq!(cache.fill(&key, token, fill, &mut reader, clock.now()), Err(Refused::Invalidated));
//! ```
//!
//! The module `bench` is the load generator (`leasehold bench`), and `console` has the terminal programs
//! (`leasehold cli` and `leasehold top`).
//!
//! [`protocol`] turns bytes into requests and replies into bytes, and [`command`] executes a request.
//! ARCHITECTURE.md lists which layer may use which.

#[cfg(feature = "server")]
pub mod admin;
#[cfg(feature = "bench")]
pub mod bench;
#[cfg(feature = "cache")]
pub mod cache;
#[cfg(feature = "client")]
pub mod client;
pub mod clock;
#[cfg(feature = "cache")]
pub mod command;
#[cfg(feature = "console")]
pub mod console;
#[cfg(feature = "events")]
pub mod events;
#[cfg(feature = "server")]
pub mod handover;
pub mod limits;
#[cfg(feature = "cache")]
pub mod metrics;
#[cfg(feature = "cache")]
mod mrc;
#[cfg(feature = "server")]
pub mod options;
#[cfg(feature = "protocol")]
pub mod pages;
#[cfg(any(feature = "console", feature = "server"))]
mod pem;
#[cfg(feature = "server")]
pub mod process;
#[cfg(feature = "protocol")]
pub mod protocol;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "protocol")]
mod shown;
#[cfg(feature = "server")]
pub mod snapshot;

#[cfg(feature = "cache")]
mod store;
#[cfg(feature = "cache")]
mod sync;

#[cfg(feature = "cache")]
pub use cache::{Cache, Config};
pub use clock::{Clock, Now};

/// Tests the Rust examples in these documents.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../docs/operating.md")]
struct Documents;
