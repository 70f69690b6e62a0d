//! A connection: one read, all requests in it, one write.
//!
//! Unsent replies are bounded: while a peer does not read them, no requests are read from it, and at most
//! one reply exceeds the limit.

mod streaming;
mod waiting;
mod watching;

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time;

use super::client_limits::ClientAddress;
use super::invalidations;
use super::receiving::Room;
use super::service::Service;
use crate::cache::Access;
use crate::clock::Now;
use crate::command::{Conversation, Flow, execute};
use crate::metrics::{ConnectionStats, Count, State, Verb};
use crate::process::logging;
use crate::protocol::{
    Output, Protocols, Refusal, Replies, Reply, ReplyForm, Request, Requests, Status, Upcoming,
};

/// The state of a connection, apart from its requests.
///
/// Each future that a connection awaits takes up space in its task from the start. Rare waits are boxed, so
/// that ten thousand idle connections do not pay for them.
struct Connection<'s, S> {
    stats: &'s ConnectionStats,
    /// Bytes that arrived while a request waited for a lease.
    early: BytesMut,
    /// The form of its replies.
    form: ReplyForm,
    /// Whether it is only yielding to other connections.
    gives_way: &'s AtomicBool,
    /// When the idle time began: at the last complete request, or when its replies were sent.
    idle_since: time::Instant,
    output: Output,
    /// Memory for the request that is being received.
    room: &'s Room<'s>,
    service: &'s Service,
    conversation: Conversation,
    stream: S,
}

/// The reason why a connection is closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Closed {
    /// It was idle for too long in both directions.
    Idle,
    /// The peer closed it, or requested that.
    Peer,
    /// The peer sent bytes that cannot be parsed.
    Refused,
    /// A large request took too long to arrive, or its answer to be read, while others waited for its room.
    Slow,
    /// The server stops.
    Stopping,
}

/// The state of a request after one step.
enum Step<R> {
    /// It is answered; it may be the last one.
    Done(Option<Closed>),
    /// No complete request is here.
    Drained,
    /// It must wait, which is rare.
    Unfinished(R),
}

/// Clients can cause as many of these messages as they like.
static CLOSINGS: logging::Limit = logging::Limit::new();

/// Serves a connection until one side closes it.
pub(super) async fn serve<S>(
    service: &Service,
    thread: usize,
    stream: S,
    protocols: Protocols,
    stats: &ConnectionStats,
) -> io::Result<Closed>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (gives_way, room) = (AtomicBool::new(false), service.receiving.room());
    let mut connection = Connection::new(service, thread, stream, stats, &gives_way, &room);
    let ended = {
        let ended = connection.converse(protocols);
        let (mut ended, mut requested) = (pin!(ended), pin!(service.shutdown.requested()));
        let mut is_listening = false;
        poll_fn(|context| {
            // Requests that were read are answered first.
            if let Poll::Ready(ended) = ended.as_mut().poll(context) {
                return Poll::Ready(ended);
            }
            // The future is polled with each read, by a task with the same waker for its whole life: it
            // registers once, and then a check suffices.
            let is_stopping = match std::mem::replace(&mut is_listening, true) {
                true => service.shutdown.is_requested(),
                false => requested.as_mut().poll(context).is_ready(),
            };
            // A connection that is only yielding still has requests to answer.
            if is_stopping && !gives_way.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(Closed::Stopping));
            }
            if room.is_overdue() {
                return Poll::Ready(Ok(Closed::Slow));
            }
            Poll::Pending
        })
        .await
    };
    connection.conversation.close(&service.cache, service.now());
    if let Ok(closed) = ended {
        // Counted first: a client that sees the end may look at the counts at once.
        match closed {
            Closed::Idle => connection.conversation.counters().add(Count::IdleKicks),
            Closed::Slow => Box::pin(connection.close_slow()).await,
            Closed::Peer | Closed::Refused | Closed::Stopping => {}
        }
        connection.shut_down_stream().await;
        if let Some(suppressed) = CLOSINGS.admit(time::Instant::now()) {
            tracing::debug!(?closed, suppressed, "connection closed");
        }
    }
    ended
}

impl<'s, S: AsyncRead + AsyncWrite + Unpin> Connection<'s, S> {
    fn new(
        service: &'s Service,
        thread: usize,
        stream: S,
        stats: &'s ConnectionStats,
        gives_way: &'s AtomicBool,
        room: &'s Room<'s>,
    ) -> Self {
        let (metrics, counters) = (Arc::clone(&service.metrics), service.metrics.of_thread(thread));
        let mut conversation = Conversation::new(&service.cache, metrics, counters, service.rules);
        conversation.set_number(stats.number);
        conversation.set_origin(service.origins.of(ClientAddress::of(&stats.address)));
        stats.belongs_to(conversation.session().number());
        if let Some(users) = &service.users {
            conversation.lock(Arc::clone(users));
        }
        let (early, idle_since, output) = (BytesMut::new(), time::Instant::now(), Output::default());
        let form = ReplyForm::default();
        Connection { stats, early, form, gives_way, idle_since, output, room, service, conversation, stream }
    }

    async fn converse(&mut self, protocols: Protocols) -> io::Result<Closed> {
        let mut requests = Requests::new(protocols);
        self.limit(&mut requests);
        let (mut pipelines, service) = (false, self.service);
        loop {
            if let Some(closed) = self.read(&mut requests).await? {
                return Ok(closed);
            }
            let mut now = self.service.now();
            let (mut in_turn, mut fetched, mut is_answered) = (0, 0, false);
            loop {
                if pipelines && fetched == 0 {
                    fetched = self.service.cache.prefetch(requests.upcoming().map(access)).keys().len();
                }
                fetched = fetched.saturating_sub(1);
                let was_locked = self.conversation.is_locked();
                let closed = match self.step(&mut requests, now) {
                    Step::Drained => break,
                    Step::Done(closed) => closed,
                    Step::Unfinished(rest) => {
                        let closed = rest.await?;
                        now = service.now();
                        closed
                    }
                };
                if let Some(closed) = closed {
                    return Box::pin(self.close(closed)).await;
                }
                if was_locked || self.conversation.is_locked() {
                    self.limit(&mut requests);
                }
                if self.output.is_full() {
                    if let Some(closed) = self.flush().await? {
                        return Ok(closed);
                    }
                    now = self.service.now();
                }
                (in_turn, is_answered) = (in_turn + 1, true);
                if in_turn == self.service.requests_per_turn && requests.is_midway() {
                    self.conversation.counters().add(Count::ConnYields);
                    self.give_way().await;
                    (in_turn, now) = (0, self.service.now());
                }
            }
            // A client that has sent several requests at once will do so again. For others, previewing is
            // not worth it.
            pipelines = in_turn > 1;
            if is_answered {
                self.answered(&mut requests, now);
            }
            if let Some(closed) = self.flush().await? {
                return Ok(closed);
            }
            // While a peer that never pauses uses up tokio's whole budget, the shutdown future is not
            // polled.
            if self.service.shutdown.is_requested() {
                return Ok(Closed::Stopping);
            }
        }
    }

    /// Sets what the client may send before and after it has logged in.
    fn limit(&self, requests: &mut Requests) {
        requests.limit_values(self.conversation.value_bytes_max(&self.service.cache));
        requests.expect_login(self.conversation.is_locked());
    }

    /// Replies to a request that cannot be parsed.
    fn refuse(&mut self, refusal: Refusal) -> Option<Closed> {
        // Each one: that is what an operator wants who asks for `-vv`.
        tracing::trace!(?refusal, "refused");
        if refusal == Refusal::Binary {
            self.conversation.counters().add(Count::BinaryRefused);
            self.service.binary.call_once(warn_of_binary);
        }
        Replies::new(&mut self.output, &mut self.form).send(Reply::Refused(refusal));
        self.conversation.refuse();
        refusal.is_fatal().then_some(Closed::Refused)
    }

    /// Yields to the other connections of this thread.
    async fn give_way(&self) {
        self.gives_way.store(true, Ordering::Relaxed);
        tokio::task::yield_now().await;
        self.gives_way.store(false, Ordering::Relaxed);
    }

    /// If this request is sampled, returns its verb and start time.
    #[inline]
    fn begin_measuring(&mut self, request: &Request) -> Option<(Verb, Duration)> {
        self.conversation.begin_sample(request).map(|verb| (verb, self.service.clock.elapsed()))
    }

    #[inline(always)]
    fn end_measuring(&mut self, measured: Option<(Verb, Duration)>) {
        if let Some((verb, began)) = measured {
            self.conversation.end_sample(verb, self.service.clock.elapsed() - began);
        }
    }

    /// Answers the next request.
    #[inline]
    fn step<'p>(
        &'p mut self,
        requests: &'p mut Requests,
        now: Now,
    ) -> Step<Pin<Box<impl Future<Output = io::Result<Option<Closed>>> + use<'p, 's, S>>>> {
        let mut request = match requests.decode(&mut self.form) {
            None => return Step::Drained,
            Some(Err(refusal)) => return Step::Done(self.refuse(refusal)),
            Some(Ok(request)) => request,
        };
        let measured = self.begin_measuring(&request);
        match self.begin(&mut request, now) {
            Flow::Next => {
                self.end_measuring(measured);
                Step::Done(None)
            }
            flow => Step::Unfinished(Box::pin(async move {
                let closed = self.finish(flow, &mut request, now).await;
                self.end_measuring(measured);
                closed
            })),
        }
    }

    #[inline]
    fn begin(&mut self, request: &mut Request<'_>, now: Now) -> Flow {
        self.stats.is(State::Parse);
        let replies = Replies::new(&mut self.output, &mut self.form);
        execute(request, &self.service.cache, &mut self.conversation, replies, now)
    }

    /// Completes a request that must wait.
    async fn finish(
        &mut self,
        mut flow: Flow,
        request: &mut Request<'_>,
        mut now: Now,
    ) -> io::Result<Option<Closed>> {
        self.room.arrived();
        loop {
            match flow {
                Flow::Close => return Ok(Some(Closed::Peer)),
                Flow::Invalidated(invalidation) => {
                    invalidations::log(&self.stats.address, self.conversation.user(), &invalidation);
                    return Ok(None);
                }
                Flow::Next => return Ok(None),
                Flow::LoginFailed { is_last } => {
                    self.delay_login_reply(now).await;
                    return Ok(is_last.then_some(Closed::Peer));
                }
                Flow::Pause => {
                    if let Some(closed) = self.flush().await? {
                        return Ok(Some(closed));
                    }
                    // Otherwise a peer that accepts everything at once would keep the others waiting.
                    self.give_way().await;
                }
                Flow::RefreshCertificates => {
                    self.refresh_certificates();
                    return Ok(None);
                }
                Flow::Shutdown(how) => {
                    self.service.shutdown.request(how);
                    return Ok(Some(Closed::Stopping));
                }
                Flow::Verbosity(level) => {
                    let level = logging::set(level);
                    self.service.metrics.verbosity.store(level, Ordering::Relaxed);
                    return Ok(None);
                }
                Flow::Wait { key, until } => {
                    if let Some(closed) = self.flush().await? {
                        return Ok(Some(closed));
                    }
                    let key = self.service.cache.key(&key).expect("it was a key a moment ago");
                    self.wait(&key, until, now).await;
                }
                Flow::Watch(number) => return self.watch(number).await.map(Some),
            }
            now = self.service.now();
            flow = self.begin(request, now);
        }
    }

    fn refresh_certificates(&mut self) {
        let refreshed = self.service.refresh_certificates();
        if let Some(suppressed) = REFRESHES.admit(time::Instant::now()) {
            tracing::info!(?refreshed, suppressed, "a client requested a reload of the certificates");
        }
        let mut replies = Replies::new(&mut self.output, &mut self.form);
        match refreshed {
            Ok(()) => replies.status(Status::Ok),
            Err(error) => replies.send(Reply::Failed(&error.to_string())),
        }
    }

    /// Delays the answer to a wrong password, longer after more wrong ones from the same address.
    async fn delay_login_reply(&self, now: Now) {
        let client = ClientAddress::of(&self.stats.address);
        let delay = self.service.wrong_password(client, self.conversation.counters(), now);
        tracing::debug!(address = %self.stats.address, ?delay, "a wrong password");
        time::sleep(delay).await;
    }
}

static REFRESHES: logging::Limit = logging::Limit::new();

fn warn_of_binary() {
    tracing::warn!(
        "a client speaks memcached's binary protocol, which -B ascii, -l proto[ascii] and -Y without -S refuse: \
         set it to the text protocol, or start with -B auto or -S (logged once; binary_refused in stats counts them)"
    );
}

fn access(Upcoming { key, is_read }: Upcoming<'_>) -> (&[u8], Access) {
    (key, if is_read { Access::Read } else { Access::Change })
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use parking_lot::Mutex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::cache::Cache;
    use crate::clock::Clock;
    use crate::command::Users;
    use crate::metrics::{Address, Metrics};
    use crate::options::Options;
    use crate::protocol::Shutdown;

    /// SIGTERM used to be ignored as long as one client pipelined without a pause: tokio polls the shutdown
    /// future only while the task has budget left, and such a client always uses it up.
    #[tokio::test]
    async fn a_client_that_never_pauses_does_not_prevent_a_shutdown() {
        let service = service();
        service.shutdown.request(Shutdown::AtOnce);
        let (mut busy, busy_end) = duplex(1 << 20);
        busy.write_all(&b"append none 0 0 1\r\nx\r\n".repeat(10_000)).await.unwrap();
        serve(&service, 0, busy_end, Protocols::Any, &unknown()).await.unwrap();

        let mut replies = String::new();
        busy.read_to_string(&mut replies).await.unwrap();
        let (answered, done) = (replies.lines().count() as u64, service.metrics.total(Count::CmdSet));
        assert!((1..1_000).contains(&done), "{done} requests: only those of the first read");
        assert_eq!(answered, done);
    }

    /// Thousands of one-byte appends to a large value, sent at once and without waiting, used to delay all
    /// other connections of the worker for seconds: all requests of one read were executed without
    /// yielding.
    #[tokio::test]
    async fn a_pipeline_does_not_delay_other_connections() {
        let service = service();
        let (mut busy, busy_end) = duplex(1 << 20);
        let (mut other, other_end) = duplex(1 << 20);
        busy.write_all(&b"append none 0 0 1 noreply\r\nx\r\n".repeat(10_000)).await.unwrap();
        other.write_all(b"stats\r\nquit\r\n").await.unwrap();
        busy.shutdown().await.unwrap();
        other.shutdown().await.unwrap();
        let unknown = unknown();
        let (first, second) = tokio::join!(
            serve(&service, 0, busy_end, Protocols::Any, &unknown),
            serve(&service, 0, other_end, Protocols::Any, &unknown)
        );
        first.and(second).unwrap();

        let mut stats = String::new();
        other.read_to_string(&mut stats).await.unwrap();
        let stored: u64 =
            stats.split("cmd_set ").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
        assert!(stored < 1_000, "{stored} requests of another connection came first");
    }

    /// A client that sent one byte now and then was never idle, and held its connection for ever.
    #[tokio::test(start_paused = true)]
    async fn bytes_that_complete_no_request_do_not_prolong_the_idle_time() {
        let service = Service { idle: Some(Duration::from_secs(10)), ..service() };
        for (request, seconds) in [
            (&b"version\r\nget"[..], 10),
            // Large values have the time that they have while others wait for room.
            (b"version\r\nset a 0 0 1048574\r\n", 13),
            (b"set a 0 0 9\r\n", 10),
        ] {
            let (mut client, end) = duplex(1 << 20);
            client.write_all(request).await.unwrap();
            let (unknown, began) = (unknown(), time::Instant::now());
            let drip = async {
                while client.write_all(b"k").await.is_ok() && began.elapsed().as_secs() < 100 {
                    time::advance(Duration::from_secs(1)).await;
                }
            };
            let (closed, ()) = tokio::join!(serve(&service, 0, end, Protocols::Any, &unknown), drip);
            assert_eq!(closed.unwrap(), Closed::Idle);
            let elapsed = began.elapsed().as_secs();
            assert!((seconds..=seconds + 1).contains(&elapsed), "{request:?}: {elapsed} s");
        }
        assert_eq!(service.metrics.total(Count::IdleKicks), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn each_complete_request_restarts_the_idle_time() {
        let service = Service { idle: Some(Duration::from_secs(10)), ..service() };
        let (mut client, end) = duplex(1 << 20);
        let (unknown, began) = (unknown(), time::Instant::now());
        let requests = async {
            for _ in 0..9 {
                client.write_all(b"version\r\n").await.unwrap();
                client.read_exact(&mut [0; b"VERSION 1.6.45\r\n".len()]).await.unwrap();
                time::advance(Duration::from_secs(9)).await;
            }
        };
        let (closed, ()) = tokio::join!(serve(&service, 0, end, Protocols::Any, &unknown), requests);
        assert_eq!((closed.unwrap(), began.elapsed().as_secs()), (Closed::Idle, 82));
    }

    /// The answer to a wrong password is delayed, longer each time; clients with the right password are
    /// answered at once meanwhile.
    #[tokio::test(start_paused = true)]
    async fn wrong_passwords_delay_only_the_client_that_sent_them() {
        let users = Users::parse(b"ann:right\n").map(|users| Arc::new(Mutex::new(users)));
        let service = Service { users, ..service() };
        let (mut thief, thief_end) = duplex(1 << 20);
        let (mut ann, ann_end) = duplex(1 << 20);
        thief.write_all(&b"set k 0 0 9\r\nann wrong\r\n".repeat(2)).await.unwrap();
        ann.write_all(b"set k 0 0 9\r\nann right\r\nversion\r\n").await.unwrap();
        thief.shutdown().await.unwrap();
        ann.shutdown().await.unwrap();
        let (unknown, began) = (unknown(), time::Instant::now());
        // Time advances only when both wait for it.
        let waited = async |end, peer: &mut tokio::io::DuplexStream, expected: &str| {
            serve(&service, 0, end, Protocols::Any, &unknown).await.unwrap();
            let waited = began.elapsed();
            let mut replies = String::new();
            peer.read_to_string(&mut replies).await.unwrap();
            assert_eq!(replies, expected);
            waited.as_millis()
        };
        let failed = "CLIENT_ERROR authentication failure\r\n".repeat(2);
        let waits = tokio::join!(
            waited(thief_end, &mut thief, &failed),
            waited(ann_end, &mut ann, "STORED\r\nVERSION 1.6.45\r\n"),
        );
        assert_eq!(waits, (300, 0));
        assert_eq!(service.metrics.total(Count::AuthDelayMs), 300);
    }

    /// A login by SASL is slowed like one by `set`, and three wrong ones close the connection.
    #[tokio::test(start_paused = true)]
    async fn wrong_passwords_of_the_binary_protocol_are_delayed() {
        let users = Users::parse(b"ann:right\n").map(|users| Arc::new(Mutex::new(users)));
        let service = Service { users, ..service() };
        let (mut thief, thief_end) = duplex(1 << 20);
        let login = b"\x80\x21\0\x05\0\0\0\0\0\0\0\x0f\0\0\0\0\0\0\0\0\0\0\0\0PLAIN\0ann\0wrong";
        thief.write_all(&login.repeat(4)).await.unwrap();
        thief.shutdown().await.unwrap();
        let (unknown, began) = (unknown(), time::Instant::now());
        assert_eq!(serve(&service, 0, thief_end, Protocols::Any, &unknown).await.unwrap(), Closed::Peer);
        assert_eq!(began.elapsed().as_millis(), 700);
        let mut replies = Vec::new();
        thief.read_to_end(&mut replies).await.unwrap();
        let failed = b"\x81\x21\0\0\0\0\0\x20\0\0\0\x0d\0\0\0\0\0\0\0\0\0\0\0\0Auth failure.";
        assert!(replies == failed.repeat(3), "{}", replies.escape_ascii());
    }

    /// A value of the binary protocol that takes too long is answered with its opaque.
    #[tokio::test]
    async fn a_stalled_value_of_the_binary_protocol_is_given_up() {
        let service = service();
        let (mut stalled, stalled_end) = duplex(1 << 20);
        let set = b"\x80\x01\0\x01\x08\0\0\0\0\x0f\x42\x40\0\0\0\x07\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0kbegin";
        stalled.write_all(set).await.unwrap();
        let (mut next, next_end) = duplex(4 << 20);
        let value = [b"set b 0 0 1000000\r\n", &b"v".repeat(1_000_000)[..], b"\r\nquit\r\n"].concat();
        next.write_all(&value).await.unwrap();
        next.shutdown().await.unwrap();
        let unknown = unknown();
        let others = async {
            while service.metrics.receive_waits.load(Ordering::Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
            service.receiving.close_slow(service.now());
            service.clock.advance(Duration::from_secs(3));
            service.receiving.close_slow(service.now());
            let mut reply = Vec::new();
            stalled.read_to_end(&mut reply).await.unwrap();
            let failed = b"\x81\x01\0\0\0\0\0\x86\0\0\0\x11\0\0\0\x07\0\0\0\0\0\0\0\0Temporary failure";
            assert!(reply == failed, "{}", reply.escape_ascii());
            drop(stalled);
        };
        let (first, second, ()) = tokio::join!(
            serve(&service, 0, stalled_end, Protocols::Any, &unknown),
            serve(&service, 0, next_end, Protocols::Any, &unknown),
            others,
        );
        assert_eq!((first.unwrap(), second.unwrap()), (Closed::Slow, Closed::Peer));
    }

    /// A client that stops in the middle of a large value loses its room to the next one, which is stored;
    /// small requests are answered all the time.
    #[tokio::test]
    async fn a_stalled_large_value_makes_room_for_the_next() {
        let service = service();
        let (mut stalled, stalled_end) = duplex(1 << 20);
        let (mut next, next_end) = duplex(4 << 20);
        let (mut small, small_end) = duplex(1 << 20);
        stalled.write_all(b"set a 0 0 1000000\r\nbegin").await.unwrap();
        let value = [b"set b 0 0 1000000\r\n", &b"v".repeat(1_000_000)[..], b"\r\nquit\r\n"].concat();
        next.write_all(&value).await.unwrap();
        next.shutdown().await.unwrap();
        small.write_all(b"set c 0 0 1\r\nv\r\nquit\r\n").await.unwrap();
        small.shutdown().await.unwrap();
        let unknown = unknown();
        let others = async {
            while service.metrics.receive_waits.load(Ordering::Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
            serve(&service, 0, small_end, Protocols::Any, &unknown).await.unwrap();
            service.receiving.close_slow(service.now());
            service.clock.advance(Duration::from_secs(3));
            service.receiving.close_slow(service.now());
            assert_eq!(service.metrics.total(Count::CmdSet), 1, "the large values have not arrived");
            let mut reply = String::new();
            stalled.read_to_string(&mut reply).await.unwrap();
            assert_eq!(reply, "SERVER_ERROR large request took too long while others waited\r\n");
            drop(stalled);
        };
        let (first, second, ()) = tokio::join!(
            serve(&service, 0, stalled_end, Protocols::Any, &unknown),
            serve(&service, 0, next_end, Protocols::Any, &unknown),
            others,
        );
        assert_eq!((first.unwrap(), second.unwrap()), (Closed::Slow, Closed::Peer));
        let mut reply = String::new();
        next.read_to_string(&mut reply).await.unwrap();
        assert_eq!(reply, "STORED\r\n");
        assert_eq!(service.metrics.total(Count::ReceiveTimeouts), 1);
        assert_eq!(service.metrics.receive_bytes.load(Ordering::Relaxed), 0);
    }

    /// A client that sends one large value after another gives way to those that wait.
    #[tokio::test]
    async fn large_values_of_two_clients_take_turns() {
        let service = service();
        let (mut first, first_end) = duplex(4 << 20);
        let (mut many, many_end) = duplex(32 << 20);
        let (mut last, last_end) = duplex(4 << 20);
        let value = [b"set a 0 0 1000000\r\n", &b"v".repeat(1_000_000)[..], b"\r\n"].concat();
        first.write_all(&value[..500_000]).await.unwrap();
        many.write_all(&value.repeat(20)).await.unwrap();
        last.write_all(&[&value[..], b"stats\r\n"].concat()).await.unwrap();
        many.shutdown().await.unwrap();
        last.shutdown().await.unwrap();
        let unknown = unknown();
        let finish_first = async {
            while service.metrics.receive_waits.load(Ordering::Relaxed) < 2 {
                tokio::task::yield_now().await;
            }
            first.write_all(&value[500_000..]).await.unwrap();
            first.shutdown().await.unwrap();
        };
        let (first, many, last_served, ()) = tokio::join!(
            serve(&service, 0, first_end, Protocols::Any, &unknown),
            serve(&service, 0, many_end, Protocols::Any, &unknown),
            serve(&service, 0, last_end, Protocols::Any, &unknown),
            finish_first,
        );
        first.and(many).and(last_served).unwrap();
        let mut stats = String::new();
        last.read_to_string(&mut stats).await.unwrap();
        assert!(stats.contains("STAT cmd_set 3\r\n"), "{stats}");
    }

    fn service() -> Service {
        let options = Options::try_parse_from(["leasehold", "-t", "1", "--receive-limit", "1"]).unwrap();
        Service::new(Cache::new(options.cache()), Clock::manual(), Metrics::new(1, 1), &options)
    }

    fn unknown() -> ConnectionStats {
        ConnectionStats::new(0, Address::Unix("".into()), None, 0)
    }
}
