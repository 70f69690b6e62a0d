//! Events from databases and buses that invalidate cached values.

pub mod delivery;
pub mod event;
pub mod format;
pub mod position;
pub mod rule;
pub mod source;
pub mod span;
pub mod targets;
