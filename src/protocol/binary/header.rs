//! The header of a packet.

use super::opcode::{Opcode, Verb};
use crate::limits::KEY_BYTES_MAX;
use crate::protocol::message::BadPacket;

/// The header of a request, its numbers in the byte order of this machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Header {
    /// The number of the command, known or not.
    pub(super) number: u8,
    pub(super) key_bytes: usize,
    pub(super) extras_bytes: usize,
    /// The length of everything after the header.
    pub(super) body_bytes: usize,
    /// Bytes that the replies repeat.
    pub(super) opaque: [u8; 4],
    /// 0 if the client expects no CAS unique.
    pub(super) unique: u64,
}

impl Header {
    /// Reads the header at the start of the buffer; `None` if it is incomplete.
    pub(super) fn parse(buffer: &[u8]) -> Option<Header> {
        let bytes: &[u8; HEADER_BYTES] = buffer.first_chunk()?;
        let [_, number, k0, k1, extras, _, _, _, b0, b1, b2, b3, o0, o1, o2, o3, unique @ ..] = *bytes;
        Some(Header {
            number,
            key_bytes: u16::from_be_bytes([k0, k1]).into(),
            extras_bytes: extras.into(),
            body_bytes: u32::from_be_bytes([b0, b1, b2, b3]) as usize,
            opaque: [o0, o1, o2, o3],
            unique: u64::from_be_bytes(unique),
        })
    }

    /// The command, if the lengths are those of its packets.
    pub(super) fn checked(&self, access: Access) -> Result<Opcode, BadPacket> {
        let opcode = Opcode::of(self.number);
        let verb = opcode.map(|opcode| opcode.verb);
        if self.key_bytes + self.extras_bytes > self.body_bytes {
            return Err(BadPacket::Lengths);
        }
        let is_allowed = |verb: Verb| verb.is_sasl() || verb == Verb::Version;
        if access == Access::Locked && !verb.is_some_and(is_allowed) {
            return Err(BadPacket::Locked);
        }
        if self.key_bytes > KEY_BYTES_MAX {
            return Err(BadPacket::Layout);
        }
        let opcode = opcode.ok_or(BadPacket::Opcode)?;
        let layout = opcode.verb.layout();
        let is_right = layout.extras.iter().any(|bytes| usize::from(*bytes) == self.extras_bytes)
            && layout.key.allows(self.key_bytes)
            && layout.value.allows(self.value_bytes());
        match (is_right, access) {
            (false, _) => Err(BadPacket::Layout),
            (true, Access::Free) if opcode.verb.is_sasl() => Err(BadPacket::Opcode),
            (true, Access::Free | Access::Locked | Access::LoggedIn) => Ok(opcode),
        }
    }

    /// The offset of the value in the packet.
    pub(super) fn value_start(&self) -> usize {
        HEADER_BYTES + self.extras_bytes + self.key_bytes
    }

    /// The length of the value. The lengths must have been checked.
    pub(super) fn value_bytes(&self) -> usize {
        self.body_bytes - self.extras_bytes - self.key_bytes
    }

    /// The extras and the key in the bytes before the value.
    pub(super) fn extras_and_key<'a>(&self, head: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        head[HEADER_BYTES..].split_at(self.extras_bytes)
    }
}

/// The state of a connection's login.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Access {
    /// There is no login.
    Free,
    /// A login is required and has not succeeded yet.
    Locked,
    /// The login has succeeded.
    LoggedIn,
}

/// The first byte of a request.
pub(in crate::protocol) const MAGIC: u8 = 0x80;
/// The length of a header.
pub(super) const HEADER_BYTES: usize = 24;
