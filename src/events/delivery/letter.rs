//! Dead letters: events that could not be applied, for a person to look at and to apply later.

use serde::{Deserialize, Serialize};

use super::super::event::Event;
use super::super::position::Position;
use crate::protocol::base64::{decode, encode};

/// An event that could not be applied, as one line of JSON.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Letter {
    /// When it was written, in microseconds since 1970.
    pub at: u64,
    /// The reason.
    pub error: String,
    /// The event, if it could be decoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Event>,
    /// Otherwise its bytes; those that are no text in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Payload>,
    /// The last position before it that the source can resume from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// The rule that it does not fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The source.
    pub source: String,
    /// The table or kind of an event that could not be decoded, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

/// Bytes in JSON.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Payload {
    /// No text.
    Base64 {
        /// The bytes, encoded.
        base64: String,
    },
    /// Text.
    Text(String),
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Payload {
        String::from_utf8(bytes).map(Payload::Text).unwrap_or_else(|error| {
            let mut base64 = String::new();
            encode(error.as_bytes(), |part| base64.push_str(&String::from_utf8_lossy(part)));
            Payload::Base64 { base64 }
        })
    }
}

impl Payload {
    /// The bytes; `None` if they are not valid base64.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Payload::Base64 { base64 } => decode(base64.as_bytes()),
            Payload::Text(text) => Some(text.as_bytes().to_vec()),
        }
    }
}
