//! Replies, read in place: headers are looked at, values are skipped.

use super::server::Dialect;
use super::tally::Outcome;

/// Reads the replies of one connection, in whatever pieces they come.
pub struct Replies {
    /// Bytes of a value that are still to come, without what ends it.
    block: usize,
    dialect: Dialect,
    /// Whether a value's end is to come.
    in_block: bool,
}

/// A line, and what is known of the value behind it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reply<'a> {
    Array(usize),
    /// A value comes, and begins so. RESP and the meta commands tell no key.
    Block {
        key: &'a [u8],
        begin: &'a [u8],
    },
    Deleted,
    /// A meta command's or Redis's yes.
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

/// Bytes that are no reply.
#[derive(Debug, Eq, PartialEq)]
pub struct Unexpected(pub String);

impl Replies {
    pub fn new(dialect: Dialect) -> Replies {
        Replies { block: 0, dialect, in_block: false }
    }

    pub fn is_in_block(&self) -> bool {
        self.in_block
    }

    /// Takes what is there of a value; true if none is on its way any more.
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

    /// The next reply, once its line and the beginning of its value are there. To be called between values.
    pub fn next<'a>(&mut self, input: &'a [u8], at: &mut usize) -> Result<Option<Reply<'a>>, Unexpected> {
        let input = &input[*at..];
        let Some(end) = memchr::memchr(b'\n', input) else {
            return if input.len() > LINE_BYTES_MAX { Err(unexpected(input)) } else { Ok(None) };
        };
        let line = input[..end].strip_suffix(b"\r").ok_or_else(|| unexpected(input))?;
        let parsed = match self.dialect {
            Dialect::Redis => redis(line),
            Dialect::Text => text(line),
        };
        let (mut reply, block) = parsed.ok_or_else(|| unexpected(line))?;
        if let Some(bytes) = block {
            let Some(seen) = input[end + 1..].get(..bytes.min(SEEN_BYTES)) else { return Ok(None) };
            if let Reply::Block { begin, .. } = &mut reply {
                *begin = seen;
            }
            (self.block, self.in_block) = (bytes, true);
        }
        *at += end + 1;
        Ok(Some(reply))
    }
}

/// A reply, and the length of the value behind it.
type Parsed<'a> = Option<(Reply<'a>, Option<usize>)>;

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
        b"HD" => Reply::Done,
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

/// A line without its last word, and that word, which is a number.
fn last_number(line: &[u8]) -> Option<(&[u8], u64)> {
    let space = line.iter().rposition(|byte| *byte == b' ')?;
    Some((&line[..space], number(&line[space + 1..])?))
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    let digit = |sum: u64, byte: &u8| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0'));
    digits.iter().try_fold(0, digit)
}

fn unexpected(bytes: &[u8]) -> Unexpected {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Unexpected(line[..line.len().min(TOLD_BYTES_MAX)].escape_ascii().to_string())
}

/// So much of each value is compared with what was stored.
const SEEN_BYTES: usize = 16;
const LINE_BYTES_MAX: usize = 8 * 1024;
const TOLD_BYTES_MAX: usize = 100;
