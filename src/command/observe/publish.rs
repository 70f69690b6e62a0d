//! The samples and events of outcomes, in the order in which watchers receive them.
//!
//! Reads publish what they found. Other commands publish what they found before they changed it.
//!
//! An event shows a token's sequence number only: it ties a fill to its grant, and is useless as a token.

use super::{Before, Filler, Observer, Outcome, ReadOutcome, Reader};
use crate::cache::{
    Cache, DeleteOutcome, Depth, Evicted, Expiry, Fence, Filled, Group, Mode, Number, Refresh, Refused, Seq,
    StoreOutcome, Token,
};
use crate::clock::Now;
use crate::command::conversation::Waiting;
use crate::metrics::{By, Event, Invalidated, Loading, Metrics, Topic};

impl Observer<'_> {
    /// Samples an outcome, if the request is sampled, and publishes its events under the watched topics.
    #[cold]
    pub(super) fn publish(&self, outcome: Outcome<'_>) {
        match outcome {
            Outcome::Counted { key, verb, before, result, .. } => {
                self.looked_up(key, before);
                self.invalidated_key(key, verb, Depth::Hard, before);
                if let Ok(Number { expiry, is_new: true, number, .. }) = result {
                    self.stored(key, "add", STORED, expiry, digits(number));
                }
            }
            Outcome::Deleted { key, verb, before, depth, emptied, outcome } => {
                self.looked_up(key, before);
                if matches!(outcome, DeleteOutcome::Deleted { .. }) {
                    self.deleted(key, verb, before, depth, emptied);
                }
                self.invalidated_key(key, verb, depth, before);
            }
            Outcome::Filled { key, filler, before, expiry, result, token, value_bytes } => {
                self.looked_up(key, before);
                self.filled(key, filler.verb(), token, result, expiry, value_bytes);
            }
            Outcome::FlushForbidden | Outcome::Login(_) => {}
            Outcome::Flushed { delay_ms } => self.invalidated_all("flush_all", Depth::Hard, delay_ms),
            Outcome::InvalidatedAll { depth } => self.invalidated_all(INVALIDATE, depth, 0),
            Outcome::InvalidatedGroups { depth, groups } => self.invalidated_groups(depth, groups),
            Outcome::InvalidatedKey { key, before, depth, was_live } => {
                self.looked_up(key, before);
                // A value that stays as a stale copy does not count as deleted.
                if was_live && depth == Depth::Hard {
                    self.deleted(key, INVALIDATE, before, depth, None);
                }
                self.invalidated_key(key, INVALIDATE, depth, before);
            }
            Outcome::Read { key, reader, outcome, waiting } => self.read(key, reader, outcome, waiting),
            Outcome::Stored { key, before, expiry, mode, outcome, value_bytes } => {
                self.looked_up(key, before);
                self.stored_over(key, before, mode, outcome, expiry, value_bytes);
                let depth = if outcome == StoreOutcome::StoredStale { Depth::Soft } else { Depth::Hard };
                self.invalidated_key(key, verb(mode), depth, before);
            }
            Outcome::TooLarge { key, removed } => {
                let verb = if removed.is_some() { SET } else { UNKNOWN };
                self.stored(key, verb, TOO_LARGE, Expiry::NEVER, 0);
                if let Some(before) = removed {
                    self.looked_up(key, before);
                    self.invalidated_key(key, verb, Depth::Hard, before);
                }
            }
            Outcome::Touched { key, before, .. } => self.looked_up(key, before),
        }
    }

    fn read(&self, key: &[u8], reader: Reader, outcome: ReadOutcome, waiting: Option<Waiting>) {
        let verb = reader.verb();
        let is_hit = outcome.is_hit();
        let value_bytes =
            if let ReadOutcome::Hit { value_bytes, .. } = outcome { Some(value_bytes) } else { None };
        if let Some(samples) = self.conversation.samples().filter(|_| is_hit.is_some()) {
            samples.read(key, value_bytes, self.now.seconds());
        }
        let step = |what| self.loading(key, verb, what);
        let fetched = is_hit.map(|_| self.fetched(key, value_bytes));
        let lease = lease(outcome).map(step);
        let stale = outcome.stale_bytes().map(|value_bytes| step(Loading::StaleServed { value_bytes }));
        let waited = waiting.map(|waiting| step(Loading::Waited { status: waited(waiting) }));
        let events = match reader {
            Reader::Get | Reader::GetAndTouch | Reader::Inspect => [waited, lease, stale, fetched],
            Reader::LeaseGet => [waited, fetched, lease, stale],
            Reader::MetaGet { .. } => [fetched, stale, waited, lease],
        };
        events.iter().flatten().for_each(|event| self.send(event));
    }

    /// The outcome of a store without a token. The fence has an event of its own, if it was involved.
    fn stored_over(
        &self,
        key: &[u8],
        before: Before,
        mode: Mode,
        outcome: StoreOutcome,
        expiry: Expiry,
        sent_bytes: usize,
    ) {
        let (expiry, value_bytes) = match (mode, before.value) {
            (Mode::Append(_) | Mode::Prepend(_), Some((expiry, old_bytes))) if outcome.is_stored() => {
                (expiry, old_bytes + sent_bytes)
            }
            _ => (expiry, sent_bytes),
        };
        self.stored(key, verb(mode), store_status(outcome), expiry, value_bytes);
        if let Some(status) = fence_status(outcome) {
            let fill = Loading::Filled { lease: None, status, value_bytes: sent_bytes };
            self.send(&self.loading(key, verb(mode), fill));
        }
    }

    fn filled(
        &self,
        key: &[u8],
        verb: &'static str,
        token: Token,
        result: Result<Filled, Refused>,
        expiry: Expiry,
        value_bytes: usize,
    ) {
        let (mutation, status) = fill_statuses(result);
        if let Some(mutation) = mutation {
            self.stored(key, verb, mutation, expiry, value_bytes);
        }
        let fill = Loading::Filled { lease: Some(token.seq()), status, value_bytes };
        self.send(&self.loading(key, verb, fill));
    }

    /// A command has deleted the value that it found. As in memcached, one that leaves an empty value has
    /// stored and deleted that. One that leaves a stale copy has deleted nothing.
    fn deleted(&self, key: &[u8], verb: &'static str, before: Before, depth: Depth, emptied: Option<Expiry>) {
        if let Some(expiry) = emptied {
            self.stored(key, SET, STORED, expiry, 0);
        }
        if depth == Depth::Soft {
            return;
        }
        let value = if emptied.is_some() { None } else { before.value };
        let value_bytes = value.map_or(0, |(_, value_bytes)| value_bytes);
        self.send(&Event::Deleted { key, verb, value_bytes });
    }

    fn stored(
        &self,
        key: &[u8],
        verb: &'static str,
        status: &'static str,
        expiry: Expiry,
        value_bytes: usize,
    ) {
        if let Some(samples) = self.conversation.samples().filter(|_| status == STORED) {
            samples.stored(key, value_bytes, self.now.seconds());
        }
        let connection = self.conversation.number;
        let ttl = if expiry == Expiry::NEVER { 0 } else { seconds_left(expiry, self.now) };
        self.send(&Event::Stored { key, connection, status, ttl, value_bytes, verb });
    }

    /// The value that a command other than a read has found.
    fn looked_up(&self, key: &[u8], before: Before) {
        self.send(&self.fetched(key, before.value.map(|(_, value_bytes)| value_bytes)));
    }

    fn invalidated_all(&self, verb: &'static str, depth: Depth, delay_ms: u64) {
        self.invalidated(verb, depth, Invalidated::All { delay_seconds: delay_ms.div_ceil(1000) });
    }

    fn invalidated_groups(&self, depth: Depth, groups: &[Group]) {
        for group in groups {
            // If another client has invalidated it again, both events show the later sequence number.
            let seq = self.cache.newest_invalidation(*group).unwrap_or(Seq::ZERO);
            self.invalidated(INVALIDATE, depth, Invalidated::Group(*group, seq));
        }
    }

    /// A command has invalidated its key, if the connection's last invalidation has changed.
    fn invalidated_key(&self, key: &[u8], verb: &'static str, depth: Depth, before: Before) {
        let seq = self.conversation.session.newest_key_invalidation();
        if seq != before.seq {
            self.invalidated(verb, depth, Invalidated::Key(key, seq));
        }
    }

    fn invalidated(&self, verb: &'static str, depth: Depth, what: Invalidated) {
        self.send(&Event::Invalidated { by: self.by(verb), depth, what });
    }

    fn fetched<'k>(&self, key: &'k [u8], value_bytes: Option<usize>) -> Event<'k> {
        Event::Fetched { key, connection: self.conversation.number, value_bytes }
    }

    fn loading<'k>(&self, key: &'k [u8], verb: &'static str, what: Loading) -> Event<'k> {
        Event::Loading { key, by: self.by(verb), what }
    }

    fn by(&self, verb: &'static str) -> By {
        By { connection: self.conversation.number, verb }
    }

    /// Sends an event, if its topic was watched when the request came.
    fn send(&self, event: &Event) {
        if self.watched.has(event.topic()) {
            self.conversation.metrics.watchers.publish(event);
        }
    }
}

/// Publishes the evictions since the last call, if a client watches them.
pub fn publish_evicted(cache: &Cache, metrics: &Metrics, now: Now) {
    if !metrics.watchers.topics().has(Topic::Evictions) {
        return;
    }
    let (all, lost) = cache.take_evicted();
    metrics.watchers.lost(lost);
    for Evicted { accessed, expiry, is_fetched, key, value_bytes } in all {
        let ttl = if expiry == Expiry::NEVER { -1 } else { seconds_left(expiry, now) };
        let idle_seconds = accessed.age_seconds(now);
        metrics.watchers.publish(&Event::Evicted { key: &key, idle_seconds, is_fetched, ttl, value_bytes });
    }
}

/// The seconds until a value expires, rounded as in memcached; -1 if it has expired.
fn seconds_left(expiry: Expiry, now: Now) -> i64 {
    match expiry {
        Expiry::PAST => -1,
        expiry => (expiry.delay_ms(now) / 1000) as i64,
    }
}

/// The length of a counter's value.
fn digits(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |tens| tens as usize + 1)
}

impl Filler {
    fn verb(self) -> &'static str {
        match self {
            Filler::LeaseSet => "lease-set",
            Filler::MetaSet => SET,
        }
    }
}

fn verb(mode: Mode) -> &'static str {
    match mode {
        Mode::Add => "add",
        Mode::Append(_) => "append",
        Mode::Cas(_) | Mode::MetaCas { .. } => "cas",
        Mode::Prepend(_) => "prepend",
        Mode::Replace => "replace",
        Mode::Set => SET,
    }
}

/// The lease that a reader received, or that another client holds.
fn lease(outcome: ReadOutcome) -> Option<Loading> {
    match outcome {
        ReadOutcome::Busy { .. } => Some(Loading::Busy),
        ReadOutcome::Granted { token, .. } | ReadOutcome::Hit { refresh: Refresh::Won(token), .. } => {
            Some(Loading::Granted { lease: token.seq() })
        }
        ReadOutcome::Hit { refresh: Refresh::Lost | Refresh::Undue, .. }
        | ReadOutcome::Miss
        | ReadOutcome::Wait { .. } => None,
    }
}

fn waited(waiting: Waiting) -> &'static str {
    match waiting {
        Waiting::Begun => "begun",
        Waiting::Filled => "filled",
        Waiting::Free => "free",
        Waiting::TimedOut => "timeout",
    }
}

fn store_status(outcome: StoreOutcome) -> &'static str {
    match outcome {
        StoreOutcome::Exists => "exists",
        StoreOutcome::NoRoom => NO_MEMORY,
        StoreOutcome::NotFound => "not_found",
        StoreOutcome::NotStored | StoreOutcome::Outdated | StoreOutcome::Refused(_) => NOT_STORED,
        StoreOutcome::Stored { .. } | StoreOutcome::StoredStale => STORED,
        StoreOutcome::TooLarge => TOO_LARGE,
    }
}

/// The decision of the fence about a store without a token; `None` if it was not involved.
fn fence_status(outcome: StoreOutcome) -> Option<&'static str> {
    match outcome {
        StoreOutcome::Outdated => Some(OUTDATED),
        StoreOutcome::Refused(_) => Some(INVALIDATED),
        StoreOutcome::Stored { fence: Fence::Observed, .. } => Some("observed"),
        StoreOutcome::Stored { fence: Fence::Confirmed | Fence::Passed, .. } => Some(STORED),
        StoreOutcome::Exists
        | StoreOutcome::NoRoom
        | StoreOutcome::NotFound
        | StoreOutcome::NotStored
        | StoreOutcome::Stored { fence: Fence::None, .. }
        | StoreOutcome::StoredStale
        | StoreOutcome::TooLarge => None,
    }
}

/// The status of a fill as a mutation, unless it stores nothing on purpose, and as the end of a lease.
fn fill_statuses(result: Result<Filled, Refused>) -> (Option<&'static str>, &'static str) {
    match result {
        Ok(Filled::Released) => (None, "released"),
        Ok(Filled::Stale) => (Some(STORED), "stale_stored"),
        Ok(Filled::Visible) => (Some(STORED), STORED),
        Err(Refused::NoRoom) => (Some(NO_MEMORY), NO_MEMORY),
        Err(Refused::Outdated) => (Some(NOT_STORED), OUTDATED),
        Err(Refused::Superseded) => (Some(NOT_STORED), "superseded"),
        Err(Refused::Unknown) => (Some(NOT_STORED), "unknown"),
        Err(Refused::Invalidated) => (Some(NOT_STORED), INVALIDATED),
    }
}

const INVALIDATE: &str = "invalidate";
const INVALIDATED: &str = "voided";
const NOT_STORED: &str = "not_stored";
const NO_MEMORY: &str = "no_memory";
const OUTDATED: &str = "outdated";
const SET: &str = "set";
const STORED: &str = "stored";
const TOO_LARGE: &str = "too_large";
/// memcached's word for a missing command name.
const UNKNOWN: &str = "na";
