//! Keys, tags and prefixes as listings, events and logs show them: none of them can break a line.

use std::borrow::Cow;
use std::fmt;

/// A key, percent-encoded except for letters, digits and `-._~`, as in memcached's `metadump` and events.
pub(crate) struct Encoded<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            match byte {
                b'-' | b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'_' | b'a'..=b'z' | b'~' => {
                    write!(f, "{}", char::from(*byte))?;
                }
                _ => write!(f, "%{byte:02X}")?,
            }
        }
        Ok(())
    }
}

/// A key in a line in which memcached does not encode keys: as it is, if it is one word of text, and
/// otherwise as [`Encoded`].
pub(crate) fn word(key: &[u8]) -> Cow<'_, str> {
    let breaks = |c: char| c.is_control() || c.is_whitespace();
    match str::from_utf8(key) {
        Ok(text) if !text.contains(breaks) => Cow::Borrowed(text),
        Ok(_) | Err(_) => Cow::Owned(Encoded(key).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_no_words_are_encoded() {
        for key in ["user:1", "50%", "größe", "a\\b\"c", ""] {
            assert_eq!(word(key.as_bytes()), key);
        }
        for (key, expected) in [
            (&b"a b"[..], "a%20b"),
            (b"x\r\nSTAT y 1", "x%0D%0ASTAT%20y%201"),
            (b"\x7f:\xff", "%7F%3A%FF"),
            ("a\u{2028}b".as_bytes(), "a%E2%80%A8b"),
            ("a\u{85}b".as_bytes(), "a%C2%85b"),
        ] {
            assert_eq!(word(key), expected);
        }
        assert_eq!(Encoded(b"user:1~").to_string(), "user%3A1~");
    }
}
