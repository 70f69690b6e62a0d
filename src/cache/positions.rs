//! How far each source of events has been applied. A snapshot has these positions beside the items, so that
//! the two always fit together.

use std::collections::BTreeMap;

use super::Cache;
use crate::sync::Mutex;

/// The positions, by the names of the sources.
#[derive(Debug, Default)]
pub(super) struct Positions(Mutex<BTreeMap<String, SourcePosition>>);

/// A position of a source.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SourcePosition {
    /// The log in which the offset counts.
    pub identity: String,
    /// Everything up to here has been applied.
    pub offset: u64,
}

impl Cache {
    /// Remembers how far a source has been applied.
    pub fn set_position(&self, source: &str, position: SourcePosition) {
        self.positions.0.lock().insert(source.to_owned(), position);
    }

    /// How far a source has been applied.
    pub fn position(&self, source: &str) -> Option<SourcePosition> {
        self.positions.0.lock().get(source).cloned()
    }

    /// The positions of all sources.
    pub fn positions(&self) -> Vec<(String, SourcePosition)> {
        self.positions.0.lock().iter().map(|(source, position)| (source.clone(), position.clone())).collect()
    }
}
