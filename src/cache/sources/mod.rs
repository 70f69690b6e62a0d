//! Sources of events: changes with a version, and how far each source has been applied. A snapshot has these
//! positions beside the items, so that the two always fit together.

mod attested;
pub(crate) mod freshness;

use std::collections::BTreeMap;

use super::Cache;
use super::invalidation::record::Depth;
use super::session::Session;
use super::write::{Draft, StoreOutcome};
use crate::clock::Now;
use crate::store::item::key::Key;
use crate::sync::Mutex;

pub use self::attested::Attestation;
pub(super) use self::attested::Attested;

/// The positions, by the names of the sources.
#[derive(Debug, Default)]
pub(super) struct Positions(Mutex<BTreeMap<String, SourcePosition>>);

/// A place in the log of a source. It is worth nothing without the identity of that log.
#[derive(Clone, Debug, Eq, PartialEq)]
#[cfg_attr(feature = "events", derive(serde::Deserialize, serde::Serialize))]
pub struct SourcePosition {
    /// The log in which the offset counts, such as the system identifier, timeline and slot of a server.
    pub identity: String,
    /// Everything up to here has been applied.
    pub offset: u64,
}

impl Cache {
    /// Invalidates a key, unless a value or an invalidation of this version of its row or a newer one is
    /// known; returns whether it had a live value, or `None` if nothing was done.
    pub fn invalidate_version(
        &self,
        key: &Key,
        depth: Depth,
        version: u64,
        session: &mut Session,
        now: Now,
    ) -> Option<bool> {
        self.write(key, None, now, Option::is_some, |shard, at| {
            shard.invalidate_version(key, depth, version, session, at)
        })
    }

    /// Stores a value that a source sent with the version of its row, unless that version or a newer one is
    /// known; every lease on the key is invalidated.
    pub fn store_version(
        &self,
        key: &Key,
        version: u64,
        draft: Draft,
        session: &mut Session,
        now: Now,
    ) -> StoreOutcome {
        let value_bytes = draft.value.len();
        self.write(
            key,
            Some(value_bytes),
            now,
            |outcome: &StoreOutcome| outcome.is_change(),
            |shard, at| shard.store_version(key, version, draft, session, at),
        )
    }

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
