//! Reports: what became of the events of a batch.

/// Counts of what became of events.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// Events that a rule applied to.
    pub applied: u64,
    /// When the applied ones were committed, in microseconds since 1970.
    pub committed: Vec<u64>,
    /// Events that had come before.
    pub duplicate: u64,
    /// Names that were merged into others.
    pub merged: u64,
    /// Reasons of those that could not be applied.
    pub poison: Vec<String>,
    /// Prefixes that were replaced by their parents.
    pub storms: u64,
    /// Events that no rule is for.
    pub unmatched: u64,
}
