//! `GET /keys/{key}`: the state of a key. A request does not count as a read.

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::answer::Problem;
use crate::cache::{
    self, Expiry, Group, InvalidationOf, InvalidationReport, Key, KeyReport, LeaseReport, Seq, Tick,
};
use crate::clock::Now;
use crate::protocol::base64;
use crate::server::View;

/// The state of the key in the rest of the path, which is percent-encoded where necessary.
pub(super) fn key(view: &View, encoded: &str) -> Result<Value, Problem> {
    if !is_encoded(encoded) {
        return Err(Problem::bad(
            "invalid percent-encoding: a % needs two hexadecimal digits; write %25 for a literal %",
        ));
    }
    let bytes: Vec<u8> = percent_decode_str(encoded).collect();
    let key = view.cache().key(&bytes).ok_or_else(|| Problem::bad("a key has 1 to 250 bytes"))?;
    let now = view.now();
    let mut state = view.cache().inspect(&key, now, |known| describe(view, &known, now));
    state["key"] = base64::json(&bytes);
    state["policy"] = view.cache().policies().prefix_of(&bytes).map_or(Value::Null, base64::json);
    Ok(state)
}

/// The state of a key in one word; an invalid key holds nothing.
pub(super) fn state(view: &View, bytes: &[u8], now: Now) -> &'static str {
    let of = |key: &Key| view.cache().inspect(key, now, |known| word(&known));
    view.cache().key(bytes).as_ref().map_or(NOTHING, of)
}

/// Whether each `%` is followed by two hexadecimal digits.
fn is_encoded(path: &str) -> bool {
    let is_code = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    path.split('%').skip(1).all(is_code)
}

fn word(known: &KeyReport) -> &'static str {
    match known.value {
        None => NOTHING,
        Some((value, _)) if value.is_stale => "stale",
        Some(_) => "live",
    }
}

fn describe(view: &View, known: &KeyReport, now: Now) -> Value {
    json!({
        "held": word(known),
        "held_off_ms": known.held_off_until.map(|until| until.saturating_sub(now.millis)),
        "last_void": known.invalidation.map(|newest| last_invalidation(view, newest, now)),
        "lease": known.lease.map(|lease| outstanding(view, lease, known.waiting, now)),
        "value": known.value.map(|(value, as_of)| value_state(view, value, as_of, now)),
    })
}

fn value_state(view: &View, value: cache::Value, as_of: Seq, now: Now) -> Value {
    let ago = |tick: Tick| tick.age_seconds(now);
    let ttl = (value.expiry != Expiry::NEVER).then(|| value.expiry.seconds_left(now));
    json!({
        "age_seconds": ago(value.stored),
        "as_of": as_of.number(),
        "as_of_seconds_ago": view.cache().age_of(as_of, now),
        "bytes": value.bytes.len(),
        "flags": value.flags,
        "idle_seconds": ago(value.accessed),
        "is_fetched": value.is_fetched,
        "tags": value.tags.map(base64::json).collect::<Vec<_>>(),
        "ttl_seconds": ttl,
    })
}

fn outstanding(view: &View, lease: LeaseReport, waiting: usize, now: Now) -> Value {
    let holder = view.metrics().open.of_peer(lease.holder);
    json!({
        "ends_in_ms": lease.until.saturating_sub(now.millis),
        "granted_ms_ago": now.millis.saturating_sub(lease.granted_at),
        "holder": holder.map(|connection| connection.address.to_string()),
        "waiting": waiting,
    })
}

fn last_invalidation(view: &View, invalidation: InvalidationReport, now: Now) -> Value {
    let (of, named) = match invalidation.of {
        InvalidationOf::All => ("all", Value::Null),
        InvalidationOf::Forgotten => ("forgotten", Value::Null),
        InvalidationOf::Key => ("key", Value::Null),
        InvalidationOf::Group(Group::Prefix(prefix)) => ("prefix", base64::json(prefix)),
        InvalidationOf::Group(Group::Tag(tag)) => ("tag", base64::json(tag)),
    };
    json!({
        "name": named,
        "of": of,
        "seconds_ago": view.cache().age_of(invalidation.seq, now),
        "seq": invalidation.seq.number(),
    })
}

const NOTHING: &str = "nothing";
