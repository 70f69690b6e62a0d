//! memcached's text protocol with the lease verbs. protocol.md describes it.
//!
//! [`Decoder`] splits the stream into lines and data blocks. `grammar` parses a line into a request, with
//! `fast` as a shortcut for frequent forms. `encoder` writes replies.

mod admin;
mod decoder;
mod encoder;
mod fast;
mod grammar;
mod meta;
mod words;

pub(super) use self::admin::stats;
pub use self::decoder::Decoder;
pub(super) use self::encoder::encode;
