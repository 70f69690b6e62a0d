//! Debezium's change events as JSON: an envelope with the rows before and after.
//!
//! <https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-events>

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::Headers;
use crate::events::event::{Event, Op};

/// The envelope, or the object around it that has its schema, which is skipped.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Envelope {
    after: Value,
    before: Value,
    op: Option<String>,
    #[serde(deserialize_with = "present")]
    payload: Option<Option<Box<Envelope>>>,
    source: Map<String, Value>,
    ts_ms: Option<u64>,
}

pub(super) fn decode(body: &[u8], headers: Headers) -> Result<Option<Event>, String> {
    if body.trim_ascii().is_empty() || body.trim_ascii() == b"null" {
        return Ok(None);
    }
    let envelope: Envelope = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if matches!(envelope.payload, Some(None)) {
        return Ok(None);
    }
    event(envelope, headers).map(Some)
}

/// The change in the data of another event, if it is one.
pub(super) fn within(data: &Value) -> Option<Result<Event, String>> {
    let is_envelope = data.get("op").is_some() && data.get("source").is_some_and(Value::is_object);
    let parsed = || serde_json::from_value(data.clone()).map_err(|error| error.to_string());
    is_envelope.then(|| parsed().and_then(|envelope| event(envelope, Headers::new())))
}

fn event(outer: Envelope, headers: Headers) -> Result<Event, String> {
    let envelope = match outer.payload {
        Some(Some(inner)) => *inner,
        Some(None) | None => outer,
    };
    let op = match envelope.op.as_deref() {
        Some("c") => Op::Create,
        Some("d") => Op::Delete,
        Some("m") => Op::Message,
        Some("r") => Op::Snapshot,
        Some("t") => Op::Truncate,
        Some("u") => Op::Update,
        Some(other) => return Err(format!("unknown op {other:?}")),
        None => return Err("there is no \"op\"".to_owned()),
    };
    let text = |name: &str| envelope.source.get(name).and_then(Value::as_str);
    // Databases without schemas name the database instead.
    let schema = text("schema").or_else(|| text("db"));
    let table = match (schema, text("table").or_else(|| text("collection"))) {
        (Some(schema), Some(table)) => Some(format!("{schema}.{table}")),
        (None, Some(table)) => Some(table.to_owned()),
        (_, None) if op == Op::Message => None,
        (_, None) => return Err("the \"source\" names no table".to_owned()),
    };
    let ms = envelope.source.get("ts_ms").and_then(Value::as_u64).or(envelope.ts_ms);
    Ok(Event {
        after: envelope.after,
        at: ms.map(|ms| ms.saturating_mul(1000)),
        before: envelope.before,
        headers,
        op,
        source: Value::Object(envelope.source),
        table,
        ..Event::default()
    })
}

/// Distinguishes `null` from a field that is missing.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<Box<Envelope>>>, D::Error> {
    Option::deserialize(from).map(Some)
}
