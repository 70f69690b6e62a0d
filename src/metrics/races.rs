//! What is told of the race for a key: who loads it, and what is voided meanwhile.
//!
//! Of a lease its point is told, which ties a grant to its fill and is no token.

use std::fmt;

use super::events::Encoded;
use crate::cache::{Depth, Name, Seq};

/// Who did it.
#[derive(Clone, Copy, Debug)]
pub struct By {
    /// The number of the connection.
    pub connection: u32,
    /// The command.
    pub verb: &'static str,
}

/// What happens while a key is loaded.
#[derive(Clone, Copy, Debug)]
pub enum Loading {
    /// A reader was told that somebody else loads the value.
    Busy,
    /// A loaded value came.
    Filled {
        /// Under this lease; none where its connection has only missed it.
        lease: Option<Seq>,
        /// What became of it.
        status: &'static str,
        /// Its length.
        value_bytes: usize,
    },
    /// A reader was given the lease.
    Granted {
        /// The point of the grant.
        lease: Seq,
    },
    /// A stale copy was served.
    StaleServed {
        /// Its length.
        value_bytes: usize,
    },
    /// A reader begins to wait for the value, or has waited.
    Waited {
        /// How it ended.
        status: &'static str,
    },
}

/// What was voided.
#[derive(Clone, Copy, Debug)]
pub enum Voided<'a> {
    /// Everything, at once or when so much time has passed.
    All {
        /// The time.
        delay_seconds: u64,
    },
    /// A key, at that point.
    Key(&'a [u8], Seq),
    /// A tag or prefix, at that point.
    Name(Name<'a>, Seq),
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cmd={} cfd={}", self.verb, self.connection)
    }
}

impl Loading {
    pub(super) fn tell(self, key: Encoded, by: By, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Loading::Busy => write!(f, "type=lease_busy key={key} {by}"),
            Loading::Filled { lease, status, value_bytes } => {
                let lease = lease.unwrap_or(Seq::ZERO);
                write!(f, "type=lease_fill key={key} status={status} {by} lease={lease} size={value_bytes}")
            }
            Loading::Granted { lease } => write!(f, "type=lease_grant key={key} {by} lease={lease}"),
            Loading::StaleServed { value_bytes } => {
                write!(f, "type=stale_served key={key} {by} size={value_bytes}")
            }
            Loading::Waited { status } => write!(f, "type=lease_wait key={key} status={status} {by}"),
        }
    }
}

impl Voided<'_> {
    pub(super) fn tell(self, depth: Depth, by: By, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let depth = match depth {
            Depth::Hard => "hard",
            Depth::Soft => "soft",
        };
        let (kind, name, seq) = match self {
            Voided::All { delay_seconds } => {
                return write!(f, "type=void_all {by} depth={depth} delay={delay_seconds}");
            }
            Voided::Key(key, seq) => ("key", key, seq),
            Voided::Name(Name::Prefix(prefix), seq) => ("prefix", prefix, seq),
            Voided::Name(Name::Tag(tag), seq) => ("tag", tag, seq),
        };
        write!(f, "type=void_{kind} {kind}={} {by} depth={depth} seq={seq}", Encoded(name))
    }
}
