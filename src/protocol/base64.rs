//! Keys in base64, as memcached reads and writes them.
//!
//! The decoder is lenient: it skips bytes outside the alphabet and ignores everything after the padding.

/// Decodes a text; `None` if it is not base64.
pub(crate) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let digits = || text.iter().copied().filter(|byte| *byte == PADDING || value(*byte).is_some());
    if !digits().count().is_multiple_of(4) {
        return None;
    }
    let (mut bytes, mut digits) = (Vec::with_capacity(text.len() / 4 * 3), digits());
    while let Some(first) = digits.next() {
        let group = [first, digits.next()?, digits.next()?, digits.next()?];
        let bits = group.iter().fold(0, |bits, digit| bits << 6 | value(*digit).unwrap_or(0));
        let padding = group.iter().filter(|digit| **digit == PADDING).count();
        if padding > 2 {
            return None;
        }
        bytes.extend_from_slice(&bits.to_be_bytes()[1..4 - padding]);
        if padding > 0 {
            break;
        }
    }
    Some(bytes).filter(|bytes| !bytes.is_empty())
}

/// Encodes bytes with padding, four digits at a time.
pub(crate) fn encode(bytes: &[u8], mut write: impl FnMut(&[u8])) {
    for group in bytes.chunks(3) {
        let mut padded = [0; 4];
        padded[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(padded);
        let mut digits = [18, 12, 6, 0].map(|shift| ALPHABET[(bits >> shift) as usize & 63]);
        digits[group.len() + 1..].fill(PADDING);
        write(&digits);
    }
}

/// Encodes bytes with padding.
#[cfg(any(feature = "console", feature = "server"))]
fn text(bytes: &[u8]) -> String {
    let mut digits = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    encode(bytes, |more| digits.extend_from_slice(more));
    digits.into_iter().map(char::from).collect()
}

/// Bytes in JSON: a string, or `{"base64": "/w=="}` if they are not UTF-8.
#[cfg(any(feature = "console", feature = "server"))]
pub(crate) fn json(bytes: &[u8]) -> serde_json::Value {
    str::from_utf8(bytes).map_or_else(|_| serde_json::json!({ "base64": text(bytes) }), Into::into)
}

fn value(digit: u8) -> Option<u32> {
    let (first, offset) = match digit {
        b'A'..=b'Z' => (b'A', 0),
        b'a'..=b'z' => (b'a', 26),
        b'0'..=b'9' => (b'0', 52),
        b'+' => (b'+', 62),
        b'/' => (b'/', 63),
        _ => return None,
    };
    Some(u32::from(digit - first) + offset)
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const PADDING: u8 = b'=';

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, bytes: Option<&[u8]>) {
        assert_eq!(decode(text.as_bytes()).as_deref(), bytes, "{text}");
    }

    #[test]
    fn what_is_written_is_read() {
        let texts = [("AA==", &b"\0"[..]), ("Zm8=", b"fo"), ("Zm9v", b"foo"), ("+/+/", b"\xfb\xff\xbf")];
        for (text, bytes) in texts {
            check(text, Some(bytes));
            let mut written = Vec::new();
            encode(bytes, |digits| written.extend_from_slice(digits));
            assert_eq!(written, text.as_bytes());
        }
    }

    #[test]
    fn reading_is_generous() {
        check("Zm9v!", Some(b"foo"));
        check("Z-m-9-v", Some(b"foo"));
        check("Zh==", Some(b"f"));
        check("Zg==Zm9v", Some(b"f"));
    }

    #[test]
    fn what_stands_for_nothing_is_refused() {
        for text in ["", "!", "Z", "Zm9", "Zm9vZ", "Z===", "===="] {
            check(text, None);
        }
    }
}
