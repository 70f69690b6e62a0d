//! An event: one change that a source reports, in one shape for all formats, so that rules do not know them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A change, as rules see it. JSON `null` stands for what is absent.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Event {
    /// The row after the change, by column; `null` after a delete.
    pub after: Value,
    /// When it was committed or sent, in microseconds since 1970.
    pub at: Option<u64>,
    /// The row before the change, as far as the source reports it.
    pub before: Value,
    /// The content of an event that is not a change of a row: an object, or any other JSON.
    pub data: Value,
    /// Attributes that came beside the body.
    pub headers: BTreeMap<String, String>,
    /// Identifies the event; a second one with the same identity is a duplicate.
    pub id: Option<String>,
    /// The columns of the row's identity, or the key of the message.
    pub key: Value,
    /// The kind of an event that an application sent, such as `product.updated`.
    pub kind: Option<String>,
    /// The change of the row.
    pub op: Op,
    /// Facts of the source about the event: `lsn`, `xid`, …
    pub source: Value,
    /// The table, with its schema: `public.products`.
    pub table: Option<String>,
}

/// A change of a row.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// It was inserted.
    Create,
    /// It was deleted.
    Delete,
    /// The event is not a change of a row.
    #[default]
    Message,
    /// It was copied by a first snapshot of the table: nothing changed.
    Snapshot,
    /// All rows of the table were deleted.
    Truncate,
    /// It was changed.
    Update,
}

/// Stands for a column that did not change and whose value the database did not send (a large value of
/// PostgreSQL, stored apart by TOAST). It is the text that Debezium uses.
pub const UNAVAILABLE: &str = "__debezium_unavailable_value";

impl Event {
    /// The row after the change, or before it if there is none after.
    pub fn row(&self) -> &Value {
        if self.after.is_null() { &self.before } else { &self.after }
    }

    /// Which rows `each` stands for: the one before, and the one after the change.
    pub(super) fn images(&self) -> [bool; 2] {
        match self.op {
            Op::Create | Op::Message | Op::Snapshot | Op::Truncate => [false, true],
            Op::Delete => [true, false],
            Op::Update => [true, true],
        }
    }
}

impl Op {
    /// All of them.
    pub const ALL: [Op; 6] = [Op::Create, Op::Delete, Op::Message, Op::Snapshot, Op::Truncate, Op::Update];

    /// The one with this name.
    pub fn named(name: &str) -> Option<Op> {
        Op::ALL.into_iter().find(|op| op.name() == name)
    }

    /// Its name in rules.
    pub fn name(self) -> &'static str {
        match self {
            Op::Create => "create",
            Op::Delete => "delete",
            Op::Message => "message",
            Op::Snapshot => "snapshot",
            Op::Truncate => "truncate",
            Op::Update => "update",
        }
    }
}
