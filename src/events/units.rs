//! Spans of time and sizes in the configuration: `"500ms"`, `"1s"`, `"2h 30m"`, `"64MiB"`.

use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer};

use super::parsed::parsed;

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

/// A number of bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Size(pub u64);

impl Size {
    /// Parses a number with its unit: `B`, `KiB`, `MiB` or `GiB`.
    ///
    /// # Errors
    /// A sentence with examples.
    pub fn parse(text: &str) -> Result<Size, String> {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let shift = match unit.trim() {
            "B" => Some(0),
            "KiB" => Some(10),
            "MiB" => Some(20),
            "GiB" => Some(30),
            _ => None,
        };
        let bytes =
            number.parse::<u64>().ok().zip(shift).and_then(|(number, shift)| number.checked_mul(1 << shift));
        bytes.map(Size).ok_or_else(|| format!("{text:?} is not a size such as \"512KiB\" or \"64MiB\""))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parsed(from, Size::parse)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parsed(from, Span::parse)
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

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [("0B", 0), ("512KiB", 512 << 10), ("64 MiB", 64 << 20), ("2GiB", 2 << 30)] {
            assert_eq!(Size::parse(text), Ok(Size(bytes)), "{text}");
        }
        for text in ["5", "", "MiB", "-1MiB", "1.5MiB", "99999999999999GiB"] {
            assert!(Size::parse(text).is_err(), "{text}");
        }
    }
}
