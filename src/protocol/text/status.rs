//! The lines of replies that are always the same.

use crate::protocol::message::Reply;

impl Reply {
    pub(in crate::protocol) fn line(self) -> &'static [u8] {
        match self {
            Reply::AuthFailure => b"CLIENT_ERROR authentication failure\r\n",
            Reply::AuthTokenTooLong => b"CLIENT_ERROR auth token too long\r\n",
            Reply::BadAuthToken => b"CLIENT_ERROR bad authentication token format\r\n",
            Reply::BadPrefix => b"CLIENT_ERROR a prefix ends in ':' and has at most 16 of them\r\n",
            Reply::BadShutdown => b"CLIENT_ERROR invalid shutdown mode\r\n",
            Reply::CachedumpNotAllowed => b"CLIENT_ERROR stats cachedump not allowed\r\n",
            Reply::Deleted => b"DELETED\r\n",
            Reply::DetailNotAllowed => b"CLIENT_ERROR stats detail not allowed\r\n",
            Reply::End => b"END\r\n",
            Reply::EndOfKeys => b"EN\r\n",
            Reply::Exists => b"EXISTS\r\n",
            Reply::FlushNotAllowed => b"CLIENT_ERROR flush_all not allowed\r\n",
            Reply::KeyDumpNotAllowed => b"ERROR key dump not allowed\r\n",
            Reply::MemlimitNotMegabytes => b"MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\r\n",
            Reply::MemlimitOutOfBounds => b"MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust\r\n",
            Reply::MemlimitTooSmall => b"MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n",
            Reply::MetadumpNotAllowed => b"ERROR metadump not allowed\r\n",
            Reply::Noop => b"MN\r\n",
            Reply::NonNumeric => b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
            Reply::NoRoom => b"SERVER_ERROR out of memory storing object\r\n",
            Reply::NoRoomToCount => b"SERVER_ERROR out of memory\r\n",
            Reply::NotFound => b"NOT_FOUND\r\n",
            Reply::NotStored => b"NOT_STORED\r\n",
            Reply::Ok => b"OK\r\n",
            Reply::Reset => b"RESET\r\n",
            Reply::ShutdownNotEnabled => b"SERVER_ERROR: shutdown not enabled\r\n",
            Reply::StaleStored => b"STALE_STORED\r\n",
            Reply::Stored => b"STORED\r\n",
            Reply::TooLarge => b"SERVER_ERROR object too large for cache\r\n",
            Reply::TooManyWatchers => b"WATCHER_TOO_MANY log watcher limit reached\r\n",
            Reply::Touched => b"TOUCHED\r\n",
            Reply::Unauthenticated => b"CLIENT_ERROR unauthenticated\r\n",
            Reply::Unknown => b"ERROR\r\n",
            Reply::WatchNotAllowed => b"CLIENT_ERROR watch commands not allowed\r\n",
        }
    }
}
