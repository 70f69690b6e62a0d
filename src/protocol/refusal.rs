//! What a peer may get wrong, and what it hears.

/// A line or a data block that is no request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The data block does not end where the line said.
    BadChunk,
    /// `incr` or `decr` by something that is no number below 2^64.
    BadDelta,
    /// An expiry time that is no number.
    BadExptime,
    /// A known command with too few or malformed arguments.
    BadLine,
    /// memcached's binary protocol: its magic byte begins a line.
    Binary,
    /// A web browser, or somebody who takes this for a web server.
    Http,
    /// More bytes without a line's end than the command may have.
    LineTooLong,
    /// A TLS hello on a plain port.
    Tls,
    /// More keys in one line than [`KEYS_PER_GET_MAX`](super::KEYS_PER_GET_MAX).
    TooManyKeys,
    /// No command of ours.
    Unknown,
}

impl Refusal {
    /// The line it is answered with, its end included.
    pub fn reply(self) -> &'static [u8] {
        match self {
            Refusal::BadChunk => b"CLIENT_ERROR bad data chunk\r\n",
            Refusal::BadDelta => b"CLIENT_ERROR invalid numeric delta argument\r\n",
            Refusal::BadExptime => b"CLIENT_ERROR invalid exptime argument\r\n",
            Refusal::BadLine => b"CLIENT_ERROR bad command line format\r\n",
            Refusal::Binary => {
                b"CLIENT_ERROR the binary protocol is not spoken here, use the text protocol\r\n"
            }
            Refusal::Http => b"CLIENT_ERROR this is a memcached port, not a web server\r\n",
            Refusal::LineTooLong => b"CLIENT_ERROR line too long\r\n",
            Refusal::Tls => b"CLIENT_ERROR TLS is not spoken on this port\r\n",
            Refusal::TooManyKeys => b"CLIENT_ERROR too many keys\r\n",
            Refusal::Unknown => b"ERROR\r\n",
        }
    }

    /// Whether the rest of the stream cannot be trusted, and the connection must be closed.
    pub fn is_fatal(self) -> bool {
        match self {
            Refusal::Binary | Refusal::Http | Refusal::LineTooLong | Refusal::Tls => true,
            Refusal::BadChunk
            | Refusal::BadDelta
            | Refusal::BadExptime
            | Refusal::BadLine
            | Refusal::TooManyKeys
            | Refusal::Unknown => false,
        }
    }
}
