//! Why a snapshot was not written, or not loaded.

use std::io;
use std::time::Duration;

use super::progress::DeadlinePassed;

/// Why a file was not loaded.
#[derive(Debug)]
pub enum LoadError {
    /// Bytes of it are missing or wrong.
    Damaged,
    /// It was not written by a server like this one.
    Foreign,
    /// More time passed since it was written than was allowed, or nobody knows how much.
    TooOld(Option<Duration>),
    /// There is none.
    Missing,
    /// To load it takes longer than was allowed.
    TimedOut,
    /// The system does not give it out.
    Unreadable(io::Error),
}

/// Why no file was written.
#[derive(Debug)]
pub enum SaveError {
    /// The system does not take it.
    Io(io::Error),
    /// It takes longer than was allowed.
    TimedOut,
}

impl From<DeadlinePassed> for LoadError {
    fn from(DeadlinePassed: DeadlinePassed) -> Self {
        LoadError::TimedOut
    }
}

impl From<io::Error> for SaveError {
    fn from(error: io::Error) -> Self {
        SaveError::Io(error)
    }
}

impl From<DeadlinePassed> for SaveError {
    fn from(DeadlinePassed: DeadlinePassed) -> Self {
        SaveError::TimedOut
    }
}

impl From<SaveError> for io::Error {
    fn from(error: SaveError) -> Self {
        match error {
            SaveError::Io(error) => error,
            SaveError::TimedOut => io::Error::other("to write the items takes too long"),
        }
    }
}

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => LoadError::Missing,
            io::ErrorKind::UnexpectedEof => LoadError::Damaged,
            _ => LoadError::Unreadable(error),
        }
    }
}
