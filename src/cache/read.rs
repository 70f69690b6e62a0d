//! Reads: requests, and their results.

use std::time::Duration;

use bytes::Bytes;

use super::lease::token::Token;
use crate::store::Item;
use crate::store::expiry::Expiry;
use crate::store::item::seq::Seq;
use crate::store::item::tags::Tags;
use crate::store::tick::Tick;

/// A value as it was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Value<'a> {
    /// When it was last read or stored before this read.
    pub accessed: Tick,
    /// The bytes themselves.
    pub bytes: &'a [u8],
    /// When it expires; of a stale copy, when it is removed.
    pub expiry: Expiry,
    /// The client flags.
    pub flags: u32,
    /// Whether it had been read before.
    pub is_fetched: bool,
    /// Whether it is a stale copy.
    pub is_stale: bool,
    /// The same bytes, if they have an allocation of their own, as those of large values do: a clone shares
    /// them.
    pub shared: Option<&'a Bytes>,
    /// When it was stored.
    pub stored: Tick,
    /// The tags by which it can be invalidated together with others.
    pub tags: Tags<'a>,
    /// The CAS unique.
    pub unique: u64,
}

/// A read of more than the live value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reading {
    /// A new expiry for a live value.
    pub expiry: Option<Expiry>,
    /// Whether the read does not count as a use of the value.
    pub is_peek: bool,
    /// The behavior if there is no live value.
    pub on_miss: OnMiss,
    /// A live value that expires before this: asks for a lease to renew it.
    pub refresh: Option<Expiry>,
}

/// The behavior of a read that finds no live value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnMiss {
    /// As the policy of the key says: a miss; or, if the policy coalesces loads, the first reader gets the
    /// lease, and others wait for it or get the stale copy.
    Coalesce {
        /// Whether the caller is still willing to wait.
        may_wait: bool,
    },
    /// It gets the lease, unless another reader holds it.
    Lease {
        /// [`Cache::last_seq`](super::Cache::last_seq) when the command began: a lease that the same command
        /// was granted after that is handed out again, for a command that names a key twice.
        since: Seq,
    },
    /// As the meta commands of memcached: a lease if one is asked for, or if there is a stale copy that every
    /// meta read sees; otherwise a miss.
    MetaLease {
        /// How long a lease makes others wait; `None` asks for no lease.
        window: Option<Duration>,
    },
    /// It is a miss.
    Report,
}

/// The result of a read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lookup<V> {
    /// Another reader is loading the value, or the key is held off.
    Busy {
        /// Whether the caller itself holds the lease; then there is nothing to wait for.
        is_own: bool,
        /// How long the policy wants readers to wait.
        patience: Duration,
        /// The last value, if a stale copy is kept.
        stale: Option<V>,
        /// When the lease or the hold-off ends at the latest, in monotonic milliseconds.
        until: u64,
    },
    /// No live value, and the caller holds the lease: it loads the value, then calls
    /// [`Cache::fill`](super::Cache::fill).
    Granted {
        /// The last value, if a stale copy is kept.
        stale: Option<V>,
        /// To be given back with the value.
        token: Token,
    },
    /// A live value, or a stale one that the policy serves while another reader loads.
    Hit {
        /// Whether the caller is to renew it.
        refresh: Refresh,
        /// The value.
        value: V,
    },
    /// No live value.
    Miss,
}

/// Whether the reader of a live value is to renew it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refresh {
    /// Another reader is renewing it.
    Lost,
    /// It was not asked for, or is not due.
    Undue,
    /// The caller holds the lease for it.
    Won(Token),
}

impl Reading {
    /// A read that asks for nothing but the live value.
    pub const fn new(on_miss: OnMiss) -> Self {
        Reading { expiry: None, is_peek: false, on_miss, refresh: None }
    }

    /// Whether a live value is read as by a get.
    #[inline(always)]
    pub(crate) fn is_plain(&self) -> bool {
        self.expiry.is_none() && !self.is_peek && self.refresh.is_none()
    }
}

impl<V> Lookup<V> {
    /// A hit that asks nothing of its reader.
    #[inline(always)]
    pub(crate) fn hit(value: V) -> Self {
        Lookup::Hit { refresh: Refresh::Undue, value }
    }

    #[inline(always)]
    pub(crate) fn map<W>(self, map: impl FnOnce(V) -> W) -> Lookup<W> {
        match self {
            Lookup::Busy { is_own, patience, stale, until } => {
                Lookup::Busy { is_own, patience, stale: stale.map(map), until }
            }
            Lookup::Granted { stale, token } => Lookup::Granted { stale: stale.map(map), token },
            Lookup::Hit { refresh, value } => Lookup::Hit { refresh, value: map(value) },
            Lookup::Miss => Lookup::Miss,
        }
    }

    /// Whether the lookup counts as a read: a reader that another one's load keeps waiting will ask again.
    #[inline(always)]
    pub(crate) fn is_read(&self) -> bool {
        !matches!(self, Lookup::Busy { .. })
    }
}

impl<'a> From<Item<'a>> for Value<'a> {
    /// Inlined, so that fields that a reader does not use are not read: most use the bytes and the flags.
    #[inline(always)]
    fn from(item: Item<'a>) -> Self {
        let meta = item.meta();
        Value {
            accessed: item.accessed,
            bytes: item.value(),
            expiry: item.end,
            flags: meta.flags,
            is_fetched: item.is_fetched,
            is_stale: meta.is_stale,
            shared: item.shared,
            stored: meta.stored,
            tags: item.tags(),
            unique: meta.unique(),
        }
    }
}
