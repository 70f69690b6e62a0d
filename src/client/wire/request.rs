//! Requests: each verb as the bytes of its line and data block.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::Key;
use super::reply::{Expected, ReplyParser, Word};
use crate::client::Value;

/// A request, ready to be sent, with the parser of its reply.
#[derive(Clone, Debug)]
pub(in crate::client) struct Request {
    pub(in crate::client) bytes: Bytes,
    pub(in crate::client) parser: ReplyParser,
}

/// The verbs that store without a condition of their own.
#[derive(Clone, Copy, Debug)]
pub(in crate::client) enum Storing {
    Add,
    Append,
    Prepend,
    Replace,
    Set,
}

/// Whether an invalidation leaves stale copies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Copies {
    /// Drops all copies.
    Drop,
    /// Keeps stale copies for readers that prefer one to waiting, for as long as the server's policy
    /// allows.
    Keep,
}

#[derive(Clone, Copy, Debug)]
pub(in crate::client) enum Counting {
    Down,
    Up,
}

/// The names that are invalidated.
#[derive(Clone, Copy, Debug)]
pub(in crate::client) enum Names<'a> {
    All,
    Keys(&'a [Key]),
    Prefixes(&'a [Key]),
    Tags(&'a [Key]),
}

impl Request {
    pub(in crate::client) fn get(keys: Vec<Key>) -> Request {
        let line = Line::new(b"get").words(&keys);
        line.expects(Expected::Items(keys.into_iter(), Vec::new()))
    }

    pub(in crate::client) fn gets(key: Key) -> Request {
        let line = Line::new(b"gets").word(key.bytes());
        line.expects(Expected::Items(vec![key].into_iter(), Vec::new()))
    }

    pub(in crate::client) fn gat(key: Key, exptime: u64) -> Request {
        let line = Line::new(b"gat").number(exptime).word(key.bytes());
        line.expects(Expected::Items(vec![key].into_iter(), Vec::new()))
    }

    pub(in crate::client) fn lease_get(key: Key) -> Request {
        let line = Line::new(b"lease-get").word(key.bytes());
        line.expects(Expected::Lease(key, None))
    }

    pub(in crate::client) fn lease_wait(key: Key, wait: Duration) -> Request {
        let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let line = Line::new(b"lease-wait").number(millis).word(key.bytes());
        line.expects(Expected::Lease(key, None))
    }

    pub(in crate::client) fn lease_set(
        key: &Key,
        token: u64,
        value: &Value,
        exptime: u64,
        tags: &[Key],
    ) -> Request {
        let line = Line::new(b"lease-set").word(key.bytes()).number(token).value(value, exptime);
        let line = tags.iter().fold(line, |line, tag| line.word(&[b"tag=", tag.bytes()].concat()));
        line.block(value).expects(Expected::Word(&[Word::NotStored, Word::StaleStored, Word::Stored]))
    }

    pub(in crate::client) fn lease_release(key: &Key, token: u64) -> Request {
        let line = Line::new(b"lease-set").word(key.bytes()).number(token).word(b"0 -1 0");
        line.block(&Value::default()).expects(Expected::Word(&[Word::NotStored, Word::Stored]))
    }

    pub(in crate::client) fn store(storing: Storing, key: &Key, value: &Value, exptime: u64) -> Request {
        let verb: &[u8] = match storing {
            Storing::Add => b"add",
            Storing::Append => b"append",
            Storing::Prepend => b"prepend",
            Storing::Replace => b"replace",
            Storing::Set => b"set",
        };
        let line = Line::new(verb).word(key.bytes()).value(value, exptime);
        line.block(value).expects(Expected::Word(&[Word::NotStored, Word::Stored]))
    }

    /// A store with tags, with the version of a row, or with the token of a lease.
    pub(in crate::client) fn meta_store(
        key: &Key,
        value: &Value,
        exptime: u64,
        token: Option<u64>,
        tags: &[Key],
        version: Option<u64>,
    ) -> Request {
        let line = Line::new(b"ms").word(key.bytes()).number(value.data.len() as u64);
        let line = line.flag(b'T', exptime).flag(b'F', value.flags.into());
        let line = token.into_iter().fold(line, |line, token| line.flag(b'C', token));
        let line = version.into_iter().fold(line, |line, version| line.flag(b'V', version));
        let line = tags.iter().fold(line, |line, tag| line.word(&[b"G", tag.bytes()].concat()));
        let words = &[Word::MetaDone, Word::MetaExists, Word::MetaNotFound, Word::MetaNotStored];
        line.block(value).expects(Expected::Word(words))
    }

    pub(in crate::client) fn meta_delete(key: &Key, version: u64) -> Request {
        let line = Line::new(b"md").word(key.bytes()).flag(b'V', version);
        line.expects(Expected::Word(&[Word::MetaDone, Word::MetaNotFound, Word::MetaNotStored]))
    }

    pub(in crate::client) fn cas(key: &Key, value: &Value, exptime: u64, unique: u64) -> Request {
        let line = Line::new(b"cas").word(key.bytes()).value(value, exptime).number(unique);
        line.block(value).expects(Expected::Word(&[Word::Exists, Word::NotFound, Word::Stored]))
    }

    pub(in crate::client) fn count(counting: Counting, key: &Key, delta: u64) -> Request {
        let verb: &[u8] = match counting {
            Counting::Down => b"decr",
            Counting::Up => b"incr",
        };
        Line::new(verb).word(key.bytes()).number(delta).expects(Expected::Number)
    }

    pub(in crate::client) fn touch(key: &Key, exptime: u64) -> Request {
        let line = Line::new(b"touch").word(key.bytes()).number(exptime);
        line.expects(Expected::Word(&[Word::NotFound, Word::Touched]))
    }

    pub(in crate::client) fn delete(key: &Key) -> Request {
        Line::new(b"delete").word(key.bytes()).expects(Expected::Word(&[Word::Deleted, Word::NotFound]))
    }

    pub(in crate::client) fn invalidate(names: Names, copies: Copies) -> Request {
        let line = Line::new(match copies {
            Copies::Drop => b"invalidate",
            Copies::Keep => b"invalidate soft",
        });
        let line = match names {
            Names::All => line.word(b"all"),
            Names::Keys(keys) => line.word(b"key").words(keys),
            Names::Prefixes(prefixes) => line.word(b"prefix").words(prefixes),
            Names::Tags(tags) => line.word(b"tag").words(tags),
        };
        line.expects(Expected::Invalidated)
    }

    pub(in crate::client) fn flush_all() -> Request {
        Line::new(b"flush_all").expects(Expected::Word(&[Word::Ok]))
    }

    pub(in crate::client) fn stats() -> Request {
        Line::new(b"stats").expects(Expected::Stats(Vec::new()))
    }

    pub(in crate::client) fn version() -> Request {
        Line::new(b"version").expects(Expected::Version)
    }

    /// ASCII authentication: a `set` of any key with name and password as its value.
    pub(in crate::client) fn login(user: &str, password: &str) -> Request {
        let words = Value::from(format!("{user} {password}"));
        let line = Line::new(b"set").word(b"auth").value(&words, 0);
        line.block(&words).expects(Expected::Word(&[Word::Stored]))
    }
}

/// A line that is built word by word, followed by its data block.
struct Line {
    bytes: BytesMut,
    has_block: bool,
}

impl Line {
    fn new(verb: &[u8]) -> Line {
        Line { bytes: BytesMut::from(verb), has_block: false }
    }

    fn word(mut self, word: &[u8]) -> Line {
        self.bytes.put_u8(b' ');
        self.bytes.put_slice(word);
        self
    }

    fn words(self, keys: &[Key]) -> Line {
        keys.iter().fold(self, |line, key| line.word(key.bytes()))
    }

    fn number(self, number: u64) -> Line {
        self.word(itoa::Buffer::new().format(number).as_bytes())
    }

    fn flag(self, letter: u8, number: u64) -> Line {
        self.word(&[&[letter], itoa::Buffer::new().format(number).as_bytes()].concat())
    }

    /// Appends flags, expiry time and length.
    fn value(self, value: &Value, exptime: u64) -> Line {
        self.number(value.flags.into()).number(exptime).number(value.data.len() as u64)
    }

    fn block(mut self, value: &Value) -> Line {
        self.bytes.put_slice(b"\r\n");
        self.bytes.put_slice(&value.data);
        Line { has_block: true, ..self }
    }

    fn expects(mut self, expected: Expected) -> Request {
        self.bytes.put_slice(b"\r\n");
        Request { bytes: self.bytes.freeze(), parser: ReplyParser::new(expected, self.has_block) }
    }
}
