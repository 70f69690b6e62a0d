//! The state of one request and its replies.

use super::header::Header;
use super::opcode::Opcode;

/// Everything that the replies repeat of a request, or depend on.
#[derive(Debug, Default)]
pub(in crate::protocol) struct Exchange {
    /// The number of the command, which the replies repeat.
    pub(super) number: u8,
    /// `None` if there is no such command.
    pub(super) opcode: Option<Opcode>,
    pub(super) opaque: [u8; 4],
    /// The key, if the answer to a miss repeats it; otherwise empty.
    pub(super) key: Vec<u8>,
    /// Whether a read has found its value.
    pub(super) has_value: bool,
}

impl Exchange {
    /// Begins with a new request.
    pub(super) fn begin(&mut self, header: &Header) {
        (self.number, self.opcode, self.opaque) = (header.number, Opcode::of(header.number), header.opaque);
        self.key.clear();
        self.has_value = false;
    }

    /// Whether only unexpected outcomes have a reply.
    pub(super) fn is_quiet(&self) -> bool {
        self.opcode.is_some_and(|opcode| opcode.is_quiet)
    }
}
