//! Parses one line, without its end, into one request.
//!
//! Words are separated by one or more spaces. As in memcached, everything after the last argument is
//! ignored. The line of a storage command has a type of its own, because a data block follows.
//!
//! The decoder finds the lines and the data blocks.

use nom::Parser;
use nom::branch::alt;
use nom::character::complete::{i64 as signed, u32 as unsigned32, u64 as unsigned64};
use nom::combinator::{eof, opt};
use nom::sequence::{preceded, terminated};

use super::meta::may_begin_flags;
use super::words::{bad_line, blank, blank_noreply, full, is_key, key, number, word};
use super::{admin, meta};
use crate::limits::{KEYS_PER_GET_MAX, NAMES_PER_INVALIDATE_MAX, TAGS_MAX};
use crate::pages::Payload;
use crate::protocol::message::{
    CasUnique, Invalidated, Keys, LeaseSet, Meta, Numbers, Refusal, Request, SetMode, Store, TagWords, words,
};

/// The result of parsing a line.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Line<'a> {
    /// A complete request.
    Alone(Request<'a>),
    /// A request whose data block follows.
    Before(Header<'a>),
    /// An invalid line. A data block of this length follows and must be skipped, if its length is known.
    Refused(Refusal, Option<usize>),
}

/// The line before a data block.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Header<'a> {
    storing: Storing<'a>,
    /// The length of the data block in bytes, without its line end.
    pub(super) value_bytes: usize,
}

#[derive(Debug, Eq, PartialEq)]
enum Storing<'a> {
    /// The words after the length may hold the tags of a fill.
    Classic {
        verb: Verb,
        key: &'a [u8],
        flags: u32,
        exptime: i64,
        rest: &'a [u8],
        noreply: bool,
    },
    Meta(Meta<'a>, SetMode),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verb {
    Add,
    Append,
    Cas(u64),
    LeaseSet(u64),
    Prepend,
    Replace,
    Set,
}

/// Parses a line.
pub(super) fn line<'a>(line: &'a [u8], numbers: &'a mut Numbers) -> Line<'a> {
    // A line that begins with a space has no verb.
    let (verb, args) = line.split_at(memchr::memchr(b' ', line).unwrap_or(line.len()));
    match verb {
        b"set" => before(Verb::Set, args),
        b"add" => before(Verb::Add, args),
        b"append" => before(Verb::Append, args),
        b"cas" => before(Verb::Cas(0), args),
        b"lease-set" => before(Verb::LeaseSet(0), args),
        b"ms" => before_meta(args, numbers),
        b"prepend" => before(Verb::Prepend, args),
        b"replace" => before(Verb::Replace, args),
        _ if line.len() < 2 => Line::Refused(Refusal::BadLine, None),
        _ => match alone(verb, args, line, numbers) {
            Ok(request) => Line::Alone(request),
            Err(refusal) => Line::Refused(refusal, None),
        },
    }
}

/// Parses a line before the login. Like memcached, it checks only the length of a `set`; emcache sends
/// nothing else.
pub(super) fn line_before_login<'a>(text: &'a [u8], numbers: &'a mut Numbers) -> Line<'a> {
    match line(text, numbers) {
        Line::Refused(Refusal::BadLine, Some(value_bytes)) if text.starts_with(b"set ") => {
            Line::Before(Header::classic(Verb::Set, b"", 0, 0, value_bytes, b"", false))
        }
        read => read,
    }
}

impl<'a> Header<'a> {
    /// The header of a classic verb; `rest` holds the words after the length.
    pub(super) fn classic(
        verb: Verb,
        key: &'a [u8],
        flags: u32,
        exptime: i64,
        value_bytes: usize,
        rest: &'a [u8],
        noreply: bool,
    ) -> Self {
        Header { storing: Storing::Classic { verb, key, flags, exptime, rest, noreply }, value_bytes }
    }

    /// The request with its data block.
    pub(super) fn with(self, value: Payload<'a>) -> Request<'a> {
        let (verb, rest, store) = match self.storing {
            Storing::Classic { verb, key, flags, exptime, rest, noreply } => {
                (verb, rest, Store { key, flags, exptime, value, noreply })
            }
            Storing::Meta(meta, mode) => return Request::MetaSet(meta, mode, value),
        };
        match verb {
            Verb::Add => Request::Add(store),
            Verb::Append => Request::Append(store),
            Verb::Cas(unique) => Request::Cas(store, unique),
            Verb::LeaseSet(token) => {
                Request::LeaseSet(LeaseSet { token, store, tags: TagWords::new(TAG, rest) })
            }
            Verb::Prepend => Request::Prepend(store),
            Verb::Replace => Request::Replace(store),
            Verb::Set => Request::Set(store),
        }
    }

    /// The request for a data block that is above the limit.
    pub(super) fn too_large(self) -> Request<'a> {
        match self.storing {
            Storing::Classic { verb, key, noreply, .. } => {
                Request::TooLarge { key: key.into(), is_set: verb == Verb::Set, noreply, version: None }
            }
            // memcached removes the old value whatever the mode, and answers even with flag `q`.
            Storing::Meta(meta, _) => {
                let version = meta.flags.unsigned(b'V');
                Request::TooLarge { key: meta.key, is_set: true, noreply: false, version }
            }
        }
    }
}

/// `<key> <flags> <exptime> <bytes>`; `cas` has the unique at the end, and `lease-set` has the token after
/// the key. The length is parsed first, because memcached skips the data block even if the rest of the line
/// is invalid.
fn before(verb: Verb, args: &[u8]) -> Line<'_> {
    let nth = if matches!(verb, Verb::LeaseSet(_)) { 4 } else { 3 };
    let length = words(args).nth(nth).and_then(|word| full(unsigned32, word));
    match (length.filter(|bytes| *bytes <= BLOCK_BYTES_MAX), header(verb, args)) {
        (None, _) => Line::Refused(Refusal::BadLine, None),
        (Some(_), Some(header)) => Line::Before(header),
        (Some(bytes), None) => Line::Refused(Refusal::BadLine, Some(bytes as usize)),
    }
}

/// `<key> <bytes> <flag>*`. If the length is valid, the data block of an otherwise invalid line is skipped.
fn before_meta<'a>(args: &'a [u8], numbers: &'a mut Numbers) -> Line<'a> {
    let Ok((args, key)) = word(args) else { return Line::Refused(Refusal::BadLine, None) };
    let length = number(unsigned32, args).ok().filter(|(_, bytes)| *bytes <= BLOCK_BYTES_MAX);
    let Some((flags, bytes)) = length else { return Line::Refused(Refusal::BadLine, None) };
    let value_bytes = bytes as usize;
    let read = meta::parse(key, flags, META_WORDS_MAX - 3, numbers).and_then(|meta| {
        let mode = meta::set_mode(meta.flags)?;
        Ok(Storing::Meta(meta, mode))
    });
    match read {
        Ok(storing) => Line::Before(Header { storing, value_bytes }),
        Err(_) if !may_begin_flags(flags) => Line::Refused(Refusal::BadLine, None),
        Err(refusal) => Line::Refused(refusal, Some(value_bytes)),
    }
}

fn header(verb: Verb, args: &[u8]) -> Option<Header<'_>> {
    let (args, key) = key(args).ok()?;
    let (args, token) = if let Verb::LeaseSet(_) = verb { number(unsigned64, args).ok()? } else { (args, 0) };
    let (args, flags) = number(unsigned32, args).ok()?;
    let (args, exptime) = number(signed, args).ok()?;
    let (args, value_bytes) = number(unsigned32, args).ok()?;
    let (args, verb) = match verb {
        Verb::Cas(_) => {
            let (args, unique) = number(unsigned64, args).ok()?;
            (args, Verb::Cas(unique))
        }
        Verb::LeaseSet(_) if has_legal_tags(args) => (args, Verb::LeaseSet(token)),
        Verb::LeaseSet(_) => return None,
        Verb::Add | Verb::Append | Verb::Prepend | Verb::Replace | Verb::Set => (args, verb),
    };
    let noreply = ends_in_noreply(args);
    Some(Header::classic(verb, key, flags, exptime, value_bytes as usize, args, noreply))
}

fn alone<'a>(
    verb: &[u8],
    args: &'a [u8],
    line: &'a [u8],
    numbers: &'a mut Numbers,
) -> Result<Request<'a>, Refusal> {
    let noreply = ends_in_noreply(args);
    match verb {
        b"get" => Ok(Request::Get { keys: keys(args)?, unique: CasUnique::Hide }),
        b"gets" => Ok(Request::Get { keys: keys(args)?, unique: CasUnique::Show }),
        b"gat" => get_and_touch(args, CasUnique::Hide),
        b"gats" => get_and_touch(args, CasUnique::Show),
        b"metaget" => Ok(Request::MetaGet { keys: keys(args)? }),
        b"lease-get" => Ok(Request::LeaseGet { keys: keys(args)?, wait_ms: 0 }),
        b"lease-wait" => {
            let (args, wait_ms) = number(unsigned32, args).map_err(bad_line)?;
            Ok(Request::LeaseGet { keys: keys(args)?, wait_ms })
        }
        b"mg" => meta_of(args, numbers).map(Request::MetaRead),
        b"md" => meta_of(args, numbers).map(Request::MetaDelete),
        b"ma" => meta_count(args, numbers),
        b"me" => meta_debug(args, numbers),
        b"mn" => Ok(Request::Noop),
        b"incr" => counted(args).map(|(key, delta)| Request::Incr { key, delta, noreply }),
        b"decr" => counted(args).map(|(key, delta)| Request::Decr { key, delta, noreply }),
        b"invalidate" => invalidate(args, noreply),
        b"touch" => touch(args, noreply),
        b"delete" => delete(args, noreply),
        b"flush_all" => flush_all(args, noreply),
        b"cache_memlimit" => {
            // memcached answers just ERROR here.
            let (_, megabytes) = number(unsigned64, args).map_err(|_| Refusal::Unknown)?;
            Ok(Request::CacheMemlimit { megabytes, noreply })
        }
        b"lru" => admin::lru(args),
        b"lru_crawler" => admin::lru_crawler(args),
        b"slabs" => admin::slabs(args),
        b"stats" => admin::stats(args),
        b"watch" => admin::watch(args),
        b"verbosity" => verbosity(args, noreply),
        b"version" => Ok(Request::Version),
        b"quit" => Ok(Request::Quit),
        b"refresh_certs" => Ok(Request::RefreshCertificates),
        b"shutdown" => Ok(Request::Shutdown { how: admin::shutdown(args) }),
        _ if words(line).last().is_some_and(|word| word.starts_with(b"HTTP/")) => Err(Refusal::Http),
        _ => Err(Refusal::Unknown),
    }
}

/// `<key> <flag>*`
fn meta_of<'a>(args: &'a [u8], numbers: &'a mut Numbers) -> Result<Meta<'a>, Refusal> {
    let (flags, key) = word(args).map_err(bad_line)?;
    meta::parse(key, flags, META_WORDS_MAX - 2, numbers)
        .map_err(|refusal| if may_begin_flags(flags) { refusal } else { Refusal::BadLine })
}

/// memcached has a single message for all invalid flags of an `ma`.
fn meta_count<'a>(args: &'a [u8], numbers: &'a mut Numbers) -> Result<Request<'a>, Refusal> {
    let (flags, key) = word(args).map_err(bad_line)?;
    let meta = meta::parse(key, flags, META_WORDS_MAX - 2, numbers).map_err(|refusal| {
        if !may_begin_flags(flags) {
            Refusal::BadLine
        } else if refusal == Refusal::OpaqueTooLong {
            refusal
        } else {
            Refusal::WrongCountFlags
        }
    })?;
    let mode = meta::count_mode(meta.flags)?;
    Ok(Request::MetaCount(meta, mode))
}

/// The flags of an `me` have no effect, except for a `b` that comes first.
fn meta_debug<'a>(args: &'a [u8], numbers: &'a mut Numbers) -> Result<Request<'a>, Refusal> {
    let (flags, key) = word(args).map_err(bad_line)?;
    if !may_begin_flags(flags) {
        return Err(Refusal::BadLine);
    }
    let first = words(flags).next().filter(|flag| *flag == b"b");
    Ok(Request::MetaDebug(meta::parse(key, first.unwrap_or_default(), 1, numbers).map_err(bad_line)?))
}

fn get_and_touch(args: &[u8], unique: CasUnique) -> Result<Request<'_>, Refusal> {
    if words(args).nth(1).is_none() {
        return Err(Refusal::BadLine);
    }
    let (args, exptime) = exptime(args)?;
    Ok(Request::GetAndTouch { exptime, keys: keys(args)?, unique })
}

fn counted(args: &[u8]) -> Result<(&[u8], u64), Refusal> {
    let (args, key) = key(args).map_err(bad_line)?;
    let (_, delta) = word(args).map_err(bad_line)?;
    Ok((key, full(unsigned64, delta).ok_or(Refusal::BadDelta)?))
}

fn touch(args: &[u8], noreply: bool) -> Result<Request<'_>, Refusal> {
    let (args, key) = key(args).map_err(bad_line)?;
    let (_, exptime) = exptime(args)?;
    Ok(Request::Touch { key, exptime, noreply })
}

fn delete(args: &[u8], noreply: bool) -> Result<Request<'_>, Refusal> {
    if words(args).count() == usize::from(noreply) {
        return Err(Refusal::BadLine); // A final `noreply` is never a name.
    }
    let (args, key) = key(args).map_err(bad_line)?;
    let (_, held_seconds) =
        terminated(opt(|args| number(unsigned32, args)), alt((preceded(blank, eof), blank_noreply)))
            .parse(args)
            .map_err(bad_line)?;
    Ok(Request::Delete { key, held_seconds: held_seconds.unwrap_or(0), noreply })
}

fn flush_all(args: &[u8], noreply: bool) -> Result<Request<'_>, Refusal> {
    let exptime = match words(args).count() - usize::from(noreply) {
        0 => 0,
        _ => exptime(args)?.1,
    };
    Ok(Request::FlushAll { exptime, noreply })
}

/// `[soft] key|tag|prefix <name>*` or `[soft] all`
fn invalidate(args: &[u8], noreply: bool) -> Result<Request<'_>, Refusal> {
    let args = if noreply { args.trim_ascii_end().strip_suffix(b"noreply").unwrap_or(args) } else { args };
    let (args, is_soft) = match word(args) {
        Ok((rest, b"soft")) => (rest, true),
        Ok(_) | Err(_) => (args, false),
    };
    let (names, what) = word(args).map_err(bad_line)?;
    let what = match what {
        b"all" if words(names).next().is_none() => Invalidated::All,
        b"key" => Invalidated::Keys(names_of(names)?),
        b"prefix" => Invalidated::Prefixes(names_of(names)?),
        b"tag" => Invalidated::Tags(names_of(names)?),
        _ => return Err(Refusal::BadLine),
    };
    Ok(Request::Invalidate { what, is_soft, noreply })
}

fn names_of(args: &[u8]) -> Result<Keys<'_>, Refusal> {
    let names = keys(args)?;
    if names.count() > NAMES_PER_INVALIDATE_MAX { Err(Refusal::TooManyNames) } else { Ok(names) }
}

fn has_legal_tags(words: &[u8]) -> bool {
    let tags = TagWords::new(TAG, words);
    tags.count() <= TAGS_MAX && { tags }.all(is_key)
}

/// memcached does not answer `verbosity noreply`, and libmemcached's conformance test requires that.
fn verbosity(args: &[u8], noreply: bool) -> Result<Request<'_>, Refusal> {
    if noreply && words(args).count() == 1 {
        return Ok(Request::Verbosity { level: None, noreply });
    }
    let (_, level) = number(unsigned32, args).map_err(bad_line)?;
    Ok(Request::Verbosity { level: Some(level), noreply })
}

/// One or more keys, up to the end of the line.
fn keys(args: &[u8]) -> Result<Keys<'_>, Refusal> {
    let (mut count, mut last) = (0, None);
    for word in words(args) {
        if !is_key(word) {
            return Err(Refusal::BadLine);
        }
        (count, last) = (count + 1, Some(word));
    }
    match (count, last) {
        (_, None) => Err(Refusal::BadLine),
        (1, Some(key)) => Ok(Keys::one(key)),
        (2..=KEYS_PER_GET_MAX, _) => Ok(Keys::new(args)),
        _ => Err(Refusal::TooManyKeys),
    }
}

fn exptime(args: &[u8]) -> Result<(&[u8], i64), Refusal> {
    let (rest, text) = word(args).map_err(bad_line)?;
    Ok((rest, full(signed, text).ok_or(Refusal::BadExptime)?))
}

fn ends_in_noreply(args: &[u8]) -> bool {
    args.trim_ascii_end().strip_suffix(b"noreply").is_some_and(|args| args.ends_with(b" "))
}

/// The mark before a tag of a `lease-set`.
const TAG: &[u8] = b"tag=";
/// memcached counts a data block with its line end in a signed 32-bit number.
pub(super) const BLOCK_BYTES_MAX: u32 = i32::MAX as u32 - 2;
/// The limit on the words of a meta command, including its verb (memcached's `MFLAG_MAX_OPT_LENGTH`).
pub(super) const META_WORDS_MAX: usize = 20;
