//! The lines that answer malformed requests.

use crate::protocol::message::Refusal;

/// The line, including its end.
pub(super) fn line(refusal: Refusal) -> &'static [u8] {
    match refusal {
        Refusal::BadBase64 => b"CLIENT_ERROR error decoding key\r\n",
        Refusal::BadCachedump => b"CLIENT_ERROR bad command line\r\n",
        Refusal::BadChunk => b"CLIENT_ERROR bad data chunk\r\n",
        Refusal::BadClass => b"BADCLASS invalid class id\r\n",
        Refusal::BadCountMode => b"CLIENT_ERROR invalid mode for ma M token\r\n",
        Refusal::BadDelta => b"CLIENT_ERROR invalid numeric delta argument\r\n",
        Refusal::BadDetail => b"CLIENT_ERROR usage: stats detail on|off|dump\r\n",
        Refusal::BadExptime => b"CLIENT_ERROR invalid exptime argument\r\n",
        Refusal::BadInitial => b"CLIENT_ERROR invalid numeric initial value\r\n",
        Refusal::BadLine => b"CLIENT_ERROR bad command line format\r\n",
        Refusal::BadMetaDelta => b"CLIENT_ERROR invalid numeric delta value\r\n",
        Refusal::BadSetMode => b"CLIENT_ERROR invalid mode for ms M token\r\n",
        Refusal::BadSlabId => b"CLIENT_ERROR Illegal slab id\r\n",
        Refusal::BadToken => b"CLIENT_ERROR bad token in command line format\r\n",
        Refusal::BadUnique => b"CLIENT_ERROR this unique could be a token\r\n",
        Refusal::Binary => b"CLIENT_ERROR the binary protocol is not spoken here, use the text protocol\r\n",
        Refusal::DuplicateFlag => b"CLIENT_ERROR duplicate flag\r\n",
        // Silently, as memcached does.
        Refusal::Http => b"",
        Refusal::LineTooLong => b"CLIENT_ERROR line too long\r\n",
        Refusal::NoSlabs => b"CLIENT_ERROR slab reassignment disabled\r\n",
        Refusal::OpaqueTooLong => b"CLIENT_ERROR opaque token too long\r\n",
        Refusal::Text => b"CLIENT_ERROR only the binary protocol is spoken here\r\n",
        Refusal::Tls => b"CLIENT_ERROR TLS is not spoken on this port\r\n",
        Refusal::TooManyFlags => b"CLIENT_ERROR options flags are too long\r\n",
        Refusal::TooManyKeys => b"CLIENT_ERROR too many keys\r\n",
        Refusal::TooManyNames => b"CLIENT_ERROR too many names\r\n",
        Refusal::TooManyTags => b"CLIENT_ERROR too many tags\r\n",
        // Lines are no packets.
        Refusal::Packet(_) | Refusal::Unknown => b"ERROR\r\n",
        Refusal::UnknownFlag => b"CLIENT_ERROR invalid flag\r\n",
        Refusal::WrongCountFlags => b"CLIENT_ERROR invalid or duplicate flag\r\n",
    }
}
