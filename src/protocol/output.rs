//! The reply buffer: the encoder's verbs, and the bytes that wait to be sent.
//!
//! Small values are copied in; large ones are kept as they are, so that their bytes go from the cache to the socket
//! without another copy.
//!
//! Deliberately absent: a hard limit. Who writes asks [`Output::is_full`] between replies, and stops.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use super::VALUE_APART_BYTES_MIN;

/// Replies that have not been sent yet.
#[derive(Debug, Default)]
pub struct Output {
    /// What was finished, oldest first.
    chunks: VecDeque<Bytes>,
    chunked_bytes: usize,
    tail: BytesMut,
}

/// A data block.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// What is sent.
    pub bytes: &'a [u8],
    /// The same bytes, if they can be shared until they are sent.
    pub shared: Option<&'a Bytes>,
}

/// A reply that is one fixed line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reply {
    /// `CLIENT_ERROR invalid shutdown mode`
    BadShutdown,
    /// `DELETED`
    Deleted,
    /// `END`
    End,
    /// `EXISTS`
    Exists,
    /// `MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes`
    MemlimitNotMegabytes,
    /// `MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust`
    MemlimitOutOfBounds,
    /// `MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m`
    MemlimitTooSmall,
    /// `CLIENT_ERROR cannot increment or decrement non-numeric value`
    NonNumeric,
    /// `SERVER_ERROR out of memory storing object`
    NoRoom,
    /// `SERVER_ERROR out of memory`
    NoRoomToCount,
    /// `NOT_FOUND`
    NotFound,
    /// `NOT_STORED`
    NotStored,
    /// `OK`
    Ok,
    /// `RESET`
    Reset,
    /// `SERVER_ERROR: shutdown not enabled`
    ShutdownNotEnabled,
    /// `STALE_STORED`
    StaleStored,
    /// `STORED`
    Stored,
    /// `SERVER_ERROR object too large for cache`
    TooLarge,
    /// `TOUCHED`
    Touched,
    /// `ERROR`
    Unknown,
}

impl Reply {
    fn line(self) -> &'static [u8] {
        match self {
            Reply::BadShutdown => b"CLIENT_ERROR invalid shutdown mode\r\n",
            Reply::Deleted => b"DELETED\r\n",
            Reply::End => b"END\r\n",
            Reply::Exists => b"EXISTS\r\n",
            Reply::MemlimitNotMegabytes => b"MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\r\n",
            Reply::MemlimitOutOfBounds => b"MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust\r\n",
            Reply::MemlimitTooSmall => b"MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n",
            Reply::NonNumeric => b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
            Reply::NoRoom => b"SERVER_ERROR out of memory storing object\r\n",
            Reply::NoRoomToCount => b"SERVER_ERROR out of memory\r\n",
            Reply::NotFound => b"NOT_FOUND\r\n",
            Reply::NotStored => b"NOT_STORED\r\n",
            Reply::Ok => b"OK\r\n",
            Reply::Reset => b"RESET\r\n",
            Reply::ShutdownNotEnabled => b"SERVER_ERROR: shutdown not enabled\r\n",
            Reply::StaleStored => b"STALE_STORED\r\n",
            Reply::Stored => b"STORED\r\n",
            Reply::TooLarge => b"SERVER_ERROR object too large for cache\r\n",
            Reply::Touched => b"TOUCHED\r\n",
            Reply::Unknown => b"ERROR\r\n",
        }
    }
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

    /// `VERSION <version>`
    pub fn version(&mut self, version: &str) {
        for part in ["VERSION ", version, "\r\n"] {
            self.raw(part.as_bytes());
        }
    }

    /// Whether so much is waiting that nothing should be added before it was sent.
    pub fn is_full(&self) -> bool {
        self.len() >= OUTPUT_BYTES_MAX
    }

    /// Whether nothing is waiting.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that wait to be sent.
    pub fn len(&self) -> usize {
        self.chunked_bytes + self.tail.len()
    }

    /// Forgets bytes that have been sent, oldest first.
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
        self.tail.advance(bytes);
    }

    /// The waiting bytes as slices, as many as `slices` has room for; returns how many.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let chunks = self.chunks.iter().map(|chunk| &chunk[..]).chain([&self.tail[..]]);
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
        all.extend_from_slice(&self.tail);
        self.chunked_bytes = 0;
        self.tail.clear();
        all
    }

    fn block(&mut self, value: Block) {
        self.raw(b"\r\n");
        match value.shared.filter(|value| value.len() >= VALUE_APART_BYTES_MIN) {
            None => self.raw(value.bytes),
            Some(value) => {
                let before = self.tail.split().freeze();
                self.chunked_bytes += before.len() + value.len();
                self.chunks.extend([before, value.clone()]);
            }
        }
        self.raw(b"\r\n");
    }

    fn field(&mut self, number: u64) {
        self.raw(b" ");
        self.digits(number);
    }

    fn digits(&mut self, number: u64) {
        self.tail.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }
}

/// Unsent bytes after which a connection does nothing but send; one more reply may come on top.
pub const OUTPUT_BYTES_MAX: usize = 256 * 1024;
