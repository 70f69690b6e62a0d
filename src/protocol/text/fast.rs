//! A fast path for the hot verbs. It reads them from the buffer in one pass if the line is written as
//! client libraries write it: single spaces, plain numbers, no extra words.
//!
//! It returns the same as the grammar, or nothing. It finds the line's end, splits the words and checks
//! their bytes in one step instead of three, which saves a sixth of a `get` and a quarter of an `mg`
//! (docs/performance.md).
//!
//! Only the grammar refuses lines.

use super::grammar::{BLOCK_BYTES_MAX, Header, Line, META_WORDS_MAX, Verb};
use super::meta;
use crate::limits::{KEY_BYTES_MAX, KEYS_LINE_BYTES_MAX, KEYS_PER_GET_MAX};
use crate::protocol::message::{CasUnique, Keys, Meta, Request, Upcoming};
use crate::protocol::scan;

/// Reads the first line; returns it with the offset behind it.
pub(super) fn line(buffer: &[u8]) -> Option<(Line<'_>, usize)> {
    let (hot, mut words) = verb(buffer)?;
    let line = match hot {
        Hot::Get => Line::Alone(Request::Get { keys: words.keys()?, unique: CasUnique::Hide }),
        Hot::Gets => Line::Alone(Request::Get { keys: words.keys()?, unique: CasUnique::Show }),
        Hot::LeaseGet => Line::Alone(Request::LeaseGet { keys: words.keys()?, wait_ms: 0 }),
        Hot::MetaGet => Line::Alone(Request::MetaRead(words.meta()?)),
        Hot::Delete => {
            // As the last word, `noreply` is not a key.
            let key = words.key().filter(|key| *key != NOREPLY)?;
            Line::Alone(Request::Delete { key, held_seconds: 0, noreply: false })
        }
        Hot::Set => Line::Before(words.store(Verb::Set)?),
        Hot::LeaseSet => Line::Before(words.store(Verb::LeaseSet(0))?),
        Hot::MetaDelete | Hot::MetaSet => return None,
    };
    let end = buffer.len() - words.rest.len();
    match words.rest {
        [b'\n', ..] => Some((line, end + 1)),
        [b'\r', b'\n', ..] => Some((line, end + 2)),
        _ => None,
    }
}

/// Previews the first request, with the offset of the next one if that is buffered.
///
/// It does only the necessary checks, so its result may be wrong for a malformed request.
pub(super) fn ahead(buffer: &[u8]) -> Option<(Upcoming<'_>, usize)> {
    let (hot, mut words) = verb(buffer)?;
    let (key, rest) = (words.key()?, words.rest);
    let line = if rest.starts_with(b"\r\n") { 2 } else { memchr::memchr(b'\n', rest)? + 1 };
    let block = match hot {
        Hot::Delete | Hot::Get | Hot::Gets | Hot::LeaseGet | Hot::MetaDelete | Hot::MetaGet => 0,
        Hot::MetaSet => words.length()? + BLOCK_END_BYTES,
        // The length is most likely the last number of the line.
        Hot::LeaseSet | Hot::Set => last_number(rest[..line].trim_ascii_end())? + BLOCK_END_BYTES,
    };
    let is_read = matches!(hot, Hot::Get | Hot::Gets | Hot::MetaGet);
    Some((Upcoming { is_read, key }, buffer.len() - rest.len() + line + block))
}

/// The verbs of the fast path, each followed by a key.
#[derive(Clone, Copy)]
enum Hot {
    Delete,
    Get,
    Gets,
    LeaseGet,
    LeaseSet,
    MetaDelete,
    MetaGet,
    MetaSet,
    Set,
}

/// The verb at the start of the buffer, and everything after it.
#[inline(always)]
fn verb(buffer: &[u8]) -> Option<(Hot, Words<'_>)> {
    let (hot, length) = match buffer {
        [b'g', b'e', b't', b' ', ..] => (Hot::Get, 3),
        [b'm', b'g', b' ', ..] => (Hot::MetaGet, 2),
        [b's', b'e', b't', b' ', ..] => (Hot::Set, 3),
        [b'g', b'e', b't', b's', b' ', ..] => (Hot::Gets, 4),
        [b'd', b'e', b'l', b'e', b't', b'e', b' ', ..] => (Hot::Delete, 6),
        [b'l', b'e', b'a', b's', b'e', b'-', b'g', b'e', b't', b' ', ..] => (Hot::LeaseGet, 9),
        [b'l', b'e', b'a', b's', b'e', b'-', b's', b'e', b't', b' ', ..] => (Hot::LeaseSet, 9),
        [b'm', b's', b' ', ..] => (Hot::MetaSet, 2),
        [b'm', b'd', b' ', ..] => (Hot::MetaDelete, 2),
        _ => return None,
    };
    Some((hot, Words { rest: &buffer[length..] }))
}

/// The number at the end of a line, `noreply` ignored.
fn last_number(line: &[u8]) -> Option<usize> {
    let line = line.strip_suffix(b" noreply").unwrap_or(line);
    let before = line.iter().rposition(|byte| !byte.is_ascii_digit())?;
    Words { rest: &line[before..] }.length()
}

/// The rest of a line, and everything after it.
struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    /// The word after a single space.
    #[inline(always)]
    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest.strip_prefix(b" ")?;
        let (word, rest) = rest.split_at(scan::before_blank(rest));
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }

    #[inline(always)]
    fn key(&mut self) -> Option<&'a [u8]> {
        self.next().filter(|word| word.len() <= KEY_BYTES_MAX)
    }

    /// All remaining keys, at least one.
    #[inline(always)]
    fn keys(&mut self) -> Option<Keys<'a>> {
        let all = self.rest;
        let key = self.key()?;
        if self.rest.first() != Some(&b' ') {
            return Some(Keys::one(key));
        }
        self.rest = all;
        self.several_keys()
    }

    /// As [`Words::keys`] for many keys: each step checks as many bytes as possible at once.
    #[inline(never)]
    fn several_keys(&mut self) -> Option<Keys<'a>> {
        let line = &self.rest[..memchr::memchr(b'\n', self.rest)?];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let is_blank = |byte: &u8| *byte < b' ' || *byte == DELETE;
        if line.iter().fold(false, |any, byte| any | is_blank(byte)) {
            return None;
        }
        let (mut count, mut last) = (0, 0);
        for at in memchr::memchr_iter(b' ', &line[1..]).chain([line.len() - 1]) {
            if !(1..=KEY_BYTES_MAX).contains(&(at - last)) {
                return None;
            }
            (count, last) = (count + 1, at + 1);
        }
        self.rest = &self.rest[line.len()..];
        // This is well below the limit of a line, whatever the verb is.
        let is_short = count <= KEYS_PER_GET_MAX && line.len() <= KEYS_LINE_BYTES_MAX / 2;
        is_short.then(|| Keys::new(line))
    }

    /// Digits only; the caller checks what follows them.
    fn number(&mut self) -> Option<u64> {
        let rest = self.rest.strip_prefix(b" ")?;
        let (mut number, mut digits) = (0, 0);
        while let Some(digit @ 0..10) = rest.get(digits).map(|byte| byte.wrapping_sub(b'0')) {
            if digits == DIGITS_MAX {
                return None;
            }
            (number, digits) = (number * 10 + u64::from(digit), digits + 1);
        }
        self.rest = &rest[digits..];
        (digits > 0).then_some(number)
    }

    fn length(&mut self) -> Option<usize> {
        self.number()?.try_into().ok()
    }

    /// A key, and flags of one letter each.
    fn meta(&mut self) -> Option<Meta<'a>> {
        let (key, all) = (self.key()?, self.rest);
        let (mut count, mut letters) = (0, 0);
        while let [b' ', letter, rest @ ..] = self.rest {
            let bit = meta::bare_bit(*letter)?;
            if letters & bit != 0 || rest.first().is_none_or(|byte| *byte > b' ') {
                return None;
            }
            (count, letters, self.rest) = (count + 1, letters | bit, rest);
        }
        let words = &all[..all.len() - self.rest.len()];
        (count <= META_WORDS_MAX - 2).then(|| meta::bare(key, letters, words))
    }

    fn store(&mut self, verb: Verb) -> Option<Header<'a>> {
        let key = self.key()?;
        let verb = if let Verb::LeaseSet(_) = verb { Verb::LeaseSet(self.number()?) } else { verb };
        let flags = self.number()?.try_into().ok()?;
        let exptime = self.number()?.try_into().ok()?;
        let value_bytes = self.number().filter(|bytes| *bytes <= BLOCK_BYTES_MAX.into())?;
        let rest = self.rest;
        let noreply = verb == Verb::Set && rest.first() == Some(&b' ');
        if noreply && self.next() != Some(NOREPLY) {
            return None;
        }
        let rest = &rest[..rest.len() - self.rest.len()];
        Some(Header::classic(verb, key, flags, exptime, value_bytes as usize, rest, noreply))
    }
}

const DELETE: u8 = 0x7f;
const NOREPLY: &[u8] = b"noreply";
const BLOCK_END_BYTES: usize = 2;
/// Numbers with at most this many digits fit in 64 bits.
const DIGITS_MAX: usize = 19;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;
    use proptest::test_runner::RngSeed;

    use super::*;
    use crate::protocol::message::Numbers;
    use crate::protocol::text::grammar;

    const WORDS: [&str; 40] = [
        "get",
        "gets",
        "set",
        "mg",
        "delete",
        "lease-get",
        "lease-set",
        "k",
        "noreply",
        "0",
        "1",
        "-1",
        "007",
        "30",
        "1764130000",
        "4294967295",
        "4294967296",
        "2147483645",
        "2147483646",
        "9223372036854775808",
        "9999999999999999999",
        "18446744073709551616",
        "v",
        "f",
        "c",
        "t",
        "q",
        "b",
        "w",
        "N30",
        "G",
        "Gx",
        "tag=x",
        "k\u{7f}",
        "k\t",
        "+1",
        "\u{e9}",
        "",
        "O1",
        "key:with:250:bytes",
    ];

    /// Lines of meaningful and meaningless words, some of them with one byte changed.
    fn lines() -> impl Strategy<Value = Vec<u8>> {
        let long = Just("k".repeat(KEY_BYTES_MAX + 1));
        let word = prop_oneof![20 => select(&WORDS[..]).prop_map(str::to_owned), 1 => long];
        let end = select(vec!["\r\n", "\n", "\r", "", " \r\n", "\r\nmore\r\n"]);
        let change = proptest::option::weighted(0.2, (any::<prop::sample::Index>(), any::<u8>()));
        (vec(word, 1..8), end, change).prop_map(|(words, end, change)| {
            let mut line = [words.join(" ").as_bytes(), end.as_bytes()].concat();
            if let (Some((at, byte)), false) = (change, line.is_empty()) {
                let at = at.index(line.len());
                line[at] = byte;
            }
            line
        })
    }

    fn check(buffer: &[u8]) -> bool {
        let Some((read, start)) = line(buffer) else { return false };
        let newline = buffer.iter().position(|byte| *byte == b'\n').expect("a whole line");
        assert_eq!(start, newline + 1);
        let text = &buffer[..newline];
        let mut numbers = Numbers::default();
        assert_eq!(read, grammar::line(text.strip_suffix(b"\r").unwrap_or(text), &mut numbers));
        assert!(!matches!(read, Line::Refused(..)));
        true
    }

    /// The same cases each time: a test that fails must fail again.
    fn seeded() -> ProptestConfig {
        let rng_seed = RngSeed::Fixed(9);
        ProptestConfig { cases: 4_096, failure_persistence: None, rng_seed, ..ProptestConfig::default() }
    }

    proptest! {
        #![proptest_config(seeded())]

        #[test]
        fn it_says_what_the_grammar_says_or_nothing(buffer in lines()) {
            check(&buffer);
        }
    }

    #[test]
    fn what_clients_write_is_read() {
        let lines = [
            "get k\r\n",
            "gets k\r\n",
            "get a b c\r\n",
            "lease-get a\r\n",
            "mg k\r\n",
            "mg k v f c\r\n",
            "delete k\n",
            "set k 0 0 1\r\n",
            "set k 4294967295 1764130000 2147483645 noreply\r\n",
            "lease-set k 12345 0 0 1\r\n",
        ];
        for text in lines {
            assert!(check(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn the_keys_of_what_follows_are_known_before_it_is_read() {
        for (is_read, request) in [
            (true, "get k\r\n"),
            (true, "get k other\n"),
            (true, "mg k v f\r\n"),
            (false, "delete k noreply\r\n"),
            (false, "lease-get k\r\n"),
            (false, "set k 0 0 5 noreply\r\nv\nget\r\n"),
            (false, "set k 0 0 1\nv\r\n"),
            (false, "lease-set k 12345 0 0 1\r\nv\r\n"),
            (false, "ms k 1 T0\r\nv\r\n"),
        ] {
            let text = [request, "get next\r\n"].concat();
            let told = (Upcoming { is_read, key: b"k" }, request.len());
            assert_eq!(ahead(text.as_bytes()), Some(told), "{request}");
        }
        for text in ["", "get", "get k", "stats\r\n", "set k 0 0 x\r\n", "set k\r\n", "set \r\n"] {
            assert_eq!(ahead(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn what_has_not_arrived_is_not_read() {
        let text = b"set key 0 0 1 noreply\r\n";
        for length in 0..text.len() {
            assert!(line(&text[..length]).is_none(), "{length}");
        }
    }
}
