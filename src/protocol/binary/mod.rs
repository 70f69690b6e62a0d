//! memcached's binary protocol: packets with a header of 24 bytes. protocol.md describes it.
//!
//! [`Decoder`] splits the stream into packets, of which `header` checks the lengths; `request` makes requests
//! of them. [`Exchange`] keeps what the replies repeat of a request, and `encoder` writes them.

mod decoder;
mod encoder;
mod exchange;
mod header;
mod opcode;
mod request;

pub(super) use self::decoder::{Decoder, LoginState};
pub(super) use self::encoder::{encode, farewell};
pub(super) use self::exchange::Exchange;
pub(super) use self::header::MAGIC;
