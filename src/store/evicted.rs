//! Evicted items, as watchers of evictions see them.

use super::expiry::Expiry;
use crate::store::tick::Tick;

/// An evicted item.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Evicted {
    /// When it was last read or stored.
    pub accessed: Tick,
    /// Its expiry.
    pub expiry: Expiry,
    /// Whether it had been read.
    pub is_fetched: bool,
    /// Its key.
    pub key: Box<[u8]>,
    /// The length of its value.
    pub value_bytes: usize,
}
