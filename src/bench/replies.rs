//! Parses replies in place: it reads headers and skips values.

use super::server::Dialect;
use super::tally::Outcome;

/// Parses the replies of one connection, in pieces of any size.
pub struct Replies {
    /// Remaining bytes of a value, without its end marker.
    block: usize,
    dialect: Dialect,
    /// Whether the end marker of a value is still to come.
    in_block: bool,
}

/// A parsed line, with the start of the value behind it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reply<'a> {
    Array(usize),
    /// A value with its first bytes. RESP and the meta commands do not repeat the key.
    Block {
        key: &'a [u8],
        begin: &'a [u8],
    },
    Deleted,
    /// Success, in the words of the meta commands, of Redis, or of commands for many keys.
    Done,
    End,
    Error(Outcome),
    Lease {
        key: &'a [u8],
        token: u64,
    },
    Miss,
    NotFound,
    NotStored,
    Stored,
}

/// Bytes that are not a reply.
#[derive(Debug, Eq, PartialEq)]
pub struct Unexpected(pub String);

impl Replies {
    pub fn new(dialect: Dialect) -> Replies {
        Replies { block: 0, dialect, in_block: false }
    }

    pub fn is_in_block(&self) -> bool {
        self.in_block
    }

    /// Skips the available bytes of a value; returns true if no value is incomplete.
    pub fn skip(&mut self, input: &[u8], at: &mut usize) -> Result<bool, Unexpected> {
        if !self.in_block {
            return Ok(true);
        }
        let skipped = self.block.min(input.len() - *at);
        self.block -= skipped;
        *at += skipped;
        match &input[*at..] {
            [b'\r', b'\n', ..] if self.block == 0 => {
                *at += 2;
                self.in_block = false;
                Ok(true)
            }
            [] | [b'\r'] => Ok(false),
            wrong => Err(unexpected(wrong)),
        }
    }

    /// Consumes a value under that key, if it comes next and is complete. It handles most replies for a
    /// quarter of the instructions; the other functions handle the rest.
    pub fn hit<'a>(&self, input: &'a [u8], at: &mut usize, key: &[u8]) -> Option<&'a [u8]> {
        let rest = input[*at..].strip_prefix(b"VALUE ")?.strip_prefix(key)?.strip_prefix(b" 0 ")?;
        let (bytes, rest) = first_number(rest)?;
        let (value, rest) = rest.strip_prefix(b"\r\n")?.split_at_checked(bytes as usize)?;
        let rest = rest.strip_prefix(b"\r\n")?;
        *at = input.len() - rest.len();
        Some(value)
    }

    /// The next reply, once its line and the first bytes of its value are there. Must be called between
    /// values.
    pub fn next<'a>(&mut self, input: &'a [u8], at: &mut usize) -> Result<Option<Reply<'a>>, Unexpected> {
        let input = &input[*at..];
        if let Some((reply, bytes)) = common(input) {
            *at += bytes;
            return Ok(Some(reply));
        }
        let Some(Line { mut reply, block, bytes }) = self.line(input)? else { return Ok(None) };
        if let Some(length) = block {
            let Some(seen) = input[bytes..].get(..length.min(SEEN_BYTES)) else { return Ok(None) };
            if let Reply::Block { begin, .. } = &mut reply {
                *begin = seen;
            }
            (self.block, self.in_block) = (length, true);
        }
        *at += bytes;
        Ok(Some(reply))
    }

    fn line<'a>(&self, input: &'a [u8]) -> Result<Option<Line<'a>>, Unexpected> {
        let Some(end) = memchr::memchr(b'\n', input) else {
            return if input.len() > LINE_BYTES_MAX { Err(unexpected(input)) } else { Ok(None) };
        };
        let line = input[..end].strip_suffix(b"\r").ok_or_else(|| unexpected(input))?;
        let (reply, block) = parse(self.dialect, line)?;
        Ok(Some(Line { reply, block, bytes: end + 1 }))
    }
}

/// The most frequent replies, recognized without looking for the line end; with their length.
fn common(input: &[u8]) -> Option<(Reply<'static>, usize)> {
    if input.starts_with(b"END\r\n") {
        Some((Reply::End, 5))
    } else if input.starts_with(b"STORED\r\n") {
        Some((Reply::Stored, 8))
    } else {
        None
    }
}

/// A parsed line.
struct Line<'a> {
    reply: Reply<'a>,
    /// The length of the value behind it.
    block: Option<usize>,
    /// The length of the line, with its end.
    bytes: usize,
}

/// A reply, and the length of the value behind it.
type Parsed<'a> = Option<(Reply<'a>, Option<usize>)>;

/// Parses one line, given without its end. The second part is the length of the value behind it.
pub fn parse(dialect: Dialect, line: &[u8]) -> Result<(Reply<'_>, Option<usize>), Unexpected> {
    let parsed = match dialect {
        Dialect::Redis => redis(line),
        Dialect::Text => text(line),
    };
    parsed.ok_or_else(|| unexpected(line))
}

fn text(line: &[u8]) -> Parsed<'_> {
    if let Some(rest) = line.strip_prefix(b"VALUE ") {
        let (rest, bytes) = last_number(rest)?;
        let (key, _flags) = last_number(rest)?;
        return Some((Reply::Block { key, begin: b"" }, Some(bytes as usize)));
    }
    if let Some(rest) = line.strip_prefix(b"VA ") {
        return Some((Reply::Block { key: b"", begin: b"" }, Some(number(rest)? as usize)));
    }
    if let Some(rest) = line.strip_prefix(b"LVALUE ") {
        let (rest, bytes) = last_number(rest)?;
        let (rest, _flags) = last_number(rest)?;
        let (key, token) = last_number(rest)?;
        return Some((Reply::Lease { key, token }, Some(bytes as usize)));
    }
    let reply = match line {
        b"DELETED" => Reply::Deleted,
        b"EN" => Reply::Miss,
        b"END" => Reply::End,
        b"HD" | b"MN" | b"OK" => Reply::Done,
        _ if line.starts_with(b"INVALIDATED ") => Reply::Done,
        b"NF" | b"NOT_FOUND" => Reply::NotFound,
        b"EX" | b"NOT_STORED" | b"NS" | b"STALE_STORED" => Reply::NotStored,
        b"STORED" => Reply::Stored,
        _ if line.starts_with(b"SERVER_ERROR") => Reply::Error(Outcome::ServerError),
        _ if line.starts_with(b"CLIENT_ERROR") || line == b"ERROR" => Reply::Error(Outcome::ClientError),
        _ => return None,
    };
    Some((reply, None))
}

fn redis(line: &[u8]) -> Parsed<'_> {
    let (first, rest) = line.split_first()?;
    let reply = match (first, rest) {
        (b'$', b"-1") => Reply::Miss,
        (b'$', bytes) => {
            return Some((Reply::Block { key: b"", begin: b"" }, Some(number(bytes)? as usize)));
        }
        (b'*', count) => Reply::Array(number(count)? as usize),
        (b'+', b"OK") => Reply::Done,
        (b':', b"0") => Reply::NotFound,
        (b':', _) => Reply::Deleted,
        (b'-', _) => Reply::Error(Outcome::ServerError),
        _ => return None,
    };
    Some((reply, None))
}

/// Splits off a line's last word, which is a number.
fn last_number(line: &[u8]) -> Option<(&[u8], u64)> {
    let space = line.iter().rposition(|byte| *byte == b' ')?;
    Some((&line[..space], number(&line[space + 1..])?))
}

/// Splits off a line's first word, which is a number.
#[inline]
fn first_number(line: &[u8]) -> Option<(u64, &[u8])> {
    let (mut sum, mut digits) = (0, 0);
    while let Some(byte @ b'0'..=b'9') = line.get(digits) {
        if digits == DIGITS_MAX {
            return None;
        }
        sum = sum * 10 + u64::from(byte - b'0');
        digits += 1;
    }
    (digits > 0).then(|| (sum, &line[digits..]))
}

fn number(digits: &[u8]) -> Option<u64> {
    first_number(digits).filter(|(_, rest)| rest.is_empty()).map(|(number, _)| number)
}

fn unexpected(bytes: &[u8]) -> Unexpected {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Unexpected(line[..line.len().min(SHOWN_BYTES_MAX)].escape_ascii().to_string())
}

/// The number of bytes of each value that are compared with the stored value.
pub const SEEN_BYTES: usize = 16;
/// Numbers with at most this many digits cannot overflow.
const DIGITS_MAX: usize = 19;
const LINE_BYTES_MAX: usize = 8 * 1024;
const SHOWN_BYTES_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{Index, select};
    use proptest::test_runner::RngSeed;

    use super::*;

    /// The bytes of a server, and the parsed replies.
    #[derive(Clone, Debug)]
    struct Sent {
        bytes: Vec<u8>,
        understood: String,
    }

    fn sent(head: String, value: Option<Vec<u8>>, understood: impl Fn(&[u8]) -> String) -> Sent {
        let mut bytes = (head + "\r\n").into_bytes();
        let value_bytes = value.as_deref().unwrap_or_default();
        if value.is_some() {
            bytes.extend([value_bytes, b"\r\n"].concat());
        }
        let seen = &value_bytes[..value_bytes.len().min(SEEN_BYTES)];
        Sent { bytes, understood: understood(seen) }
    }

    fn value() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![vec(any::<u8>(), 0..40), vec(select(b"\r\n END0".to_vec()), 0..200)]
    }

    fn text_sent() -> impl Strategy<Value = Sent> {
        let hit = ("key|[a-z]{1,9}", prop_oneof![Just(0), any::<u32>()], value()).prop_map(
            |(key, flags, value)| {
                let shown = |begin: &[u8]| format!("{:?}", Reply::Block { key: key.as_bytes(), begin });
                sent(format!("VALUE {key} {flags} {}", value.len()), Some(value.clone()), shown)
            },
        );
        let lease = ("[a-z]{4}", 0..u64::MAX >> 1, value()).prop_map(|(key, token, value)| {
            let shown = |_: &[u8]| format!("{:?}", Reply::Lease { key: key.as_bytes(), token });
            sent(format!("LVALUE {key} {token} 0 {}", value.len()), Some(value.clone()), shown)
        });
        let meta = value().prop_map(|value| {
            let shown = |begin: &[u8]| format!("{:?}", Reply::Block { key: b"", begin });
            sent(format!("VA {}", value.len()), Some(value.clone()), shown)
        });
        let word = select(vec![
            ("DELETED", Reply::Deleted),
            ("END", Reply::End),
            ("EN", Reply::Miss),
            ("HD", Reply::Done),
            ("STORED", Reply::Stored),
            ("NS", Reply::NotStored),
            ("NOT_FOUND", Reply::NotFound),
            ("SERVER_ERROR out of memory storing object", Reply::Error(Outcome::ServerError)),
        ])
        .prop_map(|(word, reply)| sent(word.to_owned(), None, |_| format!("{reply:?}")));
        prop_oneof![hit, lease, meta, word]
    }

    fn redis_sent() -> impl Strategy<Value = Sent> {
        let hit = value().prop_map(|value| {
            let shown = |begin: &[u8]| format!("{:?}", Reply::Block { key: b"", begin });
            sent(format!("${}", value.len()), Some(value.clone()), shown)
        });
        let word = select(vec![
            ("$-1", Reply::Miss),
            ("*50", Reply::Array(50)),
            ("+OK", Reply::Done),
            (":0", Reply::NotFound),
            (":1", Reply::Deleted),
            ("-ERR no", Reply::Error(Outcome::ServerError)),
        ])
        .prop_map(|(word, reply)| sent(word.to_owned(), None, |_| format!("{reply:?}")));
        prop_oneof![hit, word]
    }

    /// All replies parsed from bytes that arrive in pieces.
    fn parsed(dialect: Dialect, pieces: &[&[u8]]) -> Result<Vec<String>, Unexpected> {
        let mut replies = Replies::new(dialect);
        let (mut parsed, mut rest) = (Vec::new(), Vec::new());
        for piece in pieces {
            rest.extend_from_slice(piece);
            let mut at = 0;
            while replies.skip(&rest, &mut at)? {
                let reply = match replies.hit(&rest, &mut at, b"key") {
                    Some(value) => Reply::Block { key: b"key", begin: &value[..value.len().min(SEEN_BYTES)] },
                    None => match replies.next(&rest, &mut at)? {
                        Some(reply) => reply,
                        None => break,
                    },
                };
                parsed.push(format!("{reply:?}"));
            }
            rest.drain(..at);
        }
        assert!(rest.is_empty() && !replies.is_in_block());
        Ok(parsed)
    }

    fn check(dialect: Dialect, all: &[Sent], cuts: &[Index]) {
        let bytes: Vec<u8> = all.iter().flat_map(|sent| sent.bytes.clone()).collect();
        let understood: Vec<String> = all.iter().map(|sent| sent.understood.clone()).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        assert_eq!(parsed(dialect, &pieces), Ok(understood.clone()));
        assert_eq!(parsed(dialect, &bytes.chunks(1).collect::<Vec<_>>()), Ok(understood));
    }

    /// The same cases each time: a test that fails must fail again.
    fn seeded() -> ProptestConfig {
        let rng_seed = RngSeed::Fixed(9);
        ProptestConfig { failure_persistence: None, rng_seed, ..ProptestConfig::default() }
    }

    proptest! {
        #![proptest_config(seeded())]

        #[test]
        fn text_replies_are_parsed_in_pieces_of_any_length(all in vec(text_sent(), 1..20), cuts in vec(any::<Index>(), 0..20)) {
            check(Dialect::Text, &all, &cuts);
        }

        #[test]
        fn resp_replies_are_parsed_in_pieces_of_any_length(all in vec(redis_sent(), 1..20), cuts in vec(any::<Index>(), 0..20)) {
            check(Dialect::Redis, &all, &cuts);
        }

        #[test]
        fn random_bytes_cause_no_panic(bytes in vec(any::<u8>(), 0..200)) {
            for dialect in [Dialect::Redis, Dialect::Text] {
                let mut replies = Replies::new(dialect);
                let mut at = 0;
                while let Ok(true) = replies.skip(&bytes, &mut at) {
                    let Ok(Some(_)) = replies.next(&bytes, &mut at) else { break };
                }
            }
        }
    }

    #[test]
    fn an_invalid_reply_is_shown_in_the_error() {
        for wrong in ["HELLO", "VALUE k 0", "VALUE k 0 x", "VALUE k 0 99999999999999999999", "LVALUE k", "VA"]
        {
            let error = parsed(Dialect::Text, &[wrong.as_bytes(), b"\r\n"]);
            assert_eq!(error, Err(Unexpected(wrong.to_owned())));
        }
        let no_end = parsed(Dialect::Text, &[b"VALUE k 0 1\r\nvEND\r\n"]);
        assert_eq!(no_end, Err(Unexpected("END\\r".to_owned())));
    }
}
