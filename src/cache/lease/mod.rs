//! Leases: tokens that certify themselves, records of keys that are being loaded, and waiters.

pub(crate) mod guesses;
pub(crate) mod records;
pub(crate) mod token;
pub(crate) mod waiters;
