//! Keys, tags and prefixes in JSON: a string, or `{"base64": "/w=="}` for bytes that are not UTF-8.

use serde::Deserialize;
use serde_json::Value;

use crate::protocol::base64;

/// A key, tag or prefix.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct Name(pub(super) Vec<u8>);

impl TryFrom<Value> for Name {
    type Error = &'static str;

    fn try_from(value: Value) -> Result<Name, Self::Error> {
        let bytes = match value {
            Value::Object(form) if form.len() == 1 => {
                form.get("base64").and_then(Value::as_str).and_then(|text| base64::decode(text.as_bytes()))
            }
            Value::String(text) => Some(text.into_bytes()),
            _ => None,
        };
        bytes.map(Name).ok_or("a name is text, or {\"base64\": \"…\"}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], json: Value) {
        assert_eq!(base64::json(bytes), json);
        assert_eq!(Name::try_from(json).unwrap().0, bytes);
    }

    #[test]
    fn names_in_answers_are_valid_in_requests() {
        check(b"user:7", json!("user:7"));
        check("größe".as_bytes(), json!("größe"));
        check(b"\xff", json!({"base64": "/w=="}));
    }

    #[test]
    fn other_json_values_are_not_names() {
        for wrong in [json!(7), json!(["k"]), json!({"base64": "/w"}), json!({"base64": "/w==", "x": 1})] {
            assert!(Name::try_from(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
