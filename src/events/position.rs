//! Positions: how far a source has been applied. The cache keeps them, so that a snapshot has them beside the
//! items.

pub use crate::cache::SourcePosition as Position;
