//! A connection: one read, all requests in it, one write.
//!
//! Unsent replies are bounded: while a peer does not read them, no requests are read from it, and at most
//! one reply exceeds the limit.

mod streaming;
mod waiting;
mod watching;

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time;

use super::client_limits::ClientAddress;
use super::invalidations;
use super::permit::{Closed, ConnectionPermit};
use super::receiving::Room;
use super::service::Service;
use super::tasks::Task;
use super::workspace::{self, Answering, Turn, Workspace};
use crate::cache::Access;
use crate::command::{Conversation, Flow, execute};
use crate::metrics::{Count, State, Verb};
use crate::process::logging;
use crate::protocol::{Protocols, Refusal, Reply, Request, Requests, Resting, Status, Upcoming};

/// A connection while it is idle. While it has requests, a [`Workspace`] comes on top.
///
/// All that its future keeps while it waits takes up space in its task, whichever wait it is for. Rare waits
/// are boxed, and fields that are only needed between two reads are in the workspace, so that ten thousand
/// idle connections do not pay for them.
pub(super) struct Connection<S> {
    /// Boxed, because small pieces of memory fit into the gaps that large ones leave.
    conversation: Box<Conversation>,
    /// When the idle time began: at the last complete request, or when its replies were sent; in nanoseconds
    /// since the service began.
    idle_since: u64,
    permit: ConnectionPermit,
    /// Whether the last requests came together.
    pipelines: bool,
    resting: Resting,
    stream: S,
}

/// The workspace of a connection; `None` while it is idle.
type Lent = Option<Box<Workspace>>;

/// The end of a connection.
#[derive(Debug)]
enum End {
    Closed(Closed),
    Lost(io::Error),
}

/// The end of a request, which may be the last one.
type Answered = Result<Option<Closed>, End>;

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

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// A connection that is served by the worker thread of this number.
    pub(super) fn new(permit: ConnectionPermit, thread: usize, stream: S, protocols: Protocols) -> Self {
        let (service, stats) = (permit.service(), permit.stats());
        let (metrics, counters) = (Arc::clone(&service.metrics), service.metrics.of_thread(thread));
        let conversation = Conversation::new(&service.cache, metrics, counters, service.rules);
        let mut conversation = Box::new(conversation);
        conversation.set_number(stats.number);
        conversation.set_origin(service.origins.of(ClientAddress::of(&stats.address)));
        stats.belongs_to(conversation.session().number());
        if let Some(users) = &service.users {
            conversation.lock(Arc::clone(users));
        }
        let (idle_since, resting) = (service.nanos(), Resting::new(protocols));
        Connection { conversation, idle_since, permit, pipelines: false, resting, stream }
    }

    /// Serves the connection until one side closes it, as this task.
    ///
    /// This is the future of the task: an `async fn` would have its arguments twice, and each future around
    /// it would take up space, too.
    #[expect(clippy::manual_async_fn, reason = "it is smaller")]
    pub(super) fn serve(mut self, task: Task) -> impl Future<Output = io::Result<Closed>> {
        async move {
            task.register().await;
            let mut lent = None;
            let Err(end) = self.converse(&mut lent).await;
            Box::pin(self.end(end, lent, task)).await
        }
    }

    #[expect(clippy::manual_async_fn, reason = "it is smaller")]
    fn converse(&mut self, lent: &mut Lent) -> impl Future<Output = Result<Infallible, End>> {
        async move {
            loop {
                let received = match self.reads_in_time(lent) {
                    true => Box::pin(self.read_in_time(lent)).await,
                    false => poll_fn(|context| self.poll_read(context, lent)).await,
                };
                let received = received?;
                let workspace = lent.get_or_insert_with(|| self.lend());
                self.received(workspace, received);
                workspace.answering.turn = Turn::new(self.permit.service().now());
                loop {
                    let Workspace { answering, requests } = &mut **workspace;
                    if self.pipelines {
                        self.prefetch(&mut answering.turn, requests);
                    }
                    let closed = match self.step(answering, requests) {
                        Step::Drained => break,
                        Step::Done(closed) => closed,
                        Step::Unfinished(rest) => rest.await?,
                    };
                    if let Some(closed) = closed {
                        return Err(Box::pin(self.close(&mut workspace.answering, closed)).await);
                    }
                    if workspace.answering.output.is_full() {
                        Box::pin(self.flush(&mut workspace.answering)).await?;
                        workspace.answering.turn.now = self.permit.service().now();
                    }
                    if self.yields(workspace) {
                        tokio::task::yield_now().await;
                        workspace.answering.turn.continues(self.permit.service().now());
                    }
                }
                self.answered(workspace);
                if !poll_fn(|context| Poll::Ready(self.try_flush(context, &mut workspace.answering))).await? {
                    Box::pin(self.flush_slowly(&mut workspace.answering)).await?;
                }
                // While a peer that never pauses uses up tokio's whole budget, no wait looks at this.
                if self.permit.service().shutdown.is_requested() {
                    return Err(Closed::Stopping.into());
                }
            }
        }
    }

    /// Ends the connection.
    async fn end(mut self, end: End, lent: Lent, task: Task) -> io::Result<Closed> {
        self.conversation.close(&self.permit.service().cache, self.permit.service().now());
        let ended = match end {
            End::Closed(closed) => {
                // Counted first: a client that sees the end may look at the counts at once.
                match closed {
                    Closed::Idle => self.conversation.counters().add(Count::IdleKicks),
                    Closed::Slow => self.close_slow(lent).await,
                    Closed::Peer | Closed::Refused | Closed::Stopping => {}
                }
                self.shut_down_stream().await;
                if let Some(suppressed) = CLOSINGS.admit(time::Instant::now()) {
                    tracing::debug!(?closed, suppressed, "connection closed");
                }
                Ok(closed)
            }
            End::Lost(error) => Err(error),
        };
        let Connection { permit, stream, .. } = self;
        drop(stream);
        permit.close(&ended);
        drop(task);
        ended
    }

    /// Counts an answered request. Returns whether other connections of this thread come before the next one.
    fn yields(&self, workspace: &mut Workspace) -> bool {
        let (service, turn) = (self.permit.service(), &mut workspace.answering.turn);
        (turn.answered, turn.is_answered) = (turn.answered + 1, true);
        if service.users.is_some() {
            // It may have been a login.
            self.limit(&mut workspace.requests);
        }
        let yields = turn.answered == service.requests_per_turn && workspace.requests.is_midway();
        if yields {
            self.conversation.counters().add(Count::ConnYields);
        }
        yields
    }

    /// Sets what the client may send before and after it has logged in.
    fn limit(&self, requests: &mut Requests) {
        requests.limit_values(self.conversation.value_bytes_max(&self.permit.service().cache));
        requests.expect_login(self.conversation.is_locked());
    }

    /// A workspace for what the connection is going to receive.
    fn lend(&self) -> Box<Workspace> {
        let mut workspace = workspace::lend(self.resting);
        self.limit(&mut workspace.requests);
        workspace
    }

    /// Prefetches the memory of the next few requests.
    #[inline]
    fn prefetch(&self, turn: &mut Turn, requests: &Requests) {
        if turn.prefetched == 0 {
            turn.prefetched =
                self.permit.service().cache.prefetch(requests.upcoming().map(access)).keys().len();
        }
        turn.prefetched = turn.prefetched.saturating_sub(1);
    }

    /// Replies to a request that cannot be parsed.
    fn refuse(&mut self, answering: &mut Answering, refusal: Refusal) -> Option<Closed> {
        // Each one: that is what an operator wants who asks for `-vv`.
        tracing::trace!(?refusal, "refused");
        if refusal == Refusal::Binary {
            self.conversation.counters().add(Count::BinaryRefused);
            self.permit.service().binary.call_once(warn_of_binary);
        }
        answering.replies().send(Reply::Refused(refusal));
        self.conversation.refuse();
        refusal.is_fatal().then_some(Closed::Refused)
    }

    /// If this request is sampled, returns its verb and start time.
    #[inline]
    fn begin_measuring(&mut self, request: &Request) -> Option<(Verb, Duration)> {
        self.conversation.begin_sample(request).map(|verb| (verb, self.permit.service().clock.elapsed()))
    }

    #[inline(always)]
    fn end_measuring(&mut self, measured: Option<(Verb, Duration)>) {
        if let Some((verb, began)) = measured {
            self.conversation.end_sample(verb, self.permit.service().clock.elapsed() - began);
        }
    }

    /// Answers the next request.
    #[inline]
    fn step<'p>(
        &'p mut self,
        answering: &'p mut Answering,
        requests: &'p mut Requests,
    ) -> Step<Pin<Box<impl Future<Output = Answered> + use<'p, S>>>> {
        let mut request = match requests.decode(&mut answering.form) {
            None => return Step::Drained,
            Some(Err(refusal)) => return Step::Done(self.refuse(answering, refusal)),
            Some(Ok(request)) => request,
        };
        let measured = self.begin_measuring(&request);
        match self.begin(answering, &mut request) {
            Flow::Next => {
                self.end_measuring(measured);
                Step::Done(None)
            }
            flow => Step::Unfinished(Box::pin(async move {
                let closed = self.finish(answering, flow, &mut request).await;
                self.end_measuring(measured);
                answering.turn.now = self.permit.service().now();
                closed
            })),
        }
    }

    #[inline]
    fn begin(&mut self, answering: &mut Answering, request: &mut Request<'_>) -> Flow {
        self.permit.stats().is(State::Parse);
        let now = answering.turn.now;
        execute(request, &self.permit.service().cache, &mut self.conversation, answering.replies(), now)
    }

    /// Completes a request that must wait.
    async fn finish(
        &mut self,
        answering: &mut Answering,
        mut flow: Flow,
        request: &mut Request<'_>,
    ) -> Answered {
        answering.has_arrived();
        loop {
            match flow {
                Flow::Close => return Ok(Some(Closed::Peer)),
                Flow::Invalidated(invalidation) => {
                    invalidations::log(&self.permit.stats().address, self.conversation.user(), &invalidation);
                    return Ok(None);
                }
                Flow::Next => return Ok(None),
                Flow::LoginFailed { is_last } => {
                    self.delay_login_reply(answering).await?;
                    return Ok(is_last.then_some(Closed::Peer));
                }
                Flow::Pause => {
                    self.flush(answering).await?;
                    // Otherwise a peer that accepts everything at once would keep the others waiting.
                    tokio::task::yield_now().await;
                }
                Flow::RefreshCertificates => {
                    self.refresh_certificates(answering);
                    return Ok(None);
                }
                Flow::Shutdown(how) => {
                    self.permit.service().shutdown.request(how);
                    return Ok(Some(Closed::Stopping));
                }
                Flow::Verbosity(level) => {
                    let level = logging::set(level);
                    self.permit.service().metrics.verbosity.store(level, Ordering::Relaxed);
                    return Ok(None);
                }
                Flow::Wait { key, until } => {
                    self.flush(answering).await?;
                    let key = self.permit.service().cache.key(&key).expect("it was a key a moment ago");
                    self.wait(answering, &key, until).await?;
                }
                Flow::Watch(number) => return self.watch(answering, number).await.map(Some),
            }
            answering.turn.now = self.permit.service().now();
            flow = self.begin(answering, request);
        }
    }

    fn refresh_certificates(&self, answering: &mut Answering) {
        let refreshed = self.permit.service().refresh_certificates();
        if let Some(suppressed) = REFRESHES.admit(time::Instant::now()) {
            tracing::info!(?refreshed, suppressed, "a client requested a reload of the certificates");
        }
        let mut replies = answering.replies();
        match refreshed {
            Ok(()) => replies.status(Status::Ok),
            Err(error) => replies.send(Reply::Failed(&error.to_string())),
        }
    }

    /// Delays the answer to a wrong password, longer after more wrong ones from the same address.
    async fn delay_login_reply(&self, answering: &Answering) -> Result<(), End> {
        let client = ClientAddress::of(&self.permit.stats().address);
        let delay =
            self.permit.service().wrong_password(client, self.conversation.counters(), answering.turn.now);
        tracing::debug!(address = %self.permit.stats().address, ?delay, "a wrong password");
        unless_ended(self.permit.service(), answering.room.as_ref(), pin!(time::sleep(delay))).await
    }
}

static REFRESHES: logging::Limit = logging::Limit::new();

/// Waits for this work, unless a shutdown is requested or the request takes too long.
async fn unless_ended<T>(
    service: &Service,
    room: Option<&Room>,
    mut work: Pin<&mut impl Future<Output = T>>,
) -> Result<T, End> {
    poll_fn(|context| or_end(service, room, work.as_mut().poll(context).map(Ok))).await
}

/// Ends a wait if a shutdown is requested, or if the request of this room takes too long while others wait. A
/// wait that is over comes first: requests that were read are answered.
fn or_end<T>(service: &Service, room: Option<&Room>, wait: Poll<Result<T, End>>) -> Poll<Result<T, End>> {
    if wait.is_ready() {
        return wait;
    }
    if service.shutdown.is_requested() {
        return Poll::Ready(Err(Closed::Stopping.into()));
    }
    if room.is_some_and(Room::is_overdue) {
        return Poll::Ready(Err(Closed::Slow.into()));
    }
    Poll::Pending
}

impl From<Closed> for End {
    fn from(closed: Closed) -> Self {
        End::Closed(closed)
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        End::Lost(error)
    }
}

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
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::cache::Cache;
    use crate::clock::Clock;
    use crate::command::Users;
    use crate::metrics::{Address, ConnectionStats, Metrics};
    use crate::options::Options;
    use crate::protocol::Shutdown;
    use crate::server::permit::Admission;
    use crate::server::tasks::Tasks;

    /// SIGTERM used to be ignored as long as one client pipelined without a pause: tokio polls the shutdown
    /// future only while the task has budget left, and such a client always uses it up.
    #[tokio::test]
    async fn a_client_that_never_pauses_does_not_prevent_a_shutdown() {
        let service = Arc::new(service());
        service.shutdown.request(Shutdown::AtOnce);
        let (mut busy, busy_end) = duplex(1 << 20);
        busy.write_all(&b"append none 0 0 1\r\nx\r\n".repeat(10_000)).await.unwrap();
        serve(&service, busy_end).await.unwrap();

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
        let service = Arc::new(service());
        let (mut busy, busy_end) = duplex(1 << 20);
        let (mut other, other_end) = duplex(1 << 20);
        busy.write_all(&b"append none 0 0 1 noreply\r\nx\r\n".repeat(10_000)).await.unwrap();
        other.write_all(b"stats\r\nquit\r\n").await.unwrap();
        busy.shutdown().await.unwrap();
        other.shutdown().await.unwrap();
        let (first, second) = tokio::join!(serve(&service, busy_end), serve(&service, other_end));
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
        let service = Arc::new(Service { idle: Some(Duration::from_secs(10)), ..service() });
        for (request, seconds) in [
            (&b"version\r\nget"[..], 10),
            // Large values have the time that they have while others wait for room.
            (b"version\r\nset a 0 0 1048574\r\n", 13),
            (b"set a 0 0 9\r\n", 10),
        ] {
            let (mut client, end) = duplex(1 << 20);
            client.write_all(request).await.unwrap();
            let began = time::Instant::now();
            let drip = async {
                while client.write_all(b"k").await.is_ok() && began.elapsed().as_secs() < 100 {
                    time::advance(Duration::from_secs(1)).await;
                }
            };
            let (closed, ()) = tokio::join!(serve(&service, end), drip);
            assert_eq!(closed.unwrap(), Closed::Idle);
            let elapsed = began.elapsed().as_secs();
            assert!((seconds..=seconds + 1).contains(&elapsed), "{request:?}: {elapsed} s");
        }
        assert_eq!(service.metrics.total(Count::IdleKicks), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn each_complete_request_restarts_the_idle_time() {
        let service = Arc::new(Service { idle: Some(Duration::from_secs(10)), ..service() });
        let (mut client, end) = duplex(1 << 20);
        let began = time::Instant::now();
        let requests = async {
            for _ in 0..9 {
                client.write_all(b"version\r\n").await.unwrap();
                client.read_exact(&mut [0; b"VERSION 1.6.45\r\n".len()]).await.unwrap();
                time::advance(Duration::from_secs(9)).await;
            }
        };
        let (closed, ()) = tokio::join!(serve(&service, end), requests);
        assert_eq!((closed.unwrap(), began.elapsed().as_secs()), (Closed::Idle, 82));
    }

    /// The answer to a wrong password is delayed, longer each time; clients with the right password are
    /// answered at once meanwhile.
    #[tokio::test(start_paused = true)]
    async fn wrong_passwords_delay_only_the_client_that_sent_them() {
        let users = Users::parse(b"ann:right\n").map(|users| Arc::new(Mutex::new(users)));
        let service = Arc::new(Service { users, ..service() });
        let (mut thief, thief_end) = duplex(1 << 20);
        let (mut ann, ann_end) = duplex(1 << 20);
        thief.write_all(&b"set k 0 0 9\r\nann wrong\r\n".repeat(2)).await.unwrap();
        ann.write_all(b"set k 0 0 9\r\nann right\r\nversion\r\n").await.unwrap();
        thief.shutdown().await.unwrap();
        ann.shutdown().await.unwrap();
        let began = time::Instant::now();
        // Time advances only when both wait for it.
        let waited = async |end, peer: &mut tokio::io::DuplexStream, expected: &str| {
            serve(&service, end).await.unwrap();
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
        let service = Arc::new(Service { users, ..service() });
        let (mut thief, thief_end) = duplex(1 << 20);
        let login = b"\x80\x21\0\x05\0\0\0\0\0\0\0\x0f\0\0\0\0\0\0\0\0\0\0\0\0PLAIN\0ann\0wrong";
        thief.write_all(&login.repeat(4)).await.unwrap();
        thief.shutdown().await.unwrap();
        let began = time::Instant::now();
        assert_eq!(serve(&service, thief_end).await.unwrap(), Closed::Peer);
        assert_eq!(began.elapsed().as_millis(), 700);
        let mut replies = Vec::new();
        thief.read_to_end(&mut replies).await.unwrap();
        let failed = b"\x81\x21\0\0\0\0\0\x20\0\0\0\x0d\0\0\0\0\0\0\0\0\0\0\0\0Auth failure.";
        assert!(replies == failed.repeat(3), "{}", replies.escape_ascii());
    }

    /// A value of the binary protocol that takes too long is answered with its opaque.
    #[tokio::test]
    async fn a_stalled_value_of_the_binary_protocol_is_given_up() {
        let service = Arc::new(service());
        let (mut stalled, stalled_end) = duplex(1 << 20);
        let set = b"\x80\x01\0\x01\x08\0\0\0\0\x0f\x42\x40\0\0\0\x07\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0kbegin";
        stalled.write_all(set).await.unwrap();
        let (mut next, next_end) = duplex(4 << 20);
        let value = [b"set b 0 0 1000000\r\n", &b"v".repeat(1_000_000)[..], b"\r\nquit\r\n"].concat();
        next.write_all(&value).await.unwrap();
        next.shutdown().await.unwrap();
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
        let (first, second, ()) =
            tokio::join!(serve(&service, stalled_end), serve(&service, next_end), others,);
        assert_eq!((first.unwrap(), second.unwrap()), (Closed::Slow, Closed::Peer));
    }

    /// A client that stops in the middle of a large value loses its room to the next one, which is stored;
    /// small requests are answered all the time.
    #[tokio::test]
    async fn a_stalled_large_value_makes_room_for_the_next() {
        let service = Arc::new(service());
        let (mut stalled, stalled_end) = duplex(1 << 20);
        let (mut next, next_end) = duplex(4 << 20);
        let (mut small, small_end) = duplex(1 << 20);
        stalled.write_all(b"set a 0 0 1000000\r\nbegin").await.unwrap();
        let value = [b"set b 0 0 1000000\r\n", &b"v".repeat(1_000_000)[..], b"\r\nquit\r\n"].concat();
        next.write_all(&value).await.unwrap();
        next.shutdown().await.unwrap();
        small.write_all(b"set c 0 0 1\r\nv\r\nquit\r\n").await.unwrap();
        small.shutdown().await.unwrap();
        let others = async {
            while service.metrics.receive_waits.load(Ordering::Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
            serve(&service, small_end).await.unwrap();
            service.receiving.close_slow(service.now());
            service.clock.advance(Duration::from_secs(3));
            service.receiving.close_slow(service.now());
            assert_eq!(service.metrics.total(Count::CmdSet), 1, "the large values have not arrived");
            let mut reply = String::new();
            stalled.read_to_string(&mut reply).await.unwrap();
            assert_eq!(reply, "SERVER_ERROR large request took too long while others waited\r\n");
            drop(stalled);
        };
        let (first, second, ()) =
            tokio::join!(serve(&service, stalled_end), serve(&service, next_end), others,);
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
        let service = Arc::new(service());
        let (mut first, first_end) = duplex(4 << 20);
        let (mut many, many_end) = duplex(32 << 20);
        let (mut last, last_end) = duplex(4 << 20);
        let value = [b"set a 0 0 1000000\r\n", &b"v".repeat(1_000_000)[..], b"\r\n"].concat();
        first.write_all(&value[..500_000]).await.unwrap();
        many.write_all(&value.repeat(20)).await.unwrap();
        last.write_all(&[&value[..], b"stats\r\n"].concat()).await.unwrap();
        many.shutdown().await.unwrap();
        last.shutdown().await.unwrap();
        let finish_first = async {
            while service.metrics.receive_waits.load(Ordering::Relaxed) < 2 {
                tokio::task::yield_now().await;
            }
            first.write_all(&value[500_000..]).await.unwrap();
            first.shutdown().await.unwrap();
        };
        let (first, many, last_served, ()) = tokio::join!(
            serve(&service, first_end),
            serve(&service, many_end),
            serve(&service, last_end),
            finish_first,
        );
        first.and(many).and(last_served).unwrap();
        let mut stats = String::new();
        last.read_to_string(&mut stats).await.unwrap();
        assert!(stats.contains("STAT cmd_set 3\r\n"), "{stats}");
    }

    /// An idle connection took more than 2 KiB, and may take one. tokio adds 104 bytes to the future, and
    /// rounds up to a multiple of 128. Aligned memory leaves gaps in glibc's heap, before the task and before
    /// the socket's record: the other parts have sizes that fill them, with 8 bytes for the allocator.
    #[tokio::test]
    async fn an_idle_connection_takes_little_memory() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, accepted) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (service, task) = (Arc::new(service()), Arc::new(Tasks::default()).begin());
        let future = connection(&service, accepted.unwrap().0).serve(task);
        // Without inlining, as in a debug build, the future has one more field.
        let most = if cfg!(debug_assertions) { 160 } else { 256 - 104 };
        assert!(size_of_val(&future) <= most, "{} bytes", size_of_val(&future));
        let counts = 2 * size_of::<usize>();
        assert!(size_of::<ConnectionStats>() + counts + 8 <= 112);
        assert!(size_of::<Conversation>() + 8 <= 128);
        drop(client);
    }

    fn service() -> Service {
        let options = Options::try_parse_from(["leasehold", "-t", "1", "--receive-limit", "1"]).unwrap();
        Service::new(Cache::new(options.cache()), Clock::manual(), Metrics::new(1, 1), &options)
    }

    /// Serves a stream of the test.
    async fn serve(service: &Arc<Service>, stream: DuplexStream) -> io::Result<Closed> {
        connection(service, stream).serve(Arc::new(Tasks::default()).begin()).await
    }

    fn connection<S: AsyncRead + AsyncWrite + Unpin>(service: &Arc<Service>, stream: S) -> Connection<S> {
        let stats = ConnectionStats::new(0, Address::Unix("".into()), None, 0);
        Connection::new(Admission::new(service, None).open(stats), 0, stream, Protocols::Any)
    }
}
