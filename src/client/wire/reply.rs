//! Parsers for replies: each request has its own, which takes bytes as they arrive.

use std::str::FromStr;
use std::vec::IntoIter;

use bytes::{Buf, Bytes, BytesMut};

use super::Key;
use crate::client::Value;

/// Parses the reply to one request.
#[derive(Clone, Debug)]
pub(in crate::client) struct ReplyParser {
    expected: Expected,
    /// If the server does not understand a request with a data block, it takes the block for the next
    /// request. From then on replies do not match requests any more.
    has_block: bool,
    /// The header whose data has not arrived completely.
    header: Option<Header>,
}

/// The kind of the expected reply, with the part that has arrived.
#[derive(Clone, Debug)]
pub(super) enum Expected {
    Invalidated,
    /// Keys not yet found, and the answers for those before them.
    Items(IntoIter<Key>, Vec<Option<Item>>),
    Lease(Key, Option<LeaseReply>),
    Number,
    Stats(Vec<(String, String)>),
    Version,
    Word(&'static [Word]),
}

/// A complete reply to one request.
#[derive(Debug, Eq, PartialEq)]
pub(in crate::client) enum Reply {
    Invalidated,
    /// One for each requested key, in that order.
    Items(Vec<Option<Item>>),
    Lease(LeaseReply),
    /// `None` if the key does not exist.
    Number(Option<u64>),
    /// The server refused, with this message.
    Refused(String),
    Stats(Vec<(String, String)>),
    Version(String),
    Word(Word),
}

/// The one-word replies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::client) enum Word {
    Deleted,
    Exists,
    MetaDone,
    MetaExists,
    MetaNotFound,
    MetaNotStored,
    NotFound,
    NotStored,
    Ok,
    StaleStored,
    Stored,
    Touched,
}

/// A value, with its unique if that was requested.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::client) struct Item {
    pub(in crate::client) value: Value,
    pub(in crate::client) unique: Option<u64>,
}

/// The outcomes of `lease-get`; copies are stale.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::client) enum LeaseReply {
    Busy(Option<Value>),
    Granted(u64, Option<Value>),
    Hit(Value),
}

/// The bytes do not answer the request: the stream cannot be trusted any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::client) struct Garbled;

#[derive(Clone, Debug)]
struct Header {
    kind: Kind,
    flags: u32,
    bytes: usize,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// `VALUE`, with a unique or without.
    Live(Option<u64>),
    /// `LVALUE`, with its token.
    Token(u64),
}

/// Unwraps the expected kind of reply; the parser rules out all others.
impl Reply {
    pub(in crate::client) fn items(self) -> Vec<Option<Item>> {
        let Reply::Items(items) = self else { panic!("only items answer a get: {self:?}") };
        items
    }

    pub(in crate::client) fn lease(self) -> LeaseReply {
        let Reply::Lease(found) = self else { panic!("only a lease answers a lease-get: {self:?}") };
        found
    }

    pub(in crate::client) fn number(self) -> Option<u64> {
        let Reply::Number(count) = self else { panic!("only a number answers an incr: {self:?}") };
        count
    }

    pub(in crate::client) fn stats(self) -> Vec<(String, String)> {
        let Reply::Stats(stats) = self else { panic!("only statistics answer stats: {self:?}") };
        stats
    }

    pub(in crate::client) fn version(self) -> String {
        let Reply::Version(version) = self else { panic!("only a version answers version: {self:?}") };
        version
    }

    pub(in crate::client) fn word(self) -> Word {
        let Reply::Word(word) = self else { panic!("only a word answers a store: {self:?}") };
        word
    }
}

/// The meaning of a line of the reply.
enum Step {
    /// Data follows.
    Data(Header),
    /// More lines follow.
    More,
    /// The reply is complete.
    Whole(Reply),
}

impl ReplyParser {
    pub(super) fn new(expected: Expected, has_block: bool) -> ReplyParser {
        ReplyParser { expected, has_block, header: None }
    }

    /// Consumes the reply's bytes from `input`, and returns the reply once it is complete; `None` if more
    /// bytes are needed.
    pub(in crate::client) fn feed(&mut self, input: &mut BytesMut) -> Result<Option<Reply>, Garbled> {
        loop {
            match self.header.take() {
                Some(header) if input.len() < header.bytes + LINE_END.len() => {
                    input.reserve(header.bytes + LINE_END.len() - input.len());
                    self.header = Some(header);
                    return Ok(None);
                }
                Some(header) => {
                    let data = input.split_to(header.bytes).freeze();
                    if !input.starts_with(LINE_END) {
                        return Err(Garbled);
                    }
                    input.advance(LINE_END.len());
                    self.value(header.kind, Value { data, flags: header.flags })?;
                }
                None => {
                    let Some(line) = take_line(input)? else { return Ok(None) };
                    if let Some(reply) = self.line(&line)? {
                        return Ok(Some(reply));
                    }
                }
            }
        }
    }

    /// Whether the request can be repeated safely.
    pub(in crate::client) fn only_reads(&self) -> bool {
        match self.expected {
            Expected::Items(..) | Expected::Lease(..) | Expected::Stats(_) | Expected::Version => true,
            Expected::Invalidated | Expected::Number | Expected::Word(_) => false,
        }
    }

    /// Whether the connection is still usable after this reply.
    pub(in crate::client) fn trusts(&self, reply: &Reply) -> bool {
        match reply {
            // A server that answers `SERVER_ERROR` has consumed the data.
            Reply::Refused(why) => !self.has_block || why.starts_with("SERVER_ERROR"),
            Reply::Invalidated
            | Reply::Items(_)
            | Reply::Lease(_)
            | Reply::Number(_)
            | Reply::Stats(_)
            | Reply::Version(_)
            | Reply::Word(_) => true,
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<Option<Reply>, Garbled> {
        if [&b"ERROR"[..], b"CLIENT_ERROR", b"SERVER_ERROR"].iter().any(|error| line.starts_with(error)) {
            return Ok(Some(Reply::Refused(text(line))));
        }
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).collect();
        match self.expected.parse_line(&words)? {
            Step::Data(header) => self.header = Some(header),
            Step::More => {}
            Step::Whole(reply) => return Ok(Some(reply)),
        }
        Ok(None)
    }

    fn value(&mut self, kind: Kind, value: Value) -> Result<(), Garbled> {
        match (&mut self.expected, kind) {
            (Expected::Items(_, found), Kind::Live(unique)) => found.push(Some(Item { unique, value })),
            (Expected::Lease(_, found), Kind::Live(_)) => *found = Some(LeaseReply::Hit(value)),
            (Expected::Lease(_, found), Kind::Token(token)) => {
                let copy = Some(value).filter(|copy| !copy.data.is_empty());
                let granted = |copy| LeaseReply::Granted(token, copy);
                *found = Some(if token == BUSY { LeaseReply::Busy(copy) } else { granted(copy) });
            }
            (_, _) => return Err(Garbled),
        }
        Ok(())
    }
}

impl Expected {
    fn parse_line(&mut self, words: &[&[u8]]) -> Result<Step, Garbled> {
        let reply = match (self, words) {
            (Expected::Items(rest, found), words) => return parse_item(rest, found, words),
            (Expected::Lease(wanted, found), words) => return parse_lease(wanted, found, words),
            (Expected::Stats(stats), [b"STAT", name, value @ ..]) => {
                stats.push((text(name), text(&value.join(&b' '))));
                return Ok(Step::More);
            }
            (Expected::Stats(stats), [b"END"]) => Reply::Stats(std::mem::take(stats)),
            (Expected::Invalidated, [b"INVALIDATED", _]) => Reply::Invalidated,
            (Expected::Number, [b"NOT_FOUND"]) => Reply::Number(None),
            (Expected::Number, [count]) => Reply::Number(Some(number(count)?)),
            (Expected::Version, [b"VERSION", version @ ..]) => Reply::Version(text(&version.join(&b' '))),
            (Expected::Word(allowed), [word]) => {
                let word = allowed.iter().find(|allowed| allowed.bytes() == *word);
                Reply::Word(*word.ok_or(Garbled)?)
            }
            (_, _) => return Err(Garbled),
        };
        Ok(Step::Whole(reply))
    }
}

/// Servers send nothing for misses: an item answers its own key, and implies that the keys before it are
/// misses.
fn parse_item(
    rest: &mut IntoIter<Key>,
    found: &mut Vec<Option<Item>>,
    words: &[&[u8]],
) -> Result<Step, Garbled> {
    match words {
        [b"END"] => {
            found.extend(rest.map(|_| None));
            Ok(Step::Whole(Reply::Items(std::mem::take(found))))
        }
        [b"VALUE", key, flags, bytes, unique @ ..] => {
            let misses = rest.as_slice().iter().position(|wanted| wanted.bytes() == *key).ok_or(Garbled)?;
            found.extend(rest.by_ref().take(misses).map(|_| None));
            rest.next();
            let unique = unique.first().map(|unique| number(unique)).transpose()?;
            Ok(Step::Data(Header::new(Kind::Live(unique), flags, bytes)?))
        }
        _ => Err(Garbled),
    }
}

fn parse_lease(wanted: &Key, found: &mut Option<LeaseReply>, words: &[&[u8]]) -> Result<Step, Garbled> {
    let (kind, key, flags, bytes) = match words {
        [b"END"] => return Ok(Step::Whole(Reply::Lease(found.take().ok_or(Garbled)?))),
        [b"VALUE", key, flags, bytes] => (Kind::Live(None), key, flags, bytes),
        [b"LVALUE", key, token, flags, bytes] => (Kind::Token(number(token)?), key, flags, bytes),
        _ => return Err(Garbled),
    };
    if found.is_some() || wanted.bytes() != *key {
        return Err(Garbled);
    }
    Ok(Step::Data(Header::new(kind, flags, bytes)?))
}

impl Header {
    fn new(kind: Kind, flags: &[u8], bytes: &[u8]) -> Result<Header, Garbled> {
        let bytes = Some(number(bytes)?).filter(|bytes| *bytes <= VALUE_BYTES_MAX).ok_or(Garbled)?;
        Ok(Header { kind, flags: number(flags)?, bytes })
    }
}

impl Word {
    fn bytes(self) -> &'static [u8] {
        match self {
            Word::Deleted => b"DELETED",
            Word::Exists => b"EXISTS",
            Word::MetaDone => b"HD",
            Word::MetaExists => b"EX",
            Word::MetaNotFound => b"NF",
            Word::MetaNotStored => b"NS",
            Word::NotFound => b"NOT_FOUND",
            Word::NotStored => b"NOT_STORED",
            Word::Ok => b"OK",
            Word::StaleStored => b"STALE_STORED",
            Word::Stored => b"STORED",
            Word::Touched => b"TOUCHED",
        }
    }
}

/// Takes a complete line, without its end.
fn take_line(input: &mut BytesMut) -> Result<Option<Bytes>, Garbled> {
    match memchr::memchr(b'\n', input) {
        Some(end) => {
            let line = input.split_to(end + 1).freeze();
            Ok(Some(line.slice(..line.strip_suffix(LINE_END).ok_or(Garbled)?.len())))
        }
        None if input.len() > LINE_BYTES_MAX => Err(Garbled),
        None => Ok(None),
    }
}

fn number<N: FromStr>(word: &[u8]) -> Result<N, Garbled> {
    let digits = str::from_utf8(word).map_err(|_| Garbled)?;
    digits.parse().map_err(|_| Garbled)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const LINE_END: &[u8] = b"\r\n";
/// Longer than any line of a reply.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// The largest value that any memcached can be configured to accept.
const VALUE_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// The token that stands for a lease held by another client.
const BUSY: u64 = 1;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Counting, Names, Request, Storing};
    use super::*;
    use crate::client::Copies;

    #[test]
    fn items_answer_their_keys_in_order() {
        let item = |data: &str, flags, unique| {
            Some(Item { unique, value: Value { data: Bytes::from(data.to_owned()), flags } })
        };
        let keys = || ["a", "b", "a", "c"].map(key).to_vec();
        let get = || Request::get(keys());
        check(get(), "get a b a c", "END\r\n", Ok(Reply::Items(vec![None; 4])));
        let found = Reply::Items(vec![None, item("END\r\n", 7, None), None, None]);
        check(get(), "get a b a c", "VALUE b 7 5\r\nEND\r\n\r\nEND\r\n", Ok(found));
        let found = Reply::Items(vec![item("1", 0, None), None, item("1", 0, None), None]);
        check(get(), "get a b a c", "VALUE a 0 1\r\n1\r\nVALUE a 0 1\r\n1\r\nEND\r\n", Ok(found));
        let found = Reply::Items(vec![item("", 0, Some(9))]);
        check(Request::gets(key("a")), "gets a", "VALUE a 0 0 9\r\n\r\nEND\r\n", Ok(found));
        check(get(), "get a b a c", "VALUE d 0 1\r\n1\r\nEND\r\n", Err(Garbled));
        check(get(), "get a b a c", "VALUE c 0 1\r\n1\r\nVALUE a 0 1\r\n1\r\n", Err(Garbled));
        check(get(), "get a b a c", "VALUE a 0 1\r\n12\r\nEND\r\n", Err(Garbled));
        check(get(), "get a b a c", "VALUE a 0 1073741825\r\n", Err(Garbled));
        check(get(), "get a b a c", "STORED\r\n", Err(Garbled));
        check(Request::gat(key("a"), 60), "gat 60 a", "END\r\n", Ok(Reply::Items(vec![None])));
    }

    #[test]
    fn leases_are_granted_or_not() {
        let ask = || Request::lease_get(key("a"));
        let lease = |found| Ok(Reply::Lease(found));
        check(ask(), "lease-get a", "LVALUE a 9 0 0\r\n\r\nEND\r\n", lease(LeaseReply::Granted(9, None)));
        check(ask(), "lease-get a", "LVALUE a 1 0 0\r\n\r\nEND\r\n", lease(LeaseReply::Busy(None)));
        let copy = LeaseReply::Busy(Some("old".into()));
        check(ask(), "lease-get a", "LVALUE a 1 0 3\r\nold\r\nEND\r\n", lease(copy));
        check(ask(), "lease-get a", "VALUE a 0 1\r\n1\r\nEND\r\n", lease(LeaseReply::Hit("1".into())));
        check(ask(), "lease-get a", "LVALUE b 9 0 0\r\n\r\nEND\r\n", Err(Garbled));
        check(ask(), "lease-get a", "END\r\n", Err(Garbled));
        let ask = Request::lease_wait(key("a"), Duration::from_millis(1500));
        check(ask, "lease-wait 1500 a", "LVALUE a 1 0 0\r\n\r\nEND\r\n", lease(LeaseReply::Busy(None)));
        let fill = Request::lease_set(&key("a"), 9, &"v".into(), 60, &[key("x"), key("y")]);
        let stale = Ok(Reply::Word(Word::StaleStored));
        check(fill, "lease-set a 9 0 60 1 tag=x tag=y\r\nv", "STALE_STORED\r\n", stale);
        let release = Request::lease_release(&key("a"), 9);
        check(release, "lease-set a 9 0 -1 0\r\n", "STORED\r\n", Ok(Reply::Word(Word::Stored)));
    }

    #[test]
    fn stores_and_changes_return_a_word_or_a_number() {
        let add = || Request::store(Storing::Add, &key("a"), &"v\r\n".into(), 60);
        let sent = "add a 0 60 3\r\nv\r\n";
        check(add(), sent, "NOT_STORED\r\n", Ok(Reply::Word(Word::NotStored)));
        check(add(), sent, "DELETED\r\n", Err(Garbled));
        check(add(), sent, "STORED\n", Err(Garbled));
        check(add(), sent, &"x".repeat(9000), Err(Garbled));
        let cas = Request::cas(&key("a"), &"v".into(), 0, 9);
        check(cas, "cas a 0 0 1 9\r\nv", "EXISTS\r\n", Ok(Reply::Word(Word::Exists)));
        let row = Request::meta_store(&key("a"), &"v".into(), 60, Some(9), &[key("x"), key("y")], Some(3));
        let older = Ok(Reply::Word(Word::MetaNotStored));
        check(row, "ms a 1 T60 F0 C9 V3 Gx Gy\r\nv", "NS\r\n", older);
        let done = Ok(Reply::Word(Word::MetaDone));
        check(Request::meta_delete(&key("a"), 3), "md a V3", "HD\r\n", done);
        let count = |counting| Request::count(counting, &key("a"), 2);
        check(count(Counting::Up), "incr a 2", "12\r\n", Ok(Reply::Number(Some(12))));
        check(count(Counting::Down), "decr a 2", "NOT_FOUND\r\n", Ok(Reply::Number(None)));
        check(count(Counting::Up), "incr a 2", "many\r\n", Err(Garbled));
        let touch = Request::touch(&key("a"), 60);
        check(touch, "touch a 60", "TOUCHED\r\n", Ok(Reply::Word(Word::Touched)));
        check(Request::delete(&key("a")), "delete a", "NOT_FOUND\r\n", Ok(Reply::Word(Word::NotFound)));
        check(Request::flush_all(), "flush_all", "OK\r\n", Ok(Reply::Word(Word::Ok)));
        check(Request::version(), "version", "VERSION 1.6.45\r\n", Ok(Reply::Version("1.6.45".into())));
        let stats = Ok(Reply::Stats(vec![("a".into(), "1 2".into()), ("b".into(), "".into())]));
        check(Request::stats(), "stats", "STAT a 1 2\r\nSTAT b \r\nEND\r\n", stats);
    }

    #[test]
    fn invalidations_are_sent_with_their_names() {
        let (names, reply_bytes) = (["a", "b"].map(key), "INVALIDATED 2\r\n");
        let tags = Request::invalidate(Names::Tags(&names), Copies::Drop);
        check(tags, "invalidate tag a b", reply_bytes, Ok(Reply::Invalidated));
        let keys = Request::invalidate(Names::Keys(&names), Copies::Keep);
        check(keys, "invalidate soft key a b", reply_bytes, Ok(Reply::Invalidated));
        let prefixes = Request::invalidate(Names::Prefixes(&names), Copies::Drop);
        check(prefixes, "invalidate prefix a b", reply_bytes, Ok(Reply::Invalidated));
        let all = Request::invalidate(Names::All, Copies::Drop);
        check(all, "invalidate all", "ERROR\r\n", Ok(Reply::Refused("ERROR".into())));
    }

    /// A server that does not know a command reads the data after it as the next command, and answers that,
    /// too.
    #[test]
    fn an_error_may_end_the_trust_in_a_connection() {
        let (with, without) = (Request::store(Storing::Set, &key("a"), &"v".into(), 0), Request::stats());
        for (why, is_trusted) in
            [("ERROR", false), ("CLIENT_ERROR bad", false), ("SERVER_ERROR too large", true)]
        {
            let refused = Reply::Refused(why.to_owned());
            assert_eq!(with.parser.trusts(&refused), is_trusted, "{why}");
            assert!(without.parser.trusts(&refused), "{why}");
        }
    }

    fn key(name: &str) -> Key {
        Key::new(name).expect("a legal key")
    }

    /// Checks the sent bytes, and the parsed reply, whether it arrives whole or byte by byte.
    #[track_caller]
    fn check(request: Request, sent: &str, reply_bytes: &str, expected: Result<Reply, Garbled>) {
        assert_eq!(request.bytes, format!("{sent}\r\n"));
        // The bytes after a reply belong to the next one.
        let stream = format!("{reply_bytes}OK\r\n");
        for chunk in [1, stream.len()] {
            let mut parser = request.parser.clone();
            let (mut input, mut fed) = (BytesMut::new(), 0);
            let got = loop {
                input.extend_from_slice(&stream.as_bytes()[fed..fed + chunk]);
                fed += chunk;
                match parser.feed(&mut input) {
                    Ok(None) => assert!(fed < stream.len(), "the reply is incomplete"),
                    Ok(Some(reply)) => break Ok(reply),
                    Err(garbled) => break Err(garbled),
                }
            };
            assert_eq!(got, expected, "{reply_bytes:?} in chunks of {chunk}");
            if got.is_ok() {
                input.extend_from_slice(&stream.as_bytes()[fed..]);
                assert_eq!(input, "OK\r\n");
            }
        }
    }
}
