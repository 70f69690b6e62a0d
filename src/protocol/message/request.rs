//! The requests of a client. A request that exists is well-formed.

use std::borrow::Cow;

use super::admin::{Dump, Statistics, Watched};
use super::keys::{Keys, TagWords};
use super::meta::{CountMode, Meta, SetMode};
use crate::pages::Payload;

/// A request, which borrows from the read buffer.
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
        /// Suppresses the reply.
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
        /// Suppresses the reply.
        noreply: bool,
    },
    /// `delete <key> [<seconds>]`
    Delete {
        /// The key.
        key: &'a [u8],
        /// The hold-off in seconds, during which the key cannot be filled; 0 for none.
        held_seconds: u32,
        /// Suppresses the reply.
        noreply: bool,
    },
    /// `lru_crawler metadump …`, `lru_crawler mgdump …` and `stats cachedump …`
    Dump(Dump),
    /// `flush_all [<exptime>]`
    FlushAll {
        /// When, as an expiry time; at once if it is not positive.
        exptime: i64,
        /// Suppresses the reply.
        noreply: bool,
    },
    /// `get` and `gets`
    Get {
        /// The keys not answered yet.
        keys: Keys<'a>,
        /// Whether the reply shows the CAS unique.
        unique: CasUnique,
    },
    /// `gat` and `gats`
    GetAndTouch {
        /// The new expiry time.
        exptime: i64,
        /// The keys not answered yet.
        keys: Keys<'a>,
        /// Whether the reply shows the CAS unique.
        unique: CasUnique,
    },
    /// `lru …` and similar commands, which have no effect here
    Ignored,
    /// `incr <key> <delta>`
    Incr {
        /// The key.
        key: &'a [u8],
        /// How much is added.
        delta: u64,
        /// Suppresses the reply.
        noreply: bool,
    },
    /// `invalidate [soft] <what>`
    Invalidate {
        /// The target.
        what: Invalidated<'a>,
        /// Whether values stay as stale copies.
        is_soft: bool,
        /// Suppresses the reply.
        noreply: bool,
    },
    /// `lease-get` and `lease-wait`
    LeaseGet {
        /// The keys not answered yet.
        keys: Keys<'a>,
        /// How long a client without the lease waits, in milliseconds for all keys together; 0 for
        /// `lease-get`.
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
    /// `ms`, with its mode and its data block
    MetaSet(Meta<'a>, SetMode, Payload<'a>),
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
    /// A login by SASL, in the binary protocol.
    Sasl(Sasl<'a>),
    /// `set`
    Set(Store<'a>),
    /// `shutdown [graceful]`
    Shutdown {
        /// `None` for an unknown word.
        how: Option<Shutdown>,
    },
    /// `stats [<what>]`
    Stats(Statistics),
    /// A store whose value is above the limit; the value was skipped.
    TooLarge {
        /// The key.
        key: Cow<'a, [u8]>,
        /// Whether the old value must be removed: the request would have replaced it unconditionally.
        is_set: bool,
        /// Suppresses the reply.
        noreply: bool,
        /// The version of the database row behind the value.
        version: Option<u64>,
    },
    /// `touch <key> <exptime>`
    Touch {
        /// The key.
        key: &'a [u8],
        /// The new expiry time.
        exptime: i64,
        /// Suppresses the reply.
        noreply: bool,
    },
    /// `verbosity <level>`
    Verbosity {
        /// A number of `-v` flags; `None` changes nothing.
        level: Option<u32>,
        /// Suppresses the reply.
        noreply: bool,
    },
    /// `version`
    Version,
    /// `watch [<topic>*]`
    Watch {
        /// The topics to watch.
        topics: Vec<Watched>,
    },
}

/// The common fields of storage commands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Store<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The client flags.
    pub flags: u32,
    /// Seconds from now, or since 1970; see protocol.md.
    pub exptime: i64,
    /// The data block, in the read buffer or in pages of its own if it is large.
    pub value: Payload<'a>,
    /// Suppresses the reply.
    pub noreply: bool,
}

/// A fill.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeaseSet<'a> {
    /// The token, as it was sent.
    pub token: u64,
    /// Key and value; a negative exptime releases the lease.
    pub store: Store<'a>,
    /// The tags of the value.
    pub tags: TagWords<'a>,
}

/// A message of a login by SASL, with the only mechanism PLAIN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sasl<'a> {
    /// The name and the password come in the next message.
    Begin,
    /// It is of another mechanism, or has no name and password.
    Malformed,
    /// Asks for the mechanisms.
    Mechanisms,
    /// A name and a password.
    Plain {
        /// The name.
        name: &'a [u8],
        /// The password.
        password: &'a [u8],
    },
}

/// The target of an `invalidate`.
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

/// The way in which the server stops.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shutdown {
    /// Immediately.
    AtOnce,
    /// After writing a snapshot for the next server.
    Graceful,
}

/// Whether hits carry their CAS unique.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CasUnique {
    /// `get` and `gat` hide it.
    Hide,
    /// `gets` and `gats` show it.
    Show,
}

/// A preview of a request that has not been decoded yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Upcoming<'a> {
    /// Whether it only reads.
    pub is_read: bool,
    /// Its first key.
    pub key: &'a [u8],
}
