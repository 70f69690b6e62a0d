//! The inputs of the state machine, and the steps that it answers with.

use super::super::position::Position;
use super::super::report::Report;
use super::super::source::{Attached, Batch, Broken};
use super::letter::Letter;
use super::work::Work;

/// The time of an input.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    /// Milliseconds of the monotonic clock.
    pub ms: u64,
    /// Microseconds since 1970.
    pub wall_us: u64,
}

/// Something that happened to a source.
#[derive(Debug)]
pub enum Input {
    /// It was attached.
    Attached(Attached),
    /// It brought events.
    Batch(Batch),
    /// It failed; the number, from 0 to 1, is chance.
    Broken(Broken, f64),
    /// Time has passed.
    Tick,
}

/// The next thing that the source is needed for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Want {
    /// To be attached here.
    Attach(Option<Position>),
    /// To be read.
    Read,
    /// Nothing before this time, in milliseconds.
    Wait(u64),
}

/// One thing to do; the order counts.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Tell the source that everything up to here was applied.
    Acknowledge(Position),
    /// Change the cache.
    Apply(Work),
    /// Everything that was committed before this time, in monotonic milliseconds, has been applied.
    Attest(u64),
    /// Keep an event that could not be applied.
    DeadLetter(Box<Letter>),
    /// The source failed.
    Failed(Broken),
    /// Events were lost, for this reason.
    Gap(String),
    /// Show this report of a batch.
    Report(Report),
    /// Save the position.
    Save(Position),
}
