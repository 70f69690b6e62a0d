//! The outcomes of reads, and the commands that read.

use crate::cache::{Lookup, Refresh, Token, Value};
use crate::clock::Now;
use crate::command::conversation::Waiting;
use crate::metrics::Count;

/// The outcome of a read.
#[derive(Clone, Copy)]
pub(in crate::command) enum ReadOutcome {
    /// Another client is loading the value.
    Busy {
        /// The length of the stale copy that was served.
        stale_bytes: Option<usize>,
    },
    /// No live value, and the reader received the lease.
    Granted {
        /// The length of the stale copy that was served.
        stale_bytes: Option<usize>,
        token: Token,
    },
    /// A live value, or a stale copy in its place.
    Hit { is_stale: bool, refresh: Refresh, value_bytes: usize },
    /// No live value.
    Miss,
    /// Wait for a lease until this time.
    Wait { until: u64 },
}

/// A command that reads.
#[derive(Clone, Copy)]
pub(in crate::command) enum Reader {
    /// `get` and `gets`
    Get,
    /// `gat` and `gats`
    GetAndTouch,
    /// `me` and `metaget`
    Inspect,
    /// `lease-get` and `lease-wait`
    LeaseGet,
    /// `mg`
    MetaGet {
        /// Whether it gives the value a new expiry.
        touches: bool,
    },
}

impl ReadOutcome {
    /// The outcome for a reader that serves stale copies, and waits for the lease of another client until
    /// the deadline.
    #[inline]
    pub(in crate::command) fn within(deadline: u64, lookup: &Lookup<Value>, now: Now) -> Self {
        match *lookup {
            Lookup::Busy { is_own: false, until, .. } if now.millis < deadline => {
                ReadOutcome::Wait { until: until.min(deadline) }
            }
            Lookup::Busy { stale, .. } => ReadOutcome::Busy { stale_bytes: stale.map(length) },
            Lookup::Granted { stale, token } => {
                ReadOutcome::Granted { stale_bytes: stale.map(length), token }
            }
            Lookup::Hit { refresh, value } => {
                ReadOutcome::Hit { is_stale: value.is_stale, refresh, value_bytes: length(value) }
            }
            Lookup::Miss => ReadOutcome::Miss,
        }
    }

    /// The outcome of a read that has found a live value of this length, or none.
    #[inline]
    pub(in crate::command) fn live(value_bytes: Option<usize>) -> Self {
        value_bytes.map_or(ReadOutcome::Miss, |value_bytes| ReadOutcome::Hit {
            is_stale: false,
            refresh: Refresh::Undue,
            value_bytes,
        })
    }

    /// Whether it has found a value; `None` if it waits.
    #[inline]
    pub(super) fn is_hit(self) -> Option<bool> {
        match self {
            ReadOutcome::Busy { .. } | ReadOutcome::Granted { .. } | ReadOutcome::Miss => Some(false),
            ReadOutcome::Hit { .. } => Some(true),
            ReadOutcome::Wait { .. } => None,
        }
    }

    /// Whether the reader must wait for the lease.
    #[inline]
    pub(in crate::command) fn must_wait(self) -> bool {
        matches!(self, ReadOutcome::Wait { .. })
    }

    /// The length of the stale copy that was served.
    #[inline]
    pub(in crate::command) fn stale_bytes(self) -> Option<usize> {
        match self {
            ReadOutcome::Busy { stale_bytes } | ReadOutcome::Granted { stale_bytes, .. } => stale_bytes,
            ReadOutcome::Hit { is_stale, value_bytes, .. } => is_stale.then_some(value_bytes),
            ReadOutcome::Miss | ReadOutcome::Wait { .. } => None,
        }
    }

    /// The state of waiting after it; `is_late` if the waiting time is up.
    #[inline]
    pub(in crate::command) fn waiting(self, is_late: bool) -> Waiting {
        match self {
            ReadOutcome::Wait { .. } => Waiting::Begun,
            _ if is_late => Waiting::TimedOut,
            ReadOutcome::Hit { .. } => Waiting::Filled,
            ReadOutcome::Busy { .. } | ReadOutcome::Granted { .. } | ReadOutcome::Miss => Waiting::Free,
        }
    }
}

impl Reader {
    /// The name in events about leases.
    pub(super) fn verb(self) -> &'static str {
        match self {
            Reader::Get => "get",
            Reader::GetAndTouch => "gat",
            Reader::Inspect => "me",
            Reader::LeaseGet => "lease-get",
            Reader::MetaGet { .. } => "mg",
        }
    }

    /// The counts of the command and of its result.
    #[inline(always)]
    pub(super) fn counts(self, is_hit: bool) -> (Count, Option<Count>) {
        let get = (Count::CmdGet, Some(if is_hit { Count::GetHits } else { Count::GetMisses }));
        let touch = (Count::CmdTouch, Some(if is_hit { Count::TouchHits } else { Count::TouchMisses }));
        match self {
            // memcached counts a gat as a touch only.
            Reader::GetAndTouch => touch,
            Reader::MetaGet { touches: true } if is_hit => touch,
            Reader::Get | Reader::LeaseGet | Reader::MetaGet { .. } => get,
            Reader::Inspect => (Count::CmdMeta, None),
        }
    }

    /// The count of the lease, for clients that know that they can receive one.
    #[inline(always)]
    pub(super) fn lease_count(self, outcome: ReadOutcome) -> Option<Count> {
        match (self, outcome) {
            (Reader::Get | Reader::GetAndTouch | Reader::Inspect, _) => None,
            (_, ReadOutcome::Busy { .. }) => Some(Count::LeaseHotMiss),
            (_, ReadOutcome::Granted { .. } | ReadOutcome::Hit { refresh: Refresh::Won(_), .. }) => {
                Some(Count::LeaseGranted)
            }
            (
                _,
                ReadOutcome::Hit { refresh: Refresh::Lost | Refresh::Undue, .. }
                | ReadOutcome::Miss
                | ReadOutcome::Wait { .. },
            ) => None,
        }
    }

    /// Whether it counts as a use of the key.
    #[inline(always)]
    pub(super) fn is_use(self) -> bool {
        match self {
            Reader::Get | Reader::GetAndTouch | Reader::LeaseGet | Reader::MetaGet { .. } => true,
            Reader::Inspect => false,
        }
    }
}

fn length(value: Value) -> usize {
    value.bytes.len()
}
