//! `POST /invalidate`: the command `invalidate` for many names of all kinds at once.

use std::net::IpAddr;

use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::access::media_type;
use super::answer::Problem;
use super::keys;
use super::name::Name;
use crate::cache::Depth;
use crate::command::{self, NotInvalidated};
use crate::process::logging::Limit;
use crate::protocol::{NAMES_PER_INVALIDATE_MAX, base64};
use crate::server::View;
use crate::shown::word;

/// The body of a request.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Targets {
    all: bool,
    keys: Vec<Name>,
    prefixes: Vec<Name>,
    soft: bool,
    tags: Vec<Name>,
}

/// Invalidates the names, and reports the result.
pub(super) fn invalidate(
    view: &View,
    client: IpAddr,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Value, Problem> {
    let targets = Targets::read(headers, body)?;
    let now = view.now();
    let states: Vec<Value> = targets
        .keys
        .iter()
        .map(|Name(key)| json!({ "key": base64::json(key), "held": keys::state(view, key, now) }))
        .collect();
    command::invalidate(&targets.checked(), view.cache(), &mut view.conversation(), now)
        .map_err(Problem::from)?;
    targets.log(client);
    Ok(json!({
        "all": targets.all,
        "keys": states,
        "prefixes": shown(&targets.prefixes),
        "soft": targets.soft,
        "tags": shown(&targets.tags),
    }))
}

impl Targets {
    fn read(headers: &HeaderMap, body: &[u8]) -> Result<Targets, Problem> {
        if media_type(headers) != b"application/json" {
            let why = "send it with Content-Type: application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
        }
        // Otherwise serde would accept a list, too, by the order of the fields.
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(Problem::bad("the body: send a JSON object"));
        }
        let targets: Targets =
            serde_json::from_slice(body).map_err(|error| Problem::bad(format!("the body: {error}")))?;
        let lists = [&targets.keys, &targets.prefixes, &targets.tags];
        if !targets.all && lists.iter().all(|names| names.is_empty()) {
            return Err(Problem::bad(
                "nothing to invalidate: name keys, tags or prefixes, or send \"all\": true",
            ));
        }
        if lists.iter().any(|names| names.len() > NAMES_PER_INVALIDATE_MAX) {
            return Err(Problem::bad(format!("a list has at most {NAMES_PER_INVALIDATE_MAX} names")));
        }
        Ok(targets)
    }

    fn log(&self, client: IpAddr) {
        let Some(suppressed) = LIMIT.admit(Instant::now()) else { return };
        let first = [&self.tags, &self.prefixes, &self.keys].into_iter().flatten().next();
        tracing::info!(
            %client,
            all = self.all,
            soft = self.soft,
            keys = self.keys.len(),
            prefixes = self.prefixes.len(),
            tags = self.tags.len(),
            first = first.map(|Name(name)| word(name)).as_deref(),
            suppressed,
            "invalidated over HTTP"
        );
    }

    fn checked(&self) -> command::Targets<'_> {
        command::Targets {
            depth: if self.soft { Depth::Soft } else { Depth::Hard },
            is_all: self.all,
            keys: bytes(&self.keys),
            prefixes: bytes(&self.prefixes),
            tags: bytes(&self.tags),
        }
    }
}

static LIMIT: Limit = Limit::new();

fn bytes(names: &[Name]) -> Vec<&[u8]> {
    names.iter().map(|Name(bytes)| &bytes[..]).collect()
}

fn shown(names: &[Name]) -> Vec<Value> {
    names.iter().map(|Name(bytes)| base64::json(bytes)).collect()
}

impl From<NotInvalidated<'_>> for Problem {
    fn from(why: NotInvalidated<'_>) -> Problem {
        match why {
            NotInvalidated::BadName(name) => Problem::bad(format!(
                "invalid name {:?}: names have 1 to 250 bytes, prefixes end in ':' and have at most 16 of them",
                String::from_utf8_lossy(name)
            )),
            NotInvalidated::Forbidden => Problem::new(
                StatusCode::FORBIDDEN,
                "the server was started with -F: invalidating everything is disabled",
            ),
        }
    }
}
