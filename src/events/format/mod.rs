//! Formats: bytes to events.

mod cloudevents;
mod debezium;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::event::{Event, Op};

/// How a source writes its events.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Recognized event by event: CloudEvents by their `specversion`, Debezium by `op` and `source`, and all
    /// else as plain JSON.
    #[default]
    Auto,
    /// CloudEvents 1.0, with all attributes in the body or in headers that begin with `ce-` or `ce_`.
    CloudEvents,
    /// The JSON of Debezium, with its schema or without.
    Debezium,
    /// An object whose fields only the rules know.
    Json,
}

/// Attributes that came beside a body.
pub type Headers = BTreeMap<String, String>;

impl Format {
    /// Decodes one event; `None` for one that announces nothing, such as a tombstone.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the bytes.
    pub fn decode(self, body: &[u8], headers: Headers) -> Result<Option<Event>, String> {
        let body = without_bom(body);
        if matches!(self, Format::Auto | Format::CloudEvents) && cloudevents::is_in_headers(&headers) {
            return cloudevents::from_headers(body, headers).map(Some);
        }
        let form = if self == Format::Auto { recognized(body)? } else { self };
        match form {
            Format::Auto => Ok(None),
            Format::CloudEvents => cloudevents::from_body(body, headers).map(Some),
            Format::Debezium => debezium::decode(body, headers),
            Format::Json => plain(body, headers).map(Some),
        }
    }
}

/// The text after the mark that some programs begin UTF-8 with.
pub(in crate::events) fn without_bom(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

/// The form of a body by the names of its fields. [`Format::Auto`] is a body that says nothing.
fn recognized(body: &[u8]) -> Result<Format, String> {
    /// Those fields that tell the formats apart; their values are skipped.
    #[derive(Deserialize)]
    struct Names {
        op: Option<serde::de::IgnoredAny>,
        payload: Option<Inner>,
        source: Option<serde::de::IgnoredAny>,
        specversion: Option<serde::de::IgnoredAny>,
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Inner {
        Envelope {
            #[expect(dead_code, reason = "only its presence matters")]
            op: serde::de::IgnoredAny,
        },
        Other(serde::de::IgnoredAny),
    }

    let is_object = body.trim_ascii_start().starts_with(b"{");
    if !is_object {
        return if body.trim_ascii() == b"null" { Ok(Format::Auto) } else { Ok(Format::Json) };
    }
    let names: Names = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let is_envelope = (names.op.is_some() && names.source.is_some())
        || matches!(names.payload, Some(Inner::Envelope { .. }));
    Ok(match names.specversion {
        Some(_) => Format::CloudEvents,
        None if is_envelope => Format::Debezium,
        None => Format::Json,
    })
}

fn plain(body: &[u8], headers: Headers) -> Result<Event, String> {
    let data: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if !data.is_object() {
        return Err("an event is a JSON object".to_owned());
    }
    let kind = data.get("type").and_then(Value::as_str).map(str::to_owned);
    Ok(Event { data, headers, kind, op: Op::Message, ..Event::default() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decode(body: &str) -> Event {
        Format::Auto.decode(body.as_bytes(), Headers::new()).expect(body).expect("it is an event")
    }

    #[test]
    fn a_plain_object_is_data_of_its_type() {
        let event = decode(r#"{"id":"0190","type":"product.updated","product_id":7}"#);
        assert_eq!((event.kind.as_deref(), event.op), (Some("product.updated"), Op::Message));
        assert_eq!(event.data["product_id"], 7);
        assert_eq!(event.id, None, "an id may be that of the product: only the configuration can say");
    }

    /// An envelope as Debezium's connector for PostgreSQL writes it.
    const UPDATE: &str = r#"{"before":null,"after":{"id":7,"price_cents":7900},"source":{"connector":"postgresql",
        "ts_ms":1795894288133,"snapshot":"false","db":"shop","schema":"public","table":"products","txId":571,
        "lsn":24023128},"op":"u","ts_ms":1795894288200,"transaction":null}"#;

    #[test]
    fn debeziums_envelope_is_a_row_change_with_and_without_its_schema() {
        let wrapped = format!(r#"{{"schema":{{"type":"struct","fields":[]}},"payload":{UPDATE}}}"#);
        for body in [UPDATE, &wrapped] {
            let event = decode(body);
            assert_eq!((event.op, event.table.as_deref()), (Op::Update, Some("public.products")));
            assert_eq!(
                (event.after["id"].as_u64(), event.source["lsn"].as_u64()),
                (Some(7), Some(24_023_128))
            );
            assert_eq!(event.at, Some(1_795_894_288_133_000));
        }
        for (letter, op) in [("c", Op::Create), ("d", Op::Delete), ("r", Op::Snapshot), ("t", Op::Truncate)] {
            assert_eq!(decode(&UPDATE.replace(r#""op":"u""#, &format!(r#""op":"{letter}""#))).op, op);
        }
    }

    #[test]
    fn a_tombstone_is_no_event() {
        for body in ["null", r#"{"schema":null,"payload":null}"#] {
            let format = if body == "null" { Format::Auto } else { Format::Debezium };
            assert_eq!(format.decode(body.as_bytes(), Headers::new()), Ok(None), "{body}");
        }
    }

    #[test]
    fn cloudevents_have_an_identity_and_a_time() {
        let body = json!({"specversion": "1.0", "id": "a", "source": "/shop", "type": "product.updated",
            "subject": "7", "time": "1970-01-01T00:00:01Z", "data": {"product_id": 7}});
        let whole = decode(&body.to_string());
        let headers = [
            ("ce-specversion", "1.0"),
            ("ce-id", "a"),
            ("ce-source", "/shop"),
            ("ce-type", "product.updated"),
            ("ce-subject", "7"),
            ("ce-time", "1970-01-01T00:00:01Z"),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let apart = Format::Auto.decode(br#"{"product_id":7}"#, headers).unwrap().unwrap();
        for event in [whole, apart] {
            assert_eq!(event.id.as_deref(), Some("5:/shopa"));
            assert_eq!((event.kind.as_deref(), event.at), (Some("product.updated"), Some(1_000_000)));
            assert_eq!(
                (event.data["product_id"].as_u64(), event.headers["subject"].as_str()),
                (Some(7), "7")
            );
        }
    }

    /// Some libraries send all data as bytes.
    #[test]
    fn data_may_be_bytes_of_json_and_a_text_may_begin_with_a_mark() {
        let base64 = |data: &str| {
            format!(r#"{{"specversion":"1.0","id":"a","source":"/s","type":"t","data_base64":{data}}}"#)
        };
        assert_eq!(decode(&base64(r#""eyJpZCI6N30=""#)).data, json!({"id": 7}));
        assert_eq!(decode("\u{feff}{\"id\":7}").data, json!({"id": 7}));
        for (data, why) in [
            ("7", "is no string"),
            (r#""eyJ""#, "it is no base64"),
            (r#""/////w==""#, "it is no JSON"),
            (r#""eyJpZCI6N30=","data":7"#, "both \"data\" and"),
        ] {
            let error = Format::Auto.decode(base64(data).as_bytes(), Headers::new()).expect_err(data);
            assert!(error.contains(why), "{data}: {error}");
        }
    }

    #[test]
    fn a_change_inside_of_a_cloudevent_is_a_row_change() {
        let body =
            format!(r#"{{"specversion":"1.0","id":"a","source":"/debezium","type":"x","data":{UPDATE}}}"#);
        let event = decode(&body);
        assert_eq!((event.op, event.table.as_deref()), (Op::Update, Some("public.products")));
        assert_eq!(event.id.as_deref(), Some("9:/debeziuma"));
    }

    #[test]
    fn wrong_bytes_are_refused_with_a_reason() {
        for (format, body, why) in [
            (Format::Auto, "{", "EOF"),
            (Format::Auto, "7", "a JSON object"),
            (Format::Auto, "", "EOF"),
            (Format::Auto, "{\"a\":\"\u{1}\"}", "control character"),
            (Format::Debezium, "{}", "no \"op\""),
            (Format::Debezium, r#"{"op":"x","source":{}}"#, "unknown op \"x\""),
            (Format::Debezium, r#"{"op":"u","source":{}}"#, "names no table"),
            (Format::CloudEvents, r#"{"type":"x"}"#, "specversion"),
            (
                Format::CloudEvents,
                r#"{"specversion":"1.0","id":"","source":"s","type":"t"}"#,
                "\"id\" is empty",
            ),
            (
                Format::CloudEvents,
                r#"{"specversion":"1.0","id":"a","source":"s","type":"t","time":"x"}"#,
                "date and time",
            ),
        ] {
            let error = format.decode(body.as_bytes(), Headers::new()).expect_err(body);
            assert!(error.contains(why), "{body}: {error}");
        }
        let error = Format::Json.decode(b"\xff{", Headers::new()).unwrap_err();
        assert!(!error.is_empty());
    }
}
