//! `watch`, and the events about values. (`racing.rs` has those about leases and invalidations.)
//!
//! A command reports its result when it is done, and nothing while no one watches. Reads report what they
//! found. Other commands first look at the existing value, as in memcached; another client may change it
//! before they are done.

use super::{Command, Flow, legal};
use crate::cache::{Cache, Depth, Evicted, Expiry, Mode, Seq, StoreOutcome};
use crate::clock::Now;
use crate::metrics::{Event, Metrics, Topic, Topics};
use crate::protocol::{Status, Watched};

/// The existing value, as a command other than a read finds it.
#[derive(Clone, Copy, Default)]
pub(super) struct Found {
    /// `None` unless a client watches.
    expiry: Option<Expiry>,
    value_bytes: usize,
    /// The last invalidation by the connection.
    pub(super) void: Seq,
}

impl Command<'_> {
    pub(super) fn watch(&mut self, watched: &[Watched]) -> Flow {
        if !self.session.rules.may_watch {
            self.replies.status(Status::WatchNotAllowed);
            return Flow::Next;
        }
        let topics =
            watched.iter().filter_map(|watched| topic(*watched)).fold(Topics::default(), Topics::with);
        match self.session.watch(self.cache, topics) {
            None => {
                self.replies.status(Status::TooManyWatchers);
                Flow::Next
            }
            Some(number) => {
                self.replies.status(Status::Ok);
                Flow::Watch(number)
            }
        }
    }

    /// Looks up the existing value before a command that does not return it, and reports it.
    pub(super) fn look_up(&self, key: &[u8]) -> Found {
        const LOOKING: [Topic; 3] = [Topic::Deletions, Topic::Fetches, Topic::Mutations];
        let void = self.session.peer.newest_void();
        if !LOOKING.iter().any(|topic| self.watched.has(*topic)) {
            return Found { void, ..Found::default() };
        }
        let found =
            self.cache.peek(&legal(self.cache, key), self.now, |value| (value.expiry, value.bytes.len()));
        let (expiry, value_bytes) = found.unzip();
        self.tell_found(key, value_bytes);
        Found { expiry, value_bytes: value_bytes.unwrap_or(0), void }
    }

    /// A read has found a value of that length, or none.
    pub(super) fn tell_fetched(&self, key: &[u8], value_bytes: Option<usize>) {
        if let Some(samples) = self.session.samples() {
            samples.read(key, value_bytes, self.now.seconds());
        }
        self.tell_found(key, value_bytes);
    }

    /// A command has found a value of that length, or none.
    fn tell_found(&self, key: &[u8], value_bytes: Option<usize>) {
        self.tell(Topic::Fetches, || Event::Fetched { key, connection: self.session.number, value_bytes });
    }

    /// A command has deleted the value that it found.
    pub(super) fn tell_deleted(&self, key: &[u8], verb: &'static str, found: Found) {
        self.tell(Topic::Deletions, || Event::Deleted { key, verb, value_bytes: found.value_bytes });
    }

    /// Reports the outcome of a store of this many bytes over the existing value.
    pub(super) fn tell_store(
        &self,
        key: &[u8],
        mode: Mode,
        done: StoreOutcome,
        expiry: Expiry,
        bytes: usize,
        found: Found,
    ) {
        // One check for everything that follows.
        if self.watched == Topics::default() && !self.session.is_sample {
            return;
        }
        let is_stored = done.is_stored();
        let (expiry, value_bytes) = match (mode, found.expiry) {
            (Mode::Append(_) | Mode::Prepend(_), Some(old)) if is_stored => (old, found.value_bytes + bytes),
            _ => (expiry, bytes),
        };
        self.tell_stored(key, verb(mode), status(done), expiry, value_bytes);
        self.tell_fenced(key, verb(mode), done, bytes);
        self.tell_void(key, verb(mode), Depth::Hard, found);
    }

    pub(super) fn tell_stored(
        &self,
        key: &[u8],
        verb: &'static str,
        status: &'static str,
        expiry: Expiry,
        value_bytes: usize,
    ) {
        if let Some(samples) = self.session.samples().filter(|_| status == STORED) {
            samples.stored(key, value_bytes, self.now.seconds());
        }
        let connection = self.session.number;
        self.tell(Topic::Mutations, || {
            let ttl = if expiry == Expiry::NEVER { 0 } else { seconds_left(expiry, self.now) };
            Event::Stored { key, connection, status, ttl, value_bytes, verb }
        });
    }

    pub(super) fn tell<'e>(&self, topic: Topic, event: impl FnOnce() -> Event<'e>) {
        if self.watched.has(topic) {
            self.session.metrics.watchers.tell(&event());
        }
    }
}

/// Reports evictions since the last call, if a client watches them.
pub fn tell_evicted(cache: &Cache, metrics: &Metrics, now: Now) {
    if !metrics.watchers.topics().has(Topic::Evictions) {
        return;
    }
    let (all, lost) = cache.take_evicted();
    metrics.watchers.lost(lost);
    for Evicted { accessed, expiry, is_fetched, key, value_bytes } in all {
        let ttl = if expiry == Expiry::NEVER { -1 } else { seconds_left(expiry, now) };
        let idle_seconds = now.seconds().saturating_sub(accessed);
        metrics.watchers.tell(&Event::Evicted { key: &key, idle_seconds, is_fetched, ttl, value_bytes });
    }
}

/// The seconds until a value expires, rounded as in memcached; -1 if it has expired.
fn seconds_left(expiry: Expiry, now: Now) -> i64 {
    match expiry {
        Expiry::PAST => -1,
        expiry => (expiry.delay_ms(now) / 1000) as i64,
    }
}

/// The status of a stored value.
pub(super) const STORED: &str = "stored";

fn topic(watched: Watched) -> Option<Topic> {
    match watched {
        Watched::Connections => Some(Topic::Connections),
        Watched::Deletions => Some(Topic::Deletions),
        Watched::Evictions => Some(Topic::Evictions),
        Watched::Fetches => Some(Topic::Fetches),
        Watched::Leases => Some(Topic::Leases),
        Watched::Mutations => Some(Topic::Mutations),
        Watched::Nothing => None,
        Watched::Voids => Some(Topic::Voids),
    }
}

fn verb(mode: Mode) -> &'static str {
    match mode {
        Mode::Add => "add",
        Mode::Append(_) => "append",
        Mode::Cas(_) => "cas",
        Mode::Prepend(_) => "prepend",
        Mode::Replace => "replace",
        Mode::Set => "set",
    }
}

fn status(done: StoreOutcome) -> &'static str {
    match done {
        StoreOutcome::Exists => "exists",
        StoreOutcome::NoRoom => "no_memory",
        StoreOutcome::NotFound => "not_found",
        StoreOutcome::NotStored | StoreOutcome::Outdated | StoreOutcome::Refused(_) => "not_stored",
        StoreOutcome::Stored { .. } => STORED,
        StoreOutcome::TooLarge => "too_large",
    }
}
