//! Answers as JSON objects, for programs; docs/terminal.md specifies the format.
//!
//! Tokens and uniques are strings, because many JSON parsers cannot represent numbers that large.

use serde_json::{Map, Number, Value, json};

use super::question::Question;
use super::reply::Entry;
use super::verdict::{is_number, is_reading};
use crate::protocol::base64;

/// A complete answer.
pub(super) fn answer(question: &Question, entries: &[Entry]) -> Value {
    let mut told = Map::new();
    text(&mut told, "command", &question.line);
    if is_reading(question) {
        told.insert("values".to_owned(), json!([]));
    }
    entries.iter().for_each(|entry| put(&mut told, entry));
    Value::Object(told)
}

/// An event for a watcher.
pub(super) fn event(entry: &Entry) -> Value {
    Value::Object(pairs(entry))
}

fn put(told: &mut Map<String, Value>, entry: &Entry) {
    match entry.word(0) {
        "LVALUE" => push(told, "values", lease(entry)),
        "META" => push(told, "values", looked_at(entry)),
        "STAT" => {
            let stats = told.entry("stats").or_insert_with(|| json!({}));
            stats[entry.word(1)] = number_or_text(&rest(entry, 2));
        }
        "VALUE" => push(told, "values", value(entry)),
        "ITEM" | "PREFIX" | "mg" => push(told, "lines", base64::json(&entry.line)),
        word if word.starts_with("key=") => push(told, "keys", Value::Object(pairs(entry))),
        _ => status(told, entry),
    }
}

fn status(told: &mut Map<String, Value>, entry: &Entry) {
    let status = entry.word(0).trim_end_matches(':');
    told.insert("status".to_owned(), status.into());
    match status {
        "HD" | "VA" => flags(told, entry),
        "INVALIDATED" => {
            told.insert("names".to_owned(), number_or_text(entry.word(1)));
        }
        "ME" => {
            text(told, "key", entry.words().nth(1).unwrap_or_default());
            told.extend(pairs(entry));
        }
        _ if is_number(status) => {
            told.insert("status".to_owned(), "NUMBER".into());
            told.insert("number".to_owned(), number_or_text(status));
        }
        _ => {
            let message = joined(entry, 1);
            if !message.is_empty() {
                text(told, "message", &message);
            }
        }
    }
}

fn value(entry: &Entry) -> Value {
    let mut told = Map::new();
    text(&mut told, "key", entry.words().nth(1).unwrap_or_default());
    told.insert("flags".to_owned(), number_or_text(entry.word(2)));
    data(&mut told, entry);
    if !entry.word(4).is_empty() {
        told.insert("unique".to_owned(), entry.word(4).into());
    }
    Value::Object(told)
}

fn lease(entry: &Entry) -> Value {
    let mut told = Map::new();
    text(&mut told, "key", entry.words().nth(1).unwrap_or_default());
    if entry.word(2) == BUSY {
        told.insert("lease".to_owned(), "wait".into());
    } else {
        told.insert("lease".to_owned(), "granted".into());
        told.insert("token".to_owned(), entry.word(2).into());
    }
    if entry.data.as_ref().is_some_and(|data| !data.is_empty()) {
        told.insert("stale".to_owned(), true.into());
        told.insert("flags".to_owned(), number_or_text(entry.word(3)));
        data(&mut told, entry);
    }
    Value::Object(told)
}

/// Adds the flags of an answer to a meta command.
fn flags(told: &mut Map<String, Value>, entry: &Entry) {
    let skipped = if entry.data.is_some() { 2 } else { 1 };
    data(told, entry);
    let mut flags = Map::new();
    for (flag, argument) in entry.words().skip(skipped).filter_map(<[u8]>::split_first) {
        match flag {
            b'W' => told.insert("lease".to_owned(), "granted".into()),
            b'X' => told.insert("stale".to_owned(), true.into()),
            b'Z' => told.insert("lease".to_owned(), "wait".into()),
            _ => flags.insert(char::from(*flag).into(), base64::json(argument)),
        };
    }
    told.insert("flags".to_owned(), Value::Object(flags));
}

/// The answer to a `metaget`: `META <key> <name>: <value>; …`.
fn looked_at(entry: &Entry) -> Value {
    let mut told = Map::new();
    text(&mut told, "key", entry.words().nth(1).unwrap_or_default());
    for pair in rest(entry, 2).split("; ") {
        if let Some((name, value)) = pair.split_once(": ") {
            told.insert(name.to_owned(), number_or_text(value));
        }
    }
    Value::Object(told)
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

fn data(told: &mut Map<String, Value>, entry: &Entry) {
    if let Some(data) = &entry.data {
        told.insert("bytes".to_owned(), data.len().into());
        text(told, "value", data);
    }
}

fn text(told: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    told.insert(name.to_owned(), base64::json(bytes));
}

fn push(told: &mut Map<String, Value>, list: &str, value: Value) {
    if let Value::Array(values) = told.entry(list).or_insert_with(|| json!([])) {
        values.push(value);
    }
}

fn number_or_text(word: &str) -> Value {
    let looks_like_one = word.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.'));
    let number = if looks_like_one { word.parse::<Number>().ok() } else { None };
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
    fn check(line: &str, heard: &[u8], expected: Value) {
        let question = Question::typed(line.as_bytes()).unwrap();
        let (mut input, mut entries) = (BytesMut::from(heard), Vec::new());
        while let Some(entry) = Entry::read(&mut input).unwrap() {
            entries.push(entry);
        }
        assert_eq!(answer(&question, &entries), expected, "{line}");
    }

    #[test]
    fn values_are_told_with_what_belongs_to_them() {
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
    fn leases_are_told_by_name() {
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
    fn bytes_that_are_no_text_are_told_wherever_they_stand() {
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
    fn what_else_there_is() {
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
        let told = event(&Entry { line: b"ts=1.5 gid=2 type=item_get key=1".to_vec(), data: None });
        assert_eq!(told, json!({"ts": 1.5, "gid": 2, "type": "item_get", "key": "1"}));
    }
}
