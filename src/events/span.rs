//! Spans of time in the configuration: `"500ms"`, `"1s"`, `"2h 30m"`.

use std::time::Duration;

use jiff::SignedDuration;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// A span of time that is not negative.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Span(pub Duration);

impl Span {
    /// Parses a number with its unit.
    ///
    /// # Errors
    /// A sentence with examples.
    pub fn parse(text: &str) -> Result<Span, String> {
        let parsed = text.parse::<SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok());
        parsed
            .map(Span)
            .ok_or_else(|| format!("{text:?} is not a time span such as \"500ms\", \"1s\" or \"2h\""))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Span::parse(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units() {
        for (text, ms) in [("500ms", 500), ("1s", 1_000), ("2h 30m", 9_000_000), ("1.5s", 1_500), ("0s", 0)] {
            assert_eq!(Span::parse(text), Ok(Span(Duration::from_millis(ms))), "{text}");
        }
        for text in ["5", "", "-1s", "1 lightyear"] {
            assert!(Span::parse(text).is_err(), "{text}");
        }
    }
}
