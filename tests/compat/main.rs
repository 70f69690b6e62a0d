//! Compatibility with a real memcached: the same requests must have the same answers.

mod memcached_agrees;
mod memcached_binary;
mod memcached_scripts;
mod memcached_stale;
#[path = "../support/mod.rs"]
mod support;
