//! What a client can ask for. A request that exists is well-formed.

use std::borrow::Cow;

/// One request; it borrows from the read buffer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Request<'a> {
    /// `add`
    Add(Store<'a>),
    /// `append`
    Append(Store<'a>),
    /// `cache_memlimit <megabytes>`
    CacheMemlimit {
        /// The new limit.
        megabytes: u64,
        /// Answer nothing.
        noreply: bool,
    },
    /// `cas`, with the unique that the value must still have.
    Cas(Store<'a>, u64),
    /// `decr <key> <delta>`
    Decr {
        /// The key.
        key: &'a [u8],
        /// How much is subtracted.
        delta: u64,
        /// Answer nothing.
        noreply: bool,
    },
    /// `delete <key> [<seconds>]`
    Delete {
        /// The key.
        key: &'a [u8],
        /// For how many seconds nobody may fill it; 0 for none.
        held_seconds: u32,
        /// Answer nothing.
        noreply: bool,
    },
    /// `flush_all [<exptime>]`
    FlushAll {
        /// When, as an expiry time; now if it is not positive.
        exptime: i64,
        /// Answer nothing.
        noreply: bool,
    },
    /// `get` and `gets`
    Get {
        /// The keys not answered yet.
        keys: Keys<'a>,
        /// Whether the CAS unique is told.
        unique: CasUnique,
    },
    /// `gat` and `gats`
    GetAndTouch {
        /// The new expiry time.
        exptime: i64,
        /// The keys not answered yet.
        keys: Keys<'a>,
        /// Whether the CAS unique is told.
        unique: CasUnique,
    },
    /// `incr <key> <delta>`
    Incr {
        /// The key.
        key: &'a [u8],
        /// How much is added.
        delta: u64,
        /// Answer nothing.
        noreply: bool,
    },
    /// `lease-get` and `lease-wait`
    LeaseGet {
        /// The keys not answered yet.
        keys: Keys<'a>,
        /// For how long, in milliseconds and for all keys together, a loser waits; 0 for `lease-get`.
        wait_ms: u32,
    },
    /// `lease-set`
    LeaseSet(LeaseSet<'a>),
    /// `metaget`
    MetaGet {
        /// The keys not answered yet.
        keys: Keys<'a>,
    },
    /// `prepend`
    Prepend(Store<'a>),
    /// `quit`
    Quit,
    /// `replace`
    Replace(Store<'a>),
    /// `set`
    Set(Store<'a>),
    /// `shutdown [graceful]`
    Shutdown {
        /// Whether nothing else was asked for.
        is_known: bool,
    },
    /// `stats [<what>]`
    Stats {
        /// Which statistics; empty for the general ones.
        what: &'a [u8],
    },
    /// A store whose value is above the limit; the value was skipped.
    TooLarge {
        /// The key.
        key: &'a [u8],
        /// Whether an unconditional store: then the old value must not outlive it.
        is_set: bool,
        /// Answer nothing.
        noreply: bool,
    },
    /// `touch <key> <exptime>`
    Touch {
        /// The key.
        key: &'a [u8],
        /// The new expiry time.
        exptime: i64,
        /// Answer nothing.
        noreply: bool,
    },
    /// `verbosity <level>`
    Verbosity {
        /// As the number of `-v` flags; `None` leaves it as it is.
        level: Option<u32>,
        /// Answer nothing.
        noreply: bool,
    },
    /// `version`
    Version,
}

/// What the storage commands have in common.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Store<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The client's own mark.
    pub flags: u32,
    /// Seconds from now, or since 1970; see protocol.md.
    pub exptime: i64,
    /// The data block: still in the read buffer, or received apart if it is large.
    pub value: Cow<'a, [u8]>,
    /// Answer nothing.
    pub noreply: bool,
}

/// A fill.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeaseSet<'a> {
    /// The token, as it was sent.
    pub token: u64,
    /// Key and value; a negative exptime gives the lease back.
    pub store: Store<'a>,
}

/// Whether hits carry their CAS unique.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CasUnique {
    /// As `get` and `gat`.
    Hide,
    /// As `gets` and `gats`.
    Show,
}

/// The keys of one line, each of them legal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Keys<'a> {
    rest: &'a [u8],
}

impl<'a> Keys<'a> {
    /// `rest` must have been checked word by word.
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Keys { rest }
    }

    /// The next key, which stays.
    pub fn peek(&self) -> Option<&'a [u8]> {
        self.clone().next()
    }
}

impl<'a> Iterator for Keys<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.rest.iter().position(|byte| *byte != b' ')?;
        let rest = &self.rest[start..];
        let end = memchr::memchr(b' ', rest).unwrap_or(rest.len());
        let (key, rest) = rest.split_at(end);
        self.rest = rest;
        Some(key)
    }
}
