//! The body of a fuzz test: any bytes, in any pieces, make a conversation that keeps the rules.
//!
//! Each request has one complete reply, or none with `noreply`. A refused request is answered by one line.
//! Only a fatal refusal or `quit` ends the conversation. The division of the bytes into pieces makes no
//! difference.

use std::sync::Arc;

use leasehold::cache::{Cache, Config};
use leasehold::clock::{Clock, Now};
use leasehold::command::{Conversation, Flow, Rules, execute};
use leasehold::metrics::Metrics;
use leasehold::protocol::{Decoder, LeaseSet, Output, Refusal, Replies, Reply, Request, Space};

/// Plays the conversation in one piece, and in pieces whose lengths cycle through `cuts`.
pub fn check(bytes: &[u8], cuts: &[usize]) {
    let whole = play(bytes, &[usize::MAX]);
    let pieces = play(bytes, cuts);
    assert_eq!(whole.escape_ascii().to_string(), pieces.escape_ascii().to_string(), "cut by {cuts:?}");
}

struct Exchange {
    cache: Cache,
    decoder: Decoder,
    is_closed: bool,
    now: Now,
    replies: Vec<u8>,
    conversation: Conversation,
}

fn play(mut bytes: &[u8], cuts: &[usize]) -> Vec<u8> {
    let mut conversation = Exchange::new();
    for cut in cuts.iter().cycle() {
        if bytes.is_empty() || conversation.is_closed {
            break;
        }
        let (piece, rest) = bytes.split_at(bytes.len().min(*cut.max(&1)));
        conversation.receive(piece);
        bytes = rest;
    }
    conversation.survives();
    conversation.replies
}

impl Exchange {
    fn new() -> Self {
        let config = Config { value_bytes_max: VALUE_BYTES_MAX, ..Config::default() };
        let (cache, metrics) = (Cache::with_seed(config, [7; 32]), Arc::new(Metrics::new(1, 1)));
        let conversation =
            Conversation::new(&cache, Arc::clone(&metrics), metrics.of_thread(0), Rules::default());
        let decoder = Decoder::new(VALUE_BYTES_MAX);
        Exchange {
            cache,
            decoder,
            is_closed: false,
            now: Clock::manual().now(),
            replies: Vec::new(),
            conversation,
        }
    }

    fn receive(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() && !self.is_closed {
            let taken = put(&mut self.decoder.space(), piece);
            assert!(taken > 0, "there is always room for more");
            piece = &piece[taken..];
            self.answer();
        }
    }

    fn answer(&mut self) {
        while !self.is_closed
            && let Some(decoded) = self.decoder.decode()
        {
            match decoded {
                Ok(request) => {
                    let silence = silence(&request);
                    let (reply, flow) = replied(request, &self.cache, &mut self.conversation, &mut self.now);
                    self.is_closed = flow == Ended::Close;
                    let is_right = match silence {
                        _ if self.is_closed => reply.is_empty(),
                        Silence::Always => reply.is_empty(),
                        Silence::Never => is_one(&reply),
                        Silence::Perhaps => reply.is_empty() || is_one(&reply),
                    };
                    assert!(is_right, "{:?}", reply.escape_ascii().to_string());
                    self.replies.extend(reply);
                }
                Err(refusal) => {
                    let mut output = Output::default();
                    Replies::text(&mut output).send(Reply::Refused(refusal));
                    let reply = output.take();
                    let is_silent = refusal == Refusal::Http && reply.is_empty();
                    assert!(is_silent || (is_one(&reply) && !reply.starts_with(b"END")));
                    self.replies.extend(reply);
                    self.is_closed = refusal.is_fatal();
                }
            }
        }
    }

    /// Checks that a further request is understood, unless one is incomplete.
    fn survives(&mut self) {
        if !self.is_closed && !self.decoder.is_midway() {
            self.receive(b"version\r\n");
            assert!(self.replies.ends_with(b"VERSION 1.6.45\r\n"));
        }
    }
}

#[derive(Eq, PartialEq)]
enum Ended {
    Close,
    Next,
}

/// The whole reply. A wait for a lease always times out.
fn replied(
    mut request: Request,
    cache: &Cache,
    conversation: &mut Conversation,
    now: &mut Now,
) -> (Vec<u8>, Ended) {
    let (mut output, mut reply) = (Output::default(), Vec::new());
    loop {
        let flow = execute(&mut request, cache, conversation, Replies::text(&mut output), *now);
        reply.extend(output.take());
        match flow {
            Flow::Close | Flow::LoginFailed { is_last: true } | Flow::Shutdown(_) => {
                return (reply, Ended::Close);
            }
            // Lines for watchers are not read, because they are not replies.
            Flow::LoginFailed { is_last: false }
            | Flow::Next
            | Flow::Invalidated(_)
            | Flow::RefreshCertificates
            | Flow::Verbosity(_)
            | Flow::Watch(_) => {
                return (reply, Ended::Next);
            }
            Flow::Pause => {}
            Flow::Wait { until, .. } => {
                assert!(until > now.millis, "a wait ends");
                now.millis = until;
            }
        }
    }
}

/// Whether a request has no reply.
enum Silence {
    Always,
    Never,
    /// Quiet mode: only expected outcomes have no reply.
    Perhaps,
}

fn silence(request: &Request) -> Silence {
    let is_silent = match request {
        Request::MetaCount(meta, _)
        | Request::MetaDelete(meta)
        | Request::MetaRead(meta)
        | Request::MetaSet(meta, ..)
            if meta.flags.has(b'q') =>
        {
            return Silence::Perhaps;
        }
        Request::Add(store)
        | Request::Append(store)
        | Request::Cas(store, _)
        | Request::LeaseSet(LeaseSet { store, .. })
        | Request::Prepend(store)
        | Request::Replace(store)
        | Request::Set(store) => store.noreply,
        Request::CacheMemlimit { noreply, .. }
        | Request::Decr { noreply, .. }
        | Request::Delete { noreply, .. }
        | Request::FlushAll { noreply, .. }
        | Request::Invalidate { noreply, .. }
        | Request::Incr { noreply, .. }
        | Request::TooLarge { noreply, .. }
        | Request::Touch { noreply, .. }
        | Request::Verbosity { noreply, .. } => *noreply,
        Request::Dump(_)
        | Request::Get { .. }
        | Request::GetAndTouch { .. }
        | Request::Ignored
        | Request::LeaseGet { .. }
        | Request::MetaCount(..)
        | Request::MetaDebug(_)
        | Request::MetaDelete(_)
        | Request::MetaGet { .. }
        | Request::MetaRead(_)
        | Request::MetaSet(..)
        | Request::Noop
        | Request::Quit
        | Request::RefreshCertificates
        | Request::Sasl(_)
        | Request::Shutdown { .. }
        | Request::Stats(_)
        | Request::Version
        | Request::Watch { .. } => false,
    };
    if is_silent { Silence::Always } else { Silence::Never }
}

/// Whether this is one whole reply: any values, items and statistics, and one last line.
fn is_one(mut reply: &[u8]) -> bool {
    loop {
        let Some(end) = reply.windows(2).position(|pair| pair == b"\r\n") else { return false };
        let (line, rest) = (&reply[..end], &reply[end + 2..]);
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let length = match words[0] {
            b"VALUE" => words[3],
            b"LVALUE" => words[4],
            b"VA" => return is_meta_value(words[1], rest),
            b"ITEM" | b"META" | b"mg" | b"PREFIX" | b"STAT" => {
                reply = rest;
                continue;
            }
            // A dump follows.
            b"OK" if !rest.is_empty() => {
                reply = rest;
                continue;
            }
            _ => return rest.is_empty(),
        };
        let length = number(length);
        if rest.get(length..length + 2) != Some(b"\r\n") {
            return false;
        }
        reply = &rest[length + 2..];
    }
}

/// Whether this is the data block of a meta command's answer, with nothing after it.
fn is_meta_value(length: &[u8], block: &[u8]) -> bool {
    block.len() == number(length) + 2 && block.ends_with(b"\r\n")
}

fn number(digits: &[u8]) -> usize {
    str::from_utf8(digits).expect("digits").parse().expect("a length")
}

fn put(space: &mut Space, bytes: &[u8]) -> usize {
    let taken = bytes.len().min(space.remaining_mut());
    space.put_slice(&bytes[..taken]);
    taken
}

/// Small enough to be exceeded, large enough for values that are received outside the line buffer.
pub const VALUE_BYTES_MAX: usize = 20_000;
