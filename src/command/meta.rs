//! The meta commands: their flags turned into cache operations and replies.
//!
//! A reply is a status of two letters, followed by the requested fields in the order of the flags. [`tell`]
//! lists the flags that return something; each command fills in [`Told`] as far as it can.
//!
//! The parser refuses malformed lines: a [`Meta`] that exists is well-formed.

use std::borrow::Cow;
use std::time::Duration;

use super::leasing::{LOST_TOKEN, fill_status, filled, tagged};
use super::session::Turn;
use super::watching::{Found, STORED};
use super::{Command, Flow, block, legal};
use crate::cache::{
    Cache, Counting, DeleteOutcome, Deletion, Depth, Draft, Expiry, Fill, Filled, Join, Kept, Leaves, Lookup,
    Mode, NotCounted, OnMiss, Reading, Refresh, Refused, Step, StoreOutcome, Tags, Token, Value, item_bytes,
};
use crate::clock::Now;
use crate::metrics::{Count, Use};
use crate::protocol::{CountMode, Flags, Meta, Output, Reply, SetMode};

/// The values that a command can return for flags.
#[derive(Clone, Copy, Default)]
struct Told {
    /// `h`
    is_fetched: Option<bool>,
    /// `t`, unless a `T` comes before it
    expiry: Option<Expiry>,
    /// `f`
    mark: Option<u32>,
    /// `t` after a `T`
    new_expiry: Option<Expiry>,
    /// `l`
    unused_seconds: Option<u32>,
    /// `c`
    unique: Option<u64>,
    /// `s`
    value_bytes: Option<usize>,
}

/// The outcome of a read.
enum Read {
    Busy,
    Granted(Token),
    Hit(Refresh),
    Miss,
    /// Wait for a lease until this time.
    Wait(u64),
}

impl Command<'_> {
    /// `mg`
    pub(super) fn meta_read(&mut self, meta: &Meta) -> Flow {
        let (flags, now) = (meta.flags, self.now);
        let deadline = flags.unsigned(b'w').map_or(0, |wait_ms| {
            self.session.begin_leases(self.cache.last_seq());
            self.session.begin_waiting(u32::try_from(wait_ms).unwrap_or(u32::MAX), now)
        });
        let window = lease_window(self.cache, &meta.key, flags, now);
        let reading = reading(flags, window, now);
        let key = legal(self.cache, &meta.key);
        let output = &mut *self.output;
        let peer = &mut self.session.peer;
        let (mut stale_bytes, mut value_bytes) = (None, None);
        let read = self.cache.read(&key, &reading, peer, now, |found| {
            let (read, value, new_expiry, marks) = match found {
                Lookup::Miss => return Read::Miss,
                Lookup::Busy { is_own: false, until, .. } if now.millis < deadline => {
                    return Read::Wait(until.min(deadline));
                }
                Lookup::Busy { stale, until, .. } => {
                    let value = unfilled(stale, LOST_TOKEN, until.saturating_sub(now.millis), now);
                    let marks = if stale.is_some() { "ZX" } else { "Z" };
                    (Read::Busy, Value { is_fetched: true, ..value }, None, marks)
                }
                Lookup::Granted { stale, token } => {
                    let window_ms = window.map_or(0, |window| window.as_millis() as u64);
                    let marks = if stale.is_some() { "XW" } else { "W" };
                    (Read::Granted(token), unfilled(stale, token.number(), window_ms, now), None, marks)
                }
                Lookup::Hit { refresh, value } => {
                    value_bytes = Some(value.bytes.len());
                    let (unique, marks) = match refresh {
                        Refresh::Lost => (value.unique, "Z"),
                        Refresh::Undue => (value.unique, ""),
                        Refresh::Won(token) => (token.number(), "W"),
                    };
                    (Read::Hit(refresh), Value { unique, ..value }, reading.expiry, marks)
                }
            };
            stale_bytes = marks.contains('X').then_some(value.bytes.len());
            show(output, meta, value, new_expiry, marks, now);
            read
        });
        if !matches!(read, Read::Wait(_)) {
            self.tell_fetched(&meta.key, value_bytes);
        }
        if let Some(stale_bytes) = stale_bytes {
            self.stale_served(&meta.key, META_GET, stale_bytes);
        }
        self.end_read(meta, read, deadline)
    }

    /// Counts a read, and answers it if it found nothing.
    fn end_read(&mut self, meta: &Meta, read: Read, deadline: u64) -> Flow {
        let flags = meta.flags;
        let turn = match read {
            Read::Wait(_) => Turn::Wait,
            Read::Busy | Read::Granted(_) | Read::Hit(_) | Read::Miss if self.now.millis >= deadline => {
                Turn::Late
            }
            Read::Hit(_) => Turn::Filled,
            Read::Busy | Read::Granted(_) | Read::Miss => Turn::Free,
        };
        self.take_turn(&meta.key, META_GET, turn);
        let is_hit = matches!(read, Read::Hit(_));
        match read {
            Read::Busy => self.leased(&meta.key, META_GET, None),
            Read::Granted(token) | Read::Hit(Refresh::Won(token)) => {
                self.leased(&meta.key, META_GET, Some(token));
            }
            Read::Hit(Refresh::Lost | Refresh::Undue) => {}
            Read::Miss => self.answer(meta, b"EN", flags.has(b'q'), Told::default()),
            Read::Wait(until) => return Flow::Wait { key: (*meta.key).into(), until },
        }
        self.used(&meta.key, Use::Get { is_hit });
        if is_hit && flags.has(b'T') {
            self.tally(Count::CmdTouch, is_hit, Count::TouchHits, Count::TouchMisses);
        } else {
            self.tally(Count::CmdGet, is_hit, Count::GetHits, Count::GetMisses);
        }
        self.session.end_leases();
        Flow::Next
    }

    /// `ms`
    pub(super) fn meta_set(&mut self, meta: &Meta, mode: SetMode, value: &mut Cow<[u8]>) {
        let (flags, sent_bytes) = (meta.flags, value.len());
        self.used(&meta.key, Use::Set);
        let creates = flags.has(b'N') && matches!(mode, SetMode::Append | SetMode::Prepend);
        let ends = flags.signed(if creates { b'N' } else { b'T' }).unwrap_or(0);
        let tags = tagged(flags.tags());
        let (tags, value) = (tags.tags(), std::mem::take(value));
        let draft = Draft { tags, value, ..bare_draft(flags, ends, self.now) };
        let expected = flags.unsigned(b'C');
        let join = Join { creates, expected };
        let mode = match (mode, expected) {
            (SetMode::Replace | SetMode::Set, Some(number)) if Token::is_like(number) => {
                let fill = match (ends < 0, flags.has(b'I')) {
                    (true, _) => Fill::Release,
                    (false, false) => Fill::Fresh(draft),
                    (false, true) => Fill::Value(draft),
                };
                return self.meta_fill(meta, number.into(), fill, sent_bytes);
            }
            (SetMode::Replace | SetMode::Set, Some(unique)) => Mode::Cas(unique),
            (SetMode::Add, _) => Mode::Add,
            (SetMode::Append, _) => Mode::Append(join),
            (SetMode::Prepend, _) => Mode::Prepend(join),
            (SetMode::Replace, None) => Mode::Replace,
            (SetMode::Set, None) => Mode::Set,
        };
        let key = legal(self.cache, &meta.key);
        let (expiry, found) = (draft.expiry, self.look_up(&meta.key));
        let done = self.cache.store(&key, mode, draft, &mut self.session.peer, self.now);
        self.tell_store(&meta.key, mode, done, expiry, sent_bytes, found);
        self.tally_store(&meta.key, mode, done);
        let status = match done {
            StoreOutcome::Exists => b"EX",
            StoreOutcome::NoRoom => return self.output.reply(Reply::NoRoom),
            StoreOutcome::NotFound => b"NF",
            StoreOutcome::NotStored
            | StoreOutcome::Outdated
            | StoreOutcome::Refused(_)
            | StoreOutcome::TooLarge => b"NS",
            StoreOutcome::Stored { .. } => b"HD",
        };
        let (unique, value_bytes) = match done {
            StoreOutcome::Stored { kept: Kept { unique, value_bytes, .. }, .. } => (unique, value_bytes),
            _ => (0, sent_bytes),
        };
        let told = Told { unique: Some(unique), value_bytes: Some(value_bytes), ..Told::default() };
        self.answer(meta, status, flags.has(b'q') && status == b"HD", told);
    }

    /// `ms` with a token.
    fn meta_fill(&mut self, meta: &Meta, token: Token, fill: Fill, sent_bytes: usize) {
        let key = legal(self.cache, &meta.key);
        self.look_up(&meta.key);
        let expiry = match &fill {
            Fill::Fresh(draft) | Fill::Value(draft) => draft.expiry,
            Fill::Release => Expiry::PAST,
        };
        let done = self.cache.fill(&key, token, fill, &mut self.session.peer, self.now);
        if done != Ok(Filled::Released) {
            self.tell_stored(&meta.key, "set", fill_status(done), expiry, sent_bytes);
        }
        self.tell_filled(&meta.key, "set", token, done, sent_bytes);
        self.session.counters.add(Count::CmdSet);
        self.count_of(&meta.key, filled(done));
        let (status, unique) = match done {
            Ok(Filled::Visible) => (
                b"HD",
                meta.flags.unsigned(b'E').filter(|unique| *unique != 0).unwrap_or(token.seq().number()),
            ),
            Ok(Filled::Released | Filled::Stale) => (b"HD", 0),
            Err(Refused::NoRoom) => return self.output.reply(Reply::NoRoom),
            Err(Refused::Outdated) => (b"NS", 0),
            Err(Refused::Superseded | Refused::Unknown | Refused::Voided) => {
                let has_value = self.cache.peek(&key, self.now, |_| ()).is_some();
                (if has_value { b"EX" } else { b"NF" }, 0)
            }
        };
        let told = Told { unique: Some(unique), value_bytes: Some(sent_bytes), ..Told::default() };
        self.answer(meta, status, meta.flags.has(b'q') && done.is_ok(), told);
    }

    /// `md`
    pub(super) fn meta_delete(&mut self, meta: &Meta) {
        let (flags, now) = (meta.flags, self.now);
        self.used(&meta.key, Use::Delete);
        let ends = flags.signed(b'T');
        let leaves = match (flags.has(b'I'), flags.has(b'x')) {
            (true, false) => Leaves::Stale(ends.map(|ends| Expiry::from_exptime(ends, now))),
            (false, true) => Leaves::Empty(bare_draft(flags, ends.unwrap_or(0), now)),
            // A stale copy must not be empty.
            (false, false) | (true, true) => Leaves::Nothing,
        };
        let key = legal(self.cache, &meta.key);
        let found = self.look_up(&meta.key);
        let depth = if let Leaves::Stale(_) = leaves { Depth::Soft } else { Depth::Hard };
        let emptied = if let Leaves::Empty(draft) = &leaves { Some(draft.expiry) } else { None };
        let (expected, version) = (flags.unsigned(b'C'), flags.unsigned(b'V'));
        let deletion = Deletion { expected, held_until: None, leaves, version };
        let done = self.cache.delete(&key, deletion, &mut self.session.peer, now);
        // As in memcached's events: an emptied value counts as stored and deleted, one that becomes a stale
        // copy as neither.
        let is_done = matches!(done, DeleteOutcome::Deleted { .. });
        if is_done && depth == Depth::Hard {
            if let Some(expiry) = emptied {
                self.tell_stored(&meta.key, "set", STORED, expiry, 0);
            }
            self.tell_deleted(
                &meta.key,
                META_DELETE,
                if emptied.is_some() { Found::default() } else { found },
            );
        }
        self.tell_void(&meta.key, META_DELETE, depth, found);
        if done.is_invalidation() {
            self.count_of(&meta.key, Count::VoidsKey);
        }
        let (count, status) = match done {
            DeleteOutcome::Deleted { .. } => (Count::DeleteHits, b"HD"),
            DeleteOutcome::Exists => (Count::DeleteMisses, b"EX"),
            DeleteOutcome::NoRoom => return self.output.reply(Reply::NoRoom),
            DeleteOutcome::NotFound => (Count::DeleteMisses, b"NF"),
            DeleteOutcome::Outdated => (Count::VersionsRefused, b"NS"),
        };
        self.session.counters.add(count);
        self.answer(meta, status, flags.has(b'q') && is_done, Told::default());
    }

    /// `ma`
    pub(super) fn meta_count(&mut self, meta: &Meta, mode: CountMode) {
        let (flags, now) = (meta.flags, self.now);
        let delta = flags.unsigned(b'D').unwrap_or(1);
        let expiry_of = |ends| Expiry::from_exptime(ends, now);
        let (step, hits, misses) = match mode {
            CountMode::Down => (Step::Decr(delta), Count::DecrHits, Count::DecrMisses),
            CountMode::Up => (Step::Incr(delta), Count::IncrHits, Count::IncrMisses),
        };
        let initial = flags.unsigned(b'J').unwrap_or(0);
        let counting = Counting {
            expected: flags.unsigned(b'C').filter(|unique| *unique != 0),
            expiry: flags.signed(b'T').map(expiry_of),
            initial: flags.signed(b'N').map(|ends| (initial, expiry_of(ends))),
            step,
            unique: flags.unsigned(b'E').filter(|unique| *unique != 0),
        };
        let (key, found) = (legal(self.cache, &meta.key), self.look_up(&meta.key));
        let counted = self.cache.count(&key, &counting, &mut self.session.peer, now);
        self.tell_void(&meta.key, "ma", Depth::Hard, found);
        let number = match counted {
            Ok(number) => number,
            Err(NotCounted::Exists) => return self.answer(meta, b"EX", false, Told::default()),
            Err(NotCounted::NotFound) => {
                self.session.counters.add(misses);
                return self.answer(meta, b"NF", false, Told::default());
            }
            Err(NotCounted::NotStored) => return self.answer(meta, b"NS", false, Told::default()),
            Err(NotCounted::NoRoom) => return self.output.reply(Reply::NoRoomToCount),
            Err(NotCounted::NotANumber) => {
                return self.output.reply(Reply::NonNumeric);
            }
        };
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(number.number).as_bytes();
        if number.is_new {
            self.tell_stored(&meta.key, "add", STORED, number.expiry, digits.len());
        } else {
            self.session.counters.add(hits);
        }
        if flags.has(b'q') {
            return;
        }
        let expiry = Some(number.expiry);
        let told =
            Told { expiry, new_expiry: counting.expiry, unique: Some(number.unique), ..Told::default() };
        status(self.output, flags.has(b'v').then_some(digits.len()));
        tell(self.output, meta, told, now);
        if flags.has(b'v') {
            self.output.line_end();
            self.output.raw(digits);
        }
        self.output.line_end();
    }

    /// `me`
    pub(super) fn meta_debug(&mut self, meta: &Meta) {
        let (now, output, name) = (self.now, &mut *self.output, &*meta.key);
        self.session.counters.add(Count::CmdMeta);
        let found = self.cache.peek(&legal(self.cache, name), now, |value| {
            output.raw(b"ME ");
            output.key(name, meta.flags.has(b'b'));
            output.raw(b" exp=");
            output.seconds_left(seconds_left(value.expiry, now));
            output.fact(b" la=", now.seconds().saturating_sub(value.accessed).into());
            output.fact(b" cas=", value.unique);
            output.raw(if value.is_fetched { b" fetch=yes" } else { b" fetch=no" });
            output.fact(b" size=", item_bytes(name.len(), value.bytes.len()) as u64);
            output.line_end();
            value.bytes.len()
        });
        self.tell_fetched(name, found);
        if found.is_none() {
            self.output.raw(b"EN\r\n");
        }
    }

    /// Writes a status and the requested fields, unless flag `q` suppresses the reply.
    fn answer(&mut self, meta: &Meta, status: &[u8], is_quiet: bool, told: Told) {
        if !is_quiet {
            self.output.raw(status);
            tell(self.output, meta, told, self.now);
            self.output.line_end();
        }
    }
}

/// How long a lease that the client asks for makes others wait.
fn lease_window(cache: &Cache, key: &[u8], flags: Flags, now: Now) -> Option<Duration> {
    flags.signed(b'N').map(|seconds| match Expiry::from_exptime(seconds, now) {
        Expiry::NEVER => cache.policies().of(key).lease_window,
        window => Duration::from_secs(window.delay_ms(now) / 1000),
    })
}

fn reading(flags: Flags, window: Option<Duration>, now: Now) -> Reading {
    let expiry_of = |letter| flags.signed(letter).map(|ends| Expiry::from_exptime(ends, now));
    Reading {
        expiry: expiry_of(b'T'),
        is_peek: flags.has(b'u'),
        on_miss: OnMiss::MetaLease { window },
        refresh: expiry_of(b'R'),
    }
}

/// The stand-in for a missing value: the stale copy, if there is one, with a token as its unique.
fn unfilled(stale: Option<Value<'_>>, token: u64, window_ms: u64, now: Now) -> Value<'_> {
    let none = Value {
        accessed: now.seconds(),
        bytes: &[],
        expiry: Expiry::after(Duration::from_millis(window_ms), now),
        flags: 0,
        is_fetched: false,
        is_stale: false,
        shared: None,
        stored: now.seconds(),
        tags: Tags::NONE,
        unique: 0,
    };
    Value { unique: token, ..stale.unwrap_or(none) }
}

/// The reply to a read that found something, followed by its marks in memcached's order: Z for a client
/// without the lease, X for a stale copy, W for the holder of the lease.
fn show(output: &mut Output, meta: &Meta, value: Value, new_expiry: Option<Expiry>, marks: &str, now: Now) {
    // With C, the value is returned only to clients that have another one.
    let tells_value = meta.flags.has(b'v') && meta.flags.unsigned(b'C') != Some(value.unique);
    status(output, tells_value.then_some(value.bytes.len()));
    let told = Told {
        is_fetched: Some(value.is_fetched),
        expiry: Some(value.expiry),
        mark: Some(value.flags),
        new_expiry,
        unused_seconds: Some(now.seconds().saturating_sub(value.accessed)),
        unique: Some(value.unique),
        value_bytes: Some(value.bytes.len()),
    };
    tell(output, meta, told, now);
    marks.bytes().for_each(|mark| output.flag(&[mark]));
    if tells_value { output.block(block(value)) } else { output.line_end() }
}

/// `VA <bytes>` before a value, `HD` without one.
fn status(output: &mut Output, value_bytes: Option<usize>) {
    match value_bytes {
        None => output.raw(b"HD"),
        Some(bytes) => output.fact(b"VA ", bytes as u64),
    }
}

/// Writes the fields that the flags request, in their order, as far as they are known.
fn tell(output: &mut Output, meta: &Meta, told: Told, now: Now) {
    let mut expiry = told.expiry;
    for flag in meta.flags.each() {
        match flag[0] {
            b'O' => output.flag(flag),
            b'T' => expiry = told.new_expiry.or(expiry),
            b'c' => number(output, b"c", told.unique),
            b'f' => number(output, b"f", told.mark.map(u64::from)),
            b'h' => number(output, b"h", told.is_fetched.map(u64::from)),
            b'k' => key(output, meta),
            b'l' => number(output, b"l", told.unused_seconds.map(u64::from)),
            b's' => number(output, b"s", told.value_bytes.map(|bytes| bytes as u64)),
            b't' => {
                if let Some(expiry) = expiry {
                    output.flag(b"t");
                    output.seconds_left(seconds_left(expiry, now));
                }
            }
            _ => {}
        }
    }
}

fn number(output: &mut Output, letter: &[u8], number: Option<u64>) {
    if let Some(number) = number {
        output.flag(letter);
        output.digits(number);
    }
}

/// The key as it was sent.
fn key(output: &mut Output, meta: &Meta) {
    let is_base64 = meta.flags.has(b'b');
    output.flag(b"k");
    output.key(&meta.key, is_base64);
    if is_base64 {
        output.flag(b"b");
    }
}

/// Whole seconds; `None` for a value that never expires.
fn seconds_left(expiry: Expiry, now: Now) -> Option<u64> {
    (expiry != Expiry::NEVER).then(|| expiry.delay_ms(now) / 1000)
}

/// A value without bytes, with the properties set by the flags.
fn bare_draft<'a>(flags: Flags, ends: i64, now: Now) -> Draft<'a> {
    Draft {
        expiry: Expiry::from_exptime(ends, now),
        flags: flags.unsigned(b'F').map_or(0, |mark| mark as u32),
        tags: Tags::NONE,
        unique: flags.unsigned(b'E').filter(|unique| *unique != 0),
        version: flags.unsigned(b'V'),
        value: Cow::Borrowed(&[]),
    }
}

const META_DELETE: &str = "md";
const META_GET: &str = "mg";
