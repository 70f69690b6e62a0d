//! The space for the next bytes of a connection.

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
