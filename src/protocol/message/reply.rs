//! Replies: what a command has to say, as a value. An encoder decides how it is written.

use bytes::Bytes;

use super::admin::DumpForm;
use super::meta::Meta;
use super::refusal::Refusal;
use super::status::Status;

/// A reply, or one part of a long one.
#[derive(Clone, Copy, Debug)]
pub enum Reply<'a> {
    /// The number that `incr` or `decr` has counted to.
    Counted(u64),
    /// Events for a watcher: lines, each with its end.
    Events(&'a [u8]),
    /// The server could not do it, for this reason.
    Failed(&'a str),
    /// The answer to `me`, if there is a value.
    Inspected(&'a Meta<'a>, Inspected),
    /// So many keys, tags or prefixes were invalidated.
    Invalidated(u64),
    /// A key without a value that is still good, for a reader that may load it or must not.
    Leased {
        /// The key.
        key: &'a [u8],
        /// The token.
        token: u64,
        /// The client flags of the stale copy.
        flags: u32,
        /// A stale copy, or nothing.
        value: Block<'a>,
    },
    /// One value in a dump.
    Listed(DumpForm, Listed<'a>),
    /// The answer to a meta command.
    Meta(&'a Meta<'a>, MetaReply<'a>),
    /// The answer to `metaget`, if there is a value.
    Metadata {
        /// The key.
        key: &'a [u8],
        /// How long it has been stored.
        age_seconds: u32,
        /// When it expires, in seconds since 1970; 0 for never.
        exptime_unix: u64,
    },
    /// The uses of the keys with a prefix, from `stats detail dump`.
    Prefix {
        /// The prefix.
        prefix: &'a [u8],
        /// How often values were read.
        gets: u64,
        /// How often they were there.
        hits: u64,
        /// How often they were stored.
        sets: u64,
        /// How often they were deleted.
        deletes: u64,
    },
    /// The answer to a malformed request.
    Refused(Refusal),
    /// One statistic.
    Stat {
        /// Its name.
        name: &'a str,
        /// Its value.
        value: &'a str,
    },
    /// A reply without content.
    Status(Status),
    /// A value.
    Value {
        /// The key.
        key: &'a [u8],
        /// The client flags.
        flags: u32,
        /// The CAS unique, if it is to be shown.
        unique: Option<u64>,
        /// Its bytes.
        value: Block<'a>,
    },
    /// The version of memcached that is emulated.
    Version(&'a str),
}

/// A data block.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// The bytes to be sent.
    pub bytes: &'a [u8],
    /// The same bytes, if they can be shared until they are sent.
    pub shared: Option<&'a Bytes>,
}

/// The answer to a meta command. It offers what is known; the flags of the request decide what is written.
#[derive(Clone, Copy, Debug)]
pub struct MetaReply<'a> {
    /// The outcome.
    pub status: MetaStatus,
    /// The fields that flags may ask for.
    pub fields: MetaFields,
    /// The reader's part in loading the value.
    pub part: Option<Part>,
    /// Whether the value is a stale copy.
    pub is_stale: bool,
    /// The value, if it is to be shown.
    pub value: MetaValue<'a>,
}

/// The outcome of a meta command, apart from failures, which have a [`Status`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MetaStatus {
    /// It was done, or the value is here.
    Done,
    /// The value has another CAS unique.
    Exists,
    /// A read found no value.
    Missed,
    /// There is no value to change.
    NotFound,
    /// It was not stored.
    NotStored,
}

/// The fields that the flags of a meta command may ask for, as far as they are known.
#[derive(Clone, Copy, Debug, Default)]
pub struct MetaFields {
    /// `f`: the client flags.
    pub client_flags: Option<u32>,
    /// `h`: whether it was read before.
    pub is_fetched: Option<bool>,
    /// `t` after a `T`: the time left from now on.
    pub new_ttl: Option<Ttl>,
    /// `t`, unless a `T` comes before it and has set another.
    pub ttl: Option<Ttl>,
    /// `c`: the CAS unique, or a token.
    pub unique: Option<u64>,
    /// `l`: the time since its last use.
    pub unused_seconds: Option<u32>,
    /// `s`: the length of the value.
    pub value_bytes: Option<usize>,
}

/// The part of a reader in loading a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// It loads the value: it has the lease.
    Loads,
    /// Another client loads it.
    Waits,
}

/// The value in the answer to a meta command.
#[derive(Clone, Copy, Debug)]
pub enum MetaValue<'a> {
    /// Bytes.
    Bytes(Block<'a>),
    /// It is not shown.
    Hidden,
    /// A counter.
    Number(u64),
}

/// The time until a value expires.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ttl {
    /// It does not expire.
    Never,
    /// So many seconds.
    Seconds(u64),
}

/// The properties of a value that `me` shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Inspected {
    /// Its memory use.
    pub bytes: u64,
    /// Whether a client has read it.
    pub is_fetched: bool,
    /// The time until it expires.
    pub ttl: Ttl,
    /// The CAS unique.
    pub unique: u64,
    /// The time since its last use.
    pub unused_seconds: u32,
}

/// A live value, as dumps list it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Listed<'a> {
    /// When it was last read, or else stored, in seconds since 1970.
    pub accessed_unix: u64,
    /// Its memory use.
    pub bytes: u64,
    /// When it expires, in seconds since 1970; 0 for never.
    pub exptime_unix: u64,
    /// The client flags.
    pub flags: u32,
    /// Whether a client has read it.
    pub is_fetched: bool,
    /// The key, any bytes.
    pub key: &'a [u8],
    /// The CAS unique.
    pub unique: u64,
    /// The length of the value.
    pub value_bytes: u64,
}
