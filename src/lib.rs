//! leasehold: a memcached-compatible cache whose fills are race-free.

pub mod cache;
pub mod clock;
pub mod command;
pub mod metrics;
pub mod protocol;
#[cfg(feature = "server")]
pub mod server;

pub use cache::{Cache, Config};
pub use clock::{Clock, Now};

/// Its example in Rust is tested with those of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
