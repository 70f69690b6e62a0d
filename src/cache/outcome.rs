//! What can be asked of the cache beside a key, and what it can answer.

use std::borrow::Cow;
use std::time::Duration;

use super::lease::token::Token;
use super::{Leased, Value};
use crate::store::Item;
use crate::store::expiry::Expiry;
use crate::store::tags::Tags;

/// How a store treats what is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Only where there is no live value.
    Add,
    /// At the end of the live value.
    Append,
    /// Only over the value with this CAS unique.
    Cas(u64),
    /// At the beginning of the live value.
    Prepend,
    /// Only over a live value.
    Replace,
    /// Always.
    Set,
}

/// A value that somebody wants stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Draft<'a> {
    /// When it stops being served.
    pub expiry: Expiry,
    /// The client's own mark, kept and given back.
    pub flags: u32,
    /// Names under which it can be voided together with others.
    pub tags: Tags<'a>,
    /// The CAS unique that it shall have, in place of one of the cache's own: not 0, and no token.
    pub unique: Option<u64>,
    /// The version of the row that it was made from: it is not stored where a newer one was spoken of.
    pub version: Option<u64>,
    /// The bytes themselves. Small ones are copied; large ones that are owned are kept as they are.
    pub value: Cow<'a, [u8]>,
}

impl<'a> Draft<'a> {
    /// A value without a mark that never expires; for others, `Draft { expiry, ..Draft::new(value) }`.
    pub fn new(value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Draft {
            expiry: Expiry::NEVER,
            flags: 0,
            tags: Tags::NONE,
            unique: None,
            version: None,
            value: value.as_ref().into(),
        }
    }
}

/// What the holder of a lease brings back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fill<'a> {
    /// The value, if it becomes visible: it must not replace a stale copy.
    Fresh(Draft<'a>),
    /// Nothing: somebody else may load the value.
    Release,
    /// The value.
    Value(Draft<'a>),
}

/// How the fence for clients without leases saw a store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fence {
    /// Loads that began before the newest invalidation may be running, but more sets brought this value than they can have.
    Confirmed,
    /// It answers no miss: a write.
    None,
    /// It would have been refused, but the policy only observes.
    Observed,
    /// It answers a miss, and no load that may be running began before an invalidation.
    Passed,
}

/// Why the fence refused a store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// Misses of the key were forgotten for want of room, or the process that remembered them has ended.
    Closed,
    /// A load that began before the newest invalidation may have brought the value.
    Doubt,
    /// The key is held off, or was when it was missed.
    HeldOff,
    /// It answers a miss that is older than a load may take, and the key was invalidated since.
    Late,
    /// The connection missed the key before its newest invalidation.
    Note,
}

/// What became of a store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Store {
    /// `cas`: somebody changed the value since it was read.
    Exists,
    /// There is no memory for it, and nothing may be evicted; the old value is gone, too.
    NoRoom,
    /// `cas`: there is no live value.
    NotFound,
    /// The mode did not allow it.
    NotStored,
    /// A newer version of its row was spoken of.
    Outdated,
    /// The fence refused it; nothing is kept, and nothing older is served.
    Refused(Reason),
    /// It is the live value now.
    Stored {
        /// What the fence had to say.
        fence: Fence,
    },
    /// The value would have grown beyond the limit; the old one stands.
    TooLarge,
}

/// What a plain read finds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Got<R> {
    /// Somebody else is loading it.
    Busy {
        /// How long the policy wants readers to wait.
        patience: Duration,
        /// Until when that other one is waited for at most, in monotonic milliseconds.
        until: u64,
    },
    /// A value, live or one that the policy serves stale.
    Found(R),
    /// Nothing, and the policy lets others wait for the caller: the lease is his.
    Granted(Token),
    /// Nothing.
    Missed,
}

impl<R> Got<R> {
    pub(crate) fn map<S>(self, map: impl FnOnce(R) -> S) -> Got<S> {
        match self {
            Got::Busy { patience, until } => Got::Busy { patience, until },
            Got::Found(found) => Got::Found(map(found)),
            Got::Granted(token) => Got::Granted(token),
            Got::Missed => Got::Missed,
        }
    }
}

/// What became of an accepted fill.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Filled {
    /// The lease was given back.
    Released,
    /// It replaced an older stale copy and is not visible.
    Stale,
    /// It is the live value now.
    Visible,
}

/// Why a fill was not accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refused {
    /// There is no memory for it, and nothing may be evicted.
    NoRoom,
    /// A newer version of its row was spoken of.
    Outdated,
    /// A newer value or fill is there already.
    Superseded,
    /// The token is of another key, boot or server, or too old, or none at all.
    Unknown,
    /// The key was voided after the lease was granted, or is held off.
    Voided,
}

/// Why a value was not counted up or down.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotCounted {
    /// There is no memory for the longer number, and nothing may be evicted; the old value is gone.
    NoRoom,
    /// The value is not the decimal form of a number below 2^64.
    NotANumber,
}

/// What a lease-get finds; `V` is how values are shown.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LeaseGet<V> {
    /// Somebody is loading it, or the key is held off, until at most then (monotonic milliseconds).
    Busy { is_own: bool, stale: Option<V>, until: u64 },
    /// The lease is the caller's.
    Granted { stale: Option<V>, token: Token },
    /// A live value.
    Hit(V),
}

impl<V> LeaseGet<V> {
    #[inline(always)]
    pub(crate) fn map<W>(self, map: impl FnOnce(V) -> W) -> LeaseGet<W> {
        match self {
            LeaseGet::Busy { is_own, stale, until } => {
                LeaseGet::Busy { is_own, stale: stale.map(map), until }
            }
            LeaseGet::Granted { stale, token } => LeaseGet::Granted { stale: stale.map(map), token },
            LeaseGet::Hit(value) => LeaseGet::Hit(map(value)),
        }
    }
}

impl<'a> From<LeaseGet<Item<'a>>> for Leased<'a> {
    #[inline(always)]
    fn from(found: LeaseGet<Item<'a>>) -> Self {
        match found.map(Value::from) {
            LeaseGet::Busy { is_own, stale, until } => Leased::Busy { is_own, stale, until },
            LeaseGet::Granted { stale, token } => Leased::Granted { stale, token },
            LeaseGet::Hit(value) => Leased::Hit(value),
        }
    }
}
