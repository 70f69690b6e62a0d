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
