//! Real memcached servers beside ours: the same bytes must come back.

mod memcached_agrees;
mod memcached_scripts;
#[path = "../support/mod.rs"]
mod support;
