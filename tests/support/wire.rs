//! A server without sockets: bytes go in and replies come out, on a clock that the test advances.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use leasehold::cache::{Cache, Config};
use leasehold::clock::{Clock, MANUAL_UNIX};
use leasehold::command::{Conversation, Flow, Rules, execute};
use leasehold::metrics::{Metrics, WATCHER_BYTES_DEFAULT, Watchers};
use leasehold::protocol::{
    CasUnique, Decoder, Output, Protocols, Replies, Reply, ReplyForm, Request, Requests, Space,
};

/// A cache, a manual clock, and the shared state of connections.
pub struct Wire {
    pub cache: Cache,
    pub clock: Clock,
    metrics: Arc<Metrics>,
    rules: Rules,
}

/// One connection.
pub struct Connection {
    requests: Requests,
    form: ReplyForm,
    conversation: Conversation,
    sent: Vec<u8>,
    state: State,
    woken: Arc<Woken>,
}

enum State {
    Closed,
    Open,
    /// It watches, and has this number as a watcher.
    Watching(u64),
    /// A `lease-wait` is parked: the unanswered rest of its line, the key, and the deadline.
    Waiting {
        line: Vec<u8>,
        key: Vec<u8>,
        until: u64,
    },
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Wire {
    pub fn new(config: Config, rules: Rules) -> Self {
        let cache = Cache::with_seed(config, [7; 32]);
        let mut metrics = Metrics::new(1, 1024);
        metrics.watchers = Watchers::new(WATCHER_BYTES_DEFAULT, || Duration::from_secs(MANUAL_UNIX));
        Wire { cache, clock: Clock::manual(), metrics: Arc::new(metrics), rules }
    }

    /// A connection in the text protocol.
    pub fn connect(&self) -> Connection {
        self.connect_with(Protocols::Text)
    }

    pub fn connect_with(&self, protocols: Protocols) -> Connection {
        let counters = self.metrics.of_thread(0);
        let mut requests = Requests::new(protocols);
        requests.limit_values(self.cache.config().value_bytes_max);
        Connection {
            requests,
            form: ReplyForm::default(),
            sent: Vec::new(),
            conversation: Conversation::new(&self.cache, Arc::clone(&self.metrics), counters, self.rules),
            state: State::Open,
            woken: Arc::default(),
        }
    }
}

impl Connection {
    /// Feeds bytes in chunks of at most `chunk`, and returns the replies that come at once.
    pub fn talk_in_chunks(&mut self, wire: &Wire, bytes: &[u8], chunk: usize) -> Vec<u8> {
        for piece in bytes.chunks(chunk) {
            self.feed(wire, piece);
        }
        self.listen(wire)
    }

    pub fn talk(&mut self, wire: &Wire, bytes: &[u8]) -> Vec<u8> {
        self.talk_in_chunks(wire, bytes, usize::MAX)
    }

    /// The replies that come without a request: a parked one may have been woken, or have timed out.
    pub fn listen(&mut self, wire: &Wire) -> Vec<u8> {
        self.work(wire);
        std::mem::take(&mut self.sent)
    }

    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Closes the connection, as if the client had hung up.
    pub fn close(&mut self, wire: &Wire) {
        self.state = State::Closed;
        self.conversation.close(&wire.cache, wire.clock.now());
    }

    fn feed(&mut self, wire: &Wire, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_closed() {
            let taken = put(&mut self.requests.space(), bytes);
            bytes = &bytes[taken..];
            self.work(wire);
        }
    }

    /// Answers the requests that have arrived, up to one that must wait.
    fn work(&mut self, wire: &Wire) {
        loop {
            match std::mem::replace(&mut self.state, State::Open) {
                State::Closed => return self.state = State::Closed,
                State::Open => {}
                State::Watching(number) => {
                    let lines = self.conversation.watched_lines(number, Waker::noop()).unwrap_or_default();
                    // The lines of watchers end without the carriage return that transcripts expect.
                    for line in lines.split_inclusive(|byte| *byte == b'\n') {
                        self.sent.extend_from_slice(line.trim_ascii_end());
                        self.sent.extend_from_slice(b"\r\n");
                    }
                    return self.state = State::Watching(number);
                }
                State::Waiting { line, key, until } => {
                    if !self.woken.0.swap(false, Ordering::SeqCst) && wire.clock.now().millis < until {
                        return self.state = State::Waiting { line, key, until };
                    }
                    let key = wire.cache.key(&key).expect("it was legal before");
                    wire.cache.stop_waiting(&key, self.conversation.session());
                    let mut again = Decoder::new(0);
                    let mut space = again.space();
                    space.put_slice(&line);
                    let request = again.decode().expect("a whole line").expect("legal as before");
                    self.state = answer(
                        request,
                        wire,
                        (&mut self.conversation, &mut self.form),
                        &mut self.sent,
                        &self.woken,
                    );
                    continue;
                }
            }
            self.state = match self.requests.decode(&mut self.form) {
                None => return,
                Some(Ok(request)) => {
                    let talk = (&mut self.conversation, &mut self.form);
                    answer(request, wire, talk, &mut self.sent, &self.woken)
                }
                Some(Err(refusal)) => {
                    let mut output = Output::default();
                    Replies::new(&mut output, &mut self.form).send(Reply::Refused(refusal));
                    self.sent.extend(output.take());
                    if refusal.is_fatal() { State::Closed } else { State::Open }
                }
            };
        }
    }
}

fn answer(
    mut request: Request,
    wire: &Wire,
    (conversation, form): (&mut Conversation, &mut ReplyForm),
    sent: &mut Vec<u8>,
    woken: &Arc<Woken>,
) -> State {
    let mut output = Output::default();
    loop {
        let now = wire.clock.now();
        let replies = Replies::new(&mut output, form);
        let flow = execute(&mut request, &wire.cache, conversation, replies, now);
        sent.extend(output.take());
        match flow {
            Flow::Pause => {}
            Flow::Close | Flow::LoginFailed { is_last: true } | Flow::Shutdown(_) => return State::Closed,
            Flow::LoginFailed { is_last: false }
            | Flow::Invalidated(_)
            | Flow::Next
            | Flow::RefreshCertificates
            | Flow::Verbosity(_) => return State::Open,
            Flow::Watch(number) => return State::Watching(number),
            Flow::Wait { key, until } => {
                let key = key.into_vec();
                let waker = Waker::from(Arc::clone(woken));
                let handle = wire.cache.key(&key).expect("it is legal");
                if wire.cache.wait(&handle, conversation.session(), &waker, now) {
                    return State::Waiting { line: line_of(&request), key, until };
                }
            }
        }
    }
}

/// A line that repeats the unanswered part of a request.
fn line_of(request: &Request) -> Vec<u8> {
    let words: Vec<&[u8]> = match request {
        Request::Get { keys, unique } => {
            let verb: &[u8] = if *unique == CasUnique::Show { b"gets" } else { b"get" };
            [verb].into_iter().chain(*keys).collect()
        }
        Request::LeaseGet { keys, .. } => [&b"lease-wait 1"[..]].into_iter().chain(*keys).collect(),
        Request::MetaRead(meta) => [b"mg", &*meta.key].into_iter().chain(meta.flags.each()).collect(),
        _ => panic!("nothing else waits"),
    };
    [&words.join(&b' ')[..], b"\r\n"].concat()
}

fn put(space: &mut Space, bytes: &[u8]) -> usize {
    let taken = bytes.len().min(space.remaining_mut());
    space.put_slice(&bytes[..taken]);
    taken
}
