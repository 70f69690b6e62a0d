//! Counts of requests and replies, and latencies.
//!
//! Each thread has a tally of its own; they are added up at the end.

use hdrhistogram::Histogram;

/// A command of the wire protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verb {
    Delete,
    Get,
    LeaseGet,
    LeaseSet,
    MetaDelete,
    MetaGet,
    MetaSet,
    Set,
}

/// The outcome of a command, or of one of its keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Another client holds the lease.
    Busy,
    ClientError,
    Deleted,
    /// A lease was filled.
    Filled,
    Granted,
    Hit,
    Miss,
    NotFound,
    NotStored,
    RefusedFill,
    ServerError,
    Stored,
    /// A value that was never stored under this key.
    WrongValue,
}

/// Counts and latencies of one thread, or of all threads.
#[derive(Clone)]
pub struct Tally {
    pub bytes_read: u64,
    pub bytes_written: u64,
    /// When the last measured batch was answered.
    pub last_nanos: u64,
    /// Batches that were due in an open loop and never sent.
    pub unsent: u64,
    latencies: [Histogram<u64>; Verb::ALL.len()],
    outcomes: [u64; Outcome::ALL.len()],
    requests: [u64; Verb::ALL.len()],
}

/// The number of requests of each verb in a batch.
pub type Requests = [u32; Verb::ALL.len()];

impl Verb {
    pub const ALL: [Verb; 8] = [
        Verb::Delete,
        Verb::Get,
        Verb::LeaseGet,
        Verb::LeaseSet,
        Verb::MetaDelete,
        Verb::MetaGet,
        Verb::MetaSet,
        Verb::Set,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Verb::Delete => "delete",
            Verb::Get => "get",
            Verb::LeaseGet => "lease-get",
            Verb::LeaseSet => "lease-set",
            Verb::MetaDelete => "md",
            Verb::MetaGet => "mg",
            Verb::MetaSet => "ms",
            Verb::Set => "set",
        }
    }
}

impl Outcome {
    pub const ALL: [Outcome; 13] = [
        Outcome::Busy,
        Outcome::ClientError,
        Outcome::Deleted,
        Outcome::Filled,
        Outcome::Granted,
        Outcome::Hit,
        Outcome::Miss,
        Outcome::NotFound,
        Outcome::NotStored,
        Outcome::RefusedFill,
        Outcome::ServerError,
        Outcome::Stored,
        Outcome::WrongValue,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Outcome::Busy => "leased by others",
            Outcome::ClientError => "client errors",
            Outcome::Deleted => "deleted",
            Outcome::Filled => "filled",
            Outcome::Granted => "leases granted",
            Outcome::Hit => "hits",
            Outcome::Miss => "misses",
            Outcome::NotFound => "not found",
            Outcome::NotStored => "not stored",
            Outcome::RefusedFill => "fills refused",
            Outcome::ServerError => "server errors",
            Outcome::Stored => "stored",
            Outcome::WrongValue => "wrong values",
        }
    }

    fn is_error(self) -> bool {
        matches!(self, Outcome::ClientError | Outcome::ServerError | Outcome::WrongValue)
    }
}

impl Tally {
    pub fn new() -> Tally {
        let histogram = Histogram::new_with_bounds(1, LATENCY_NANOS_MAX, SIGNIFICANT_DIGITS);
        Tally {
            bytes_read: 0,
            bytes_written: 0,
            last_nanos: 0,
            unsent: 0,
            latencies: Verb::ALL.map(|_| histogram.clone().expect("these bounds are legal")),
            outcomes: [0; Outcome::ALL.len()],
            requests: [0; Verb::ALL.len()],
        }
    }

    /// Records an answered batch. Latency counts from when it was sent, or was due.
    pub fn answered(&mut self, requests: &Requests, latency_nanos: u64) {
        for (verb, count) in requests.iter().enumerate().filter(|(_, count)| **count > 0) {
            self.requests[verb] += u64::from(*count);
            self.latencies[verb].saturating_record_n(latency_nanos, u64::from(*count));
        }
    }

    pub fn count(&mut self, outcome: Outcome) {
        self.outcomes[outcome as usize] += 1;
    }

    pub fn add(&mut self, other: &Tally) {
        let Tally { bytes_read, bytes_written, last_nanos, unsent, latencies, outcomes, requests } = other;
        self.bytes_read += bytes_read;
        self.bytes_written += bytes_written;
        self.last_nanos = self.last_nanos.max(*last_nanos);
        self.unsent += unsent;
        for (sum, part) in self.latencies.iter_mut().zip(latencies) {
            sum.add(part).expect("all have the same bounds");
        }
        self.outcomes.iter_mut().zip(outcomes).for_each(|(sum, part)| *sum += part);
        self.requests.iter_mut().zip(requests).for_each(|(sum, part)| *sum += part);
    }

    /// Replies that no server should give.
    pub fn errors(&self) -> u64 {
        Outcome::ALL.into_iter().filter(|outcome| outcome.is_error()).map(|outcome| self.of(outcome)).sum()
    }

    pub fn of(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize]
    }

    pub fn requests(&self, verb: Verb) -> u64 {
        self.requests[verb as usize]
    }

    pub fn latency(&self, verb: Verb) -> &Histogram<u64> {
        &self.latencies[verb as usize]
    }

    /// The latencies of all verbs together.
    pub fn latencies(&self) -> Histogram<u64> {
        let [first, rest @ ..] = &self.latencies;
        let mut all = first.clone();
        rest.iter().for_each(|part| all.add(part).expect("all have the same bounds"));
        all
    }
}

/// Longer latencies are recorded as this.
const LATENCY_NANOS_MAX: u64 = 100_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;
