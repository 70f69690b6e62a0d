//! Filters: how a value is rewritten before it becomes part of a name.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use md5::{Digest, Md5};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// A function of one text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Filter {
    /// Lower case, by Unicode.
    Lower,
    /// The hexadecimal MD5, as applications shorten long keys with it.
    Md5,
    /// A date and time as microseconds since 1970.
    Micros,
    /// Upper case, by Unicode.
    Upper,
    /// Percent-encoded: all but letters and digits of ASCII and `-`, `.`, `_`, `~` (RFC 3986).
    Url,
}

impl Filter {
    pub(super) const ALL: [(&str, Filter); 5] = [
        ("lower", Filter::Lower),
        ("md5", Filter::Md5),
        ("micros", Filter::Micros),
        ("upper", Filter::Upper),
        ("url", Filter::Url),
    ];

    pub(super) fn named(name: &str) -> Option<Filter> {
        Filter::ALL.iter().find(|(other, _)| *other == name).map(|(_, filter)| *filter)
    }

    pub(super) fn apply(self, text: &str) -> Result<String, String> {
        match self {
            Filter::Lower => Ok(text.to_lowercase()),
            Filter::Md5 => Ok(Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()),
            Filter::Micros => micros(text).map(|micros| micros.to_string()),
            Filter::Upper => Ok(text.to_uppercase()),
            Filter::Url => Ok(utf8_percent_encode(text, UNRESERVED).to_string()),
        }
    }
}

/// The microseconds since 1970 of a date and time as RFC 3339 and PostgreSQL write it; without an offset it
/// is UTC.
pub(in crate::events) fn micros(text: &str) -> Result<u64, String> {
    let with_offset = text.parse::<Timestamp>();
    let time = with_offset.or_else(|_| TimeZone::UTC.to_timestamp(text.parse::<DateTime>()?));
    let time = time.map_err(|_| format!("{text:?} is not a date and time such as 2026-11-29T12:00:00Z"))?;
    u64::try_from(time.as_microsecond()).map_err(|_| format!("{text:?} is before 1970"))
}

const UNRESERVED: &percent_encoding::AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_rewrite_texts() {
        for (name, text, expected) in [
            ("lower", "ÄB", "äb"),
            ("upper", "äb", "ÄB"),
            ("md5", "abc", "900150983cd24fb0d6963f7d28e17f72"),
            ("micros", "1970-01-01T00:00:01.5Z", "1500000"),
            ("micros", "1970-01-01 02:00:01.5+02", "1500000"),
            ("micros", "1970-01-01 00:00:01.5", "1500000"),
            ("url", "a b/ü~", "a%20b%2F%C3%BC~"),
        ] {
            let filter = Filter::named(name).expect("it exists");
            assert_eq!(filter.apply(text).as_deref(), Ok(expected), "{name} {text}");
        }
        assert!(Filter::Micros.apply("yesterday").unwrap_err().contains("date and time"));
        assert!(Filter::Micros.apply("1969-01-01T00:00:00Z").unwrap_err().contains("before 1970"));
    }
}
