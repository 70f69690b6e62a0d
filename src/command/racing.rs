//! Events about the race for a key: leases, fills, waiters and invalidations.
//!
//! An event shows a token's sequence number only: it ties a fill to its grant, and is useless as a token.

use super::Command;
use super::session::Turn;
use super::watching::{Found, STORED};
use crate::cache::{Depth, Fence, Filled, Name, Refused, Seq, StoreOutcome, Token};
use crate::metrics::{By, Count, Event, Loading, Topic, Voided};

impl Command<'_> {
    /// A reader received a lease.
    pub(super) fn tell_granted(&self, key: &[u8], verb: &'static str, token: Token) {
        self.tell_loading(key, verb, || Loading::Granted { lease: token.seq() });
    }

    /// A reader was told that another client is loading the value.
    pub(super) fn tell_busy(&self, key: &[u8], verb: &'static str) {
        self.tell_loading(key, verb, || Loading::Busy);
    }

    /// A fill with a token has ended.
    pub(super) fn tell_filled(
        &self,
        key: &[u8],
        verb: &'static str,
        token: Token,
        done: Result<Filled, Refused>,
        value_bytes: usize,
    ) {
        self.tell_loading(key, verb, || Loading::Filled {
            lease: Some(token.seq()),
            status: outcome(done),
            value_bytes,
        });
    }

    /// The fence decided about a store without a token; no event if it was not involved.
    pub(super) fn tell_fenced(&self, key: &[u8], verb: &'static str, done: StoreOutcome, value_bytes: usize) {
        if let Some(status) = fenced(done) {
            self.tell_loading(key, verb, || Loading::Filled { lease: None, status, value_bytes });
        }
    }

    /// Counts and reports that a stale copy was served.
    pub(super) fn stale_served(&self, key: &[u8], verb: &'static str, value_bytes: usize) {
        self.count_of(key, Count::StaleServed);
        self.tell_loading(key, verb, || Loading::StaleServed { value_bytes });
    }

    /// Counts and reports the beginning and the end of waiting for a key.
    #[inline]
    pub(super) fn take_turn(&mut self, key: &[u8], verb: &'static str, turn: Turn) {
        if self.session.waited.changes(turn) {
            self.has_waited(key, verb, turn);
        }
    }

    #[cold]
    fn has_waited(&self, key: &[u8], verb: &'static str, turn: Turn) {
        let (count, status) = match turn {
            Turn::Filled => (Count::LeaseWaitFilled, "filled"),
            Turn::Free => (Count::LeaseWaitFilled, "free"),
            Turn::Late => (Count::LeaseWaitTimeouts, "timeout"),
            Turn::Wait => (Count::LeaseWaits, "begun"),
        };
        self.session.counters.add(count);
        self.tell_loading(key, verb, || Loading::Waited { status });
    }

    /// Reports that a command has invalidated its key, if the connection's last invalidation has changed
    /// since `found`.
    pub(super) fn tell_void(&self, key: &[u8], verb: &'static str, depth: Depth, found: Found) {
        let seq = self.session.peer.newest_void();
        if seq != found.void {
            self.tell_voided(verb, depth, || Voided::Key(key, seq));
        }
    }

    /// A tag or a prefix was invalidated.
    pub(super) fn tell_voided_name(&self, name: Name, verb: &'static str, depth: Depth) {
        // If another client has invalidated it again, both events show the later sequence number.
        self.tell_voided(verb, depth, || {
            Voided::Name(name, self.cache.newest_void(name).unwrap_or(Seq::ZERO))
        });
    }

    /// Everything was invalidated, or will be.
    pub(super) fn tell_voided_all(&self, verb: &'static str, depth: Depth, delay_ms: u64) {
        self.tell_voided(verb, depth, || Voided::All { delay_seconds: delay_ms.div_ceil(1000) });
    }

    fn tell_loading(&self, key: &[u8], verb: &'static str, what: impl FnOnce() -> Loading) {
        self.tell(Topic::Leases, || Event::Loading { key, by: self.by(verb), what: what() });
    }

    fn tell_voided<'v>(&self, verb: &'static str, depth: Depth, what: impl FnOnce() -> Voided<'v>) {
        self.tell(Topic::Voids, || Event::Voided { by: self.by(verb), depth, what: what() });
    }

    fn by(&self, verb: &'static str) -> By {
        By { connection: self.session.number, verb }
    }
}

fn outcome(done: Result<Filled, Refused>) -> &'static str {
    match done {
        Ok(Filled::Released) => "released",
        Ok(Filled::Stale) => "stale_stored",
        Ok(Filled::Visible) => STORED,
        Err(Refused::NoRoom) => "no_memory",
        Err(Refused::Outdated) => OUTDATED,
        Err(Refused::Superseded) => "superseded",
        Err(Refused::Unknown) => "unknown",
        Err(Refused::Voided) => VOIDED,
    }
}

fn fenced(done: StoreOutcome) -> Option<&'static str> {
    match done {
        StoreOutcome::Outdated => Some(OUTDATED),
        StoreOutcome::Refused(_) => Some(VOIDED),
        StoreOutcome::Stored { fence: Fence::Observed, .. } => Some("observed"),
        StoreOutcome::Stored { fence: Fence::Confirmed | Fence::Passed, .. } => Some(STORED),
        StoreOutcome::Exists
        | StoreOutcome::NoRoom
        | StoreOutcome::NotFound
        | StoreOutcome::NotStored
        | StoreOutcome::Stored { fence: Fence::None, .. }
        | StoreOutcome::TooLarge => None,
    }
}

const OUTDATED: &str = "outdated";
const VOIDED: &str = "voided";
