//! The classic commands: `get`, `set`, `delete` and their relatives.

use super::conversation::ImplicitReply;
use super::observe::{Outcome, ReadOutcome, Reader};
use super::{Command, Flow, Invalidation, InvalidationKind, draft, legal, value_reply};
use crate::cache::{
    Counting, DeleteOutcome, Deletion, Depth, Expiry, Key, Lookup, Mode, NotCounted, OnMiss, Reading,
    Refresh, Step, StoreOutcome,
};
use crate::protocol::{CasUnique, Reply, Status, Store};

impl Command<'_> {
    /// Returns until when to wait for the value, if another client loads it and the policy demands waiting.
    pub(super) fn get(&mut self, key: &Key, unique: CasUnique) -> Option<u64> {
        let bytes = key.bytes;
        let (now, replies, conversation) = (self.now, &mut self.replies, &mut *self.conversation);
        let may_wait = conversation.may_wait(now);
        let reading = Reading::new(OnMiss::Coalesce { may_wait });
        let mut patience_ms = 0;
        let outcome = self.cache.read(key, &reading, &mut conversation.session, now, |lookup| match lookup {
            Lookup::Busy { patience, until, .. } => {
                patience_ms = patience.as_millis() as u32;
                ReadOutcome::Wait { until }
            }
            // The reply is a miss: the client could not tell a stale copy from the value.
            Lookup::Granted { token, .. } => ReadOutcome::Granted { stale_bytes: None, token },
            Lookup::Hit { value, .. } => {
                replies.send(value_reply(bytes, unique, value));
                let (is_stale, value_bytes) = (value.is_stale, value.bytes.len());
                ReadOutcome::Hit { is_stale, refresh: Refresh::Undue, value_bytes }
            }
            Lookup::Miss => ReadOutcome::Miss,
        });
        let waiting = self.conversation.record_waiting(outcome.waiting(!may_wait));
        self.report(Outcome::Read { key: bytes, reader: Reader::Get, outcome, waiting });
        let ReadOutcome::Wait { until } = outcome else { return None };
        self.conversation.begin_leases(self.cache.last_seq());
        Some(until.min(self.conversation.begin_waiting(patience_ms, now)))
    }

    pub(super) fn get_and_touch(&mut self, key: &Key, exptime: i64, unique: CasUnique) -> Option<u64> {
        let bytes = key.bytes;
        let replies = &mut self.replies;
        let expiry = Expiry::from_exptime(exptime, self.now);
        let reading = Reading { expiry: Some(expiry), ..Reading::new(OnMiss::Report) };
        let value_bytes =
            self.cache.read(key, &reading, &mut self.conversation.session, self.now, |lookup| {
                let Lookup::Hit { value, .. } = lookup else { return None };
                replies.send(value_reply(bytes, unique, value));
                Some(value.bytes.len())
            });
        self.report_read(bytes, Reader::GetAndTouch, value_bytes);
        None
    }

    /// `metaget`
    pub(super) fn meta_get(&mut self, key: &Key) -> Option<u64> {
        let (bytes, now, replies) = (key.bytes, self.now, &mut self.replies);
        let value_bytes = self.cache.peek(key, now, |value| {
            // A thread with a later clock reading may have stored it in between.
            let age_seconds = value.stored.age_seconds(now);
            let exptime_unix = value.expiry.to_unix(now);
            replies.send(Reply::Metadata { key: bytes, age_seconds, exptime_unix });
            value.bytes.len()
        });
        self.report_read(bytes, Reader::Inspect, value_bytes);
        None
    }

    pub(super) fn store(&mut self, mode: Mode, store: &mut Store) {
        let key = legal(self.cache, store.key);
        let (draft, before) = (draft(store, self.now), self.before(&key));
        let (expiry, value_bytes) = (draft.expiry, draft.value.len());
        let outcome = self.cache.store(&key, mode, draft, &mut self.conversation.session, self.now);
        self.report(Outcome::Stored { key: store.key, before, expiry, mode, outcome, value_bytes });
        let reply = match outcome {
            StoreOutcome::Exists => Status::Exists,
            StoreOutcome::NoRoom => Status::NoRoom,
            StoreOutcome::NotFound => Status::NotFound,
            // An append or prepend that makes the value too large is no error in memcached: each part was
            // legal.
            StoreOutcome::NotStored | StoreOutcome::Outdated | StoreOutcome::TooLarge => Status::NotStored,
            StoreOutcome::Refused(_) => self.refusal(mode),
            StoreOutcome::Stored { .. } | StoreOutcome::StoredStale => Status::Stored,
        };
        self.reply(reply, store.noreply);
    }

    /// To its client, a refused `set` looks as if the value had been stored and evicted at once, unless
    /// configured otherwise.
    pub(super) fn refusal(&self, mode: Mode) -> Status {
        match (mode, self.conversation.rules.implicit_reply) {
            (Mode::Set, ImplicitReply::Stored) => Status::Stored,
            (Mode::Set, ImplicitReply::NotStored)
            | (
                Mode::Add
                | Mode::Append(_)
                | Mode::Cas(_)
                | Mode::MetaCas { .. }
                | Mode::Prepend(_)
                | Mode::Replace,
                _,
            ) => Status::NotStored,
        }
    }

    pub(super) fn count(&mut self, bytes: &[u8], step: Step, noreply: bool) {
        let key = legal(self.cache, bytes);
        let before = self.before(&key);
        let result = self.cache.count(&key, &Counting::by(step), &mut self.conversation.session, self.now);
        let verb = match step {
            Step::Decr(_) => "decr",
            Step::Incr(_) => "incr",
        };
        self.report(Outcome::Counted { key: bytes, verb, before, result, step });
        match result {
            Err(NotCounted::Exists | NotCounted::NotFound | NotCounted::NotStored) => {
                self.reply(Status::NotFound, noreply);
            }
            Err(NotCounted::NotANumber) => self.reply(Status::NonNumeric, noreply),
            Err(NotCounted::NoRoom) => self.reply(Status::NoRoomToCount, noreply),
            Ok(number) => {
                if !noreply {
                    self.replies.send(Reply::Counted(number.number));
                }
            }
        }
    }

    pub(super) fn delete(&mut self, bytes: &[u8], held_seconds: u32, noreply: bool) {
        let key = legal(self.cache, bytes);
        let before = self.before(&key);
        let held_seconds = held_seconds.min(HOLD_OFF_SECONDS_MAX);
        let held_until = (held_seconds > 0).then(|| self.now.millis + u64::from(held_seconds) * 1000);
        let deletion = Deletion { held_until, ..Deletion::default() };
        let outcome = match self.cache.delete(&key, &deletion, &mut self.conversation.session, self.now) {
            // Classic commands do not see stale copies.
            DeleteOutcome::Deleted { was_live: false } => DeleteOutcome::NotFound,
            outcome => outcome,
        };
        let (verb, depth) = ("delete", Depth::Hard);
        self.report(Outcome::Deleted { key: bytes, verb, before, depth, emptied: None, outcome });
        self.reply(if outcome.was_live() { Status::Deleted } else { Status::NotFound }, noreply);
    }

    pub(super) fn touch(&mut self, bytes: &[u8], exptime: i64, noreply: bool) {
        let key = legal(self.cache, bytes);
        let before = self.before(&key);
        let was_live = self.cache.touch(&key, Expiry::from_exptime(exptime, self.now), self.now);
        self.report(Outcome::Touched { key: bytes, before, was_live });
        self.reply(if was_live { Status::Touched } else { Status::NotFound }, noreply);
    }

    pub(super) fn flush_all(&mut self, exptime: i64, noreply: bool) -> Flow {
        if !self.conversation.rules.may_flush {
            self.report(Outcome::FlushForbidden);
            self.reply(Status::FlushNotAllowed, noreply);
            return Flow::Next;
        }
        let delay_ms = Expiry::exptime_delay_ms(exptime, self.now);
        let due = (delay_ms > 0).then(|| self.now.millis + delay_ms);
        self.cache.invalidate_all(due, Depth::Hard, &mut self.conversation.session, self.now);
        self.report(Outcome::Flushed { delay_ms });
        self.reply(Status::Ok, noreply);
        let (kind, first) = (InvalidationKind::Flush, Box::default());
        Flow::Invalidated(Box::new(Invalidation { depth: Depth::Hard, first, kind, names: 1 }))
    }

    pub(super) fn cache_memlimit(&mut self, megabytes: u64, noreply: bool) {
        let reply = match megabytes {
            ..MEGABYTES_MIN => Status::MemlimitTooSmall,
            MEGABYTES_MIN..=MEGABYTES_MAX if self.cache.set_memory_bytes((megabytes as usize) << 20) => {
                Status::Ok
            }
            MEGABYTES_MIN..=MEGABYTES_MAX => Status::MemlimitOutOfBounds,
            _ => Status::MemlimitNotMegabytes,
        };
        self.reply(reply, noreply);
    }

    /// memcached removes the old value when a `set` is too large, so that it does not pass for the new one.
    pub(super) fn too_large(&mut self, bytes: &[u8], is_set: bool, version: Option<u64>, noreply: bool) {
        let removed = is_set.then(|| {
            let key = legal(self.cache, bytes);
            let before = self.before(&key);
            let deletion = Deletion { version, ..Deletion::default() };
            self.cache.delete(&key, &deletion, &mut self.conversation.session, self.now);
            before
        });
        self.report(Outcome::TooLarge { key: bytes, removed });
        self.reply(Status::TooLarge, noreply);
    }
}

/// The smallest number that `cache_memlimit` accepts as megabytes.
const MEGABYTES_MIN: u64 = 8;
const MEGABYTES_MAX: u64 = 1_000_000_000;
/// No replica lags for longer, and old clients may send a date here.
const HOLD_OFF_SECONDS_MAX: u32 = 3600;
