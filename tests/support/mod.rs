//! What the tests share: players, clients and servers, each compiled once into each test binary.

#![allow(dead_code, reason = "each binary uses its own part")]

#[cfg(all(feature = "bench", feature = "console", feature = "server"))]
pub mod http;
pub mod memcached;
pub mod random;
#[cfg(all(feature = "bench", feature = "console", feature = "server"))]
pub mod served;
pub mod transcript;
pub mod wire;
