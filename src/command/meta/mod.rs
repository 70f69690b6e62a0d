//! The meta commands: their flags turned into cache operations and replies.
//!
//! Each command offers what it knows ([`MetaFields`]); the encoder writes what the flags request.

mod read;

use super::leasing::tagged;
use super::observe::{Filler, Outcome};
use super::{Command, legal};
use crate::cache::{
    Counting, DeleteOutcome, Deletion, Depth, Draft, Expiry, Fill, Filled, Join, Kept, Leaves, Mode,
    NotCounted, Refused, Step, StoreOutcome, Tags, Token,
};
use crate::clock::Now;
use crate::pages::Payload;
use crate::protocol::{
    CountMode, Flags, Meta, MetaFields, MetaReply, MetaStatus, MetaValue, Reply, SetMode, Status, Ttl,
};

impl Command<'_> {
    /// `ms`
    pub(in crate::command) fn meta_set(&mut self, meta: &Meta, mode: SetMode, value: &mut Payload) {
        let (flags, sent_bytes) = (meta.flags, value.len());
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
            (SetMode::Replace | SetMode::Set, Some(unique)) => {
                Mode::MetaCas { or_stale: flags.has(b'I'), unique }
            }
            (SetMode::Add, _) => Mode::Add,
            (SetMode::Append, _) => Mode::Append(join),
            (SetMode::Prepend, _) => Mode::Prepend(join),
            (SetMode::Replace, None) => Mode::Replace,
            (SetMode::Set, None) => Mode::Set,
        };
        let key = legal(self.cache, &meta.key);
        let (expiry, before) = (draft.expiry, self.before(&key));
        let outcome = self.cache.store(&key, mode, draft, &mut self.conversation.session, self.now);
        let (key, value_bytes) = (&meta.key, sent_bytes);
        self.report(Outcome::Stored { key, before, expiry, mode, outcome, value_bytes });
        let status = match outcome {
            StoreOutcome::Exists => MetaStatus::Exists,
            StoreOutcome::NoRoom => return self.replies.status(Status::NoRoom),
            StoreOutcome::NotFound => MetaStatus::NotFound,
            StoreOutcome::Refused(_) if self.hides_refusal(mode) => MetaStatus::Done,
            StoreOutcome::NotStored
            | StoreOutcome::Outdated
            | StoreOutcome::Refused(_)
            | StoreOutcome::TooLarge => MetaStatus::NotStored,
            StoreOutcome::Stored { .. } | StoreOutcome::StoredStale => MetaStatus::Done,
        };
        let (unique, value_bytes) = match outcome {
            StoreOutcome::Stored { kept: Kept { unique, value_bytes, .. }, .. } => (unique, value_bytes),
            StoreOutcome::Refused(_) if status == MetaStatus::Done => (NO_UNIQUE, sent_bytes),
            _ => (0, sent_bytes),
        };
        let fields =
            MetaFields { unique: Some(unique), value_bytes: Some(value_bytes), ..MetaFields::default() };
        self.answer(meta, status, flags.has(b'q') && status == MetaStatus::Done, fields);
    }

    /// Whether a refused store is answered as if it had been stored and evicted at once, as the `set` of a
    /// plain client is: those of the binary protocol do not know that their sets are meta commands here.
    fn hides_refusal(&self, mode: Mode) -> bool {
        self.replies.is_binary() && self.refusal(mode) == Status::Stored
    }

    /// `ms` with a token.
    fn meta_fill(&mut self, meta: &Meta, token: Token, fill: Fill, sent_bytes: usize) {
        let key = legal(self.cache, &meta.key);
        let before = self.before(&key);
        let expiry = match &fill {
            Fill::Fresh(draft) | Fill::Value(draft) => draft.expiry,
            Fill::Release => Expiry::PAST,
        };
        let result = self.cache.fill(&key, token, fill, &mut self.conversation.session, self.now);
        self.report(Outcome::Filled {
            key: &meta.key,
            filler: Filler::MetaSet,
            before,
            expiry,
            result,
            token,
            value_bytes: sent_bytes,
        });
        let (status, unique) = match result {
            Ok(Filled::Visible) => {
                (MetaStatus::Done, unique(meta.flags, b'E').unwrap_or(token.seq().number()))
            }
            Ok(Filled::Released | Filled::Stale) => (MetaStatus::Done, 0),
            Err(Refused::NoRoom) => return self.replies.status(Status::NoRoom),
            Err(Refused::Outdated) => (MetaStatus::NotStored, 0),
            Err(Refused::Superseded | Refused::Unknown | Refused::Invalidated) => {
                let has_value = self.cache.peek(&key, self.now, |_| ()).is_some();
                (if has_value { MetaStatus::Exists } else { MetaStatus::NotFound }, 0)
            }
        };
        let fields =
            MetaFields { unique: Some(unique), value_bytes: Some(sent_bytes), ..MetaFields::default() };
        self.answer(meta, status, meta.flags.has(b'q') && result.is_ok(), fields);
    }

    /// `md`
    pub(in crate::command) fn meta_delete(&mut self, meta: &Meta) {
        let (flags, now) = (meta.flags, self.now);
        let ends = flags.signed(b'T');
        let leaves = match (flags.has(b'I'), flags.has(b'x')) {
            (true, false) => Leaves::Stale(ends.map(|ends| Expiry::from_exptime(ends, now))),
            (false, true) => Leaves::Empty(bare_draft(flags, ends.unwrap_or(0), now)),
            (true, true) => Leaves::Tombstone(bare_draft(flags, ends.unwrap_or(0), now)),
            (false, false) => Leaves::Nothing,
        };
        let key = legal(self.cache, &meta.key);
        let before = self.before(&key);
        let depth = if flags.has(b'I') { Depth::Soft } else { Depth::Hard };
        let emptied = match &leaves {
            Leaves::Empty(draft) | Leaves::Tombstone(draft) => Some(draft.expiry),
            Leaves::Nothing | Leaves::Stale(_) => None,
        };
        let (expected, version) = (flags.unsigned(b'C'), flags.unsigned(b'V'));
        let deletion = Deletion { expected, held_until: None, leaves, version };
        let outcome = self.cache.delete(&key, &deletion, &mut self.conversation.session, now);
        let (key, verb) = (&meta.key, "md");
        self.report(Outcome::Deleted { key, verb, before, depth, emptied, outcome });
        let status = match outcome {
            DeleteOutcome::Deleted { .. } => MetaStatus::Done,
            DeleteOutcome::Exists => MetaStatus::Exists,
            DeleteOutcome::NoRoom => return self.replies.status(Status::NoRoom),
            DeleteOutcome::NotFound => MetaStatus::NotFound,
            DeleteOutcome::Outdated => MetaStatus::NotStored,
        };
        self.answer(meta, status, flags.has(b'q') && status == MetaStatus::Done, MetaFields::default());
    }

    /// `ma`
    pub(in crate::command) fn meta_count(&mut self, meta: &Meta, mode: CountMode) {
        let (flags, now) = (meta.flags, self.now);
        let delta = flags.unsigned(b'D').unwrap_or(1);
        let expiry_of = |ends| Expiry::from_exptime(ends, now);
        let step = match mode {
            CountMode::Down => Step::Decr(delta),
            CountMode::Up => Step::Incr(delta),
        };
        let initial = flags.unsigned(b'J').unwrap_or(0);
        let counting = Counting {
            expected: unique(flags, b'C'),
            expiry: flags.signed(b'T').map(expiry_of),
            initial: flags.signed(b'N').map(|ends| (initial, expiry_of(ends))),
            step,
            unique: unique(flags, b'E'),
        };
        let key = legal(self.cache, &meta.key);
        let before = self.before(&key);
        let result = self.cache.count(&key, &counting, &mut self.conversation.session, now);
        self.report(Outcome::Counted { key: &meta.key, verb: "ma", before, result, step });
        let number = match result {
            Ok(number) => number,
            Err(NotCounted::Exists) => return self.refuse(meta, MetaStatus::Exists),
            Err(NotCounted::NotFound) => return self.refuse(meta, MetaStatus::NotFound),
            Err(NotCounted::NotStored) => return self.refuse(meta, MetaStatus::NotStored),
            Err(NotCounted::NoRoom) => return self.replies.status(Status::NoRoomToCount),
            Err(NotCounted::NotANumber) => return self.replies.status(Status::NonNumeric),
        };
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

    /// Replies that the command had no effect.
    fn refuse(&mut self, meta: &Meta, status: MetaStatus) {
        self.answer(meta, status, false, MetaFields::default());
    }

    /// Replies without a value, unless flag `q` suppresses it.
    fn answer(&mut self, meta: &Meta, status: MetaStatus, is_quiet: bool, fields: MetaFields) {
        if !is_quiet {
            self.replies.send(Reply::Meta(meta, bare_reply(status, fields)));
        }
    }
}

/// The unique of a value that was not kept. No value has it: sequence numbers are far smaller.
const NO_UNIQUE: u64 = u64::MAX;

#[inline]
fn bare_reply<'v>(status: MetaStatus, fields: MetaFields) -> MetaReply<'v> {
    MetaReply { status, fields, part: None, is_stale: false, value: MetaValue::Hidden }
}

/// The unique that a flag names; 0 stands for none.
#[inline]
fn unique(flags: Flags, letter: u8) -> Option<u64> {
    flags.unsigned(letter).filter(|unique| *unique != 0)
}

/// Whole seconds.
fn ttl(expiry: Expiry, now: Now) -> Ttl {
    match expiry {
        Expiry::NEVER => Ttl::Never,
        expiry => Ttl::Seconds(expiry.seconds_left(now)),
    }
}

/// A value without bytes, with the properties set by the flags.
fn bare_draft<'a>(flags: Flags, ends: i64, now: Now) -> Draft<'a> {
    Draft {
        expiry: Expiry::from_exptime(ends, now),
        flags: flags.unsigned(b'F').map_or(0, |mark| mark as u32),
        tags: Tags::NONE,
        unique: unique(flags, b'E'),
        version: flags.unsigned(b'V'),
        value: Payload::default(),
    }
}
