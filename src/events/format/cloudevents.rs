//! CloudEvents 1.0: attributes and data, in one JSON object or apart.
//!
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md> and
//! `bindings/http-protocol-binding.md` beside it.

use serde_json::{Map, Value};

use super::{Headers, debezium, without_bom};
use crate::events::event::Event;
use crate::events::rule::filter::micros;
use crate::protocol::base64::decode;

/// Whether the attributes came as headers.
pub(super) fn is_in_headers(headers: &Headers) -> bool {
    headers.keys().any(|name| attribute_name(name).is_some_and(|name| name == "specversion"))
}

/// An event whose attributes are headers, and whose body is its data.
pub(super) fn from_headers(body: &[u8], headers: Headers) -> Result<Event, String> {
    let data = if body.trim_ascii().is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(body).map_err(|error| error.to_string())?
    };
    let rename = |(name, value): (String, String)| (attribute_name(&name).unwrap_or(name), value);
    event(headers.into_iter().map(rename).collect(), data)
}

/// An event in one object.
pub(super) fn from_body(body: &[u8], headers: Headers) -> Result<Event, String> {
    let mut whole: Map<String, Value> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let data = match (whole.remove("data"), whole.remove("data_base64")) {
        (data, None) => data.unwrap_or_default(),
        (None, Some(Value::String(base64))) => {
            encoded(&base64).map_err(|why| format!("\"data_base64\": {why}"))?
        }
        (None, Some(_)) => return Err("\"data_base64\" is no string".to_owned()),
        (Some(_), Some(_)) => return Err("there are both \"data\" and \"data_base64\"".to_owned()),
    };
    let mut attributes = headers;
    for (name, value) in whole {
        let text = match value {
            Value::String(text) => text,
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            Value::Null => continue,
            Value::Array(_) | Value::Object(_) => {
                return Err(format!("the attribute {name:?} has no simple value"));
            }
        };
        attributes.insert(name, text);
    }
    event(attributes, data)
}

/// JSON as its bytes in base64.
fn encoded(base64: &str) -> Result<Value, String> {
    let bytes = decode(base64.as_bytes()).ok_or("it is no base64")?;
    serde_json::from_slice(without_bom(&bytes)).map_err(|error| format!("it is no JSON: {error}"))
}

fn event(attributes: Headers, data: Value) -> Result<Event, String> {
    let required = |name: &str| match attributes.get(name).map(String::as_str) {
        Some("") => Err(format!("the attribute {name:?} is empty")),
        Some(value) => Ok(value.to_owned()),
        None => Err(format!("the attribute {name:?} is missing")),
    };
    let version = required("specversion")?;
    if !version.starts_with("1.") {
        return Err(format!("CloudEvents {version} is not supported: send 1.0"));
    }
    // The two together identify an event; a source may contain anything.
    let (source, id) = (required("source")?, required("id")?);
    let id = format!("{}:{source}{id}", source.len());
    let at = attributes.get("time").map(|time| micros(time)).transpose()?;
    let kind = required("type")?;
    let change = debezium::within(&data).transpose()?;
    let plain = Event { data, at, ..Event::default() };
    Ok(Event { headers: attributes, id: Some(id), kind: Some(kind), ..change.unwrap_or(plain) })
}

/// The attribute in the name of a header of HTTP and NATS, or of Kafka.
fn attribute_name(header: &str) -> Option<String> {
    let name = header.to_ascii_lowercase();
    name.strip_prefix("ce-").or(name.strip_prefix("ce_")).map(str::to_owned)
}
