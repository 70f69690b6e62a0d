//! The reply buffer: it encodes replies and holds the bytes to be sent.
//!
//! Small values are copied in. Large ones are shared, so that their bytes go from the cache to the socket
//! without another copy.
//!
//! There is no hard limit: callers check [`Output::is_full`] between replies.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use super::base64;
use super::message::{Block, Reply};
use super::text::VALUE_APART_BYTES_MIN;

/// Replies that have not been sent yet.
#[derive(Debug, Default)]
pub struct Output {
    /// Finished chunks, oldest first.
    chunks: VecDeque<Bytes>,
    chunked_bytes: usize,
    tail: Vec<u8>,
    /// Bytes of the tail that were sent already.
    tail_sent: usize,
}

impl Output {
    /// A fixed line.
    pub fn reply(&mut self, reply: Reply) {
        self.raw(reply.line());
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
    }

    /// `<number>`
    pub fn number(&mut self, number: u64) {
        self.digits(number);
        self.raw(b"\r\n");
    }

    /// `INVALIDATED <names>`
    pub fn invalidated(&mut self, names: u64) {
        self.raw(b"INVALIDATED ");
        self.number(names);
    }

    /// `VALUE <key> <flags> <bytes> [<unique>]` and the data block.
    pub fn value(&mut self, key: &[u8], flags: u32, unique: Option<u64>, value: Block) {
        self.raw(b"VALUE ");
        self.raw(key);
        self.field(flags.into());
        self.field(value.bytes.len() as u64);
        if let Some(unique) = unique {
            self.field(unique);
        }
        self.block(value);
    }

    /// `LVALUE <key> <token> <flags> <bytes>` and the data block.
    pub fn leased_value(&mut self, key: &[u8], token: u64, flags: u32, value: Block) {
        self.raw(b"LVALUE ");
        self.raw(key);
        self.field(token);
        self.field(flags.into());
        self.field(value.bytes.len() as u64);
        self.block(value);
    }

    /// `META <key> age: <s>; exptime: <unix|0>; from: unknown; is_transient: 0`
    pub fn meta(&mut self, key: &[u8], age_seconds: u32, exptime_unix: u64) {
        self.raw(b"META ");
        self.raw(key);
        self.raw(b" age: ");
        self.digits(age_seconds.into());
        self.raw(b"; exptime: ");
        self.digits(exptime_unix);
        self.raw(b"; from: unknown; is_transient: 0\r\n");
    }

    /// `STAT <name> <value>`
    pub fn stat(&mut self, name: &str, value: &str) {
        for part in ["STAT ", name, " ", value, "\r\n"] {
            self.raw(part.as_bytes());
        }
    }

    /// `PREFIX <prefix> get <n> hit <n> set <n> del <n>`
    pub fn prefix(&mut self, prefix: &[u8], counts: [(&str, u64); 4]) {
        self.raw(b"PREFIX ");
        self.raw(prefix);
        for (name, count) in counts {
            self.raw(b" ");
            self.raw(name.as_bytes());
            self.field(count);
        }
        self.raw(b"\r\n");
    }

    /// `VERSION <version>`
    pub fn version(&mut self, version: &str) {
        for part in ["VERSION ", version, "\r\n"] {
            self.raw(part.as_bytes());
        }
    }

    /// A line end, a data block and its line end.
    #[inline]
    pub fn block(&mut self, value: Block) {
        self.raw(b"\r\n");
        match value.shared.filter(|value| value.len() >= VALUE_APART_BYTES_MIN) {
            None => self.raw(value.bytes),
            Some(value) => self.apart(value),
        }
        self.raw(b"\r\n");
    }

    /// Bytes that are shared instead of copied.
    #[inline(never)]
    fn apart(&mut self, value: &Bytes) {
        let mut before = Bytes::from(std::mem::take(&mut self.tail));
        before.advance(std::mem::take(&mut self.tail_sent));
        self.chunked_bytes += before.len() + value.len();
        self.chunks.extend([before, value.clone()]);
    }

    /// A space and a flag of a meta command; its argument may follow.
    pub fn flag(&mut self, flag: &[u8]) {
        self.raw(b" ");
        self.raw(flag);
    }

    /// `<name><number>`
    pub fn fact(&mut self, name: &[u8], number: u64) {
        self.raw(name);
        self.digits(number);
    }

    /// A key, optionally in base64.
    pub fn key(&mut self, key: &[u8], is_base64: bool) {
        if is_base64 {
            base64::encode(key, |digits| self.raw(digits));
        } else {
            self.raw(key);
        }
    }

    /// A number of seconds; -1 for no expiry.
    pub fn seconds_left(&mut self, seconds: Option<u64>) {
        match seconds {
            None => self.raw(b"-1"),
            Some(seconds) => self.digits(seconds),
        }
    }

    /// A number.
    pub fn digits(&mut self, number: u64) {
        self.tail.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    /// The end of a line.
    pub fn line_end(&mut self) {
        self.raw(b"\r\n");
    }

    /// Whether so much is waiting that the next reply should be written only after some was sent.
    pub fn is_full(&self) -> bool {
        self.len() >= OUTPUT_BYTES_MAX
    }

    /// Whether nothing is waiting.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that wait to be sent.
    pub fn len(&self) -> usize {
        self.chunked_bytes + self.tail.len() - self.tail_sent
    }

    /// Drops bytes that have been sent, oldest first.
    ///
    /// # Panics
    /// If fewer are waiting.
    pub fn sent(&mut self, mut bytes: usize) {
        while let Some(first) = self.chunks.front_mut() {
            let here = first.len().min(bytes);
            first.advance(here);
            bytes -= here;
            self.chunked_bytes -= here;
            if !first.is_empty() {
                return;
            }
            self.chunks.pop_front();
        }
        self.tail_sent += bytes;
        assert!(self.tail_sent <= self.tail.len(), "only what waits can be sent");
        if self.tail_sent == self.tail.len() {
            self.tail_sent = 0;
            self.tail.clear();
        }
    }

    /// Takes away the buffer if it is empty.
    pub fn take_idle(&mut self) -> Option<Vec<u8>> {
        self.tail.is_empty().then(|| std::mem::take(&mut self.tail))
    }

    /// Gives it a buffer if it has none.
    pub fn lend(&mut self, make: impl FnOnce() -> Vec<u8>) {
        if self.tail.capacity() == 0 {
            self.tail = make();
        }
    }

    /// Fills `slices` with waiting bytes as far as they fit; returns the number of slices.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let chunks = self.chunks.iter().map(|chunk| &chunk[..]).chain([&self.tail[self.tail_sent..]]);
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(chunks.filter(|chunk| !chunk.is_empty())) {
            *slice = IoSlice::new(chunk);
            count += 1;
        }
        count
    }

    /// All waiting bytes at once; for tests and callers without a socket.
    pub fn take(&mut self) -> Vec<u8> {
        let mut all: Vec<u8> = self.chunks.drain(..).flatten().collect();
        all.extend_from_slice(&self.tail[self.tail_sent..]);
        (self.chunked_bytes, self.tail_sent) = (0, 0);
        self.tail.clear();
        all
    }

    #[inline]
    fn field(&mut self, number: u64) {
        // Client flags are mostly 0.
        if let digit @ 0..10 = number {
            return self.raw(&[b' ', b'0' + digit as u8]);
        }
        self.raw(b" ");
        self.digits(number);
    }
}

/// With this many unsent bytes a connection only sends; one more reply may come on top.
pub const OUTPUT_BYTES_MAX: usize = 256 * 1024;
