//! The uses of an item: what eviction knows of it, in ten bits of its header.

/// How often an item was used since it was stored, 0 to 7, and whether it came back after its eviction and
/// was not used since.
///
/// That makes 16 classes of small items and 16 of large ones, whose lives are corrected one by one (see
/// [`crate::store::ends`]).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Uses(u8);

impl Uses {
    /// Those of a new item.
    pub(crate) const NONE: Uses = Uses(0);

    /// The place of the bit that says that it came back; the count lies below.
    pub(crate) const RETURNED_BIT: u32 = 3;

    /// From the bits of a header or a ghost; others are ignored.
    pub(crate) fn from_bits(bits: u32) -> Uses {
        Uses(bits as u8 & (COUNT | RETURNED))
    }

    pub(crate) fn bits(self) -> u32 {
        u32::from(self.0)
    }

    /// At most [`USES_MAX`].
    pub(crate) fn count(self) -> u32 {
        u32::from(self.0 & COUNT)
    }

    /// The number of its class, below [`USES_CLASSES`].
    pub(crate) fn class(self) -> usize {
        usize::from(self.0)
    }

    /// With one more use.
    #[inline(always)]
    pub(crate) fn more(self) -> Uses {
        Uses((self.0 & COUNT) + u8::from(self.0 & COUNT < COUNT))
    }

    /// Those of an item that comes back. Its store counts as a use.
    pub(crate) fn returned(self) -> Uses {
        Uses(self.more().0 | RETURNED)
    }
}

const COUNT: u8 = 0b111;
const RETURNED: u8 = 1 << Uses::RETURNED_BIT;
/// The most uses that are counted.
pub(crate) const USES_MAX: u32 = COUNT as u32;
/// Classes of items by their uses.
pub(crate) const USES_CLASSES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_counted_up_to_seven_and_ends_the_return() {
        let mut uses = Uses::NONE;
        assert_eq!(uses.returned().class(), 9);
        assert_eq!(uses.returned().more(), Uses::from_bits(2));
        for count in 1..=9 {
            uses = uses.more();
            assert_eq!((uses.count(), uses.class()), (count.min(USES_MAX), count.min(USES_MAX) as usize));
        }
        assert_eq!(uses.returned().class(), 15);
        assert_eq!(Uses::from_bits(uses.returned().bits()), uses.returned());
    }
}
