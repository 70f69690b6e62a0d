//! `mg` and `me`: reads, with leases if the flags request them.

use std::time::Duration;

use super::{bare_reply, ttl};
use crate::cache::{Cache, Expiry, Lookup, OnMiss, Reading, Refresh, Tags, Value};
use crate::clock::Now;
use crate::command::leasing::LOST_TOKEN;
use crate::command::observe::{Outcome, ReadOutcome, Reader};
use crate::command::{Command, Flow, block, legal};
use crate::protocol::{Flags, Inspected, Meta, MetaFields, MetaReply, MetaStatus, MetaValue, Part, Reply};

impl Command<'_> {
    /// `mg`
    pub(in crate::command) fn meta_read(&mut self, meta: &Meta) -> Flow {
        let (flags, now) = (meta.flags, self.now);
        let deadline = flags.unsigned(b'w').map_or(0, |wait_ms| {
            self.conversation.begin_leases(self.cache.last_seq());
            self.conversation.begin_waiting(u32::try_from(wait_ms).unwrap_or(u32::MAX), now)
        });
        let window = lease_window(self.cache, &meta.key, flags, now);
        let reading = reading(flags, window, now);
        let key = legal(self.cache, &meta.key);
        let replies = &mut self.replies;
        let outcome = self.cache.read(&key, &reading, &mut self.conversation.session, now, |lookup| {
            let outcome = ReadOutcome::within(deadline, &lookup, now);
            let (value, new_expiry, part) = match lookup {
                Lookup::Miss => return outcome,
                Lookup::Busy { .. } if outcome.must_wait() => return outcome,
                Lookup::Busy { stale, until, .. } => {
                    // The unique of a stale copy lets its readers store what they load.
                    let unique = stale.map_or(LOST_TOKEN, |value| value.unique);
                    let value = unfilled(stale, unique, until.saturating_sub(now.millis), now);
                    (Value { is_fetched: true, ..value }, None, Some(Part::Waits))
                }
                Lookup::Granted { stale, token } => {
                    let window_ms = window.map_or(0, |window| window.as_millis() as u64);
                    (unfilled(stale, token.number(), window_ms, now), None, Some(Part::Loads))
                }
                Lookup::Hit { refresh, value } => {
                    let (unique, part) = match refresh {
                        Refresh::Lost => (value.unique, Some(Part::Waits)),
                        Refresh::Undue => (value.unique, None),
                        Refresh::Won(token) => (token.number(), Some(Part::Loads)),
                    };
                    (Value { unique, ..value }, reading.expiry, part)
                }
            };
            let (reply, is_stale) = (shown(meta, value, new_expiry, now), outcome.stale_bytes().is_some());
            replies.send(Reply::Meta(meta, MetaReply { part, is_stale, ..reply }));
            outcome
        });
        let waiting = self.conversation.record_waiting(outcome.waiting(now.millis >= deadline));
        let reader = Reader::MetaGet { touches: flags.has(b'T') };
        self.report(Outcome::Read { key: &meta.key, reader, outcome, waiting });
        match outcome {
            ReadOutcome::Busy { .. } | ReadOutcome::Granted { .. } | ReadOutcome::Hit { .. } => {}
            ReadOutcome::Miss => {
                self.answer(meta, MetaStatus::Missed, flags.has(b'q'), MetaFields::default());
            }
            ReadOutcome::Wait { until } => return Flow::Wait { key: (*meta.key).into(), until },
        }
        self.conversation.end_leases();
        Flow::Next
    }

    /// `me`
    pub(in crate::command) fn meta_debug(&mut self, meta: &Meta) {
        let (now, replies, name) = (self.now, &mut self.replies, &*meta.key);
        let value_bytes = self.cache.entry(&legal(self.cache, name), now, |entry| {
            let inspected = Inspected {
                bytes: entry.bytes as u64,
                is_fetched: entry.is_fetched,
                ttl: ttl(entry.value.expiry, now),
                unique: entry.value.unique,
                unused_seconds: entry.accessed.age_seconds(now),
            };
            replies.send(Reply::Inspected(meta, inspected));
            entry.value.bytes.len()
        });
        self.report_read(name, Reader::Inspect, value_bytes);
        if value_bytes.is_none() {
            self.refuse(meta, MetaStatus::Missed);
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

/// The stand-in for a missing value: the stale copy, if there is one, with this unique.
fn unfilled(stale: Option<Value<'_>>, unique: u64, window_ms: u64, now: Now) -> Value<'_> {
    let none = Value {
        accessed: now.tick(),
        bytes: &[],
        expiry: Expiry::after(Duration::from_millis(window_ms), now),
        flags: 0,
        is_fetched: false,
        is_stale: false,
        shared: None,
        stored: now.tick(),
        tags: Tags::NONE,
        unique: 0,
    };
    Value { unique, ..stale.unwrap_or(none) }
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
        unused_seconds: Some(value.accessed.age_seconds(now)),
        value_bytes: Some(value.bytes.len()),
    };
    let value = if is_shown { MetaValue::Bytes(block(value)) } else { MetaValue::Hidden };
    MetaReply { value, ..bare_reply(MetaStatus::Done, fields) }
}
