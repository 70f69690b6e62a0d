//! The race for a key, as watchers see it: clients that load it, and invalidations in between.
//!
//! A lease appears with its sequence number, which ties a grant to its fill. Its token stays secret.

use std::fmt;

use crate::cache::{Depth, Group, Seq};
use crate::shown::Encoded;

/// The origin of an event.
#[derive(Clone, Copy, Debug)]
pub struct By {
    /// The number of the connection.
    pub connection: u32,
    /// The command.
    pub verb: &'static str,
}

/// A step in loading a key.
#[derive(Clone, Copy, Debug)]
pub enum Loading {
    /// A reader missed while another client is loading the value.
    Busy,
    /// A fill arrived.
    Filled {
        /// Its lease; `None` for a connection that had only missed the key.
        lease: Option<Seq>,
        /// The outcome.
        status: &'static str,
        /// Its length.
        value_bytes: usize,
    },
    /// A reader received the lease.
    Granted {
        /// The sequence number of the grant.
        lease: Seq,
    },
    /// A stale copy was served.
    StaleServed {
        /// Its length.
        value_bytes: usize,
    },
    /// A reader begins to wait for the value, or has waited.
    Waited {
        /// The outcome.
        status: &'static str,
    },
}

/// The target of an invalidation.
#[derive(Clone, Copy, Debug)]
pub enum Invalidated<'a> {
    /// Everything, at once or after a delay.
    All {
        /// The delay.
        delay_seconds: u64,
    },
    /// A key, at this sequence number.
    Key(&'a [u8], Seq),
    /// A tag or prefix, at this sequence number.
    Group(Group<'a>, Seq),
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cmd={} cfd={}", self.verb, self.connection)
    }
}

impl Loading {
    pub(super) fn write(self, key: Encoded, by: By, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

impl Invalidated<'_> {
    pub(super) fn write(self, depth: Depth, by: By, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let depth = match depth {
            Depth::Hard => "hard",
            Depth::Soft => "soft",
        };
        let (kind, name, seq) = match self {
            Invalidated::All { delay_seconds } => {
                return write!(f, "type=void_all {by} depth={depth} delay={delay_seconds}");
            }
            Invalidated::Key(key, seq) => ("key", key, seq),
            Invalidated::Group(Group::Prefix(prefix), seq) => ("prefix", prefix, seq),
            Invalidated::Group(Group::Tag(tag), seq) => ("tag", tag, seq),
        };
        write!(f, "type=void_{kind} {kind}={} {by} depth={depth} seq={seq}", Encoded(name))
    }
}
