//! The replies of the server.

use bytes::Bytes;

/// A data block.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// The bytes to be sent.
    pub bytes: &'a [u8],
    /// The same bytes, if they can be shared until they are sent.
    pub shared: Option<&'a Bytes>,
}

/// A reply that is one fixed line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reply {
    /// `CLIENT_ERROR authentication failure`
    AuthFailure,
    /// `CLIENT_ERROR auth token too long`
    AuthTokenTooLong,
    /// `CLIENT_ERROR bad authentication token format`
    BadAuthToken,
    /// `CLIENT_ERROR a prefix ends in ':' and has at most 16 of them`
    BadPrefix,
    /// `CLIENT_ERROR invalid shutdown mode`
    BadShutdown,
    /// `CLIENT_ERROR stats cachedump not allowed`
    CachedumpNotAllowed,
    /// `DELETED`
    Deleted,
    /// `CLIENT_ERROR stats detail not allowed`
    DetailNotAllowed,
    /// `END`
    End,
    /// `EN`, after a list of keys
    EndOfKeys,
    /// `EXISTS`
    Exists,
    /// `CLIENT_ERROR flush_all not allowed`
    FlushNotAllowed,
    /// `ERROR key dump not allowed`
    KeyDumpNotAllowed,
    /// `MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes`
    MemlimitNotMegabytes,
    /// `MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust`
    MemlimitOutOfBounds,
    /// `MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m`
    MemlimitTooSmall,
    /// `ERROR metadump not allowed`
    MetadumpNotAllowed,
    /// `MN`
    Noop,
    /// `CLIENT_ERROR cannot increment or decrement non-numeric value`
    NonNumeric,
    /// `SERVER_ERROR out of memory storing object`
    NoRoom,
    /// `SERVER_ERROR out of memory`
    NoRoomToCount,
    /// `NOT_FOUND`
    NotFound,
    /// `NOT_STORED`
    NotStored,
    /// `OK`
    Ok,
    /// `RESET`
    Reset,
    /// `SERVER_ERROR: shutdown not enabled`
    ShutdownNotEnabled,
    /// `STALE_STORED`
    StaleStored,
    /// `STORED`
    Stored,
    /// `SERVER_ERROR object too large for cache`
    TooLarge,
    /// `WATCHER_TOO_MANY log watcher limit reached`
    TooManyWatchers,
    /// `TOUCHED`
    Touched,
    /// `CLIENT_ERROR unauthenticated`
    Unauthenticated,
    /// `ERROR`
    Unknown,
    /// `CLIENT_ERROR watch commands not allowed`
    WatchNotAllowed,
}

/// A live value, as dumps list it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Listed<'a> {
    /// When it was last read, or else stored, in seconds since 1970.
    pub accessed_unix: u64,
    /// Its memory use.
    pub bytes: u64,
    /// When it expires, in seconds since 1970; 0 for never.
    pub exptime_unix: u64,
    /// The client flags.
    pub flags: u32,
    /// Whether a client has read it.
    pub is_fetched: bool,
    /// The key, any bytes.
    pub key: &'a [u8],
    /// The CAS unique.
    pub unique: u64,
    /// The length of the value.
    pub value_bytes: u64,
}
