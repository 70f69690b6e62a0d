//! Malformed requests, and the replies to them.

/// A line or a data block that is not a valid request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// A meta command's key is not base64 although flag `b` is set.
    BadBase64,
    /// `stats cachedump` without a class or a number of items.
    BadCachedump,
    /// The data block does not end where the line said.
    BadChunk,
    /// A slab class that memcached does not have.
    BadClass,
    /// `ma` with an unknown mode.
    BadCountMode,
    /// `incr` or `decr` by something that is not a number below 2^64.
    BadDelta,
    /// `stats detail` with an argument other than `on`, `off` or `dump`.
    BadDetail,
    /// An expiry time that is not a number.
    BadExptime,
    /// Flag `J` without a number below 2^64.
    BadInitial,
    /// A known command with too few or malformed arguments.
    BadLine,
    /// Flag `D` without a number below 2^64.
    BadMetaDelta,
    /// `ms` with an unknown mode.
    BadSetMode,
    /// A class of `stats cachedump` that memcached does not have.
    BadSlabId,
    /// A flag whose argument is not a number.
    BadToken,
    /// Flag `E` with a number that could be a lease's token.
    BadUnique,
    /// memcached's binary protocol: a line begins with its magic byte.
    Binary,
    /// A repeated flag.
    DuplicateFlag,
    /// An HTTP request, from a web browser or a misdirected client.
    Http,
    /// A line that is longer than its command allows.
    LineTooLong,
    /// `slabs reassign`, where there are no slabs.
    NoSlabs,
    /// Flag `O` with more than 31 bytes.
    OpaqueTooLong,
    /// A TLS hello on a plain port.
    Tls,
    /// More keys in one line than [`KEYS_PER_GET_MAX`](crate::limits::KEYS_PER_GET_MAX).
    TooManyKeys,
    /// More flags than a meta command may have.
    TooManyFlags,
    /// More names in one line than [`NAMES_PER_INVALIDATE_MAX`](crate::limits::NAMES_PER_INVALIDATE_MAX).
    TooManyNames,
    /// More tags for one value than [`TAGS_MAX`](crate::limits::TAGS_MAX).
    TooManyTags,
    /// An unknown command.
    Unknown,
    /// An unknown flag.
    UnknownFlag,
    /// An `ma` with invalid flags of any kind.
    WrongCountFlags,
}

impl Refusal {
    /// The reply, including its line end.
    pub fn reply(self) -> &'static [u8] {
        match self {
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
            Refusal::Binary => {
                b"CLIENT_ERROR the binary protocol is not spoken here, use the text protocol\r\n"
            }
            Refusal::DuplicateFlag => b"CLIENT_ERROR duplicate flag\r\n",
            Refusal::Http => b"CLIENT_ERROR this is a memcached port, not a web server\r\n",
            Refusal::LineTooLong => b"CLIENT_ERROR line too long\r\n",
            Refusal::NoSlabs => b"CLIENT_ERROR slab reassignment disabled\r\n",
            Refusal::OpaqueTooLong => b"CLIENT_ERROR opaque token too long\r\n",
            Refusal::Tls => b"CLIENT_ERROR TLS is not spoken on this port\r\n",
            Refusal::TooManyFlags => b"CLIENT_ERROR options flags are too long\r\n",
            Refusal::TooManyKeys => b"CLIENT_ERROR too many keys\r\n",
            Refusal::TooManyNames => b"CLIENT_ERROR too many names\r\n",
            Refusal::TooManyTags => b"CLIENT_ERROR too many tags\r\n",
            Refusal::Unknown => b"ERROR\r\n",
            Refusal::UnknownFlag => b"CLIENT_ERROR invalid flag\r\n",
            Refusal::WrongCountFlags => b"CLIENT_ERROR invalid or duplicate flag\r\n",
        }
    }

    /// Whether the rest of the stream is unusable, so that the connection must be closed.
    pub fn is_fatal(self) -> bool {
        match self {
            Refusal::Binary | Refusal::Http | Refusal::LineTooLong | Refusal::Tls => true,
            Refusal::BadBase64
            | Refusal::BadCachedump
            | Refusal::BadChunk
            | Refusal::BadClass
            | Refusal::BadCountMode
            | Refusal::BadDelta
            | Refusal::BadDetail
            | Refusal::BadExptime
            | Refusal::BadInitial
            | Refusal::BadLine
            | Refusal::BadMetaDelta
            | Refusal::BadSetMode
            | Refusal::BadSlabId
            | Refusal::BadToken
            | Refusal::BadUnique
            | Refusal::DuplicateFlag
            | Refusal::NoSlabs
            | Refusal::OpaqueTooLong
            | Refusal::TooManyFlags
            | Refusal::TooManyKeys
            | Refusal::TooManyNames
            | Refusal::TooManyTags
            | Refusal::Unknown
            | Refusal::UnknownFlag
            | Refusal::WrongCountFlags => false,
        }
    }
}
