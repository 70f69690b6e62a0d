//! The meta commands: their flags turned into cache operations and replies.
//!
//! Each command offers what it knows ([`MetaFields`]); the encoder writes what the flags request.

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
use crate::protocol::{
    CountMode, Flags, Inspected, Meta, MetaFields, MetaReply, MetaStatus, MetaValue, Part, Reply, SetMode,
    Status, Ttl,
};

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
        let replies = &mut self.replies;
        let peer = &mut self.session.peer;
        let (mut stale_bytes, mut value_bytes) = (None, None);
        let read = self.cache.read(&key, &reading, peer, now, |found| {
            let (read, value, new_expiry, part) = match found {
                Lookup::Miss => return Read::Miss,
                Lookup::Busy { is_own: false, until, .. } if now.millis < deadline => {
                    return Read::Wait(until.min(deadline));
                }
                Lookup::Busy { stale, until, .. } => {
                    let value = unfilled(stale, LOST_TOKEN, until.saturating_sub(now.millis), now);
                    stale_bytes = stale.map(|stale| stale.bytes.len());
                    (Read::Busy, Value { is_fetched: true, ..value }, None, Some(Part::Waits))
                }
                Lookup::Granted { stale, token } => {
                    let window_ms = window.map_or(0, |window| window.as_millis() as u64);
                    stale_bytes = stale.map(|stale| stale.bytes.len());
                    let value = unfilled(stale, token.number(), window_ms, now);
                    (Read::Granted(token), value, None, Some(Part::Loads))
                }
                Lookup::Hit { refresh, value } => {
                    value_bytes = Some(value.bytes.len());
                    let (unique, part) = match refresh {
                        Refresh::Lost => (value.unique, Some(Part::Waits)),
                        Refresh::Undue => (value.unique, None),
                        Refresh::Won(token) => (token.number(), Some(Part::Loads)),
                    };
                    (Read::Hit(refresh), Value { unique, ..value }, reading.expiry, part)
                }
            };
            let reply = shown(meta, value, new_expiry, now);
            replies.send(Reply::Meta(meta, MetaReply { part, is_stale: stale_bytes.is_some(), ..reply }));
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
            Read::Miss => self.answer(meta, MetaStatus::Missed, flags.has(b'q'), MetaFields::default()),
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
            StoreOutcome::Exists => MetaStatus::Exists,
            StoreOutcome::NoRoom => return self.replies.status(Status::NoRoom),
            StoreOutcome::NotFound => MetaStatus::NotFound,
            StoreOutcome::NotStored
            | StoreOutcome::Outdated
            | StoreOutcome::Refused(_)
            | StoreOutcome::TooLarge => MetaStatus::NotStored,
            StoreOutcome::Stored { .. } => MetaStatus::Done,
        };
        let (unique, value_bytes) = match done {
            StoreOutcome::Stored { kept: Kept { unique, value_bytes, .. }, .. } => (unique, value_bytes),
            _ => (0, sent_bytes),
        };
        let fields =
            MetaFields { unique: Some(unique), value_bytes: Some(value_bytes), ..MetaFields::default() };
        self.answer(meta, status, flags.has(b'q') && status == MetaStatus::Done, fields);
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
                MetaStatus::Done,
                meta.flags.unsigned(b'E').filter(|unique| *unique != 0).unwrap_or(token.seq().number()),
            ),
            Ok(Filled::Released | Filled::Stale) => (MetaStatus::Done, 0),
            Err(Refused::NoRoom) => return self.replies.status(Status::NoRoom),
            Err(Refused::Outdated) => (MetaStatus::NotStored, 0),
            Err(Refused::Superseded | Refused::Unknown | Refused::Voided) => {
                let has_value = self.cache.peek(&key, self.now, |_| ()).is_some();
                (if has_value { MetaStatus::Exists } else { MetaStatus::NotFound }, 0)
            }
        };
        let fields =
            MetaFields { unique: Some(unique), value_bytes: Some(sent_bytes), ..MetaFields::default() };
        self.answer(meta, status, meta.flags.has(b'q') && done.is_ok(), fields);
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
            DeleteOutcome::Deleted { .. } => (Count::DeleteHits, MetaStatus::Done),
            DeleteOutcome::Exists => (Count::DeleteMisses, MetaStatus::Exists),
            DeleteOutcome::NoRoom => return self.replies.status(Status::NoRoom),
            DeleteOutcome::NotFound => (Count::DeleteMisses, MetaStatus::NotFound),
            DeleteOutcome::Outdated => (Count::VersionsRefused, MetaStatus::NotStored),
        };
        self.session.counters.add(count);
        self.answer(meta, status, flags.has(b'q') && is_done, MetaFields::default());
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
            Err(NotCounted::Exists) => {
                return self.answer(meta, MetaStatus::Exists, false, MetaFields::default());
            }
            Err(NotCounted::NotFound) => {
                self.session.counters.add(misses);
                return self.answer(meta, MetaStatus::NotFound, false, MetaFields::default());
            }
            Err(NotCounted::NotStored) => {
                return self.answer(meta, MetaStatus::NotStored, false, MetaFields::default());
            }
            Err(NotCounted::NoRoom) => return self.replies.status(Status::NoRoomToCount),
            Err(NotCounted::NotANumber) => {
                return self.replies.status(Status::NonNumeric);
            }
        };
        if number.is_new {
            self.tell_stored(&meta.key, "add", STORED, number.expiry, digits(number.number));
        } else {
            self.session.counters.add(hits);
        }
        if flags.has(b'q') {
            return;
        }
        let fields = MetaFields {
            new_ttl: counting.expiry.map(|expiry| ttl(expiry, now)),
            ttl: Some(ttl(number.expiry, now)),
            unique: Some(number.unique),
            ..MetaFields::default()
        };
        let value = if flags.has(b'v') { MetaValue::Number(number.number) } else { MetaValue::Hidden };
        self.replies.send(Reply::Meta(meta, MetaReply { value, ..bare_reply(MetaStatus::Done, fields) }));
    }

    /// `me`
    pub(super) fn meta_debug(&mut self, meta: &Meta) {
        let (now, replies, name) = (self.now, &mut self.replies, &*meta.key);
        self.session.counters.add(Count::CmdMeta);
        let found = self.cache.peek(&legal(self.cache, name), now, |value| {
            let inspected = Inspected {
                bytes: item_bytes(name.len(), value.bytes.len()) as u64,
                is_fetched: value.is_fetched,
                ttl: ttl(value.expiry, now),
                unique: value.unique,
                unused_seconds: now.seconds().saturating_sub(value.accessed),
            };
            replies.send(Reply::Inspected(meta, inspected));
            value.bytes.len()
        });
        self.tell_fetched(name, found);
        if found.is_none() {
            self.answer(meta, MetaStatus::Missed, false, MetaFields::default());
        }
    }

    /// Replies without a value, unless flag `q` suppresses it.
    fn answer(&mut self, meta: &Meta, status: MetaStatus, is_quiet: bool, fields: MetaFields) {
        if !is_quiet {
            self.replies.send(Reply::Meta(meta, bare_reply(status, fields)));
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

/// The reply to a read that found something.
#[inline]
fn shown<'v>(meta: &Meta, value: Value<'v>, new_expiry: Option<Expiry>, now: Now) -> MetaReply<'v> {
    let flags = meta.flags;
    // With C, the value is returned only to clients that have another one.
    let is_shown = flags.has(b'v') && flags.unsigned(b'C') != Some(value.unique);
    let (left, new_left) = match flags.has(b't') {
        true => (Some(ttl(value.expiry, now)), new_expiry.map(|expiry| ttl(expiry, now))),
        false => (None, None),
    };
    let fields = MetaFields {
        client_flags: Some(value.flags),
        is_fetched: Some(value.is_fetched),
        new_ttl: new_left,
        ttl: left,
        unique: Some(value.unique),
        unused_seconds: Some(now.seconds().saturating_sub(value.accessed)),
        value_bytes: Some(value.bytes.len()),
    };
    let value = if is_shown { MetaValue::Bytes(block(value)) } else { MetaValue::Hidden };
    MetaReply { value, ..bare_reply(MetaStatus::Done, fields) }
}

#[inline]
fn bare_reply<'v>(status: MetaStatus, fields: MetaFields) -> MetaReply<'v> {
    MetaReply { status, fields, part: None, is_stale: false, value: MetaValue::Hidden }
}

/// Whole seconds.
fn ttl(expiry: Expiry, now: Now) -> Ttl {
    match expiry {
        Expiry::NEVER => Ttl::Never,
        expiry => Ttl::Seconds(expiry.delay_ms(now) / 1000),
    }
}

/// The length of a counter's value.
fn digits(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |tens| tens as usize + 1)
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
