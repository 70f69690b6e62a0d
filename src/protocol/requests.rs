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

/// All that a connection remembers of its requests while none of them is here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Resting(Remembered);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Remembered {
    Binary(binary::LoginState),
    /// The first byte will choose one of these protocols.
    New(Protocols),
    Text,
}

#[derive(Debug)]
enum Codec {
    Binary(Box<binary::Decoder>),
    Text(Decoder),
}

impl Resting {
    /// A connection that has not sent anything yet.
    pub fn new(protocols: Protocols) -> Self {
        Resting(Remembered::New(protocols))
    }
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

    /// All that is to be remembered while nothing is here, not even a part of a request; otherwise `None`.
    /// After that, another connection may use it.
    pub fn rest(&mut self) -> Option<Resting> {
        match &mut self.codec {
            Codec::Binary(decoder) => decoder.rest().map(Remembered::Binary),
            Codec::Text(decoder) => decoder.is_at_rest().then_some(match self.is_new {
                true => Remembered::New(self.protocols),
                false => Remembered::Text,
            }),
        }
        .map(Resting)
    }

    /// Continues with what a connection remembers, and sets the form of its replies. The limits must be set
    /// again.
    #[inline]
    pub fn resume(&mut self, Resting(remembered): Resting, form: &mut ReplyForm) {
        match (&mut self.codec, remembered) {
            (Codec::Binary(decoder), Remembered::Binary(login)) => decoder.resume(login),
            (Codec::Text(decoder), Remembered::Binary(login)) => {
                let buffer = std::mem::replace(decoder, Decoder::new(0)).into_undecoded();
                let mut decoder = binary::Decoder::new(buffer, false);
                decoder.resume(login);
                self.codec = Codec::Binary(Box::new(decoder));
            }
            (Codec::Binary(decoder), Remembered::New(_) | Remembered::Text) => {
                let none = binary::Decoder::new(Vec::new(), false);
                let buffer = std::mem::replace(&mut **decoder, none).into_buffer();
                self.codec = Codec::Text(Decoder::with_buffer(buffer, 0));
                *form = ReplyForm::default();
            }
            (Codec::Text(_), Remembered::New(_) | Remembered::Text) => {}
        }
        self.is_new = matches!(remembered, Remembered::New(_));
        if let Remembered::New(protocols) = remembered {
            self.protocols = protocols;
        }
    }

    /// Frees an empty buffer that is longer than this.
    pub fn trim(&mut self, bytes_max: usize) {
        match &mut self.codec {
            Codec::Binary(decoder) => decoder.trim(bytes_max),
            Codec::Text(decoder) => decoder.trim(bytes_max),
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
