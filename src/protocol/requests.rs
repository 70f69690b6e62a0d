//! The requests of one connection, in the protocol of its first byte.

use super::binary;
use super::message::{Refusal, Request, Upcoming};
use super::replies::ReplyForm;
use super::space::{Awaited, Space};
use super::text::Decoder;

/// The protocols that a server speaks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Protocols {
    /// The first byte of a connection chooses.
    #[default]
    Any,
    /// The binary protocol only.
    Binary,
    /// The text protocol only.
    Text,
}

/// Splits a connection's bytes into requests.
#[derive(Debug)]
pub struct Requests {
    codec: Codec,
    is_login_expected: bool,
    /// Whether no byte has arrived yet that chooses the protocol.
    is_new: bool,
    protocols: Protocols,
    value_bytes_max: usize,
}

#[derive(Debug)]
enum Codec {
    Binary(Box<binary::Decoder>),
    Text(Decoder),
}

impl Requests {
    /// The requests of a new connection, with values of no length until [`Requests::limit_values`].
    pub fn new(protocols: Protocols) -> Self {
        Requests {
            codec: Codec::Text(Decoder::new(0)),
            is_login_expected: false,
            is_new: true,
            protocols,
            value_bytes_max: 0,
        }
    }

    /// Sets whether a login is required first; called before the first byte if clients log in at all.
    pub fn expect_login(&mut self, is_expected: bool) {
        self.is_login_expected = is_expected;
        match &mut self.codec {
            Codec::Binary(decoder) => decoder.expect_login(is_expected),
            Codec::Text(decoder) => decoder.expect_login(is_expected),
        }
    }

    /// Changes the limit on values.
    pub fn limit_values(&mut self, value_bytes_max: usize) {
        self.value_bytes_max = value_bytes_max;
        match &mut self.codec {
            Codec::Binary(decoder) => decoder.limit_values(value_bytes_max),
            Codec::Text(decoder) => decoder.limit_values(value_bytes_max),
        }
    }

    /// The space for the next bytes, limited to a useful amount.
    pub fn space(&mut self) -> Space<'_> {
        match &mut self.codec {
            Codec::Binary(decoder) => decoder.space(),
            Codec::Text(decoder) => decoder.space(),
        }
    }

    /// The memory that the unfinished request needs before more of it can be received; 0 if the buffer that
    /// every connection has suffices.
    pub fn room_needed(&self) -> usize {
        match &self.codec {
            Codec::Binary(decoder) => decoder.room_needed(),
            Codec::Text(decoder) => decoder.room_needed(),
        }
    }

    /// The part of a request that must arrive next.
    pub fn awaited(&self) -> Awaited {
        match &self.codec {
            Codec::Binary(decoder) => decoder.awaited(),
            Codec::Text(decoder) => decoder.awaited(),
        }
    }

    /// Frees what an unusual request has taken beyond the ordinary buffer.
    pub fn shrink(&mut self) {
        match &mut self.codec {
            // Only values are long, and they have memory of their own.
            Codec::Binary(_) => {}
            Codec::Text(decoder) => decoder.shrink(),
        }
    }

    /// Takes away an empty buffer: an idle connection needs none.
    pub fn take_idle(&mut self) -> Option<Vec<u8>> {
        match &mut self.codec {
            Codec::Binary(decoder) => decoder.take_idle(),
            Codec::Text(decoder) => decoder.take_idle(),
        }
    }

    /// Gives the decoder a buffer if it has none.
    pub fn lend(&mut self, make: impl FnOnce() -> Vec<u8>) {
        match &mut self.codec {
            Codec::Binary(decoder) => decoder.lend(make),
            Codec::Text(decoder) => decoder.lend(make),
        }
    }

    /// The next request or its refusal; `None` if more bytes are needed. `form` becomes the form of its
    /// replies, and must be the same for all requests of the connection.
    ///
    /// After a fatal refusal the requests must not be used any more.
    #[inline]
    pub fn decode(&mut self, form: &mut ReplyForm) -> Option<Result<Request<'_>, Refusal>> {
        if self.is_new
            && let Some(refusal) = self.choose()
        {
            return Some(Err(refusal));
        }
        match &mut self.codec {
            Codec::Binary(decoder) => decoder.decode(form.binary()),
            Codec::Text(decoder) => decoder.decode(),
        }
    }

    /// Previews of the buffered requests, for prefetching. They may be wrong for malformed requests.
    pub fn upcoming(&self) -> impl Iterator<Item = Upcoming<'_>> {
        let (binary, text) = match &self.codec {
            Codec::Binary(decoder) => (Some(decoder.upcoming()), None),
            Codec::Text(decoder) => (None, Some(decoder.upcoming())),
        };
        binary.into_iter().flatten().chain(text.into_iter().flatten())
    }

    /// Whether the buffer holds an unfinished request.
    pub fn is_midway(&self) -> bool {
        match &self.codec {
            Codec::Binary(decoder) => decoder.is_midway(),
            Codec::Text(decoder) => decoder.is_midway(),
        }
    }

    /// Chooses the protocol by the first byte, if that is here.
    fn choose(&mut self) -> Option<Refusal> {
        let Codec::Text(decoder) = &mut self.codec else { return None };
        let is_binary = decoder.first_byte()? == binary::MAGIC;
        self.is_new = false;
        match (self.protocols, is_binary) {
            (Protocols::Any | Protocols::Binary, true) => {
                let received = std::mem::replace(decoder, Decoder::new(0)).into_undecoded();
                let mut decoder = binary::Decoder::new(received, self.is_login_expected);
                decoder.limit_values(self.value_bytes_max);
                self.codec = Codec::Binary(Box::new(decoder));
                None
            }
            (Protocols::Binary, false) => Some(Refusal::Text),
            // The text protocol refuses the byte by itself.
            (Protocols::Any, false) | (Protocols::Text, _) => None,
        }
    }
}
