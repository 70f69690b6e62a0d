//! One connection to one server, shared by all callers. Requests are sent as they arrive, and replies are
//! matched to them in that order.
//!
//! A request that was sent keeps its place until its reply arrives or the connection ends, even if its
//! caller no longer waits. So no reply can reach the wrong caller. If a connection ends, its pending
//! requests are lost, and the next request opens it again. While the server is down, requests fail at
//! once, and reconnects follow after longer and longer pauses.
//!
//! A request that only reads is sent again if its connection ended before the reply: servers close
//! idle connections, and the request may have crossed the close. Changes are not repeated, since the
//! server may have carried them out.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::Error;
use super::stream::{Stream, Target};
use super::wire::{Garbled, Reply, ReplyParser, Request};

/// A handle. The connection lives in a task of its own until the last handle is dropped.
#[derive(Clone)]
pub(super) struct Connection {
    calls: mpsc::Sender<Call>,
    target: Arc<Target>,
}

/// A request, and where to send the answer.
struct Call {
    request: Request,
    caller: Option<Caller>,
    /// For how long the server may be silent before it answers this request.
    silence_max: Duration,
}

type Caller = oneshot::Sender<Result<Reply, Error>>;

/// A pending reply.
struct Pending {
    caller: Option<Caller>,
    parser: ReplyParser,
    silence_max: Duration,
}

/// The connection has ended.
struct Ended;

/// The task behind a connection.
struct Line {
    calls: mpsc::Receiver<Call>,
    /// Consecutive connections that ended without a single reply.
    failures: u32,
    target: Arc<Target>,
}

impl Connection {
    /// A handle; the connection opens with the first request.
    pub(super) fn new(target: Arc<Target>) -> Connection {
        let (sender, calls) = mpsc::channel(CALLS_MAX);
        tokio::spawn(Line { calls, failures: 0, target: Arc::clone(&target) }.run());
        Connection { calls: sender, target }
    }

    /// Sends a request and returns the answer, within the configured time limit.
    pub(super) async fn ask(&self, request: Request) -> Result<Reply, Error> {
        let answer = self.ask_without_limit(request, Duration::ZERO);
        timeout(self.target.config.timeout, answer).await.unwrap_or_else(|_| Err(self.timed_out()))
    }

    pub(super) fn timed_out(&self) -> Error {
        Error::TimedOut { server: Arc::clone(&self.target.name) }
    }

    /// Sends a request and returns the answer, without a time limit while the connection lives; the server
    /// may be silent for `wait`.
    pub(super) async fn ask_without_limit(&self, request: Request, wait: Duration) -> Result<Reply, Error> {
        let again = request.parser.only_reads().then(|| request.clone());
        match (self.exchange(request, wait).await, again) {
            (Err(Error::Lost { .. }), Some(request)) => self.exchange(request, wait).await,
            (answer, _) => answer,
        }
    }

    /// Sends a request whose answer is ignored, unless the queue is full.
    pub(super) fn send_unanswered(&self, request: Request) {
        let silence_max = self.target.config.silence_max;
        let _ = self.calls.try_send(Call { request, caller: None, silence_max });
    }

    async fn exchange(&self, request: Request, wait: Duration) -> Result<Reply, Error> {
        let server = || Arc::clone(&self.target.name);
        let (caller, answer) = oneshot::channel();
        let silence_max = self.target.config.silence_max + wait;
        let call = Call { request, caller: Some(caller), silence_max };
        self.calls.send(call).await.map_err(|_| Error::Lost { server: server() })?;
        match answer.await.unwrap_or_else(|_| Err(Error::Lost { server: server() }))? {
            Reply::Refused(why) => Err(Error::Refused { server: server(), why }),
            reply => Ok(reply),
        }
    }
}

impl AsRef<Connection> for Connection {
    fn as_ref(&self) -> &Connection {
        self
    }
}

impl Line {
    async fn run(mut self) {
        while let Some(first) = self.calls.recv().await {
            match self.target.open().await {
                Ok(stream) => self.converse(stream, Some(first)).await,
                Err(_) => {
                    self.failures += 1;
                    self.refuse(first);
                }
            }
            while self.failures > 0 {
                let target = Arc::clone(&self.target);
                let pause = pause(self.failures, target.config.retry_pause_max);
                let reopened = async {
                    sleep(pause).await;
                    target.open().await
                };
                match self.refusing_while(reopened).await {
                    None => return,
                    Some(Err(_)) => self.failures = self.failures.saturating_add(1),
                    Some(Ok(stream)) => self.converse(stream, None).await,
                }
            }
        }
    }

    /// Runs until the connection ends, or all handles are dropped.
    async fn converse(&mut self, stream: Box<dyn Stream>, first: Option<Call>) {
        // Until its first reply, a connection counts like one that could not be opened.
        self.failures = self.failures.saturating_add(1);
        let (reading, writing) = split(stream);
        let (register, pending) = mpsc::channel(UNDER_WAY_MAX);
        let replies = read_replies(reading, pending, &self.target.name, &mut self.failures);
        // When this ends, callers of pending replies notice that their channel was dropped.
        let _ = tokio::try_join!(send_requests(writing, first, &mut self.calls, register), replies);
    }

    /// `None` once all handles are dropped.
    async fn refusing_while<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                call = self.calls.recv() => self.refuse(call?),
            }
        }
    }

    fn refuse(&self, call: Call) {
        answer(call.caller, Err(Error::Down { server: Arc::clone(&self.target.name) }));
    }
}

/// Sends requests, with as many as possible in one packet.
async fn send_requests(
    mut stream: WriteHalf<Box<dyn Stream>>,
    first: Option<Call>,
    calls: &mut mpsc::Receiver<Call>,
    register: mpsc::Sender<Pending>,
) -> Result<(), Ended> {
    let mut packet = BytesMut::new();
    let mut next = first;
    loop {
        let call = match next.take() {
            Some(call) => call,
            None => match calls.recv().await {
                Some(call) => call,
                None => return Ok(()),
            },
        };
        let permit = register.reserve().await.map_err(|_| Ended)?;
        call.put(&mut packet, permit);
        // Nothing here may wait before the packet is sent: free places come with the replies to it.
        while packet.len() < PACKET_BYTES
            && let Ok(permit) = register.try_reserve()
            && let Ok(call) = calls.try_recv()
        {
            call.put(&mut packet, permit);
        }
        stream.write_all_buf(&mut packet).await.map_err(|_| Ended)?;
    }
}

/// Passes each reply to its caller.
async fn read_replies(
    mut stream: ReadHalf<Box<dyn Stream>>,
    mut pending: mpsc::Receiver<Pending>,
    server: &Arc<str>,
    failures: &mut u32,
) -> Result<(), Ended> {
    let mut input = BytesMut::new();
    loop {
        // Replies are registered before their requests are sent, so bytes that arrive while none is
        // pending are unsolicited.
        let mut next = if !input.is_empty() {
            pending.try_recv().map_err(|_| Ended)?
        } else {
            tokio::select! {
                biased;
                next = pending.recv() => match next {
                    Some(next) => next,
                    None => return Ok(()),
                },
                _ = read(&mut stream, &mut input) => return Err(Ended),
            }
        };
        let reply = loop {
            match next.parser.feed(&mut input) {
                Ok(Some(reply)) => break reply,
                Ok(None) => match timeout(next.silence_max, read(&mut stream, &mut input)).await {
                    Ok(Ok(1..)) => {}
                    Ok(Ok(0) | Err(_)) | Err(_) => return Err(Ended),
                },
                Err(Garbled) => {
                    answer(next.caller, Err(Error::Garbled { server: Arc::clone(server) }));
                    return Err(Ended);
                }
            }
        };
        *failures = 0;
        let is_trusted = next.parser.trusts(&reply);
        answer(next.caller, Ok(reply));
        if !is_trusted {
            return Err(Ended);
        }
    }
}

async fn read(stream: &mut ReadHalf<Box<dyn Stream>>, input: &mut BytesMut) -> io::Result<usize> {
    // The buffer would otherwise grow by 64 bytes at a time.
    input.reserve(READ_BYTES_MIN);
    stream.read_buf(input).await
}

impl Call {
    /// Appends the request to the packet, unless its caller no longer waits.
    fn put(self, packet: &mut BytesMut, permit: mpsc::Permit<Pending>) {
        if self.caller.as_ref().is_some_and(oneshot::Sender::is_closed) {
            return;
        }
        packet.extend_from_slice(&self.request.bytes);
        let Call { request, caller, silence_max } = self;
        permit.send(Pending { caller, parser: request.parser, silence_max });
    }
}

/// Callers that stopped waiting need no answer.
fn answer(caller: Option<Caller>, answer: Result<Reply, Error>) {
    if let Some(caller) = caller {
        let _ = caller.send(answer);
    }
}

/// The pause after this many consecutive failures. It is random, so that the clients of a server that comes
/// back do not all reconnect at once.
fn pause(failures: u32, max: Duration) -> Duration {
    let longest = (max / 100).saturating_mul(2_u32.saturating_pow(failures - 1)).min(max);
    let chance = getrandom::u32().unwrap_or(u32::MAX);
    longest / 2 + longest.mul_f64(f64::from(chance) / f64::from(u32::MAX)) / 2
}

/// The limit on unsent requests; further callers wait.
const CALLS_MAX: usize = 1024;
/// The limit on pending replies.
const UNDER_WAY_MAX: usize = 1024;
/// A packet of this length is sent before it grows further.
const PACKET_BYTES: usize = 64 * 1024;

/// The space for each read.
const READ_BYTES_MIN: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit() {
        let max = Duration::from_secs(1);
        for (failures, longest_ms) in [(1, 10), (2, 20), (5, 160), (7, 640), (8, 1000), (u32::MAX, 1000)] {
            let longest = Duration::from_millis(longest_ms);
            let pause = pause(failures, max);
            assert!(longest / 2 <= pause && pause <= longest, "{pause:?} after {failures} failures");
        }
    }
}
