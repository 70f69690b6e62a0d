//! Leases: tokens that certify themselves, records of who loads what, and waiters.

pub(crate) mod records;
pub(crate) mod token;
pub(crate) mod waiters;
