//! The description of an item.

use crate::store::expiry::Expiry;
use crate::store::item::seq::Seq;
use crate::store::tick::Tick;

/// All that is stored under a key beside its value and tags.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Meta {
    /// Its sequence number, which is its CAS unique, too.
    pub(crate) as_of: Seq,
    /// A CAS unique that the client chose, in place of `as_of`; 0 for none.
    pub(crate) chosen: u64,
    /// When it is no longer served.
    pub(crate) expiry: Expiry,
    pub(crate) flags: u32,
    /// Whether it was invalidated and is kept as a stale copy only.
    pub(crate) is_stale: bool,
    /// When it is removed: at its expiry, or later if a stale copy is kept.
    pub(crate) removed_at: Expiry,
    /// When it was stored.
    pub(crate) stored: Tick,
}

impl Meta {
    /// The CAS unique that clients see.
    pub(crate) fn unique(&self) -> u64 {
        if self.chosen == 0 { self.as_of.number() } else { self.chosen }
    }
}
