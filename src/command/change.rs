//! Changes by events: invalidations with a version, values with a version, and counts.

use super::observe::Outcome;
use super::{Command, Conversation, legal};
use crate::cache::{Cache, Counting, Depth, Draft, Expiry, Mode, Step, StoreOutcome};
use crate::clock::Now;
use crate::protocol::{Output, Replies};

/// A change of one key by an event. The key is legal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change<'a> {
    /// Count the number up by one, if there is one.
    Count,
    /// Invalidate the key, unless this version or a newer one is known.
    Invalidate {
        /// Whether stale copies stay.
        depth: Depth,
        /// The version of the row.
        version: u64,
    },
    /// Store a value, unless this version or a newer one is known.
    Store {
        /// When it expires.
        expiry: Expiry,
        /// Its bytes.
        value: &'a [u8],
        /// The version of the row.
        version: u64,
    },
}

/// Changes a key as an event says, and counts, samples and publishes it as a command; false if nothing was
/// changed.
///
/// # Panics
/// If the key is empty or too long.
pub fn change(
    bytes: &[u8],
    change: Change<'_>,
    cache: &Cache,
    conversation: &mut Conversation,
    now: Now,
) -> bool {
    let mut output = Output::default();
    let watched = conversation.metrics.watchers.topics();
    let command = Command { cache, conversation, replies: Replies::text(&mut output), now, watched };
    let key = legal(cache, bytes);
    let before = command.before(&key);
    let session = &mut command.conversation.session;
    match change {
        Change::Count => {
            let step = Step::Incr(1);
            let result = cache.count(&key, &Counting::by(step), session, now);
            command.report(Outcome::Counted { key: bytes, verb: "incr", before, result, step });
            result.is_ok()
        }
        Change::Invalidate { depth, version } => {
            let done = cache.invalidate_version(&key, depth, version, session, now);
            if let Some(was_live) = done {
                command.report(Outcome::InvalidatedKey { key: bytes, before, depth, was_live });
            }
            done.is_some()
        }
        Change::Store { expiry, value, version } => {
            let draft = Draft { expiry, ..Draft::new(value) };
            let (mode, value_bytes) = (Mode::Set, value.len());
            let outcome = if value_bytes > cache.config().value_bytes_max {
                // The value that is held is old all the same.
                cache.invalidate_version(&key, Depth::Hard, version, session, now);
                StoreOutcome::TooLarge
            } else {
                cache.store_version(&key, version, draft, session, now)
            };
            command.report(Outcome::Stored { key: bytes, before, expiry, mode, outcome, value_bytes });
            outcome.is_stored()
        }
    }
}
