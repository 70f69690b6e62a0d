//! Parses typed lines into requests.
//!
//! A line is sent unchanged, with one convenience: in place of the length of a value, the value itself may
//! be written in quotes. A shell removes quotes, so on the command line the value always takes that place.

use std::{fmt, io, str};

use super::verbs::{Ends, Takes, VERBS, Verb};

/// A command, ready to be sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Request {
    /// The line without its end.
    pub(super) line: Vec<u8>,
    pub(super) value: Value,
}

/// The data block after a line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Value {
    /// The command has no data block.
    Absent,
    /// This many bytes are still missing.
    Announced(usize),
    /// The data block is there.
    Given(Vec<u8>),
}

/// The reason why a line cannot be sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Mistake {
    /// A key or another word is empty, or contains a space or a control byte.
    BadWord,
    /// A storage command that does not have this form.
    Form(&'static Verb),
    /// The value cannot be read from the standard input.
    Input,
    /// The value has another length than the line says.
    Length { announced: usize, given: usize },
    /// Unclosed quotes, or an invalid escape.
    Quotes,
}

impl Request {
    /// A generated line without a value.
    pub(super) fn plain(line: &str) -> Request {
        Request { line: line.into(), value: Value::Absent }
    }

    /// Parses a typed line.
    pub(super) fn typed(line: &[u8]) -> Result<Request, Mistake> {
        let request = Request::read(line.trim_ascii())?;
        // Pasted text may contain several lines.
        if request.line.contains(&b'\n') { Err(Mistake::BadWord) } else { Ok(request) }
    }

    fn read(line: &[u8]) -> Result<Request, Mistake> {
        let Some((verb, place)) = storing(words(line).next().unwrap_or_default()) else {
            return Ok(Request { line: line.to_vec(), value: Value::Absent });
        };
        let rest = after(line, place).ok_or(Mistake::Form(verb))?;
        let before = line[..line.len() - rest.len()].trim_ascii_end();
        if let Some(quote @ (b'"' | b'\'')) = rest.first() {
            let (value, rest) = unquoted(*quote, &rest[1..]).ok_or(Mistake::Quotes)?;
            return Request::storing(verb, before, value, rest);
        }
        let mut rest = words(rest);
        let length = rest.next().and_then(|word| str::from_utf8(word).ok()?.parse().ok());
        match length {
            Some(length) if verb.may_end_in(&rest.collect::<Vec<_>>()) => {
                Ok(Request { line: line.to_vec(), value: Value::Announced(length) })
            }
            _ => Err(Mistake::Form(verb)),
        }
    }

    /// Parses the words of a command line. If the value is `-`, `read` reads it from the standard input.
    pub(super) fn argued(
        words: &[Vec<u8>],
        read: impl FnOnce() -> io::Result<Vec<u8>>,
    ) -> Result<Request, Mistake> {
        let place = words.first().and_then(|name| storing(name));
        let is_value = |nth: usize| place.is_some_and(|(_, place)| place == nth);
        let is_bad = |word: &[u8]| word.is_empty() || word.iter().any(|byte| *byte <= b' ' || *byte == 0x7f);
        if words.iter().enumerate().any(|(nth, word)| !is_value(nth) && is_bad(word)) {
            return Err(Mistake::BadWord);
        }
        let Some((verb, place)) = place else {
            return Ok(Request { line: words.join(&b' '), value: Value::Absent });
        };
        let value = words.get(place).ok_or(Mistake::Form(verb))?;
        let value = if value == b"-" { read().map_err(|_| Mistake::Input)? } else { value.clone() };
        let rest = words[place + 1..].join(&b' ');
        Request::storing(verb, &words[..place].join(&b' '), value, &rest)
    }

    fn storing(verb: &'static Verb, before: &[u8], value: Vec<u8>, rest: &[u8]) -> Result<Request, Mistake> {
        if !verb.may_end_in(&words(rest).collect::<Vec<_>>()) {
            return Err(Mistake::Form(verb));
        }
        let mut line = [before, value.len().to_string().as_bytes()].join(&b' ');
        if !rest.trim_ascii().is_empty() {
            line.push(b' ');
            line.extend_from_slice(rest.trim_ascii());
        }
        Ok(Request { line, value: Value::Given(value) })
    }

    /// Adds the missing value.
    pub(super) fn give(&mut self, value: Vec<u8>) -> Result<(), Mistake> {
        if let Value::Announced(announced) = self.value
            && announced != value.len()
        {
            return Err(Mistake::Length { announced, given: value.len() });
        }
        self.value = Value::Given(value);
        Ok(())
    }

    /// The bytes to send. A command without a reply is followed by one with a reply.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = [&self.line[..], b"\r\n"].concat();
        if let Value::Given(value) = &self.value {
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        if self.ends() == Ends::Silent {
            bytes.extend_from_slice(b"mn\r\n");
        }
        bytes
    }

    pub(super) fn ends(&self) -> Ends {
        Ends::of(&self.words())
    }

    /// The name of the command; may be empty.
    pub(super) fn name(&self) -> &[u8] {
        words(&self.line).next().unwrap_or_default()
    }

    pub(super) fn words(&self) -> Vec<&[u8]> {
        words(&self.line).collect()
    }

    /// The keys of the command.
    pub(super) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        let verb = Verb::find(self.name());
        let first = verb.and_then(Verb::first_key).unwrap_or(usize::MAX);
        let most = if verb.is_some_and(|verb| matches!(verb.takes, Takes::Keys(_))) { usize::MAX } else { 1 };
        words(&self.line).skip(first).take(most)
    }

    /// The line for the history, with empty quotes in place of the value, which may be secret.
    pub(super) fn for_history(&self) -> String {
        let mut words = self.words();
        let length = storing(self.name()).and_then(|(_, place)| words.get_mut(place));
        if let (Value::Given(_), Some(length)) = (&self.value, length) {
            *length = b"\"\"";
        }
        String::from_utf8_lossy(&words.join(&b' ')).into_owned()
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Mistake::BadWord => {
                f.write_str("invalid word: only a value may be empty, or contain spaces and line ends")
            }
            Mistake::Form(verb) => {
                write!(f, "{} {}: the value in quotes, or its length", verb.name, verb.form)
            }
            Mistake::Input => f.write_str("cannot read the standard input"),
            Mistake::Length { announced, given } => {
                write!(f, "the value has {given} bytes, but the line says {announced}: nothing was sent")
            }
            Mistake::Quotes => {
                f.write_str("unclosed quotes, or an escape other than \\n \\r \\t \\0 \\\\ \\\" \\xFF")
            }
        }
    }
}

/// The output of `help`, about one command or all.
pub(super) fn help(about: Option<&str>) -> String {
    let listed = VERBS.iter().filter(|verb| about.is_none_or(|name| verb.name == name));
    let lines: Vec<_> =
        listed.map(|verb| format!("{} {}\n    {}\n", verb.name, verb.form, verb.about)).collect();
    match about {
        Some(name) if lines.is_empty() => format!("unknown command {name}\n"),
        Some(_) => lines.concat(),
        None => lines.concat() + HELP,
    }
}

/// A storage command, and the position of its length.
fn storing(name: &[u8]) -> Option<(&'static Verb, usize)> {
    let verb = Verb::find(name)?;
    match verb.takes {
        Takes::Value(place) => Some((verb, place)),
        Takes::Key(_) | Takes::Keys(_) | Takes::Nothing => None,
    }
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b' ').filter(|word| !word.is_empty())
}

/// The rest of the line after this many words; `None` if it is empty.
fn after(line: &[u8], words: usize) -> Option<&[u8]> {
    let rest = (0..words).try_fold(line, |rest, _| {
        let end = rest.iter().position(|byte| *byte == b' ')?;
        Some(rest[end..].trim_ascii_start())
    })?;
    Some(rest).filter(|rest| !rest.is_empty())
}

/// The quoted text, whose opening quote was consumed, and the rest after it. Single quotes have no escapes.
fn unquoted(quote: u8, text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (mut value, mut rest) = (Vec::new(), text);
    loop {
        let (byte, after) = rest.split_first()?;
        rest = after;
        if *byte == quote {
            return (rest.is_empty() || rest.starts_with(b" ")).then_some((value, rest));
        }
        if *byte != b'\\' || quote == b'\'' {
            value.push(*byte);
            continue;
        }
        let (escaped, after) = rest.split_first()?;
        rest = after;
        value.push(match escaped {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'0' => 0,
            b'\\' | b'"' => *escaped,
            b'x' => {
                let (digits, after) = rest.split_at_checked(2)?;
                rest = after;
                u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?
            }
            _ => return None,
        });
    }
}

const HELP: &str = "
<value> is the value in quotes: \"two\\nlines\" with escapes, 'as it is' without. Or it is the length, as in the
protocol; then the prompt asks for the value. Ctrl-C cancels, Ctrl-D exits. See protocol.md for details.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(typed: &str, sent: Result<&str, Mistake>) {
        let bytes = Request::typed(typed.as_bytes()).map(|request| request.bytes());
        assert_eq!(bytes.map(|bytes| String::from_utf8(bytes).unwrap()), sent.map(str::to_owned), "{typed}");
    }

    fn form(name: &str) -> Mistake {
        Mistake::Form(Verb::find(name.as_bytes()).unwrap())
    }

    #[test]
    fn lines_are_sent_as_they_are() {
        check("  get a  b ", Ok("get a  b\r\n"));
        check("get \"a\"", Ok("get \"a\"\r\n"));
        check("nonsense \"x", Ok("nonsense \"x\r\n"));
        check("get a\nflush_all", Err(Mistake::BadWord));
        check("ms a \"x\" T0\nflush_all", Err(Mistake::BadWord));
        check("set a 0 0 \"x\ny\"", Ok("set a 0 0 3\r\nx\ny\r\n"));
        check("mg k v q", Ok("mg k v q\r\nmn\r\n"));
    }

    #[test]
    fn a_quoted_value_takes_the_place_of_its_length() {
        check("set k 0 60 \"hello\"", Ok("set k 0 60 5\r\nhello\r\n"));
        check("set  k 0  60 'it\\n' noreply", Ok("set  k 0  60 4 noreply\r\nit\\n\r\nmn\r\n"));
        check("cas k 0 0 \"a b\" 17", Ok("cas k 0 0 3 17\r\na b\r\n"));
        check("lease-set k 9 0 0 \"\" tag=x tag=y", Ok("lease-set k 9 0 0 0 tag=x tag=y\r\n\r\n"));
        check("ms k '\"' T60 F1", Ok("ms k 1 T60 F1\r\n\"\r\n"));
        check("set k 0 0 \"\\x41\\t\\0\\\"\\\\\\r\\n\"", Ok("set k 0 0 7\r\nA\t\0\"\\\r\n\r\n"));
        for quotes in ["\"", "\"a\"b", "\"\\", "\"\\q\"", "\"\\xg0\"", "\"\\x4", "'a"] {
            check(&format!("set k 0 0 {quotes}"), Err(Mistake::Quotes));
        }
        check("set k 0 0 hello", Err(form("set")));
        check("set k hello", Err(form("set")));
        // Extra words would be misinterpreted or lost.
        check("set k 0 0 5 world", Err(form("set")));
        check("set k 0 0 \"hello\" world", Err(form("set")));
        check("cas k 0 0 \"hello\" noreply", Err(form("cas")));
        check("lease-set k 1 0 0", Err(form("lease-set")));
    }

    #[test]
    fn an_announced_value_must_have_its_length() {
        let mut request = Request::typed(b"set k 0 0 5").unwrap();
        assert_eq!(request.value, Value::Announced(5));
        assert_eq!(request.give(b"four".to_vec()), Err(Mistake::Length { announced: 5, given: 4 }));
        request.give(b"fi\nve".to_vec()).unwrap();
        assert_eq!(request.bytes(), b"set k 0 0 5\r\nfi\nve\r\n");
    }

    #[track_caller]
    fn check_argued(words: &[&str], sent: Result<&str, Mistake>) {
        let words: Vec<_> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        let bytes = Request::argued(&words, || Ok(b"<page>".to_vec())).map(|request| request.bytes());
        assert_eq!(
            bytes.map(|bytes| String::from_utf8(bytes).unwrap()),
            sent.map(str::to_owned),
            "{words:?}"
        );
    }

    #[test]
    fn any_argument_can_be_the_value() {
        check_argued(&["get", "a", "b"], Ok("get a b\r\n"));
        check_argued(&["set", "k", "0", "60", "12"], Ok("set k 0 60 2\r\n12\r\n"));
        check_argued(&["set", "k", "0", "60", ""], Ok("set k 0 60 0\r\n\r\n"));
        check_argued(&["set", "k", "0", "60", "-"], Ok("set k 0 60 6\r\n<page>\r\n"));
        check_argued(&["ms", "k", "\"a b\"", "T60"], Ok("ms k 5 T60\r\n\"a b\"\r\n"));
        check_argued(&["set", "k", "0", "60"], Err(form("set")));
        check_argued(&["set", "k", "0", "60", "hello", "world"], Err(form("set")));
        check_argued(&["cas", "k", "0", "60", "hello"], Err(form("cas")));
        // An untrusted key must not become a command.
        for word in ["", "a b", "a\r\nflush_all", "a\u{7f}"] {
            check_argued(&["get", word], Err(Mistake::BadWord));
        }
    }

    #[test]
    fn the_history_has_keys_but_no_values() {
        let keys = |line: &str| {
            let request = Request::typed(line.as_bytes()).unwrap();
            request.keys().map(|key| String::from_utf8_lossy(key).into_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(keys("gat 60 a b"), "a b");
        assert_eq!(keys("mg a v t"), "a");
        assert_eq!(keys("set a 0 0 1"), "a");
        assert_eq!(keys("stats leases"), "");
        let request = Request::typed(b"set login 0 0 \"ann secret\"").unwrap();
        assert_eq!(request.for_history(), "set login 0 0 \"\"");
        assert_eq!(Request::typed(b"set k 0 0 10").unwrap().for_history(), "set k 0 0 10");
    }

    #[test]
    fn help_covers_one_command_or_all() {
        assert!(help(Some("lease-get")).starts_with("lease-get <key>*\n    read values"));
        assert_eq!(help(Some("nothing")), "unknown command nothing\n");
        assert!(help(None).lines().count() > 70);
    }
}
