//! The queue of bytes to be sent.
//!
//! Small values are copied in. Large ones are shared, so that their bytes go from the cache to the socket
//! without another copy.
//!
//! There is no hard limit: callers check [`Output::is_full`] between replies.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use super::message::Block;
use crate::limits::VALUE_APART_BYTES_MIN;

/// Bytes that have not been sent yet.
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
    /// Adds bytes.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
    }

    /// Adds the bytes of a value: a copy of few, the same of many.
    #[inline]
    pub fn push_value(&mut self, value: Block) {
        match value.shared.filter(|value| value.len() >= VALUE_APART_BYTES_MIN) {
            None => self.push(value.bytes),
            Some(value) => self.share(value),
        }
    }

    /// Bytes that are shared instead of copied.
    #[inline(never)]
    fn share(&mut self, value: &Bytes) {
        let mut before = Bytes::from(std::mem::take(&mut self.tail));
        before.advance(std::mem::take(&mut self.tail_sent));
        self.chunked_bytes += before.len() + value.len();
        self.chunks.extend([before, value.clone()]);
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

    /// Frees an empty buffer that is longer than this.
    pub fn trim(&mut self, bytes_max: usize) {
        if self.tail.is_empty() && self.tail.capacity() > bytes_max {
            self.tail = Vec::new();
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
}

/// With this many unsent bytes a connection only sends; one more reply may come on top.
pub const OUTPUT_BYTES_MAX: usize = 256 * 1024;
