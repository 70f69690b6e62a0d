//! The state of one connection that commands use.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;

use super::access::{AUTH_BYTES_MAX, Locked, Users};
use crate::cache::{Cache, Origin, Seq, Session};
use crate::clock::Now;
use crate::metrics::{Counters, Metrics, Samples, Topic, Topics, Verb};
use crate::protocol::{Replies, Request};

/// The reply to a plain `set` that the fence refused.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ImplicitReply {
    /// `NOT_STORED`
    NotStored,
    /// `STORED`, as if it had been stored and evicted at once.
    #[default]
    Stored,
}

/// The rules that the operator sets for all connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rules {
    /// The answer to a refused `set`.
    pub implicit_reply: ImplicitReply,
    /// Whether the commands that list keys are allowed: the dumps and `stats detail`.
    pub may_dump: bool,
    /// Whether `flush_all` is allowed.
    pub may_flush: bool,
    /// Whether `shutdown` is allowed.
    pub may_shut_down: bool,
    /// Whether `watch` is allowed.
    pub may_watch: bool,
}

impl Default for Rules {
    fn default() -> Self {
        let implicit_reply = ImplicitReply::default();
        Rules { implicit_reply, may_dump: true, may_flush: true, may_shut_down: false, may_watch: true }
    }
}

/// A connection from the commands' point of view.
pub struct Conversation {
    pub(super) counters: Arc<Counters>,
    /// Whether a request was malformed since the last reply was sent.
    is_refused: bool,
    /// Whether the current request is sampled.
    pub(super) is_sample: bool,
    pub(super) metrics: Arc<Metrics>,
    /// The number of its descriptor, for events.
    pub(super) number: u32,
    /// `None` until it is needed, so that an idle connection does not pay for it.
    rare: Option<Box<Rare>>,
    pub(super) session: Session,
    pub(super) rules: Rules,
    /// Whether the connection waits for the current key.
    waits: bool,
}

/// The state that most connections never have.
#[derive(Default)]
struct Rare {
    /// When the current `lease-get` began, and until when it may wait.
    lease_get: Option<(Seq, Option<u64>)>,
    /// Set while a login is required and has not succeeded yet.
    locked: Option<Locked>,
    /// The name under which it has logged in.
    user: Option<Box<[u8]>>,
    /// The users, if a login is required.
    users: Option<Arc<Mutex<Users>>>,
    /// Its number as a watcher, and its topics.
    watching: Option<(u64, Topics)>,
}

/// The state of waiting for a key, after a read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Waiting {
    /// It has begun, or continues.
    Begun,
    /// It has ended: the value is there.
    Filled,
    /// It has ended: there is no value, and nothing to wait for.
    Free,
    /// It has ended: the time is up.
    TimedOut,
}

impl Conversation {
    /// The conversation of a new connection on the worker thread that owns `counters`.
    pub fn new(cache: &Cache, metrics: Arc<Metrics>, counters: Arc<Counters>, rules: Rules) -> Self {
        Conversation::of(cache.session(), metrics, counters, rules)
    }

    /// A conversation of the server itself. It does not count as a client, so that a sequential program still
    /// counts as alone.
    pub fn internal(cache: &Cache, metrics: Arc<Metrics>, counters: Arc<Counters>, rules: Rules) -> Self {
        Conversation::of(cache.internal_session(), metrics, counters, rules)
    }

    fn of(session: Session, metrics: Arc<Metrics>, counters: Arc<Counters>, rules: Rules) -> Self {
        Conversation {
            counters,
            is_refused: false,
            is_sample: false,
            metrics,
            number: 0,
            rare: None,
            session,
            rules,
            waits: false,
        }
    }

    /// Sets the number that events show for this connection.
    pub fn set_number(&mut self, number: u32) {
        self.number = number;
    }

    /// Records a malformed request: the following bytes may be the rest of it.
    pub fn refuse(&mut self) {
        self.is_refused = true;
    }

    /// Records whether this request arrived before the last reply was sent.
    #[inline]
    pub(super) fn observe_pipelining(&mut self, replies: &Replies, now: Now) {
        if replies.is_empty() {
            self.is_refused = false;
        } else if !self.is_refused {
            self.session.pipelines(now);
        }
    }

    /// Sets the origin, which may have other connections.
    pub fn set_origin(&mut self, origin: Arc<Origin>) {
        self.session.comes_from(origin);
    }

    /// From now on a login is required before all other commands.
    pub fn lock(&mut self, users: Arc<Mutex<Users>>) {
        let rare = self.rare();
        rare.locked = Some(Locked::new(Arc::clone(&users)));
        rare.users = Some(users);
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Set while a login is required and has not succeeded yet.
    pub(super) fn locked(&mut self) -> Option<&mut Locked> {
        self.rare.as_mut()?.locked.as_mut()
    }

    /// The login has succeeded, under this name.
    pub(super) fn unlock(&mut self, name: Option<&[u8]>) {
        let rare = self.rare();
        (rare.locked, rare.user) = (None, name.map(Box::from));
    }

    /// Requires a new login, if one is required at all.
    pub(super) fn log_out(&mut self) {
        if let Some(rare) = &mut self.rare {
            (rare.locked, rare.user) = (rare.users.clone().map(Locked::new), None);
        }
    }

    /// Whether a login is required and has not succeeded yet.
    pub fn is_locked(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.locked.is_some())
    }

    /// The name under which it has logged in, if that was required.
    pub fn user(&self) -> Option<&[u8]> {
        self.rare.as_ref()?.user.as_deref()
    }

    /// The longest value that is accepted in the current state.
    pub fn value_bytes_max(&self, cache: &Cache) -> usize {
        if self.is_locked() { AUTH_BYTES_MAX } else { cache.config().value_bytes_max }
    }

    /// The state of this connection in the cache.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The counters of this connection's thread.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Decides whether the next request is sampled, and returns its verb; called once for each request.
    #[inline]
    pub fn begin_sample(&mut self, request: &Request) -> Option<Verb> {
        self.is_sample = self.metrics.samples.is_some() && self.counters.is_sample();
        self.is_sample.then(|| verb(request))
    }

    /// Records the duration of the sampled request.
    pub fn end_sample(&mut self, verb: Verb, took: Duration) {
        if let Some(samples) = self.samples() {
            samples.latencies.add(verb, took);
        }
    }

    /// The samples, if the current request is sampled.
    #[inline]
    pub(super) fn samples(&self) -> Option<&Samples> {
        if self.is_sample { self.metrics.samples.as_ref() } else { None }
    }

    /// Closes the conversation: releases its leases, and stops watching.
    pub fn close(&mut self, cache: &Cache, now: Now) {
        self.stop_watching(cache);
        cache.leave(&mut self.session, now);
    }

    /// The lines for this connection as the watcher of that number
    /// ([`Watchers::take`](crate::metrics::Watchers::take)).
    pub fn watched_lines(&self, number: u64, waker: &Waker) -> Option<Vec<u8>> {
        self.metrics.watchers.take(number, waker)
    }

    fn lease_get(&mut self) -> Option<&mut (Seq, Option<u64>)> {
        self.rare.as_mut()?.lease_get.as_mut()
    }

    /// Ends the waiting: missing values are answered as if the time was up.
    pub fn stop_waiting(&mut self) {
        if let Some((_, deadline)) = self.lease_get() {
            *deadline = Some(0);
        }
    }

    /// Starts watching; returns its number, unless there are too many watchers.
    pub(super) fn watch(&mut self, cache: &Cache, topics: Topics) -> Option<u64> {
        self.stop_watching(cache);
        // Evictions recorded for an earlier watcher must not appear as new.
        self.forget_evicted(cache);
        let number = self.metrics.watchers.watch(topics)?;
        if topics.has(Topic::Evictions) {
            cache.begin_collecting();
        }
        self.rare().watching = Some((number, topics));
        Some(number)
    }

    fn stop_watching(&mut self, cache: &Cache) {
        let watching = self.rare.as_mut().and_then(|rare| rare.watching.take());
        let Some((number, topics)) = watching else { return };
        self.metrics.watchers.leave(number);
        if topics.has(Topic::Evictions) {
            cache.end_collecting();
            self.forget_evicted(cache);
        }
    }

    /// Drops the recorded evictions, if no one watches them.
    fn forget_evicted(&self, cache: &Cache) {
        if !self.metrics.watchers.topics().has(Topic::Evictions) {
            drop(cache.take_evicted());
        }
    }

    pub(super) fn begin_leases(&mut self, last: Seq) -> Seq {
        self.rare().lease_get.get_or_insert((last, None)).0
    }

    /// The deadline of a command's waiting: one budget for all its keys, counted from its beginning.
    pub(super) fn begin_waiting(&mut self, wait_ms: u32, now: Now) -> u64 {
        let (_, deadline) = self.lease_get().expect("begin_leases comes first");
        *deadline.get_or_insert(now.millis + u64::from(wait_ms.min(LEASE_WAIT_MS_MAX)))
    }

    /// Whether the waiting time is not up, or has not begun.
    pub(super) fn may_wait(&self, now: Now) -> bool {
        let deadline = self.rare.as_ref().and_then(|rare| rare.lease_get?.1);
        deadline.is_none_or(|deadline| now.millis < deadline)
    }

    /// Records the state of waiting for the current key; returns it if waiting begins or ends with it.
    #[inline]
    pub(super) fn record_waiting(&mut self, waiting: Waiting) -> Option<Waiting> {
        let waits = waiting == Waiting::Begun;
        (std::mem::replace(&mut self.waits, waits) != waits).then_some(waiting)
    }

    #[inline]
    pub(super) fn end_leases(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.lease_get = None;
        }
    }
}

/// The group in which a request is measured.
fn verb(request: &Request) -> Verb {
    match request {
        Request::Delete { .. } | Request::MetaDelete(_) => Verb::Delete,
        Request::Get { .. } | Request::GetAndTouch { .. } | Request::MetaRead(_) => Verb::Get,
        Request::FlushAll { .. } | Request::Invalidate { .. } => Verb::Invalidate,
        Request::LeaseGet { .. } => Verb::LeaseGet,
        Request::LeaseSet(_) => Verb::LeaseSet,
        Request::Add(_)
        | Request::Append(_)
        | Request::Cas(..)
        | Request::Decr { .. }
        | Request::Incr { .. }
        | Request::MetaCount(..)
        | Request::MetaSet(..)
        | Request::Prepend(_)
        | Request::Replace(_)
        | Request::Set(_)
        | Request::TooLarge { .. }
        | Request::Touch { .. } => Verb::Set,
        Request::CacheMemlimit { .. }
        | Request::Dump(_)
        | Request::Ignored
        | Request::MetaDebug(_)
        | Request::MetaGet { .. }
        | Request::Noop
        | Request::Quit
        | Request::RefreshCertificates
        | Request::Sasl(_)
        | Request::Shutdown { .. }
        | Request::Stats(_)
        | Request::Verbosity { .. }
        | Request::Version
        | Request::Watch { .. } => Verb::Other,
    }
}

/// The longest wait; longer ones are shortened to this.
pub const LEASE_WAIT_MS_MAX: u32 = 60_000;
