//! What the examples share: a small client, and servers to talk to.

pub mod client;
pub mod target;
