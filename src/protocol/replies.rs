//! Where commands put their replies.
//!
//! A command sends messages ([`Reply`]); the encoder of the connection's protocol writes them.

use super::message::{Reply, Status};
use super::output::Output;
use super::text;

/// The replies of one connection.
#[derive(Debug)]
pub struct Replies<'o> {
    output: &'o mut Output,
}

impl<'o> Replies<'o> {
    /// Replies in the text protocol.
    #[inline]
    pub fn text(output: &'o mut Output) -> Self {
        Replies { output }
    }

    /// Writes a reply.
    #[inline(always)]
    pub fn send(&mut self, reply: Reply<'_>) {
        text::encode(self.output, reply);
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
