//! `POST /invalidate`: the command `invalidate` for many names of all kinds at once.

use axum::http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::Problem;
use super::keys;
use super::name::Name;
use crate::cache::Depth;
use crate::command::{self, NotInvalidated};
use crate::protocol::{NAMES_PER_INVALIDATE_MAX, base64};
use crate::server::View;

/// The body of a request.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Asked {
    all: bool,
    keys: Vec<Name>,
    prefixes: Vec<Name>,
    soft: bool,
    tags: Vec<Name>,
}

/// Invalidates the names, and reports the result.
pub(super) fn invalidate(view: &View, headers: &HeaderMap, body: &[u8]) -> Result<Value, Problem> {
    let asked = Asked::read(headers, body)?;
    let now = view.now();
    let states: Vec<Value> = asked
        .keys
        .iter()
        .map(|Name(key)| json!({ "key": base64::json(key), "held": keys::state(view, key, now) }))
        .collect();
    command::invalidate(&asked.targets(), view.cache(), &mut view.session(), now).map_err(Problem::from)?;
    tracing::info!(
        all = asked.all,
        soft = asked.soft,
        keys = asked.keys.len(),
        prefixes = asked.prefixes.len(),
        tags = asked.tags.len(),
        "voided over HTTP"
    );
    Ok(json!({
        "all": asked.all,
        "keys": states,
        "prefixes": told(&asked.prefixes),
        "soft": asked.soft,
        "tags": told(&asked.tags),
    }))
}

impl Asked {
    fn read(headers: &HeaderMap, body: &[u8]) -> Result<Asked, Problem> {
        // A form on a foreign page cannot send JSON without a preflight request.
        let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
        if kind.split(|byte| *byte == b';').next().map(<[u8]>::trim_ascii) != Some(b"application/json") {
            let why = "send it with Content-Type: application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
        }
        // Otherwise serde would accept a list, too, by the order of the fields.
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(Problem::bad("the body: send a JSON object"));
        }
        let asked: Asked =
            serde_json::from_slice(body).map_err(|error| Problem::bad(format!("the body: {error}")))?;
        let lists = [&asked.keys, &asked.prefixes, &asked.tags];
        if !asked.all && lists.iter().all(|names| names.is_empty()) {
            return Err(Problem::bad("name keys, tags or prefixes, or say \"all\": true"));
        }
        if lists.iter().any(|names| names.len() > NAMES_PER_INVALIDATE_MAX) {
            return Err(Problem::bad(format!("a list has at most {NAMES_PER_INVALIDATE_MAX} names")));
        }
        Ok(asked)
    }

    fn targets(&self) -> command::Targets<'_> {
        command::Targets {
            depth: if self.soft { Depth::Soft } else { Depth::Hard },
            is_all: self.all,
            keys: bytes(&self.keys),
            prefixes: bytes(&self.prefixes),
            tags: bytes(&self.tags),
        }
    }
}

fn bytes(names: &[Name]) -> Vec<&[u8]> {
    names.iter().map(|Name(bytes)| &bytes[..]).collect()
}

fn told(names: &[Name]) -> Vec<Value> {
    names.iter().map(|Name(bytes)| base64::json(bytes)).collect()
}

impl From<NotInvalidated<'_>> for Problem {
    fn from(why: NotInvalidated<'_>) -> Problem {
        match why {
            NotInvalidated::BadName(name) => Problem::bad(format!(
                "{:?} is wrong: names have 1 to 250 bytes, prefixes end in ':' and have at most 16 of them",
                String::from_utf8_lossy(name)
            )),
            NotInvalidated::Forbidden => Problem::new(
                StatusCode::FORBIDDEN,
                "the server was started with -F: invalidating everything is disabled",
            ),
        }
    }
}
