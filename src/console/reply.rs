//! Splits answers into lines, together with the data that follows some of them.
//!
//! The format alone shows where an answer ends, except for dumps, which continue after their `OK`, and
//! `watch`, which never ends. So this module need not know the words of newer memcached versions.

use std::str;

use bytes::{Buf, BytesMut};

use super::verbs::Ends;

/// A line of an answer without its end, and its data.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Entry {
    pub(super) line: Vec<u8>,
    pub(super) data: Option<Vec<u8>>,
}

/// Bytes that do not conform to the protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Garbled;

impl Entry {
    /// The next entry, once it is complete.
    pub(super) fn read(input: &mut BytesMut) -> Result<Option<Entry>, Garbled> {
        let Some(end) = memchr::memchr(b'\n', input) else {
            return if input.len() > LINE_BYTES_MAX { Err(Garbled) } else { Ok(None) };
        };
        let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
        let Some(bytes) = announced(line)? else {
            let line = line.to_vec();
            input.advance(end + 1);
            return Ok(Some(Entry { line, data: None }));
        };
        let (start, stop) = (end + 1, end + 1 + bytes);
        if input.len() < stop + LINE_END.len() {
            return Ok(None);
        }
        if &input[stop..stop + LINE_END.len()] != LINE_END {
            return Err(Garbled);
        }
        let entry = Entry { line: line.to_vec(), data: Some(input[start..stop].to_vec()) };
        input.advance(stop + LINE_END.len());
        Ok(Some(entry))
    }

    /// Whether it completes the answer.
    pub(super) fn is_last(&self, ends: Ends) -> bool {
        let goes_on = match self.word(0) {
            "ITEM" | "LVALUE" | "META" | "PREFIX" | "STAT" | "VALUE" | "mg" => true,
            "OK" => matches!(ends, Ends::Dump | Ends::Never),
            word => word.starts_with("key=") || self.is_event(),
        };
        !goes_on
    }

    /// Whether it is an event for a watcher.
    pub(super) fn is_event(&self) -> bool {
        self.line.starts_with(b"ts=") || self.line.starts_with(b"skipped=")
    }

    /// The word with this index; empty if there are fewer words, or if it is not text.
    pub(super) fn word(&self, nth: usize) -> &str {
        self.words().nth(nth).and_then(|word| str::from_utf8(word).ok()).unwrap_or_default()
    }

    pub(super) fn words(&self) -> impl Iterator<Item = &[u8]> {
        self.line.split(|byte| *byte == b' ').filter(|word| !word.is_empty())
    }
}

/// The length of the data after such a line.
fn announced(line: &[u8]) -> Result<Option<usize>, Garbled> {
    let mut words = line.split(|byte| *byte == b' ');
    let nth = match words.next() {
        Some(b"VALUE") => 2,
        Some(b"LVALUE") => 3,
        Some(b"VA") => 0,
        _ => return Ok(None),
    };
    let word = words.nth(nth).and_then(|word| str::from_utf8(word).ok());
    let bytes = word.and_then(|word| word.parse().ok()).filter(|bytes| *bytes <= VALUE_BYTES_MAX);
    bytes.map(Some).ok_or(Garbled)
}

const LINE_END: &[u8] = b"\r\n";
/// The keys in dumps, errors and statistics are far shorter.
const LINE_BYTES_MAX: usize = 1 << 20;
/// The limit on announced data, as in the server.
const VALUE_BYTES_MAX: usize = 2_147_483_645;

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits `input`, in chunks of any size, into answers of these lines, each with its data after a `|`.
    #[track_caller]
    fn check(ends: Ends, input: &str, expected: &[&[&str]]) {
        for chunk in [1, 2, 7, input.len()] {
            let (mut buffer, mut answers, mut answer) = (BytesMut::new(), Vec::new(), Vec::new());
            for bytes in input.as_bytes().chunks(chunk) {
                buffer.extend_from_slice(bytes);
                while let Some(entry) = Entry::read(&mut buffer).unwrap() {
                    let data = entry.data.as_ref().map(|data| format!("|{}", String::from_utf8_lossy(data)));
                    answer
                        .push(String::from_utf8_lossy(&entry.line).into_owned() + &data.unwrap_or_default());
                    if entry.is_last(ends) {
                        answers.push(std::mem::take(&mut answer));
                    }
                }
            }
            answers.extend((!answer.is_empty()).then_some(answer));
            assert_eq!(answers, expected, "in pieces of {chunk}");
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn the_last_line_of_an_answer_is_recognized() {
        check(Ends::Itself, "STORED\r\nEND\r\n", &[&["STORED"], &["END"]]);
        check(
            Ends::Itself,
            "VALUE a 0 5\r\nEND\r\n\r\nVALUE b 0 0 7\r\n\r\nEND\r\nOK\r\n",
            &[&["VALUE a 0 5|END\r\n", "VALUE b 0 0 7|", "END"], &["OK"]],
        );
        check(Ends::Itself, "VA 2 t1\r\nhi\r\nEN\r\n12\r\n", &[&["VA 2 t1|hi"], &["EN"], &["12"]]);
        check(Ends::Itself, "LVALUE k 17 0 3\r\nold\r\nEND\r\n", &[&["LVALUE k 17 0 3|old", "END"]]);
        check(Ends::Itself, "STAT a 1\r\nSTAT b\r\nEND\r\n", &[&["STAT a 1", "STAT b", "END"]]);
    }

    #[test]
    fn dumps_continue_after_their_ok() {
        let dump = "OK\r\nkey=a exp=-1 \nkey=b exp=0 \nEND\r\n";
        check(Ends::Dump, dump, &[&["OK", "key=a exp=-1 ", "key=b exp=0 ", "END"]]);
        check(Ends::Dump, "OK\r\nmg a\r\nEN\r\n", &[&["OK", "mg a", "EN"]]);
        check(Ends::Dump, "BADCLASS invalid class id\r\n", &[&["BADCLASS invalid class id"]]);
        check(Ends::Never, "OK\r\nts=1.0 gid=1\nskipped=2\n", &[&["OK", "ts=1.0 gid=1", "skipped=2"]]);
    }

    #[test]
    fn invalid_answers_are_recognized() {
        for garbled in ["VALUE a 0 x\r\n", "VALUE a 0\r\n", "VA 2147483646\r\n", "VA 2\r\nabc\r\n"] {
            assert_eq!(Entry::read(&mut garbled.into()), Err(Garbled), "{garbled}");
        }
        let endless = "x".repeat(LINE_BYTES_MAX + 1);
        assert_eq!(Entry::read(&mut endless[1..].into()), Ok(None));
        assert_eq!(Entry::read(&mut endless[..].into()), Err(Garbled));
    }
}
