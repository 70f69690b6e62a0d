//! The errors between a client and its servers: their cause, and whether the request may have been carried
//! out anyway.
//!
//! Misses, lost races and refused fills are not errors but answers.

use std::error;
use std::fmt;
use std::sync::Arc;

/// The reason why there is no answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Error {
    /// The caller's mistake: a key, tag or prefix must have 1 to 250 bytes, without spaces and control
    /// bytes, and must not be the word `noreply`. Nothing was sent.
    BadName,
    /// The server could not be reached. Nothing was sent, and an immediate retry is pointless.
    Down {
        /// The server, as the configuration names it.
        server: Arc<str>,
    },
    /// The server sent something that does not answer the request. The connection is closed.
    Garbled {
        /// The server, as the configuration names it.
        server: Arc<str>,
    },
    /// The connection ended before the answer arrived: the request may have been carried out, or may still
    /// be. (A plain `set` can thus arrive after a later `delete`; a fill with a lease cannot.)
    Lost {
        /// The server, as the configuration names it.
        server: Arc<str>,
    },
    /// The server refused or did not understand the request, and will not carry it out.
    Refused {
        /// The server, as the configuration names it.
        server: Arc<str>,
        /// The server's own words.
        why: String,
    },
    /// The answer did not arrive in time: the request may have been carried out, or may still be.
    TimedOut {
        /// The server, as the configuration names it.
        server: Arc<str>,
    },
    /// The caller's mistake: an item can have at most 16 tags. Nothing was sent.
    TooManyTags,
}

/// The reason why a [`fetch`](super::Client::fetch) has no value.
#[derive(Debug, Eq, PartialEq)]
pub enum FetchError<E> {
    /// An error of the cache: an invalid key, or a failing server with
    /// [`WithoutCache::Fail`](super::WithoutCache).
    Cache(Error),
    /// The loader's own error.
    Load(E),
}

/// Not all servers confirmed an invalidation in time: the listed ones may still serve invalidated values.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NotInvalidated {
    /// The caller's mistake; see [`Error::BadName`]. Nothing was sent.
    BadName,
    /// All other servers have confirmed.
    Unconfirmed {
        /// The last error of each of these servers; [`Error::server`] names the server.
        servers: Vec<Error>,
    },
}

impl Error {
    /// The server in question, as the configuration names it; `None` for a mistake of the caller.
    pub fn server(&self) -> Option<&str> {
        match self {
            Error::BadName | Error::TooManyTags => None,
            Error::Down { server }
            | Error::Garbled { server }
            | Error::Lost { server }
            | Error::Refused { server, .. }
            | Error::TimedOut { server } => Some(server),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::BadName => f.write_str(
                "invalid name: expected 1 to 250 bytes without spaces and control bytes, other than noreply",
            ),
            Error::Down { server } => write!(f, "cannot reach {server}"),
            Error::Garbled { server } => write!(f, "{server} does not speak the protocol"),
            Error::Lost { server } => write!(f, "{server} closed the connection before it answered"),
            Error::Refused { server, why } => write!(f, "{server} refused: {why}"),
            Error::TimedOut { server } => write!(f, "{server} did not answer in time"),
            Error::TooManyTags => f.write_str("too many tags: an item has at most 16"),
        }
    }
}

impl error::Error for Error {}

impl<E: fmt::Display> fmt::Display for FetchError<E> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            FetchError::Cache(error) => error.fmt(f),
            FetchError::Load(error) => error.fmt(f),
        }
    }
}

impl<E: error::Error + 'static> error::Error for FetchError<E> {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            FetchError::Cache(error) => Some(error),
            FetchError::Load(error) => Some(error),
        }
    }
}

impl fmt::Display for NotInvalidated {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            NotInvalidated::BadName => Error::BadName.fmt(f),
            NotInvalidated::Unconfirmed { servers } => {
                f.write_str("not invalidated: ")?;
                for (index, error) in servers.iter().enumerate() {
                    write!(f, "{}{error}", if index == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
        }
    }
}

impl error::Error for NotInvalidated {}
