//! Replies without content.

/// A reply that says nothing but what has happened. It is named by its line in the text protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// `CLIENT_ERROR authentication failure`
    AuthFailure,
    /// `CLIENT_ERROR auth token too long`
    AuthTokenTooLong,
    /// `CLIENT_ERROR bad authentication token format`
    BadAuthToken,
    /// `CLIENT_ERROR a prefix ends in ':' and has at most … of them`
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
    /// `ERROR Too many open connections`, as in memcached under `-o maxconns_fast`
    TooManyConnections,
    /// `ERROR Too many open connections from your address`
    TooManyFromThere,
    /// `WATCHER_TOO_MANY log watcher limit reached`
    TooManyWatchers,
    /// `SERVER_ERROR large request took too long while others waited`
    TooSlow,
    /// `TOUCHED`
    Touched,
    /// `CLIENT_ERROR unauthenticated`
    Unauthenticated,
    /// `ERROR`
    Unknown,
    /// `CLIENT_ERROR watch commands not allowed`
    WatchNotAllowed,
}
