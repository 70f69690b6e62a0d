//! A server without sockets: connections that are fed bytes and asked for bytes, on a clock that a test moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use bytes::BufMut;
use leasehold::cache::{Cache, Config};
use leasehold::clock::Clock;
use leasehold::command::{Flow, Rules, Session, execute};
use leasehold::metrics::Metrics;
use leasehold::protocol::{Decoder, Output, Request, Space};

/// A cache, a clock that stands still, and what connections need.
pub struct Wire {
    pub cache: Cache,
    pub clock: Clock,
    metrics: Arc<Metrics>,
    rules: Rules,
}

/// One connection.
pub struct Connection {
    decoder: Decoder,
    output: Output,
    session: Session,
    state: State,
    woken: Arc<Woken>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Closed,
    Open,
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
        Wire { cache, clock: Clock::manual(), metrics: Arc::new(Metrics::new(1, 1024)), rules }
    }

    pub fn connect(&self) -> Connection {
        let counters = self.metrics.of_thread(0);
        Connection {
            decoder: Decoder::new(self.cache.config().value_bytes_max),
            output: Output::default(),
            session: Session::new(&self.cache, Arc::clone(&self.metrics), counters, self.rules),
            state: State::Open,
            woken: Arc::default(),
        }
    }
}

impl Connection {
    /// Hands bytes over in chunks of at most `chunk`, and returns what is answered.
    ///
    /// A request that waits for a lease waits until its own time is up: use [`Connection::start`] where somebody else
    /// is to end it.
    pub fn talk_in_chunks(&mut self, wire: &Wire, bytes: &[u8], chunk: usize) -> Vec<u8> {
        for piece in bytes.chunks(chunk) {
            self.feed(piece);
            self.work(wire);
        }
        self.output.take()
    }

    pub fn talk(&mut self, wire: &Wire, bytes: &[u8]) -> Vec<u8> {
        self.talk_in_chunks(wire, bytes, usize::MAX)
    }

    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// The peer is gone.
    pub fn close(mut self, wire: &Wire) {
        self.session.close(&wire.cache, wire.clock.now());
    }

    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.state == State::Open {
            let taken = match self.decoder.space() {
                Space::Apart(mut space) => put(&mut space, bytes),
                Space::Buffer(mut space) => put(&mut space, bytes),
            };
            bytes = &bytes[taken..];
        }
    }
}

fn put(space: &mut impl BufMut, bytes: &[u8]) -> usize {
    let taken = bytes.len().min(space.remaining_mut());
    space.put_slice(&bytes[..taken]);
    taken
}
