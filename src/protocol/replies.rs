//! Where commands put their replies.
//!
//! A command sends messages ([`Reply`]); the encoder of the connection's protocol writes them.

use super::binary::{self, Exchange};
use super::message::{Reply, Status};
use super::output::Output;
use super::text;

/// The replies of one connection.
#[derive(Debug)]
pub struct Replies<'o> {
    /// The current request of the binary protocol; `None` in the text protocol.
    exchange: Option<&'o mut Exchange>,
    output: &'o mut Output,
}

/// The protocol of a connection's replies, with what they repeat of the current request.
#[derive(Debug, Default)]
pub struct ReplyForm(Option<Box<Exchange>>);

impl ReplyForm {
    /// The form of the binary protocol, which it is from now on.
    pub(in crate::protocol) fn binary(&mut self) -> &mut Exchange {
        self.0.get_or_insert_default()
    }
}

impl<'o> Replies<'o> {
    /// Replies to the request that was decoded with this form.
    #[inline]
    pub fn new(output: &'o mut Output, form: &'o mut ReplyForm) -> Self {
        Replies { exchange: form.0.as_deref_mut(), output }
    }

    /// Replies in the text protocol.
    #[inline]
    pub fn text(output: &'o mut Output) -> Self {
        Replies { exchange: None, output }
    }

    /// Writes a reply.
    #[inline(always)]
    pub fn send(&mut self, reply: Reply<'_>) {
        match &mut self.exchange {
            None => text::encode(self.output, reply),
            Some(exchange) => binary::encode(self.output, exchange, reply),
        }
    }

    /// Writes a reply without content.
    #[inline]
    pub fn status(&mut self, status: Status) {
        self.send(Reply::Status(status));
    }

    /// Writes one statistic.
    pub fn stat(&mut self, name: &str, value: &str) {
        self.send(Reply::Stat { name, value });
    }

    /// Replies to a client that quits, if its protocol has such a reply.
    pub fn farewell(&mut self) {
        if let Some(exchange) = &self.exchange {
            binary::farewell(self.output, exchange);
        }
    }

    /// Whether they are in the binary protocol, whose clients do not know of the meta commands that their
    /// requests become.
    pub fn is_binary(&self) -> bool {
        self.exchange.is_some()
    }

    /// Whether so much is waiting that the next reply should be written only after some was sent.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.output.is_full()
    }

    /// Whether nothing is waiting.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.output.is_empty()
    }
}
