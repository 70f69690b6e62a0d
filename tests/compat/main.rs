//! Compatibility with a real memcached: the same requests must have the same answers.

mod memcached_agrees;
mod memcached_binary;
mod memcached_scripts;
#[path = "../support/mod.rs"]
mod support;
