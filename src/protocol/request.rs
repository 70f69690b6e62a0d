//! What a client can ask for. A request that exists is well-formed.

use std::borrow::Cow;

use super::admin::{Dump, Statistics, Watched};
use super::meta::{CountMode, Meta, SetMode};
use super::scan;

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
    /// `lru_crawler metadump …`, `lru_crawler mgdump …` and `stats cachedump …`
    Dump(Dump),
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
    /// `lru …` and its like: advice to machinery that is not here
    Ignored,
    /// `incr <key> <delta>`
    Incr {
        /// The key.
        key: &'a [u8],
        /// How much is added.
        delta: u64,
        /// Answer nothing.
        noreply: bool,
    },
    /// `invalidate [soft] <what>`
    Invalidate {
        /// What is voided.
        what: Invalidated<'a>,
        /// Whether stale copies stay.
        is_soft: bool,
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
    /// `ma`
    MetaCount(Meta<'a>, CountMode),
    /// `me`
    MetaDebug(Meta<'a>),
    /// `md`
    MetaDelete(Meta<'a>),
    /// `mg`
    MetaRead(Meta<'a>),
    /// `ms`, with its mode and its data block.
    MetaSet(Meta<'a>, SetMode, Cow<'a, [u8]>),
    /// `metaget`
    MetaGet {
        /// The keys not answered yet.
        keys: Keys<'a>,
    },
    /// `mn`
    Noop,
    /// `prepend`
    Prepend(Store<'a>),
    /// `quit`
    Quit,
    /// `refresh_certs`
    RefreshCertificates,
    /// `replace`
    Replace(Store<'a>),
    /// `set`
    Set(Store<'a>),
    /// `shutdown [graceful]`
    Shutdown {
        /// `None` for a word that says nothing.
        how: Option<Shutdown>,
    },
    /// `stats [<what>]`
    Stats(Statistics),
    /// A store whose value is above the limit; the value was skipped.
    TooLarge {
        /// The key.
        key: Cow<'a, [u8]>,
        /// Whether the old value must not outlive it: it was to be replaced whatever it is.
        is_set: bool,
        /// Answer nothing.
        noreply: bool,
        /// Of the row that the value was made from.
        version: Option<u64>,
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
    /// `watch [<topic>*]`
    Watch {
        /// What is to be told.
        topics: Vec<Watched>,
    },
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
    /// What the value is tagged with.
    pub tags: TagWords<'a>,
}

/// Tags among the words of one line, each of them legal: those that begin so.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TagWords<'a> {
    mark: &'static [u8],
    words: Keys<'a>,
}

/// What an `invalidate` voids.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Invalidated<'a> {
    /// `all`
    All,
    /// `key <key>*`
    Keys(Keys<'a>),
    /// `prefix <prefix>*`
    Prefixes(Keys<'a>),
    /// `tag <tag>*`
    Tags(Keys<'a>),
}

/// How the server is to stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shutdown {
    /// Without a word.
    AtOnce,
    /// Leaving behind what the next one can begin with.
    Graceful,
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
    /// Whether what is left is a key, without spaces around it.
    is_one: bool,
    rest: &'a [u8],
}

impl<'a> Keys<'a> {
    /// `rest` must have been checked word by word.
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Keys { is_one: false, rest }
    }

    /// One that was checked.
    pub(super) fn one(key: &'a [u8]) -> Self {
        Keys { is_one: true, rest: key }
    }

    /// The next key, if it is known to be the last one.
    pub fn only(self) -> Option<&'a [u8]> {
        Some(self.rest).filter(|key| self.is_one && !key.is_empty())
    }

    /// As [`Iterator::next`], for whoever knows the next key already.
    ///
    /// # Panics
    /// If nothing as long as that is left.
    pub fn pass(&mut self, key: &[u8]) {
        self.rest = &self.rest.trim_ascii_start()[key.len()..];
    }
}

impl<'a> TagWords<'a> {
    /// The words that begin with `mark`, of which at most [`TAGS_MAX`] must have been found, all of them legal.
    pub(super) fn new(mark: &'static [u8], words: &'a [u8]) -> Self {
        TagWords { mark, words: Keys::new(words) }
    }
}

impl<'a> Iterator for TagWords<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let mark = self.mark;
        self.words.find_map(|word| word.strip_prefix(mark))
    }
}

impl<'a> Iterator for Keys<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.rest.iter().position(|byte| *byte != b' ')?;
        let rest = &self.rest[start..];
        let (key, rest) = rest.split_at(scan::before_space(rest));
        self.rest = rest;
        Some(key)
    }
}

/// Tags that one value can have.
pub const TAGS_MAX: usize = 16;
/// Names that one `invalidate` can have.
pub const NAMES_PER_INVALIDATE_MAX: usize = 1_000;
