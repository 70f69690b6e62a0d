//! Shows a value in readable form: text as it is, JSON indented, anything else as a hex dump.
//!
//! The output must not control the terminal, so bytes with control characters do not count as text.

use std::fmt::Write;
use std::iter;

use serde::de::IgnoredAny;

/// The lines that show a value, each with its end.
pub(super) fn shown(value: &[u8]) -> String {
    match str::from_utf8(value) {
        Ok("") => String::new(),
        Ok(text) if is_structure(text) => indented(text),
        Ok(text) if is_plain(text) => format!("{text}{}", if text.ends_with('\n') { "" } else { "\n" }),
        _ => dump(value),
    }
}

/// A line of the server with its control characters escaped.
pub(super) fn harmless(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    text.chars().fold(String::new(), |mut harmless, letter| {
        if letter.is_control() {
            harmless.extend(letter.escape_default());
        } else {
            harmless.push(letter);
        }
        harmless
    })
}

fn is_plain(text: &str) -> bool {
    text.replace("\r\n", "\n").chars().all(|letter| !letter.is_control() || matches!(letter, '\n' | '\t'))
}

/// Numbers and strings are JSON, too, but indentation would not change them.
fn is_structure(text: &str) -> bool {
    text.trim_start().starts_with(['{', '[']) && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Valid JSON, indented; strings, numbers and the order of names do not change.
fn indented(json: &str) -> String {
    let (mut shown, mut depth, mut tokens) = (String::new(), 0, tokens(json).peekable());
    while let Some(token) = tokens.next() {
        let closes_next = matches!(tokens.peek(), Some(&("}" | "]")));
        match token {
            "{" | "[" => depth += 1,
            "}" | "]" => depth -= 1,
            _ => {}
        }
        shown.push_str(token);
        match token {
            // Empty brackets stay on one line.
            "{" | "[" if closes_next => {}
            "{" | "[" | "," => break_line(&mut shown, depth),
            ":" => shown.push(' '),
            _ if closes_next => break_line(&mut shown, depth - 1),
            _ => {}
        }
    }
    shown.push('\n');
    shown
}

fn break_line(shown: &mut String, depth: usize) {
    shown.push('\n');
    shown.extend(iter::repeat_n("  ", depth));
}

fn tokens(json: &str) -> impl Iterator<Item = &str> {
    let mut rest = json;
    iter::from_fn(move || {
        rest = rest.trim_start();
        let first = rest.chars().next()?;
        let bytes = match first {
            '"' => string_bytes(rest),
            '{' | '}' | '[' | ']' | ',' | ':' => 1,
            _ => rest.find([',', '}', ']', ' ', '\t', '\r', '\n']).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(bytes);
        rest = after;
        Some(token)
    })
}

/// The length of the string at the start of `json`, including its quotes.
fn string_bytes(json: &str) -> usize {
    let mut is_escaped = false;
    let closes = |byte: &u8| {
        let closes = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        closes
    };
    json.as_bytes()[1..].iter().position(closes).map_or(json.len(), |end| end + 2)
}

fn dump(value: &[u8]) -> String {
    let mut shown = String::new();
    for (nth, row) in value.chunks(ROW_BYTES).take(ROWS_MAX).enumerate() {
        let hex: String = row.iter().map(|byte| format!(" {byte:02x}")).collect();
        let letter = |byte: &u8| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '.' };
        let text: String = row.iter().map(letter).collect();
        writeln!(shown, "{:08x} {hex:<48}  |{text}|", nth * ROW_BYTES).expect("a string takes all");
    }
    let rest = value.len().saturating_sub(ROW_BYTES * ROWS_MAX);
    if rest > 0 {
        writeln!(shown, "… and {rest} bytes more").expect("a string takes all");
    }
    shown
}

const ROW_BYTES: usize = 16;
/// One kibibyte at most.
const ROWS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &[u8], expected: &str) {
        assert_eq!(shown(value), expected);
    }

    #[test]
    fn text_is_shown_unchanged() {
        check(b"", "");
        check("Grüße\n\tan alle".as_bytes(), "Grüße\n\tan alle\n");
        check(b"a\r\nb\n", "a\r\nb\n");
        check(b"{not json}", "{not json}\n");
        check(b"42", "42\n");
    }

    #[test]
    fn json_is_only_indented() {
        check(
            br#"{"b":1.50,"a":[1e400,{}, [ ]],"c":"{\"x\":[\\\"","d":null}"#,
            r#"{
  "b": 1.50,
  "a": [
    1e400,
    {},
    []
  ],
  "c": "{\"x\":[\\\"",
  "d": null
}
"#,
        );
        check(b"[]", "[]\n");
    }

    #[test]
    fn control_characters_are_shown_as_a_hex_dump() {
        check(b"\x1b[2J", "00000000  1b 5b 32 4a                                      |.[2J|\n");
        check(b"a\rb", "00000000  61 0d 62                                         |a.b|\n");
        let long = shown(&[0xff; 1030]);
        assert_eq!(long.lines().count(), 65);
        assert!(long.ends_with("|\n… and 6 bytes more\n"), "{long}");
        assert_eq!(harmless(b"k\xc3\xa9y \x1b[2J"), "kéy \\u{1b}[2J");
    }
}
