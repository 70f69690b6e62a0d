//! Events from databases and buses that invalidate cached values.

#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod dead_letters;
pub mod delivery;
pub mod event;
pub mod format;
mod parsed;
pub mod position;
pub mod report;
pub mod rule;
#[cfg(feature = "server")]
pub mod runner;
pub mod sink;
pub mod source;
pub mod targets;
pub mod units;
