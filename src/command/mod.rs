//! One request in, one reply out.
//!
//! [`execute`] is the whole server between its two buffers: it matches the request, calls the cache, sends
//! the reply and returns how the connection continues. It never waits. A request with many keys stops when
//! the reply buffer is full, and continues at the next call. A request that must wait for a lease returns
//! the key and a deadline.
//!
//! There are no sockets, clocks or logs here.

mod access;
mod invalidate;
mod leasing;
mod listing;
mod login;
mod meta;
mod racing;
mod session;
mod stats;
mod watching;

use std::time::Duration;

use self::session::Turn;
use crate::cache::{
    Access, Cache, Counting, Deletion, Depth, Draft, Expiry, Fence, Join, Key, Lookup, Mode, NotCounted,
    OnMiss, Reading, Reason, Step, StoreOutcome, Tags, Token, Value,
};
use crate::clock::Now;
use crate::metrics::{Count, Topic, Topics, Use};
use crate::protocol::{Block, CasUnique, Keys, Replies, Reply, Request, Shutdown, Status, Store};

pub use self::access::{AUTH_BYTES_MAX, Users};
pub use self::invalidate::{NotInvalidated, Targets, invalidate};
pub use self::session::{ImplicitReply, Rules, Session};
pub use self::watching::tell_evicted;

/// How the connection continues after a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Flow {
    /// Send the reply and close.
    Close,
    /// A password was wrong, and the reply is written: delay it, then continue or close.
    LoginFailed {
        /// Whether the connection has used up its tries.
        is_last: bool,
    },
    /// Continue with the next request.
    Next,
    /// Send the reply so far, then call again with the same request.
    Pause,
    /// Reload the certificates, and answer with the result.
    RefreshCertificates,
    /// Stop the whole server.
    Shutdown(Shutdown),
    /// Set the log level to this many `-v` flags.
    Verbosity(u32),
    /// Wait until the lease of this key has ended ([`Cache::wait`]) or until that time (monotonic
    /// milliseconds), then call again with the same request.
    Wait {
        /// The key.
        key: Box<[u8]>,
        /// The deadline.
        until: u64,
    },
    /// Send the reply, and from then on the lines for the watcher of this number; no further requests are
    /// read.
    Watch(u64),
}

/// Answers one request, or continues with it.
pub fn execute(
    request: &mut Request<'_>,
    cache: &Cache,
    session: &mut Session,
    mut replies: Replies<'_>,
    now: Now,
) -> Flow {
    if session.is_locked() {
        return login::unlock(request, session, &mut replies);
    }
    session.note_pipelining(&replies, now);
    let watched = session.metrics.watchers.topics();
    let flow = answer(request, &mut Command { cache, session, replies, now, watched });
    if watched.has(Topic::Evictions) {
        watching::tell_evicted(cache, &session.metrics, now);
    }
    flow
}

#[inline(always)]
fn answer(request: &mut Request<'_>, command: &mut Command<'_>) -> Flow {
    match request {
        Request::Add(store) => command.store(Mode::Add, store),
        Request::Append(store) => command.store(Mode::Append(Join::default()), store),
        Request::CacheMemlimit { megabytes, noreply } => command.cache_memlimit(*megabytes, *noreply),
        Request::Cas(store, unique) => command.store(Mode::Cas(*unique), store),
        Request::Decr { key, delta, noreply } => command.count(key, Step::Decr(*delta), *noreply),
        Request::Delete { key, held_seconds, noreply } => command.delete(key, *held_seconds, *noreply),
        Request::Dump(dump) => return command.dump(dump),
        Request::FlushAll { exptime, noreply } => command.flush_all(*exptime, *noreply),
        Request::Get { keys, unique } => return command.each(keys, |command, key| command.get(key, *unique)),
        Request::GetAndTouch { exptime, keys, unique } => {
            return command.each(keys, |command, key| command.get_and_touch(key, *exptime, *unique));
        }
        Request::Ignored => command.replies.status(Status::Ok),
        Request::Incr { key, delta, noreply } => command.count(key, Step::Incr(*delta), *noreply),
        Request::Invalidate { what, is_soft, noreply } => command.invalidate(what, *is_soft, *noreply),
        Request::LeaseGet { keys, wait_ms } => return command.lease_get(keys, *wait_ms),
        Request::LeaseSet(fill) => command.lease_set(fill),
        Request::MetaCount(meta, mode) => command.meta_count(meta, *mode),
        Request::MetaDebug(meta) => command.meta_debug(meta),
        Request::MetaDelete(meta) => command.meta_delete(meta),
        Request::MetaGet { keys } => return command.each(keys, Command::meta_get),
        Request::MetaRead(meta) => return command.meta_read(meta),
        Request::MetaSet(meta, mode, value) => command.meta_set(meta, *mode, value),
        Request::Noop => command.replies.status(Status::Noop),
        Request::Prepend(store) => command.store(Mode::Prepend(Join::default()), store),
        Request::Quit => return Flow::Close,
        Request::RefreshCertificates => return Flow::RefreshCertificates,
        Request::Replace(store) => command.store(Mode::Replace, store),
        Request::Set(store) => command.store(Mode::Set, store),
        Request::Shutdown { .. } if !command.session.rules.may_shut_down => {
            command.replies.status(Status::ShutdownNotEnabled);
        }
        Request::Shutdown { how: None } => command.replies.status(Status::BadShutdown),
        Request::Shutdown { how: Some(how) } => return Flow::Shutdown(*how),
        Request::Stats(what) => return command.stats(what),
        Request::TooLarge { key, is_set, noreply, version } => {
            command.too_large(key, *is_set, *version, *noreply);
        }
        Request::Touch { key, exptime, noreply } => command.touch(key, *exptime, *noreply),
        Request::Verbosity { level, noreply } => {
            command.reply(Status::Ok, *noreply);
            return level.map_or(Flow::Next, Flow::Verbosity);
        }
        Request::Version => command.replies.send(Reply::Version(MEMCACHED_VERSION)),
        Request::Watch { topics } => return command.watch(topics),
    }
    Flow::Next
}

/// The outcome of a plain read.
#[derive(Clone, Copy)]
enum Got {
    Busy { patience: Duration, until: u64 },
    Found { is_stale: bool, value_bytes: usize },
    Granted(Token),
    Missed,
}

/// The environment of a command.
struct Command<'c> {
    cache: &'c Cache,
    session: &'c mut Session,
    replies: Replies<'c>,
    now: Now,
    /// The topics that were watched when the request came.
    watched: Topics,
}

impl Command<'_> {
    /// Answers key after key until the output is full, or until a key must wait; writes `END` after the
    /// last one.
    fn each(&mut self, keys: &mut Keys<'_>, mut answer: impl FnMut(&mut Self, &Key) -> Option<u64>) -> Flow {
        // Most lines have one key, for which prefetching is useless.
        if let Some(bytes) = keys.only() {
            return match answer(self, &legal(self.cache, bytes)) {
                None => self.end_keys(),
                Some(until) => Flow::Wait { key: bytes.into(), until },
            };
        }
        loop {
            let batch = self.cache.prefetch({ *keys }.map(|key| (key, Access::Read)));
            for key in batch.keys() {
                if self.replies.is_full() {
                    return Flow::Pause;
                }
                if let Some(until) = answer(self, key) {
                    return Flow::Wait { key: key.bytes.into(), until };
                }
                keys.pass(key.bytes);
            }
            if batch.is_last() {
                return self.end_keys();
            }
        }
    }

    fn end_keys(&mut self) -> Flow {
        self.session.end_leases();
        self.replies.status(Status::End);
        Flow::Next
    }

    /// Returns until when to wait for the value, if another client loads it and the policy demands waiting.
    fn get(&mut self, key: &Key, unique: CasUnique) -> Option<u64> {
        let bytes = key.bytes;
        let (now, replies, session) = (self.now, &mut self.replies, &mut *self.session);
        let may_wait = session.may_wait(now);
        let reading = Reading::new(OnMiss::Coalesce { may_wait });
        let got = self.cache.read(key, &reading, &mut session.peer, now, |found| match found {
            Lookup::Busy { patience, until, .. } => Got::Busy { patience, until },
            Lookup::Granted { token, .. } => Got::Granted(token),
            Lookup::Hit { value, .. } => {
                replies.send(value_reply(bytes, unique, value));
                Got::Found { is_stale: value.is_stale, value_bytes: value.bytes.len() }
            }
            Lookup::Miss => Got::Missed,
        });
        self.take_turn(bytes, GET, turn(got, may_wait));
        let found = match got {
            Got::Busy { patience, until } => {
                let session = &mut *self.session;
                session.begin_leases(self.cache.last_seq());
                return Some(until.min(session.begin_waiting(patience.as_millis() as u32, now)));
            }
            Got::Found { is_stale, value_bytes } => Some((value_bytes, is_stale)),
            Got::Granted(token) => {
                self.tell_granted(bytes, GET, token);
                None
            }
            Got::Missed => None,
        };
        if let Some((value_bytes, true)) = found {
            self.stale_served(bytes, GET, value_bytes);
        }
        self.tell_fetched(bytes, found.map(|(value_bytes, _)| value_bytes));
        self.tally(Count::CmdGet, found.is_some(), Count::GetHits, Count::GetMisses);
        self.used(bytes, Use::Get { is_hit: found.is_some() });
        None
    }

    fn get_and_touch(&mut self, key: &Key, exptime: i64, unique: CasUnique) -> Option<u64> {
        let bytes = key.bytes;
        let replies = &mut self.replies;
        let expiry = Expiry::from_exptime(exptime, self.now);
        let reading = Reading { expiry: Some(expiry), ..Reading::new(OnMiss::Report) };
        let found = self.cache.read(key, &reading, &mut self.session.peer, self.now, |found| {
            let Lookup::Hit { value, .. } = found else { return None };
            replies.send(value_reply(bytes, unique, value));
            Some(value.bytes.len())
        });
        self.tell_fetched(bytes, found);
        // memcached counts a gat as a touch only.
        self.tally(Count::CmdTouch, found.is_some(), Count::TouchHits, Count::TouchMisses);
        self.used(bytes, Use::Get { is_hit: found.is_some() });
        None
    }

    fn meta_get(&mut self, key: &Key) -> Option<u64> {
        let (bytes, now, replies) = (key.bytes, self.now, &mut self.replies);
        let found = self.cache.peek(key, now, |value| {
            // A thread with a later clock reading may have stored it in between.
            let age_seconds = now.seconds().saturating_sub(value.stored);
            let exptime_unix = value.expiry.to_unix(now);
            replies.send(Reply::Metadata { key: bytes, age_seconds, exptime_unix });
            value.bytes.len()
        });
        self.tell_fetched(bytes, found);
        self.session.counters.add(Count::CmdMeta);
        None
    }

    fn store(&mut self, mode: Mode, store: &mut Store) {
        let key = legal(self.cache, store.key);
        self.used(store.key, Use::Set);
        let (draft, found) = (draft(store, self.now), self.look_up(store.key));
        let (expiry, value_bytes) = (draft.expiry, draft.value.len());
        let done = self.cache.store(&key, mode, draft, &mut self.session.peer, self.now);
        self.tell_store(store.key, mode, done, expiry, value_bytes, found);
        self.tally_store(store.key, mode, done);
        let reply = match done {
            StoreOutcome::Exists => Status::Exists,
            StoreOutcome::NoRoom => Status::NoRoom,
            StoreOutcome::NotFound => Status::NotFound,
            // An append or prepend that makes the value too large is no error in memcached: each part was
            // legal.
            StoreOutcome::NotStored | StoreOutcome::Outdated | StoreOutcome::TooLarge => Status::NotStored,
            StoreOutcome::Refused(_) => self.refusal(mode),
            StoreOutcome::Stored { .. } => Status::Stored,
        };
        self.reply(reply, store.noreply);
    }

    /// To its client, a refused `set` looks as if the value had been stored and evicted at once, unless
    /// configured otherwise.
    fn refusal(&self, mode: Mode) -> Status {
        match (mode, self.session.rules.implicit_reply) {
            (Mode::Set, ImplicitReply::Stored) => Status::Stored,
            (Mode::Set, ImplicitReply::NotStored)
            | (Mode::Add | Mode::Append(_) | Mode::Cas(_) | Mode::Prepend(_) | Mode::Replace, _) => {
                Status::NotStored
            }
        }
    }

    fn count(&mut self, bytes: &[u8], step: Step, noreply: bool) {
        let key = legal(self.cache, bytes);
        let found = self.look_up(bytes);
        let done = self.cache.count(&key, &Counting::by(step), &mut self.session.peer, self.now);
        let (verb, hits, misses) = match step {
            Step::Decr(_) => ("decr", Count::DecrHits, Count::DecrMisses),
            Step::Incr(_) => ("incr", Count::IncrHits, Count::IncrMisses),
        };
        self.tell_void(bytes, verb, Depth::Hard, found);
        match done {
            Err(NotCounted::Exists | NotCounted::NotFound | NotCounted::NotStored) => {
                self.session.counters.add(misses);
                self.reply(Status::NotFound, noreply);
            }
            Err(NotCounted::NotANumber) => self.reply(Status::NonNumeric, noreply),
            Err(NotCounted::NoRoom) => self.reply(Status::NoRoomToCount, noreply),
            Ok(number) => {
                self.session.counters.add(hits);
                if !noreply {
                    self.replies.send(Reply::Counted(number.number));
                }
            }
        }
    }

    fn delete(&mut self, bytes: &[u8], held_seconds: u32, noreply: bool) {
        let key = legal(self.cache, bytes);
        self.used(bytes, Use::Delete);
        let found = self.look_up(bytes);
        let held_seconds = held_seconds.min(HOLD_OFF_SECONDS_MAX);
        let held_until = (held_seconds > 0).then(|| self.now.millis + u64::from(held_seconds) * 1000);
        let deletion = Deletion { held_until, ..Deletion::default() };
        let was_live = self.cache.delete(&key, deletion, &mut self.session.peer, self.now).was_live();
        if was_live {
            self.tell_deleted(bytes, DELETE, found);
        }
        self.tell_void(bytes, DELETE, Depth::Hard, found);
        self.count_of(bytes, Count::VoidsKey);
        self.session.counters.add(if was_live { Count::DeleteHits } else { Count::DeleteMisses });
        self.reply(if was_live { Status::Deleted } else { Status::NotFound }, noreply);
    }

    fn touch(&mut self, bytes: &[u8], exptime: i64, noreply: bool) {
        let key = legal(self.cache, bytes);
        self.look_up(bytes);
        let was_live = self.cache.touch(&key, Expiry::from_exptime(exptime, self.now), self.now);
        self.tally(Count::CmdTouch, was_live, Count::TouchHits, Count::TouchMisses);
        self.reply(if was_live { Status::Touched } else { Status::NotFound }, noreply);
    }

    fn flush_all(&mut self, exptime: i64, noreply: bool) {
        self.session.counters.add(Count::CmdFlush);
        if !self.session.rules.may_flush {
            return self.reply(Status::FlushNotAllowed, noreply);
        }
        let delay_ms =
            if exptime > 0 { Expiry::from_exptime(exptime, self.now).delay_ms(self.now) } else { 0 };
        let due = (delay_ms > 0).then(|| self.now.millis + delay_ms);
        self.cache.invalidate_all(due, Depth::Hard, &mut self.session.peer, self.now);
        self.session.counters.add(Count::VoidsAll);
        self.tell_voided_all("flush_all", Depth::Hard, delay_ms);
        self.reply(Status::Ok, noreply);
    }

    fn cache_memlimit(&mut self, megabytes: u64, noreply: bool) {
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
    fn too_large(&mut self, bytes: &[u8], is_set: bool, version: Option<u64>, noreply: bool) {
        let verb = if is_set { "set" } else { UNKNOWN_VERB };
        self.tell_stored(bytes, verb, "too_large", Expiry::NEVER, 0);
        if is_set {
            let key = legal(self.cache, bytes);
            let found = self.look_up(bytes);
            let deletion = Deletion { version, ..Deletion::default() };
            self.cache.delete(&key, deletion, &mut self.session.peer, self.now);
            self.tell_void(bytes, verb, Depth::Hard, found);
        }
        self.session.counters.add(Count::StoreTooLarge);
        self.reply(Status::TooLarge, noreply);
    }

    fn reply(&mut self, status: Status, noreply: bool) {
        if !noreply {
            self.replies.status(status);
        }
    }

    /// Separate from the counters, because these counts are rarely enabled.
    fn used(&self, key: &[u8], used: Use) {
        self.session.metrics.prefixes.count(key, used);
    }

    /// Counts an event of a key, also under its policy.
    fn count_of(&self, key: &[u8], count: Count) {
        self.session.counters.add(count);
        self.cache.show_prefix(key, |prefix| self.session.metrics.policies.add(prefix, count));
    }

    fn tally(&self, command: Count, was_hit: bool, hit: Count, miss: Count) {
        self.session.counters.add(command);
        self.session.counters.add(if was_hit { hit } else { miss });
    }

    fn tally_store(&self, key: &[u8], mode: Mode, done: StoreOutcome) {
        let counters = &self.session.counters;
        counters.add(Count::CmdSet);
        match (mode, done) {
            (Mode::Cas(_), StoreOutcome::Stored { .. }) => counters.add(Count::CasHits),
            (_, StoreOutcome::Exists) => counters.add(Count::CasBadval),
            (_, StoreOutcome::NoRoom) => counters.add(Count::StoreNoMemory),
            (_, StoreOutcome::NotFound) => counters.add(Count::CasMisses),
            (_, StoreOutcome::Outdated) => self.count_of(key, Count::VersionsRefused),
            (_, StoreOutcome::Refused(reason)) => {
                counters.add(refused(reason));
                self.count_of(key, Count::ImplicitRefused);
            }
            (_, StoreOutcome::TooLarge) => counters.add(Count::StoreTooLarge),
            (_, StoreOutcome::Stored { fence: Fence::Confirmed, .. }) => {
                counters.add(Count::ImplicitConfirmed);
                self.count_of(key, Count::ImplicitFills);
            }
            (_, StoreOutcome::Stored { fence: Fence::Passed, .. }) => {
                self.count_of(key, Count::ImplicitFills)
            }
            (_, StoreOutcome::Stored { fence: Fence::Observed, .. }) => {
                self.count_of(key, Count::ImplicitObserved)
            }
            (Mode::Set, StoreOutcome::Stored { fence: Fence::None, .. }) => {
                if self.cache.is_fenced(key) {
                    self.count_of(key, Count::UnfencedSets);
                }
            }
            (_, StoreOutcome::NotStored | StoreOutcome::Stored { fence: Fence::None, .. }) => {}
        }
    }
}

fn refused(reason: Reason) -> Count {
    match reason {
        Reason::Closed => Count::ImplicitRefusedClosed,
        Reason::Doubt => Count::ImplicitRefusedDoubt,
        Reason::HeldOff => Count::ImplicitRefusedHeldOff,
        Reason::Late => Count::ImplicitRefusedLate,
        Reason::Note => Count::ImplicitRefusedNote,
    }
}

fn legal<'a>(cache: &Cache, bytes: &'a [u8]) -> Key<'a> {
    cache.key(bytes).expect("the grammar lets only legal keys through")
}

#[inline]
fn value_reply<'v>(key: &'v [u8], unique: CasUnique, value: Value<'v>) -> Reply<'v> {
    let unique = match unique {
        CasUnique::Hide => None,
        CasUnique::Show => Some(value.unique),
    };
    Reply::Value { key, flags: value.flags, unique, value: block(value) }
}

/// The state of waiting after a plain read.
fn turn(got: Got, may_wait: bool) -> Turn {
    match got {
        Got::Busy { .. } => Turn::Wait,
        Got::Found { .. } | Got::Granted(_) | Got::Missed if !may_wait => Turn::Late,
        Got::Found { .. } => Turn::Filled,
        Got::Granted(_) | Got::Missed => Turn::Free,
    }
}

fn draft<'a>(store: &mut Store<'a>, now: Now) -> Draft<'a> {
    let value = std::mem::take(&mut store.value);
    let expiry = Expiry::from_exptime(store.exptime, now);
    Draft { expiry, flags: store.flags, tags: Tags::NONE, unique: None, version: None, value }
}

fn block(value: Value<'_>) -> Block<'_> {
    Block { bytes: value.bytes, shared: value.shared }
}

const DELETE: &str = "delete";
const GET: &str = "get";
/// The smallest number that `cache_memlimit` accepts as megabytes.
const MEGABYTES_MIN: u64 = 8;
/// No replica lags for longer, and old clients may send a date here.
const HOLD_OFF_SECONDS_MAX: u32 = 3600;
const MEGABYTES_MAX: u64 = 1_000_000_000;
/// memcached's word for a missing command name.
const UNKNOWN_VERB: &str = "na";
/// The memcached version that is emulated; clients enable features by it.
pub const MEMCACHED_VERSION: &str = "1.6.45";
