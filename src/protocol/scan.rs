//! Finds the end of a word, eight bytes at a time: most words are too short for wider steps to pay off.
//!
//! The eight-byte tests are those of "Bit Twiddling Hacks" (S. E. Anderson, Stanford, 1997-2005): the
//! lowest byte that they mark is always a true match.

/// The number of bytes before the first space.
pub(super) fn before_space(bytes: &[u8]) -> usize {
    before(bytes, |eight| zeros(eight ^ each(b' ')), |byte| byte == b' ')
}

/// The number of bytes before the first space or control byte, none of which may stand in a key.
pub(super) fn before_blank(bytes: &[u8]) -> usize {
    let marks = |eight: u64| {
        // No sum carries into the next byte: the high bit of each byte is its result.
        let low = eight & each(0x7f);
        let (is_black, is_delete) = (low + each(0x7f - b' '), low + each(0x80 - DELETE));
        (!is_black | is_delete) & !eight & each(0x80)
    };
    before(bytes, marks, |byte| byte <= b' ' || byte == DELETE)
}

#[inline]
fn before(bytes: &[u8], marks: impl Fn(u64) -> u64, is_it: impl Fn(u8) -> bool) -> usize {
    let (eights, few) = bytes.as_chunks();
    for (nth, eight) in eights.iter().enumerate() {
        let marks = marks(u64::from_le_bytes(*eight));
        if marks != 0 {
            return nth * 8 + marks.trailing_zeros() as usize / 8;
        }
    }
    bytes.len() - few.len() + few.iter().position(|byte| is_it(*byte)).unwrap_or(few.len())
}

/// Marks the bytes that are less than `limit`, which is at most 128.
fn below(eight: u64, limit: u8) -> u64 {
    eight.wrapping_sub(each(limit)) & !eight & each(0x80)
}

fn zeros(eight: u64) -> u64 {
    below(eight, 1)
}

/// A byte eight times.
const fn each(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

const DELETE: u8 = 0x7f;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    /// The same cases each time: a test that fails must fail again.
    const SEED: u64 = 9;

    fn seeded() -> ProptestConfig {
        let rng_seed = RngSeed::Fixed(SEED);
        ProptestConfig { cases: 4_096, failure_persistence: None, rng_seed, ..ProptestConfig::default() }
    }

    proptest! {
        #![proptest_config(seeded())]

        #[test]
        fn eight_bytes_at_once_are_as_good_as_one(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let first = |is_it: fn(u8) -> bool| bytes.iter().position(|byte| is_it(*byte)).unwrap_or(bytes.len());
            let (space, blank) = (first(|byte| byte == b' '), first(|byte| byte == b' ' || byte.is_ascii_control()));
            prop_assert_eq!(before_space(&bytes), space, "seed {}", SEED);
            prop_assert_eq!(before_blank(&bytes), blank, "seed {}", SEED);
        }
    }
}
