//! The lines of replies that are always the same.

use std::sync::LazyLock;

use crate::limits::PREFIXES_MAX;
use crate::protocol::message::Status;

/// The line, including its end.
pub(super) fn line(status: Status) -> &'static [u8] {
    match status {
        Status::AuthFailure => b"CLIENT_ERROR authentication failure\r\n",
        Status::AuthTokenTooLong => b"CLIENT_ERROR auth token too long\r\n",
        Status::BadAuthToken => b"CLIENT_ERROR bad authentication token format\r\n",
        Status::BadPrefix => &BAD_PREFIX,
        Status::BadShutdown => b"CLIENT_ERROR invalid shutdown mode\r\n",
        Status::CachedumpNotAllowed => b"CLIENT_ERROR stats cachedump not allowed\r\n",
        Status::Deleted => b"DELETED\r\n",
        Status::DetailNotAllowed => b"CLIENT_ERROR stats detail not allowed\r\n",
        Status::End => b"END\r\n",
        Status::EndOfKeys => b"EN\r\n",
        Status::Exists => b"EXISTS\r\n",
        Status::FlushNotAllowed => b"CLIENT_ERROR flush_all not allowed\r\n",
        Status::KeyDumpNotAllowed => b"ERROR key dump not allowed\r\n",
        Status::MemlimitNotMegabytes => b"MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\r\n",
        Status::MemlimitOutOfBounds => b"MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust\r\n",
        Status::MemlimitTooSmall => b"MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n",
        Status::MetadumpNotAllowed => b"ERROR metadump not allowed\r\n",
        Status::Noop => b"MN\r\n",
        Status::NonNumeric => b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
        Status::NoRoom => b"SERVER_ERROR out of memory storing object\r\n",
        Status::NoRoomToCount => b"SERVER_ERROR out of memory\r\n",
        Status::NotFound => b"NOT_FOUND\r\n",
        Status::NotStored => b"NOT_STORED\r\n",
        Status::Ok => b"OK\r\n",
        Status::Reset => b"RESET\r\n",
        Status::ShutdownNotEnabled => b"SERVER_ERROR: shutdown not enabled\r\n",
        Status::StaleStored => b"STALE_STORED\r\n",
        Status::Stored => b"STORED\r\n",
        Status::TooLarge => b"SERVER_ERROR object too large for cache\r\n",
        Status::TooManyConnections => b"ERROR Too many open connections\r\n",
        Status::TooManyFromThere => b"ERROR Too many open connections from your address\r\n",
        Status::TooManyWatchers => b"WATCHER_TOO_MANY log watcher limit reached\r\n",
        Status::TooSlow => b"SERVER_ERROR large request took too long while others waited\r\n",
        Status::Touched => b"TOUCHED\r\n",
        Status::Unauthenticated => b"CLIENT_ERROR unauthenticated\r\n",
        Status::Unknown => b"ERROR\r\n",
        Status::WatchNotAllowed => b"CLIENT_ERROR watch commands not allowed\r\n",
    }
}

static BAD_PREFIX: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let line = format!("CLIENT_ERROR a prefix ends in ':' and has at most {PREFIXES_MAX} of them\r\n");
    line.into_bytes()
});
