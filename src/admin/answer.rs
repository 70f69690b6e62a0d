//! Responses: a document, or an error as JSON.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// The reason why a request failed, sent as JSON.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    why: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, why: impl Into<String>) -> Problem {
        Problem { status, why: why.into() }
    }

    pub(super) fn bad(why: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, why)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = document(self.status, JSON, json(&json!({ "error": self.why })));
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A JSON document.
pub(super) fn json_document(value: &Value) -> Response {
    document(StatusCode::OK, JSON, json(value))
}

/// A document of some type. Headers forbid caching and content sniffing.
pub(super) fn document(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    (status, headers, body.into()).into_response()
}

fn json(value: &Value) -> String {
    format!("{value}\n")
}

const JSON: &str = "application/json";
