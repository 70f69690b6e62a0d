//! The wire protocol from a client's side: requests to bytes, bytes to replies. Pure and synchronous.
//!
//! A [`Request`] comes with the [`ReplyParser`] that parses its reply, so that the two cannot be confused.
//! Anything that the parser does not expect is [`Garbled`]: on a shared connection, a reply of the wrong
//! kind is probably the reply to another caller.

mod reply;
mod request;

pub(super) use self::reply::{Garbled, Item, LeaseReply, Reply, ReplyParser, Word};
pub use self::request::Copies;
pub(super) use self::request::{Counting, Names, Request, Storing};
use super::Error;
use crate::limits::KEY_BYTES_MAX;

/// A name that is legal on the wire: of a key, a tag or a prefix.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Key(bytes::Bytes);

impl Key {
    pub(super) fn new(name: impl AsRef<[u8]>) -> Result<Key, Error> {
        let name = name.as_ref();
        let is_legal = (1..=KEY_BYTES_MAX).contains(&name.len())
            && !name.iter().any(|byte| *byte <= b' ' || *byte == DELETE)
            // As the last word of a line it would suppress the reply.
            && name != b"noreply";
        if is_legal { Ok(Key(bytes::Bytes::copy_from_slice(name))) } else { Err(Error::BadName) }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

const DELETE: u8 = 0x7f;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_exists_is_legal() {
        for legal in ["k", "product:7", &"x".repeat(250), "ключ", "noreply2"] {
            assert_eq!(Key::new(legal).expect(legal).bytes(), legal.as_bytes());
        }
        for illegal in ["", "a b", "a\r\nflush_all", "\0", "\x7f", &"x".repeat(251), "noreply"] {
            assert_eq!(Key::new(illegal), Err(Error::BadName), "{illegal:?}");
        }
    }
}
