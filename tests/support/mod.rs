//! Support for all tests: transcripts, clients and servers. Each test binary compiles its own copy.

#![allow(dead_code, reason = "each binary uses a part of it")]

#[cfg(all(feature = "bench", feature = "console", feature = "server"))]
pub mod http;
pub mod memcached;
pub mod packets;
#[cfg(feature = "server")]
pub mod postgres;
#[cfg(feature = "server")]
pub mod proxy;
pub mod random;
#[cfg(all(feature = "bench", feature = "console", feature = "server"))]
pub mod served;
pub mod transcript;
pub mod wire;
