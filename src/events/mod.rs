//! Events from databases and buses that invalidate cached values.

pub mod event;
pub mod position;
pub mod rule;
pub mod source;
