//! The body of the fuzz test for messages of pgoutput.

use leasehold::events::source::postgres::pgoutput::{Malformed, decode, relation_of};

/// No bytes make it panic; a message has one length, and everything in it was in the bytes.
pub fn check(bytes: &[u8]) {
    let _ = relation_of(bytes);
    let Ok(message) = decode(bytes) else { return };
    let longer = [bytes, b"\0"].concat();
    assert_eq!(decode(&longer), Err(Malformed::TooLong), "{message:?}");
    for end in (0..bytes.len()).rev().take(PREFIXES_MAX) {
        assert_eq!(decode(&bytes[..end]), Err(Malformed::TooShort), "{message:?} up to {end}");
    }
}

const PREFIXES_MAX: usize = 300;
