//! `POST /events/NAME`: events for an HTTP source.

use std::net::IpAddr;

use axum::http::header::CONTENT_ENCODING;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::access::media_type;
use super::answer::Problem;
use crate::events::format::Headers;
use crate::events::source::http::{self, Posted};
use crate::server::View;

/// Applies the events of a request; returns once that is done.
pub(super) async fn post(
    view: &View,
    client: IpAddr,
    name: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Value, Problem> {
    let later = |why| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("the server is {why}: send the events again"))
    };
    if view.is_starting() {
        return Err(later("starting"));
    }
    let Some((settings, posts)) = view.event_input(name) else {
        let why = format!(
            "there is no HTTP source {name:?}: the configuration needs [source.{name}] with kind = \"http\""
        );
        return Err(Problem::new(StatusCode::NOT_FOUND, why));
    };
    if !is_json(headers) {
        let why = "send it with Content-Type: application/json, application/x-ndjson or application/cloudevents+json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    }
    if let Some(encoding) = headers.get(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        let why = format!(
            "Content-Encoding: {} is not supported: send the body uncompressed",
            String::from_utf8_lossy(encoding.as_bytes())
        );
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    }
    let headers = texts(headers);
    let proven = match headers.get(THROUGH) {
        Some(_) if !settings.proves => {
            return Err(Problem::bad(format!("Leasehold-Through needs through = true in [source.{name}]")));
        }
        Some(through) => Some(
            http::proven(through, view.clock())
                .map_err(|why| Problem::bad(format!("Leasehold-Through: {why}")))?,
        ),
        None => None,
    };
    let events = settings.events(body, &headers).map_err(|why| Problem::bad(format!("the body: {why}")))?;
    let count = events.len();
    let (answer, report) = oneshot::channel();
    posts.send(Posted { answer, events, proven }).await.map_err(|_| later("stopping"))?;
    let report = report.await.map_err(|_| later("stopping"))?;
    if !report.poison.is_empty() {
        tracing::warn!(%client, source = name, events = count, poison = report.poison.len(), "events over HTTP do not fit the rules");
    }
    Ok(json!({
        "applied": report.applied,
        "duplicate": report.duplicate,
        "events": count,
        "poison": report.poison,
        "unmatched": report.unmatched,
    }))
}

/// Whether the body is JSON by its type.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = media_type(headers).to_ascii_lowercase();
    kind == b"application/x-ndjson"
        || kind == b"application/json"
        || (kind.starts_with(b"application/") && kind.ends_with(b"+json"))
}

/// The headers that are text, without those that are secret.
fn texts(headers: &HeaderMap) -> Headers {
    let texts = headers.iter().filter(|(name, _)| !SECRET.contains(&name.as_str()));
    let texts =
        texts.filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())));
    texts.collect()
}

/// Everything that was committed before this time has been sent.
const THROUGH: &str = "leasehold-through";
const SECRET: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];
