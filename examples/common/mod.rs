//! Shared by the examples: a small client, and servers.

pub mod client;
pub mod target;
