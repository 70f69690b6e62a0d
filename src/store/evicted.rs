//! Evicted items, as a watcher of evictions sees them.

use super::expiry::Expiry;

/// A value that was evicted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Evicted {
    /// When it was last read or stored, in monotonic seconds.
    pub accessed: u32,
    /// When it would have ended.
    pub expiry: Expiry,
    /// Whether anybody had read it.
    pub is_fetched: bool,
    /// Its key.
    pub key: Box<[u8]>,
    /// Its length.
    pub value_bytes: usize,
}
