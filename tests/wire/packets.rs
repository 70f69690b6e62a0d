//! The body of the binary protocol's fuzz test: any bytes, in any pieces, make an exchange that keeps the
//! rules.
//!
//! Bytes decode to the same requests and refusals in pieces of any length, and the replies are the same. A
//! reply is whole packets, with the command and the opaque of its request. Only a fatal refusal or `quit`
//! ends the exchange.

use std::sync::Arc;

use leasehold::cache::{Cache, Config};
use leasehold::clock::{Clock, Now};
use leasehold::command::{Conversation, Flow, Rules, execute};
use leasehold::metrics::Metrics;
use leasehold::protocol::{Output, Protocols, Replies, Reply, ReplyForm, Request, Requests, Space};

/// Plays the exchange in one piece and in pieces of `cut`, without a login and before one.
pub fn check(bytes: &[u8], cut: usize) {
    for is_locked in [false, true] {
        let (whole, pieces) = (play(bytes, usize::MAX, is_locked), play(bytes, cut.max(1), is_locked));
        assert_eq!(whole, pieces, "in pieces of {cut}");
    }
}

struct Exchange {
    cache: Cache,
    conversation: Conversation,
    form: ReplyForm,
    is_closed: bool,
    now: Now,
    requests: Requests,
    /// All requests and replies.
    trace: Vec<String>,
}

fn play(mut bytes: &[u8], cut: usize, is_locked: bool) -> Vec<String> {
    let mut exchange = Exchange::new(is_locked);
    while !bytes.is_empty() && !exchange.is_closed {
        let piece = &bytes[..bytes.len().min(cut)];
        let taken = put(&mut exchange.requests.space(), piece);
        assert!(taken > 0, "there is always room for more");
        bytes = &bytes[taken..];
        exchange.answer();
    }
    exchange.trace
}

impl Exchange {
    fn new(is_locked: bool) -> Self {
        let config = Config { value_bytes_max: VALUE_BYTES_MAX, ..Config::default() };
        let (cache, metrics) = (Cache::with_seed(config, [7; 32]), Arc::new(Metrics::new(1, 1)));
        let rules = Rules::default();
        let conversation = Conversation::new(&cache, Arc::clone(&metrics), metrics.of_thread(0), rules);
        let mut requests = Requests::new(Protocols::Binary);
        requests.limit_values(VALUE_BYTES_MAX);
        requests.expect_login(is_locked);
        Exchange {
            cache,
            conversation,
            form: ReplyForm::default(),
            is_closed: false,
            now: Clock::manual().now(),
            requests,
            trace: Vec::new(),
        }
    }

    fn answer(&mut self) {
        while !self.is_closed {
            // Looking ahead for prefetching changes nothing, and finds only keys that the cache accepts.
            assert!(self.requests.upcoming().all(|next| (1..=250).contains(&next.key.len())));
            let Some(decoded) = self.requests.decode(&mut self.form) else { return };
            self.trace.push(format!("{decoded:?}"));
            let mut output = Output::default();
            match decoded {
                // Without users there is no login, and statistics have times in them.
                Ok(Request::Sasl(_) | Request::Stats(_)) => continue,
                Ok(mut request) => {
                    let is_quit = matches!(request, Request::Quit);
                    let closes = loop {
                        let replies = Replies::new(&mut output, &mut self.form);
                        match execute(&mut request, &self.cache, &mut self.conversation, replies, self.now) {
                            Flow::Wait { until, .. } => self.now.millis = until,
                            Flow::Pause => {}
                            flow => break matches!(flow, Flow::Close),
                        }
                    };
                    assert_eq!(closes, is_quit);
                    self.is_closed = closes;
                }
                Err(refusal) => {
                    Replies::new(&mut output, &mut self.form).send(Reply::Refused(refusal));
                    self.is_closed = refusal.is_fatal();
                }
            }
            self.record(&output.take());
        }
    }

    /// Checks that these are whole packets of one request, unless this is a line for a client that speaks no
    /// binary protocol at all.
    fn record(&mut self, mut replies: &[u8]) {
        self.trace.push(replies.escape_ascii().to_string());
        if replies.starts_with(b"CLIENT_ERROR ") {
            return assert!(self.is_closed && replies.ends_with(b"\r\n"));
        }
        let mut repeated = None;
        while !replies.is_empty() {
            let header: &[u8; 24] = replies.first_chunk().expect("a whole header");
            assert_eq!((header[0], header[5]), (0x81, 0));
            let its = (header[1], header[12..16].to_vec());
            assert_eq!(repeated.get_or_insert(its.clone()), &its, "command and opaque");
            let body = u32::from_be_bytes(header[8..12].try_into().expect("four bytes")) as usize;
            let lengths = usize::from(u16::from_be_bytes([header[2], header[3]])) + usize::from(header[4]);
            assert!(lengths <= body, "the parts are within the body");
            replies = replies.get(24 + body..).expect("a whole body");
        }
    }
}

fn put(space: &mut Space, bytes: &[u8]) -> usize {
    let taken = bytes.len().min(space.remaining_mut());
    space.put_slice(&bytes[..taken]);
    taken
}

/// Small enough to be exceeded, large enough for values that are received outside the read buffer.
const VALUE_BYTES_MAX: usize = 20_000;
