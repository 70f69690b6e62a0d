//! The read buffer: bytes in, one request at a time out.
//!
//! A request borrows from the buffer until the next one is decoded. Small data blocks stay where they
//! were read. A large one is received into pages of its own, so that the cache can keep it without a
//! copy.

use std::iter;
use std::mem::take;

use bytes::BufMut;

use super::fast;
use super::grammar::{self, Line};
use crate::limits::{KEYS_LINE_BYTES_MAX, LINE_BYTES_MAX, TAGS_LINE_BYTES_MAX, VALUE_APART_BYTES_MIN};
use crate::protocol::message::{Numbers, Refusal, Request, Upcoming};
use crate::protocol::space::{Arriving, Awaited, Space};

/// Splits a connection's bytes into requests.
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Consumed bytes of the buffer.
    done: usize,
    /// The numbers of the last request's flags.
    numbers: Numbers,
    read_line: ReadLine,
    /// Remaining bytes known to contain no line end, so that a long line that arrives in small pieces is
    /// searched only once.
    searched: usize,
    state: State,
    /// Remaining bytes that the last request borrows.
    used: usize,
    /// Whether the line of an unfinished request is complete, and its data block is not.
    waits_for_block: bool,
    value_bytes_max: usize,
}

#[derive(Debug)]
enum State {
    Line,
    /// A large data block is being received.
    Receive(Box<Receive>),
    /// Holds the large data block while its request is executed.
    Received {
        line: Vec<u8>,
    },
    /// This many bytes of a refused data block are still to be skipped.
    Skip(usize),
}

type ReadLine = for<'a> fn(&'a [u8], &'a mut Numbers) -> Line<'a>;

/// A large data block that is being received.
#[derive(Debug)]
struct Receive {
    /// The command line.
    line: Vec<u8>,
    /// The value and its line end.
    value: Arriving,
}

impl Decoder {
    /// A decoder that refuses values above `value_bytes_max`.
    pub fn new(value_bytes_max: usize) -> Self {
        Decoder::with_buffer(Vec::new(), value_bytes_max)
    }

    /// The same, with an empty buffer.
    pub(in crate::protocol) fn with_buffer(buffer: Vec<u8>, value_bytes_max: usize) -> Self {
        Decoder {
            buffer,
            done: 0,
            numbers: Numbers::default(),
            read_line: grammar::line,
            searched: 0,
            state: State::Line,
            used: 0,
            value_bytes_max,
            waits_for_block: false,
        }
    }

    /// Sets whether a login is required first. In that mode, a `set` is accepted if its length and its data
    /// block are valid.
    pub fn expect_login(&mut self, is_expected: bool) {
        self.read_line = if is_expected { grammar::line_before_login } else { grammar::line };
    }

    /// Changes the limit on values.
    pub fn limit_values(&mut self, value_bytes_max: usize) {
        self.value_bytes_max = value_bytes_max;
    }

    /// The space for the next bytes, limited to a useful amount.
    pub fn space(&mut self) -> Space<'_> {
        self.release();
        match &mut self.state {
            State::Receive(block) => block.value.space(&mut self.buffer, &mut self.done),
            State::Line | State::Received { .. } | State::Skip(_) => {
                self.buffer.drain(..take(&mut self.done));
                match self.buffer.len() {
                    // A long line gets its whole room at once, so that it never holds more.
                    unfinished @ UNFINISHED_BYTES_MAX.. => {
                        self.buffer.reserve_exact(LONG_LINE_BYTES.saturating_sub(unfinished).max(1));
                    }
                    _ => self.buffer.reserve(READ_BYTES),
                }
                let free = self.buffer.capacity() - self.buffer.len();
                Space::Buffer((&mut self.buffer).limit(free))
            }
        }
    }

    /// The memory that the unfinished request needs before more of it can be received; 0 if the buffer that
    /// every connection has suffices.
    pub fn room_needed(&self) -> usize {
        match &self.state {
            State::Receive(block) => block.value.whole(),
            State::Line if self.buffer.len() - self.done - self.used >= UNFINISHED_BYTES_MAX => {
                LONG_LINE_BYTES
            }
            State::Line | State::Received { .. } | State::Skip(_) => 0,
        }
    }

    /// Frees what a long line has taken beyond the ordinary buffer.
    pub fn shrink(&mut self) {
        self.release();
        if self.buffer.capacity() >= LONG_LINE_BYTES {
            self.buffer.drain(..take(&mut self.done));
            self.buffer.shrink_to(READ_BYTES);
        }
    }

    /// Drops what it has decoded. Returns whether nothing is left, not even a part of a request: then it is
    /// as good as new.
    pub(in crate::protocol) fn is_at_rest(&mut self) -> bool {
        self.release();
        let is_empty = self.done == self.buffer.len();
        if is_empty {
            self.done = 0;
            self.buffer.clear();
        }
        is_empty && matches!(self.state, State::Line)
    }

    /// Frees the buffer if it is empty and longer than this.
    pub(in crate::protocol) fn trim(&mut self, bytes_max: usize) {
        if self.buffer.is_empty() && self.buffer.capacity() > bytes_max {
            self.buffer = Vec::new();
        }
    }

    /// The next request or its refusal; `None` if more bytes are needed.
    ///
    /// After a fatal refusal the decoder must not be used any more.
    pub fn decode(&mut self) -> Option<Result<Request<'_>, Refusal>> {
        self.release();
        self.skip();
        if matches!(self.state, State::Receive(_)) {
            return self.received();
        }
        self.waits_for_block = false;
        let rest = &self.buffer[self.done..];
        let (line, start) = match read_line(rest, self.searched, self.read_line, &mut self.numbers) {
            None => {
                self.searched = rest.len();
                return None;
            }
            Some(Ok(read)) => read,
            Some(Err(refusal)) => {
                self.used = rest.len();
                return Some(Err(refusal));
            }
        };
        self.searched = 0;
        self.used = start;
        match line {
            Line::Alone(request) => Some(Ok(request)),
            Line::Refused(refusal, block) => {
                if refusal.is_fatal() {
                    self.used = rest.len();
                }
                if let Some(bytes) = block {
                    self.state = State::Skip(bytes + BLOCK_END.len());
                }
                Some(Err(refusal))
            }
            Line::Before(header) => {
                let whole = header.value_bytes + BLOCK_END.len();
                if header.value_bytes > self.value_bytes_max {
                    self.state = State::Skip(whole);
                    return Some(Ok(header.too_large()));
                }
                let Some(block) = rest.get(start..start + whole) else {
                    (self.used, self.waits_for_block) = (0, true);
                    if header.value_bytes >= VALUE_APART_BYTES_MIN {
                        let line = without_end(&rest[..start]).to_vec();
                        self.done += start;
                        let value = Arriving::new(whole);
                        self.state = State::Receive(Box::new(Receive { line, value }));
                    }
                    return None;
                };
                self.used = start + whole;
                match block.strip_suffix(BLOCK_END) {
                    Some(value) => Some(Ok(header.with(value.into()))),
                    None => Some(Err(Refusal::BadChunk)),
                }
            }
        }
    }

    /// Previews of the buffered requests, for prefetching. They may be wrong for malformed requests.
    pub fn upcoming(&self) -> impl Iterator<Item = Upcoming<'_>> {
        let is_line = matches!(self.state, State::Line);
        let mut rest = if is_line { &self.buffer[self.done + self.used..] } else { &[] };
        iter::from_fn(move || {
            let (next, length) = fast::ahead(rest)?;
            rest = rest.get(length..).unwrap_or_default();
            Some(next)
        })
    }

    /// The first byte that was received, before any is decoded.
    pub(in crate::protocol) fn first_byte(&self) -> Option<u8> {
        self.buffer.get(self.done).copied()
    }

    /// The buffer with the bytes that are not decoded, for the decoder of another protocol.
    pub(in crate::protocol) fn into_undecoded(mut self) -> Vec<u8> {
        self.release();
        self.buffer.drain(..self.done);
        self.buffer
    }

    /// Whether the buffer holds an unfinished request.
    pub fn is_midway(&self) -> bool {
        self.buffer.len() - self.done > self.used
            || !matches!(self.state, State::Line | State::Received { .. })
    }

    /// The part of a request that must arrive next.
    pub fn awaited(&self) -> Awaited {
        match self.state {
            State::Receive(_) => Awaited::Block,
            State::Line | State::Received { .. } if self.waits_for_block => Awaited::Block,
            State::Line | State::Received { .. } => Awaited::Line,
            State::Skip(_) => Awaited::Refused,
        }
    }

    /// Drops the bytes that the last request borrowed.
    fn release(&mut self) {
        self.done += take(&mut self.used);
        if matches!(self.state, State::Received { .. }) {
            self.state = State::Line;
        }
    }

    fn skip(&mut self) {
        if let State::Skip(left) = &mut self.state {
            let here = (self.buffer.len() - self.done).min(*left);
            self.done += here;
            *left -= here;
            if *left == 0 {
                self.state = State::Line;
            }
        }
    }

    fn received(&mut self) -> Option<Result<Request<'_>, Refusal>> {
        let State::Receive(block) = &mut self.state else { unreachable!("only called then") };
        let mut value = block.value.take_whole()?;
        let line = take(&mut block.line);
        let is_whole = value.ends_with(BLOCK_END);
        value.truncate(value.len() - BLOCK_END.len());
        self.state = State::Received { line };
        if !is_whole {
            return Some(Err(Refusal::BadChunk));
        }
        let State::Received { line } = &self.state else { unreachable!("just set") };
        let Line::Before(header) = (self.read_line)(line, &mut self.numbers) else {
            unreachable!("it was one when it was kept")
        };
        Some(Ok(header.with(value.into())))
    }
}

/// Reads the first line; returns it with the offset behind it, or `None` if the line is incomplete.
fn read_line<'a>(
    rest: &'a [u8],
    searched: usize,
    read: ReadLine,
    numbers: &'a mut Numbers,
) -> Option<Result<(Line<'a>, usize), Refusal>> {
    if searched == 0
        && let Some(read) = fast::line(rest)
    {
        return Some(Ok(read));
    }
    Some(find_line(rest, searched)?.map(|start| (read(without_end(&rest[..start]), numbers), start)))
}

fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The offset behind the first line.
fn find_line(buffer: &[u8], searched: usize) -> Option<Result<usize, Refusal>> {
    match *buffer.first()? {
        BINARY_MAGIC => return Some(Err(Refusal::Binary)),
        TLS_HANDSHAKE => return Some(Err(Refusal::Tls)),
        _ => {}
    }
    let most = line_bytes_max(buffer);
    let within = &buffer[..buffer.len().min(most + 1)];
    match memchr::memchr(b'\n', &within[searched..]) {
        Some(newline) => Some(Ok(searched + newline + 1)),
        None => (within.len() > most).then_some(Err(Refusal::LineTooLong)),
    }
}

/// The longest line that may begin like this, in bytes before its newline.
fn line_bytes_max(start: &[u8]) -> usize {
    const MANY_KEYS: [&[u8]; 8] =
        [b"get ", b"gets ", b"gat ", b"gats ", b"lease-get ", b"lease-wait ", b"metaget ", b"invalidate "];
    const MANY_TAGS: [&[u8]; 2] = [b"lease-set ", b"ms "];
    let is_one_of = |verbs: &[&[u8]]| verbs.iter().any(|verb| start.starts_with(verb));
    match (is_one_of(&MANY_KEYS), is_one_of(&MANY_TAGS)) {
        (true, _) => KEYS_LINE_BYTES_MAX,
        (false, true) => TAGS_LINE_BYTES_MAX,
        (false, false) => LINE_BYTES_MAX,
    }
}

const BLOCK_END: &[u8] = b"\r\n";
const BINARY_MAGIC: u8 = 0x80;
const TLS_HANDSHAKE: u8 = 0x16;
/// The most bytes of one read.
const READ_BYTES: usize = 16 * 1024;
/// An unfinished request of fewer bytes stays in the ordinary buffer. Only lines with many keys are longer.
const UNFINISHED_BYTES_MAX: usize = 32 * 1024;
/// The buffer for a line of more bytes.
const LONG_LINE_BYTES: usize = KEYS_LINE_BYTES_MAX + READ_BYTES;

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing is allocated for a large value or a long line before the connection has room for it.
    #[test]
    fn large_requests_ask_for_room_before_they_take_it() {
        let value = vec![b'v'; VALUE_APART_BYTES_MIN];
        let set = [b"set k 0 0 16385\r\n", &value[..], b"\r\n"].concat();
        let keys = b" sixteen-letters".repeat(KEYS_LINE_BYTES_MAX / 16 - 1);
        for (request, room) in [
            (set, VALUE_APART_BYTES_MIN + BLOCK_END.len()),
            ([&b"get"[..], &keys, b"\r\n"].concat(), LONG_LINE_BYTES),
        ] {
            let mut decoder = Decoder::new(1 << 20);
            let (mut rest, mut asked) = (&request[..], 0);
            while asked == 0 {
                let taken = decoder.space().remaining_mut().min(rest.len()).min(1_000);
                decoder.space().put_slice(&rest[..taken]);
                rest = &rest[taken..];
                assert_eq!(decoder.decode(), None);
                asked = decoder.room_needed();
            }
            assert_eq!(asked, room);
            assert!(decoder.buffer.capacity() <= 2 * UNFINISHED_BYTES_MAX, "{}", decoder.buffer.capacity());
            while !rest.is_empty() {
                let taken = decoder.space().remaining_mut().min(rest.len());
                assert!(decoder.buffer.capacity() <= LONG_LINE_BYTES);
                decoder.space().put_slice(&rest[..taken]);
                rest = &rest[taken..];
            }
            assert!(decoder.decode().is_some_and(|request| request.is_ok()));
            decoder.shrink();
            assert_eq!(decoder.room_needed(), 0);
            assert!(decoder.buffer.capacity() < LONG_LINE_BYTES);
        }
    }

    /// While the rest is missing, the last byte that was searched becomes a line end: a decoder that looked
    /// at it again would take it for the end of the line.
    #[test]
    fn a_line_that_arrives_in_pieces_is_searched_only_once() {
        let line = [&b"get"[..], &b" key".repeat(500), b"\r\n"].concat();
        for piece_bytes in [1, 2, 7, 100] {
            let mut decoder = Decoder::new(1 << 20);
            let (mut pieces, mut searched) = (line.chunks(piece_bytes), 0);
            let last = pieces.next_back().expect("the line is not empty");
            for piece in pieces {
                decoder.space().put_slice(piece);
                // The verb is looked at each time: it says how long the line may be.
                if searched > b"get ".len() {
                    decoder.buffer[searched - 1] = b'\n';
                    assert_eq!(decoder.decode(), None, "{searched} bytes, in pieces of {piece_bytes}");
                    decoder.buffer[searched - 1] = line[searched - 1];
                } else {
                    assert_eq!(decoder.decode(), None);
                }
                searched += piece.len();
            }
            decoder.space().put_slice(last);
            assert!(matches!(decoder.decode(), Some(Ok(Request::Get { .. }))), "in pieces of {piece_bytes}");
        }
    }
}
