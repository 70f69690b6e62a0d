//! The cache of a server that takes over from another one.

use std::io;

use super::incoming::{HandoverOutcome, Predecessor};
use crate::clock::Clock;
use crate::options::Options;
use crate::snapshot::Boot;

/// Stops the predecessor and loads its items, unless the gap in service is too long.
///
/// # Errors
/// If the predecessor does not stop, or the file is unusable.
///
/// # Panics
/// If the options name no snapshot file: the predecessor was found next to it.
pub fn take_over(predecessor: Predecessor, options: &Options) -> io::Result<Boot> {
    let clock = Clock::system();
    let path = options.memory_file.as_ref().expect("it was found beside its memory file");
    let (pid, max_gap, since) = (predecessor.pid, options.safety.handover_max_gap(), clock.now());
    let memory = match predecessor.take(max_gap)? {
        HandoverOutcome::Items | HandoverOutcome::Unreported => {
            Boot::load_before(path, options, clock.clone(), since.after(max_gap))?
        }
        HandoverOutcome::Empty(why) => {
            tracing::warn!("starting with an empty cache: process {pid} left nothing: {why}");
            Boot::empty(path, options, clock.clone())?
        }
    };
    let gap_ms = clock.now().millis - since.millis;
    tracing::info!(gap_ms, "process {pid} has handed over; no requests were served in between");
    Ok(memory)
}
