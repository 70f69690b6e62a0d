//! Malformed requests.

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
    /// A packet of the binary protocol.
    Packet(BadPacket),
    /// The text protocol, where only the binary one is spoken.
    Text,
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

/// A packet that is not a valid request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BadPacket {
    /// Extras, a key or a value that the command does not have, or not with this length.
    Layout,
    /// The key and the extras are longer than the body.
    Lengths,
    /// A command that needs a login first.
    Locked,
    /// It does not begin with the byte of a request.
    Magic,
    /// An unknown command.
    Opcode,
    /// An unknown group of statistics.
    Statistics,
}

impl BadPacket {
    /// Whether the connection must be closed, as memcached does.
    pub fn is_fatal(self) -> bool {
        match self {
            BadPacket::Layout | BadPacket::Lengths | BadPacket::Locked | BadPacket::Magic => true,
            BadPacket::Opcode | BadPacket::Statistics => false,
        }
    }
}

impl Refusal {
    /// Whether the rest of the stream is unusable, so that the connection must be closed.
    pub fn is_fatal(self) -> bool {
        match self {
            Refusal::Packet(bad) => bad.is_fatal(),
            Refusal::Binary | Refusal::Http | Refusal::LineTooLong | Refusal::Text | Refusal::Tls => true,
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
