//! Sources of events.

#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
pub mod postgres;

use std::fmt;

use super::event::Event;
use super::position::Position;
use super::report::Report;

/// A stream of events. Its consumer pulls, so that it is never ahead of what can be applied.
pub trait Source: Send {
    /// Connects, and continues after `from`; at the end if there is no position.
    ///
    /// # Errors
    /// [`Broken`] says whether trying again can help.
    fn attach(&mut self, from: Option<&Position>) -> impl Future<Output = Result<Attached, Broken>> + Send;

    /// The next events, in order. Dropping the future loses nothing.
    ///
    /// # Errors
    /// After an error the source has to be attached again.
    fn next(&mut self) -> impl Future<Output = Result<Batch, Broken>> + Send;

    /// Everything up to this position has been applied and saved; the report is that of the last batch.
    ///
    /// # Errors
    /// As [`Source::next`].
    fn done(&mut self, upto: &Position, report: &Report) -> impl Future<Output = Result<(), Broken>> + Send;
}

/// Where a source continues after it was attached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Attached {
    /// At the end, which is this position: events before it are not known.
    AtEnd(Position),
    /// At the end, which is this position: events between the old position and it are lost.
    Gap(Position, String),
    /// Directly after the old position.
    Resumed,
}

/// Events that arrived together.
#[derive(Debug, Default)]
pub struct Batch {
    /// Bytes or changes that are known to wait behind this batch; `None` if the source cannot say.
    pub behind: Option<u64>,
    /// The events, in order, and in place of each that could not be decoded the reason.
    pub events: Vec<Result<Event, Poison>>,
    /// The position after them, if they end at one that can be resumed from.
    pub position: Option<Position>,
    /// Everything that was committed before this time has been in this batch or an earlier one; in
    /// milliseconds of the monotonic clock of [`crate::Clock`].
    pub proven: Option<u64>,
}

/// An event that cannot be decoded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Poison {
    /// The reason.
    pub error: String,
    /// The bytes as they came.
    pub payload: Vec<u8>,
    /// The table or kind, as far as it is known.
    pub subject: Option<String>,
}

/// A source that failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Broken {
    /// It will not work until an operator changes something; it is tried again anyway, rarely.
    Misconfigured(String),
    /// Trying again can help.
    Transient(String),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Broken::Misconfigured(why) | Broken::Transient(why) => f.write_str(why),
        }
    }
}
