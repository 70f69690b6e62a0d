//! The events that watchers receive: one line for each, in memcached's format.
//!
//! memcached sorts items into slab classes. Here every item is in class 1, and a missing item is in class
//! 0.
//!
//! Nothing is looked up here: an event contains everything that its line shows.

use std::fmt;

use super::connections::{Address, ConnectionStats};
use super::races::{By, Invalidated, Loading};
use super::source_events::SourceEvent;
use crate::cache::Depth;
use crate::shown::Encoded;

/// A topic that a client can watch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Topic {
    /// Connections open and close.
    Connections,
    /// Clients delete values.
    Deletions,
    /// Items are evicted.
    Evictions,
    /// Commands look for values.
    Fetches,
    /// Keys are loaded: leases, fills and waiters.
    Leases,
    /// Commands store values, or try to.
    Mutations,
    /// Values are invalidated.
    Invalidations,
    /// Sources of events: what they bring, and whether they are live.
    Sources,
}

/// A set of topics.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Topics(pub(super) u8);

/// An event that watchers can receive.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields are named as in the line")]
pub enum Event<'a> {
    /// A connection was closed.
    Closed { connection: &'a ConnectionStats, reason: Reason },
    /// A command deleted a value.
    Deleted { key: &'a [u8], verb: &'static str, value_bytes: usize },
    /// An item was evicted; a `ttl` of -1 stands for one that never expires.
    Evicted { key: &'a [u8], idle_seconds: u32, is_fetched: bool, ttl: i64, value_bytes: usize },
    /// A command looked for a value; without a length it found none.
    Fetched { key: &'a [u8], connection: u32, value_bytes: Option<usize> },
    /// A connection failed the TLS handshake.
    HandshakeFailed { connection: u32, why: &'a str },
    /// One step of loading a key.
    Loading { key: &'a [u8], by: By, what: Loading },
    /// A connection was opened.
    Opened { connection: &'a ConnectionStats },
    /// A command tried to store a value; a `ttl` of 0 stands for one that never expires.
    Stored {
        key: &'a [u8],
        connection: u32,
        status: &'static str,
        ttl: i64,
        value_bytes: usize,
        verb: &'static str,
    },
    /// Values were invalidated.
    Invalidated { by: By, depth: Depth, what: Invalidated<'a> },
    /// Something happened to a source of events.
    Source { source: &'a str, what: SourceEvent<'a> },
}

/// The reason why a connection was closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// It broke, or its bytes were malformed.
    Error,
    /// It was idle for too long.
    Idle,
    /// The client closed it or sent `quit`.
    Normal,
    /// The server stops.
    Shutdown,
}

impl Topics {
    /// Whether this set has the topic.
    pub fn has(self, topic: Topic) -> bool {
        self.0 & 1 << topic as u8 != 0
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// This set with one more topic.
    #[must_use]
    pub fn with(self, topic: Topic) -> Topics {
        Topics(self.0 | 1 << topic as u8)
    }
}

impl Event<'_> {
    /// The topic under which the event is sent.
    pub fn topic(&self) -> Topic {
        match self {
            Event::Closed { .. } | Event::HandshakeFailed { .. } | Event::Opened { .. } => Topic::Connections,
            Event::Deleted { .. } => Topic::Deletions,
            Event::Evicted { .. } => Topic::Evictions,
            Event::Fetched { .. } => Topic::Fetches,
            Event::Loading { .. } => Topic::Leases,
            Event::Stored { .. } => Topic::Mutations,
            Event::Invalidated { .. } => Topic::Invalidations,
            Event::Source { .. } => Topic::Sources,
        }
    }
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Event::Closed { connection, reason } => {
                let number = connection.number;
                write!(f, "type=conn_close {} reason={} cfd={number}", Peer(connection), reason.name())
            }
            Event::Deleted { key, verb, value_bytes } => {
                write!(f, "type=deleted key={} cmd={verb} clsid=1 size={value_bytes}", Encoded(key))
            }
            Event::Evicted { key, idle_seconds, is_fetched, ttl, value_bytes } => {
                let (key, fetch) = (Encoded(key), if is_fetched { "yes" } else { "no" });
                write!(
                    f,
                    "type=eviction key={key} fetch={fetch} ttl={ttl} la={idle_seconds} clsid=1 size={value_bytes}"
                )
            }
            Event::Fetched { key, connection, value_bytes } => {
                let (status, class) = if value_bytes.is_some() { ("found", 1) } else { ("not_found", 0) };
                let (key, size) = (Encoded(key), value_bytes.unwrap_or(0));
                write!(
                    f,
                    "type=item_get key={key} status={status} clsid={class} cfd={connection} size={size}"
                )
            }
            Event::HandshakeFailed { connection, why } => {
                write!(f, "type=conntlserr fd={connection} msg={}", why.escape_debug())
            }
            Event::Loading { key, by, what } => what.write(Encoded(key), by, f),
            Event::Opened { connection } => {
                write!(f, "type=conn_new {} cfd={}", Peer(connection), connection.number)
            }
            Event::Stored { key, connection, status, ttl, value_bytes, verb } => {
                write!(f, "type=item_store key={} status={status} cmd={verb} ttl={ttl} ", Encoded(key))?;
                write!(f, "clsid=1 cfd={connection} size={value_bytes}")
            }
            Event::Invalidated { by, depth, what } => what.write(depth, by, f),
            Event::Source { source, what } => what.write(source, f),
        }
    }
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Reason::Error => "error",
            Reason::Idle => "idle_timeout",
            Reason::Normal => "normal",
            Reason::Shutdown => "shutdown",
        }
    }
}

/// Formats the address of a client.
struct Peer<'a>(&'a ConnectionStats);

impl fmt::Display for Peer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.address {
            Address::Tcp(address) => write!(f, "rip={} rport={} transport=tcp", address.ip(), address.port()),
            Address::Unix(_) => f.write_str("rip=unix rport=0 transport=local"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(event: Event, line: &str) {
        assert_eq!(event.to_string(), line);
    }

    #[test]
    fn lines_have_memcacheds_format() {
        let tcp = Address::Tcp("[::1]:9".parse().unwrap());
        let connection = &ConnectionStats::new(7, tcp, None, 0);
        check(Event::Opened { connection }, "type=conn_new rip=::1 rport=9 transport=tcp cfd=7");
        check(
            Event::Closed { connection, reason: Reason::Idle },
            "type=conn_close rip=::1 rport=9 transport=tcp reason=idle_timeout cfd=7",
        );
        let connection = &ConnectionStats::new(8, Address::Unix("".into()), None, 0);
        check(Event::Opened { connection }, "type=conn_new rip=unix rport=0 transport=local cfd=8");
        check(Event::HandshakeFailed { connection: 8, why: "no\nway" }, "type=conntlserr fd=8 msg=no\\nway");
        check(
            Event::Evicted { key: b"n,\xff", idle_seconds: 3, is_fetched: true, ttl: -1, value_bytes: 5 },
            "type=eviction key=n%2C%FF fetch=yes ttl=-1 la=3 clsid=1 size=5",
        );
    }
}
