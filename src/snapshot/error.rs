//! Errors of writing or loading a snapshot.

use std::io;
use std::time::Duration;

use super::progress::DeadlinePassed;

/// The reason why a file was not loaded.
#[derive(Debug)]
pub enum LoadError {
    /// Some bytes are missing or wrong.
    Damaged,
    /// It is not a snapshot of this version.
    Foreign,
    /// It is older than allowed, or of unknown age.
    TooOld(Option<Duration>),
    /// The file does not exist.
    Missing,
    /// Loading takes longer than allowed.
    TimedOut,
    /// The file cannot be read.
    Unreadable(io::Error),
}

/// The reason why no file was written.
#[derive(Debug)]
pub enum SaveError {
    /// The file cannot be written.
    Io(io::Error),
    /// Writing takes longer than allowed.
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
            SaveError::TimedOut => io::Error::other("writing the items takes too long"),
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
