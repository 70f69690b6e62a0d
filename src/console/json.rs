//! Answers as JSON objects, for programs; docs/terminal.md specifies the format.
//!
//! Tokens and uniques are strings, because many JSON parsers cannot represent numbers that large.

use serde_json::{Map, Number, Value, json};

use super::reply::Entry;
use super::request::Request;
use super::verdict::{is_number, is_reading};
use crate::protocol::base64;

/// A complete answer.
pub(super) fn answer(request: &Request, entries: &[Entry]) -> Value {
    let mut object = Map::new();
    text(&mut object, "command", &request.line);
    if is_reading(request) {
        object.insert("values".to_owned(), json!([]));
    }
    entries.iter().for_each(|entry| put(&mut object, entry));
    Value::Object(object)
}

/// An event for a watcher.
pub(super) fn event(entry: &Entry) -> Value {
    Value::Object(pairs(entry))
}

fn put(object: &mut Map<String, Value>, entry: &Entry) {
    match entry.word(0) {
        "LVALUE" => push(object, "values", lease(entry)),
        "META" => push(object, "values", metadata(entry)),
        "STAT" => {
            let stats = object.entry("stats").or_insert_with(|| json!({}));
            stats[entry.word(1)] = number_or_text(&rest(entry, 2));
        }
        "VALUE" => push(object, "values", value(entry)),
        "ITEM" | "PREFIX" | "mg" => push(object, "lines", base64::json(&entry.line)),
        word if word.starts_with("key=") => push(object, "keys", Value::Object(pairs(entry))),
        _ => status(object, entry),
    }
}

fn status(object: &mut Map<String, Value>, entry: &Entry) {
    let status = entry.word(0).trim_end_matches(':');
    object.insert("status".to_owned(), status.into());
    match status {
        "HD" | "VA" => flags(object, entry),
        "INVALIDATED" => {
            object.insert("names".to_owned(), number_or_text(entry.word(1)));
        }
        "ME" => {
            text(object, "key", entry.words().nth(1).unwrap_or_default());
            object.extend(pairs(entry));
        }
        _ if is_number(status) => {
            object.insert("status".to_owned(), "NUMBER".into());
            object.insert("number".to_owned(), number_or_text(status));
        }
        _ => {
            let message = joined(entry, 1);
            if !message.is_empty() {
                text(object, "message", &message);
            }
        }
    }
}

fn value(entry: &Entry) -> Value {
    let mut object = Map::new();
    text(&mut object, "key", entry.words().nth(1).unwrap_or_default());
    object.insert("flags".to_owned(), number_or_text(entry.word(2)));
    data(&mut object, entry);
    if !entry.word(4).is_empty() {
        object.insert("unique".to_owned(), entry.word(4).into());
    }
    Value::Object(object)
}

fn lease(entry: &Entry) -> Value {
    let mut object = Map::new();
    text(&mut object, "key", entry.words().nth(1).unwrap_or_default());
    if entry.word(2) == BUSY {
        object.insert("lease".to_owned(), "wait".into());
    } else {
        object.insert("lease".to_owned(), "granted".into());
        object.insert("token".to_owned(), entry.word(2).into());
    }
    if entry.data.as_ref().is_some_and(|data| !data.is_empty()) {
        object.insert("stale".to_owned(), true.into());
        object.insert("flags".to_owned(), number_or_text(entry.word(3)));
        data(&mut object, entry);
    }
    Value::Object(object)
}

/// Adds the flags of an answer to a meta command.
fn flags(object: &mut Map<String, Value>, entry: &Entry) {
    let skipped = if entry.data.is_some() { 2 } else { 1 };
    data(object, entry);
    let mut flags = Map::new();
    for (flag, argument) in entry.words().skip(skipped).filter_map(<[u8]>::split_first) {
        match flag {
            b'W' => object.insert("lease".to_owned(), "granted".into()),
            b'X' => object.insert("stale".to_owned(), true.into()),
            b'Z' => object.insert("lease".to_owned(), "wait".into()),
            _ => flags.insert(char::from(*flag).into(), base64::json(argument)),
        };
    }
    object.insert("flags".to_owned(), Value::Object(flags));
}

/// The answer to a `metaget`: `META <key> <name>: <value>; …`.
fn metadata(entry: &Entry) -> Value {
    let mut object = Map::new();
    text(&mut object, "key", entry.words().nth(1).unwrap_or_default());
    for pair in rest(entry, 2).split("; ") {
        if let Some((name, value)) = pair.split_once(": ") {
            object.insert(name.to_owned(), number_or_text(value));
        }
    }
    Value::Object(object)
}

fn pairs(entry: &Entry) -> Map<String, Value> {
    let words = entry.words().map(lossy);
    let pair = |word: String| {
        let (name, value) = word.split_once('=')?;
        let is_large = matches!(name, "cas" | "key");
        Some((name.to_owned(), if is_large { value.into() } else { number_or_text(value) }))
    };
    words.filter_map(pair).collect()
}

fn data(object: &mut Map<String, Value>, entry: &Entry) {
    if let Some(data) = &entry.data {
        object.insert("bytes".to_owned(), data.len().into());
        text(object, "value", data);
    }
}

fn text(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    object.insert(name.to_owned(), base64::json(bytes));
}

fn push(object: &mut Map<String, Value>, list: &str, value: Value) {
    if let Value::Array(values) = object.entry(list).or_insert_with(|| json!([])) {
        values.push(value);
    }
}

fn number_or_text(word: &str) -> Value {
    let is_numeric = word.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.'));
    let number = if is_numeric { word.parse::<Number>().ok() } else { None };
    number.map_or_else(|| word.into(), Value::Number)
}

/// The words from index `from` on.
fn rest(entry: &Entry, from: usize) -> String {
    lossy(&joined(entry, from))
}

fn joined(entry: &Entry, from: usize) -> Vec<u8> {
    entry.words().skip(from).collect::<Vec<_>>().join(&b' ')
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The token of a client that must wait.
pub(super) const BUSY: &str = "1";

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    #[track_caller]
    fn check(line: &str, bytes: &[u8], expected: Value) {
        let request = Request::typed(line.as_bytes()).unwrap();
        let (mut input, mut entries) = (BytesMut::from(bytes), Vec::new());
        while let Some(entry) = Entry::read(&mut input).unwrap() {
            entries.push(entry);
        }
        assert_eq!(answer(&request, &entries), expected, "{line}");
    }

    #[test]
    fn values_have_all_their_fields() {
        check(
            "gets a b",
            b"VALUE a 7 2 18446744073709551615\r\nhi\r\nVALUE b 0 1 9\r\n\xff\r\nEND\r\n",
            json!({"command": "gets a b", "status": "END", "values": [
                {"key": "a", "flags": 7, "bytes": 2, "value": "hi", "unique": "18446744073709551615"},
                {"key": "b", "flags": 0, "bytes": 1, "value": {"base64": "/w=="}, "unique": "9"},
            ]}),
        );
        check("get a", b"END\r\n", json!({"command": "get a", "status": "END", "values": []}));
        check(
            "metaget a",
            b"META a age: 5; exptime: 0; from: unknown; is_transient: 0\r\nEND\r\n",
            json!({"command": "metaget a", "status": "END", "values": [
                {"key": "a", "age": 5, "exptime": 0, "from": "unknown", "is_transient": 0},
            ]}),
        );
    }

    #[test]
    fn leases_are_named() {
        check(
            "lease-get a b c",
            b"LVALUE a 4611686018427387905 0 0\r\n\r\nLVALUE b 1 5 3\r\nold\r\nVALUE c 0 0\r\n\r\nEND\r\n",
            json!({"command": "lease-get a b c", "status": "END", "values": [
                {"key": "a", "lease": "granted", "token": "4611686018427387905"},
                {"key": "b", "lease": "wait", "stale": true, "flags": 5, "bytes": 3, "value": "old"},
                {"key": "c", "flags": 0, "bytes": 0, "value": ""},
            ]}),
        );
        check(
            "mg a v c t N0",
            b"VA 3 c4611686018427387905 t-1 W X\r\nold\r\n",
            json!({"command": "mg a v c t N0", "status": "VA", "bytes": 3, "value": "old", "lease": "granted",
                "stale": true, "flags": {"c": "4611686018427387905", "t": "-1"}}),
        );
        check(
            "mg a N0",
            b"HD Z\r\n",
            json!({"command": "mg a N0", "status": "HD", "lease": "wait", "flags": {}}),
        );
    }

    /// Keys in flags, messages and lists used to be replaced or dropped if they were not text.
    #[test]
    fn bytes_that_are_not_text_are_in_base64_everywhere() {
        let bytes = |text: &str| json!({ "base64": text });
        check(
            "mg a k O1",
            b"HD k\xfe O1\r\n",
            json!({"command": "mg a k O1", "status": "HD", "flags": {"k": bytes("/g=="), "O": "1"}}),
        );
        check(
            "mg a k",
            b"EN k\xfd\r\n",
            json!({"command": "mg a k", "status": "EN", "message": bytes("a/0=")}),
        );
        check(
            "stats detail dump",
            b"PREFIX \xff get 1\r\nEND\r\n",
            json!({"command": "stats detail dump", "status": "END", "lines": [bytes("UFJFRklYIP8gZ2V0IDE=")]}),
        );
    }

    #[test]
    fn other_answers_have_their_fields() {
        check("incr k 1", b"12\r\n", json!({"command": "incr k 1", "status": "NUMBER", "number": 12}));
        check(
            "invalidate tag x",
            b"INVALIDATED 1\r\n",
            json!({"command": "invalidate tag x", "status": "INVALIDATED", "names": 1}),
        );
        check(
            "shutdown",
            b"SERVER_ERROR: shutdown not enabled\r\n",
            json!({"command": "shutdown", "status": "SERVER_ERROR", "message": "shutdown not enabled"}),
        );
        check(
            "stats",
            b"STAT version 1.6.45\r\nSTAT hit_ratio 0.5\r\nSTAT 3:addr tcp:127.0.0.1:9\r\nSTAT empty \r\nEND\r\n",
            json!({"command": "stats", "status": "END", "stats":
                {"version": "1.6.45", "hit_ratio": 0.5, "3:addr": "tcp:127.0.0.1:9", "empty": ""}}),
        );
        check(
            "lru_crawler metadump all",
            b"OK\r\nkey=a%3A1 exp=-1 cas=9 fetch=no \nEND\r\n",
            json!({"command": "lru_crawler metadump all", "status": "END", "keys":
                [{"key": "a%3A1", "exp": -1, "cas": "9", "fetch": "no"}]}),
        );
        check(
            "me k",
            b"ME k exp=-1 la=0 cas=9 fetch=no\r\n",
            json!({"command": "me k", "status": "ME", "key": "k", "exp": -1, "la": 0, "cas": "9", "fetch": "no"}),
        );
        let object = event(&Entry { line: b"ts=1.5 gid=2 type=item_get key=1".to_vec(), data: None });
        assert_eq!(object, json!({"ts": 1.5, "gid": 2, "type": "item_get", "key": "1"}));
    }
}
