//! Why a snapshot was not written, or not loaded.

use std::io;
use std::time::Duration;

use super::progress::Late;

/// Why a file was not loaded.
#[derive(Debug)]
pub enum Unfit {
    /// Bytes of it are missing or wrong.
    Damaged,
    /// It was not written by a server like this one.
    Foreign,
    /// More time passed since it was written than was allowed, or nobody knows how much.
    Late(Option<Duration>),
    /// There is none.
    Missing,
    /// To load it takes longer than was allowed.
    Slow,
    /// The system does not give it out.
    Unreadable(io::Error),
}

/// Why no file was written.
#[derive(Debug)]
pub enum Unsaved {
    /// The system does not take it.
    Failed(io::Error),
    /// It takes longer than was allowed.
    Slow,
}

impl From<Late> for Unfit {
    fn from(Late: Late) -> Self {
        Unfit::Slow
    }
}

impl From<io::Error> for Unsaved {
    fn from(error: io::Error) -> Self {
        Unsaved::Failed(error)
    }
}

impl From<Late> for Unsaved {
    fn from(Late: Late) -> Self {
        Unsaved::Slow
    }
}

impl From<Unsaved> for io::Error {
    fn from(unsaved: Unsaved) -> Self {
        match unsaved {
            Unsaved::Failed(error) => error,
            Unsaved::Slow => io::Error::other("to write the items takes too long"),
        }
    }
}

impl From<io::Error> for Unfit {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Unfit::Missing,
            io::ErrorKind::UnexpectedEof => Unfit::Damaged,
            _ => Unfit::Unreadable(error),
        }
    }
}
