//! What can go wrong between a client and its servers: whose fault it is, and what may have been done all the
//! same.
//!
//! Deliberately absent: misses, lost races and refused fills. They are answers.

use std::error;
use std::fmt;
use std::sync::Arc;

/// Why there is no answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Error {
    /// The caller's fault: a key or a tag has 1 to 250 bytes, no space or control byte among them, and is not
    /// the word `noreply`; a prefix is written likewise. Nothing was sent.
    BadName,
    /// The server could not be reached. Nothing was sent, and asking again at once is no use.
    Down {
        /// The server, as the configuration names it.
        server: Arc<str>,
    },
    /// The server said something that is no answer to what it was asked. The connection is given up.
    Garbled {
        /// The server, as the configuration names it.
        server: Arc<str>,
    },
    /// The connection ended before the answer came: the request may have been carried out, or may yet be. (A
    /// plain `set` can so arrive behind a later `delete`; a fill under a lease cannot.)
    Lost {
        /// The server, as the configuration names it.
        server: Arc<str>,
    },
    /// The server understood and would not, or did not understand: nothing was carried out, nor will be.
    Refused {
        /// The server, as the configuration names it.
        server: Arc<str>,
        /// Its own words.
        why: String,
    },
    /// The answer did not come in time: the request may have been carried out, or may yet be.
    TimedOut {
        /// The server, as the configuration names it.
        server: Arc<str>,
    },
    /// The caller's fault: an item has at most 16 tags. Nothing was sent.
    TooManyTags,
}

/// Why a [`fetch`](super::Client::fetch) has no value.
#[derive(Debug, Eq, PartialEq)]
pub enum FetchError<E> {
    /// The cache's: a bad key, or a server in trouble where [`WithoutCache::Fail`](super::WithoutCache) was
    /// asked for.
    Cache(Error),
    /// The loader's own.
    Load(E),
}

/// Not every server has confirmed an invalidation in time: those named may still serve what should be gone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NotInvalidated {
    /// The caller's fault; see [`Error::BadName`]. Nothing was sent.
    BadName,
    /// All others have confirmed it.
    Unconfirmed {
        /// The error of the last attempt at each of them; [`Error::server`] names the server.
        servers: Vec<Error>,
    },
}

impl Error {
    /// The server in question, as the configuration names it; `None` where the caller is at fault.
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
            Error::BadName => {
                f.write_str("not 1 to 250 bytes without spaces and control bytes, or the word noreply")
            }
            Error::Down { server } => write!(f, "{server} cannot be reached"),
            Error::Garbled { server } => write!(f, "{server} does not speak the protocol"),
            Error::Lost { server } => write!(f, "{server} closed the connection before it answered"),
            Error::Refused { server, why } => write!(f, "{server} refused: {why}"),
            Error::TimedOut { server } => write!(f, "{server} did not answer in time"),
            Error::TooManyTags => f.write_str("more than 16 tags"),
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
