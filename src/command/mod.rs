//! One request in, one reply out.
//!
//! [`execute`] is the whole server between its two buffers: it matches the request, calls the cache, sends
//! the reply and returns how the connection continues. It never waits. A request with many keys stops when
//! the reply buffer is full, and continues at the next call. A request that must wait for a lease returns
//! the key and a deadline.
//!
//! There are no sockets, clocks or logs here.

mod access;
mod change;
mod class;
mod classic;
mod conversation;
mod invalidate;
mod leasing;
mod listing;
mod login;
mod meta;
mod observe;
mod sources;
mod stats;
mod watching;

use self::observe::{Before, Observer, Outcome, ReadOutcome, Reader};
use crate::cache::{Access, Cache, Draft, Expiry, Join, Key, Mode, Step, Tags, Value};
use crate::clock::Now;
use crate::metrics::{Topic, Topics};
use crate::protocol::{Block, CasUnique, Keys, Replies, Reply, Request, Shutdown, Status, Store};

pub use self::access::{AUTH_BYTES_MAX, Users};
pub use self::change::{Change, change};
pub use self::conversation::{Conversation, ImplicitReply, Rules};
pub use self::invalidate::{Invalidation, InvalidationKind, NotInvalidated, Targets, invalidate};
pub use self::observe::publish_evicted;

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
    /// Many values were invalidated at once, and the reply is written: log it, then continue.
    Invalidated(Box<Invalidation>),
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
    conversation: &mut Conversation,
    replies: Replies<'_>,
    now: Now,
) -> Flow {
    if conversation.is_locked() {
        let watched = Topics::default();
        return login::unlock(request, &mut Command { cache, conversation, replies, now, watched });
    }
    conversation.observe_pipelining(&replies, now);
    let watched = conversation.metrics.watchers.topics();
    let flow = answer(request, &mut Command { cache, conversation, replies, now, watched });
    if watched.has(Topic::Evictions) {
        publish_evicted(cache, &conversation.metrics, now);
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
        Request::FlushAll { exptime, noreply } => return command.flush_all(*exptime, *noreply),
        Request::Get { keys, unique } => return command.each(keys, |command, key| command.get(key, *unique)),
        Request::GetAndTouch { exptime, keys, unique } => {
            return command.each(keys, |command, key| command.get_and_touch(key, *exptime, *unique));
        }
        Request::Ignored => command.replies.status(Status::Ok),
        Request::Incr { key, delta, noreply } => command.count(key, Step::Incr(*delta), *noreply),
        Request::Invalidate { what, is_soft, noreply } => {
            return command.invalidate(what, *is_soft, *noreply);
        }
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
        Request::Quit => {
            command.replies.farewell();
            return Flow::Close;
        }
        Request::RefreshCertificates => return Flow::RefreshCertificates,
        Request::Replace(store) => command.store(Mode::Replace, store),
        Request::Sasl(sasl) => return login::authenticate(*sasl, command),
        Request::Set(store) => command.store(Mode::Set, store),
        Request::Shutdown { .. } if !command.conversation.rules.may_shut_down => {
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

/// The environment of a command.
struct Command<'c> {
    cache: &'c Cache,
    conversation: &'c mut Conversation,
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
        self.conversation.end_leases();
        self.replies.status(Status::End);
        Flow::Next
    }

    fn reply(&mut self, status: Status, noreply: bool) {
        if !noreply {
            self.replies.status(status);
        }
    }

    /// Looks up the existing value before a command that does not return it, if a client watches.
    #[inline]
    fn before(&self, key: &Key) -> Before {
        self.observer().before(key)
    }

    /// Reports what the command did.
    #[inline(always)]
    fn report(&self, outcome: Outcome<'_>) {
        self.observer().report(outcome);
    }

    /// Reports a read that waits for no lease, and found a live value of this length or none.
    fn report_read(&self, key: &[u8], reader: Reader, value_bytes: Option<usize>) {
        let outcome = ReadOutcome::live(value_bytes);
        self.report(Outcome::Read { key, reader, outcome, waiting: None });
    }

    #[inline(always)]
    fn observer(&self) -> Observer<'_> {
        Observer { cache: self.cache, conversation: self.conversation, now: self.now, watched: self.watched }
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

fn draft<'a>(store: &mut Store<'a>, now: Now) -> Draft<'a> {
    let value = std::mem::take(&mut store.value);
    let expiry = Expiry::from_exptime(store.exptime, now);
    Draft { expiry, flags: store.flags, tags: Tags::NONE, unique: None, version: None, value }
}

fn block(value: Value<'_>) -> Block<'_> {
    Block { bytes: value.bytes, shared: value.shared }
}

/// The memcached version that is emulated; clients enable features by it.
pub const MEMCACHED_VERSION: &str = "1.6.45";
