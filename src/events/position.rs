//! Positions: how far a source has been applied.

use serde::{Deserialize, Serialize};

/// A place in the log of a source. It is worth nothing without the identity of that log.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Position {
    /// The log in which the offset counts, such as the system identifier, timeline and slot of a server.
    pub identity: String,
    /// Everything up to here has been applied.
    pub offset: u64,
}
