//! Sinks: where the events of a source are applied.

use super::delivery::work::Change;
use super::position::Position;
use crate::metrics::SourceEvent;

/// A cache, or something that stands for one.
pub trait Sink: Send {
    /// Makes one change; returns the number of names that it invalidated.
    fn apply(&mut self, change: &Change) -> u64;

    /// Everything that was committed before this monotonic millisecond has been applied.
    fn attest(&mut self, proven_ms: u64);

    /// Shows watchers what happened to the source.
    fn publish(&self, what: SourceEvent<'_>);

    /// Remembers how far the source has been applied.
    fn save(&mut self, position: &Position);
}
