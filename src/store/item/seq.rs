//! Sequence numbers, which order items, leases and invalidations.
//!
//! A [`Seq`] has 48 bits, is never reused and never wraps: a process starts in the lower half, at a random
//! number, and at ten million a second the upper half alone lasts 162 days.

use std::fmt;

/// A number that the logical clock has given out.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Seq(u64);

impl Seq {
    /// Before every number that a clock can give out.
    pub const ZERO: Seq = Seq(0);

    /// The sequence number `number`; `None` if it needs more than [`SEQ_BITS`] bits.
    pub fn new(number: u64) -> Option<Seq> {
        (number >> SEQ_BITS == 0).then_some(Seq(number))
    }

    /// The bare number, which is also the CAS unique that clients see.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Bits of a [`Seq`]: few enough to share a token's 64 with its certificate, and a header's with its
/// neighbors.
pub const SEQ_BITS: u32 = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_49_bits_is_refused() {
        assert_eq!(Seq::new((1 << 48) - 1).map(Seq::number), Some((1 << 48) - 1));
        assert_eq!(Seq::new(1 << 48), None);
    }
}
