//! What commands tell those who watch the race for a key: leases, fills, who waits, and voids.
//!
//! Of a token only its point is told: it says which grant and which fill belong together, and is no token.

use super::Command;
use super::session::Turn;
use super::watching::{Found, STORED};
use crate::cache::{Depth, Fence, Filled, Name, Refused, Seq, Store, Token};
use crate::metrics::{Count, Event, Topic};

impl Command<'_> {
    /// A reader was given a lease.
    pub(super) fn tell_granted(&self, key: &[u8], verb: &'static str, token: Token) {
        let (connection, lease) = (self.session.number, token.seq());
        self.tell(Topic::Leases, || Event::Granted { key, connection, lease, verb });
    }

    /// A reader was told that somebody else loads the value.
    pub(super) fn tell_busy(&self, key: &[u8], verb: &'static str) {
        self.tell(Topic::Leases, || Event::Busy { key, connection: self.session.number, verb });
    }

    /// What became of a fill with a token.
    pub(super) fn tell_filled(
        &self,
        key: &[u8],
        verb: &'static str,
        token: Token,
        done: Result<Filled, Refused>,
        value_bytes: usize,
    ) {
        let (connection, lease) = (self.session.number, Some(token.seq()));
        self.tell(Topic::Leases, || {
            let status = outcome(done);
            Event::Filled { key, connection, lease, status, value_bytes, verb }
        });
    }

    /// What the fence made of a store without a token, if it had to do with it.
    pub(super) fn tell_fenced(&self, key: &[u8], verb: &'static str, done: Store, value_bytes: usize) {
        let connection = self.session.number;
        if let Some(status) = fenced(done) {
            self.tell(Topic::Leases, || Event::Filled {
                key,
                connection,
                lease: None,
                status,
                value_bytes,
                verb,
            });
        }
    }

    /// Counts and tells a stale copy that was served.
    pub(super) fn stale_served(&self, key: &[u8], verb: &'static str, value_bytes: usize) {
        self.count_of(key, Count::StaleServed);
        let connection = self.session.number;
        self.tell(Topic::Leases, || Event::StaleServed { key, connection, value_bytes, verb });
    }

    /// Counts and tells the beginning and the end of waiting for a key.
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
        let connection = self.session.number;
        self.tell(Topic::Leases, || Event::Waited { key, connection, status, verb });
    }

    /// A command has voided its key, if the connection has made a void since it looked.
    pub(super) fn tell_void(&self, key: &[u8], verb: &'static str, depth: Depth, found: Found) {
        let (connection, seq) = (self.session.number, self.session.peer.newest_void());
        if seq != found.void {
            self.tell(Topic::Voids, || Event::VoidedKey { key, connection, depth, seq, verb });
        }
    }

    /// A tag or a prefix was voided.
    pub(super) fn tell_voided_name(&self, name: Name, verb: &'static str, depth: Depth) {
        let connection = self.session.number;
        self.tell(Topic::Voids, || {
            // Another one may have voided it once more; then both tell the point of the later.
            let seq = self.cache.newest_void(name).unwrap_or(Seq::ZERO);
            Event::VoidedName { name, connection, depth, seq, verb }
        });
    }

    /// Everything was voided, or will be.
    pub(super) fn tell_voided_all(&self, verb: &'static str, depth: Depth, delay_ms: u64) {
        let (connection, delay_seconds) = (self.session.number, delay_ms.div_ceil(1000));
        self.tell(Topic::Voids, || Event::VoidedAll { connection, delay_seconds, depth, verb });
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

fn fenced(done: Store) -> Option<&'static str> {
    match done {
        Store::Outdated => Some(OUTDATED),
        Store::Refused => Some(VOIDED),
        Store::Stored { fence: Fence::Observed } => Some("observed"),
        Store::Stored { fence: Fence::Passed } => Some(STORED),
        Store::Exists
        | Store::NoRoom
        | Store::NotFound
        | Store::NotStored
        | Store::Stored { fence: Fence::None | Fence::Refused }
        | Store::TooLarge => None,
    }
}

const OUTDATED: &str = "outdated";
const VOIDED: &str = "voided";
