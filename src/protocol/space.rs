//! The space for the next bytes of a connection, and large values that arrive in it.

use std::mem::{replace, take};

use bytes::BufMut;
use bytes::buf::Limit;

use crate::pages::Run;

/// The space for the next bytes of a connection.
#[derive(Debug)]
pub enum Space<'a> {
    /// The read buffer.
    Buffer(Limit<&'a mut Vec<u8>>),
    /// The rest of a large value.
    Value(&'a mut Run),
}

/// The part of a request that must arrive next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Awaited {
    /// The rest of its value or packet.
    Block,
    /// A line, or the header of a packet.
    Line,
    /// The rest of a block that was refused, and is skipped.
    Refused,
}

impl Space<'_> {
    /// How many bytes it has room for.
    pub fn remaining_mut(&mut self) -> usize {
        match self {
            Space::Buffer(buffer) => buffer.remaining_mut(),
            Space::Value(value) => value.rest().len(),
        }
    }

    /// Adds bytes.
    ///
    /// # Panics
    /// If it has no room for them.
    pub fn put_slice(&mut self, bytes: &[u8]) {
        match self {
            Space::Buffer(buffer) => buffer.put_slice(bytes),
            Space::Value(value) => value.push(bytes),
        }
    }
}

/// A large value that is being received. It has no memory until the connection reads on: before that, its
/// request may wait for room.
#[derive(Debug)]
pub(in crate::protocol) struct Arriving {
    value: Run,
    /// The bytes that are to be received.
    whole: usize,
}

impl Arriving {
    /// Nothing of so many bytes.
    pub(in crate::protocol) fn new(whole: usize) -> Self {
        Arriving { value: Run::new(0), whole }
    }

    /// The space for the rest. What has arrived in the read buffer from `done` on moves there first.
    pub(in crate::protocol) fn space(&mut self, buffer: &mut Vec<u8>, done: &mut usize) -> Space<'_> {
        if self.value.is_empty() && self.value.is_full() {
            self.value = Run::new(self.whole);
            self.value.push(&buffer[take(done)..]);
            buffer.clear();
        }
        Space::Value(&mut self.value)
    }

    /// The memory that it needs, in bytes.
    pub(in crate::protocol) fn whole(&self) -> usize {
        self.whole
    }

    /// Takes the value, if all of it has arrived.
    pub(in crate::protocol) fn take_whole(&mut self) -> Option<Run> {
        (self.value.len() == self.whole).then(|| replace(&mut self.value, Run::new(0)))
    }
}
