//! Wrong tokens, counted: a token is certified by 14 bits only, and must not be found by trying.
//!
//! Some dozens of wrong tokens for a key end its leases, genuine or not, as an invalidation does. So each
//! lease can be guessed at so many times, and not 16,384 times.

use crate::store::item::key::KeyHash;

/// The wrong tokens of one shard, by cells of keys whose hashes agree in some bits.
pub(crate) struct Guesses {
    cells: Box<[u8]>,
    /// When counting began, in monotonic seconds.
    since: u32,
}

impl Guesses {
    /// Bytes of all shards together.
    pub(crate) const BYTES: usize = CELLS;

    /// Those of one shard, of this many.
    pub(crate) fn new(shards: usize) -> Self {
        Guesses { cells: vec![0; (CELLS / shards).max(1)].into_boxed_slice(), since: 0 }
    }

    /// Counts a wrong token for the key with this hash. True if there were too many lately: then the key's
    /// leases must end, and counting begins again.
    pub(crate) fn add(&mut self, hash: KeyHash, second: u32) -> bool {
        if second.saturating_sub(self.since) >= KEPT_SECONDS {
            self.cells.fill(0);
            self.since = second;
        }
        let cell = &mut self.cells[(hash.bits() >> CELL_SHIFT) as usize & (self.cells.len() - 1)];
        *cell = (*cell + 1) % GUESSES_MAX;
        *cell == 0
    }
}

/// Cells over all shards.
const CELLS: usize = 1 << 14;
/// Above the bits that choose the shard's other cells.
const CELL_SHIFT: u32 = 8;
/// Wrong tokens for the keys of a cell that end the leases of the key of the last one. With 14 bits, one
/// lease in 512 can be guessed.
const GUESSES_MAX: u8 = 32;
/// Clients that had leases of a former process bring wrong tokens in good faith: they are forgotten after so
/// many seconds.
const KEPT_SECONDS: u32 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thirty_second_wrong_token_within_a_minute_is_too_many() {
        let mut guesses = Guesses::new(16);
        let mut too_many = |hash: KeyHash, count, second| (0..count).any(|_| guesses.add(hash, second));
        let (one, other) = (KeyHash::new(1 << CELL_SHIFT), KeyHash::new(2 << CELL_SHIFT));
        assert!(!too_many(one, 31, 100) && !too_many(other, 31, 100) && too_many(one, 1, 100));
        assert!(!too_many(one, 31, 100), "they count from the start again");
        assert!(
            !too_many(one, 31, 160) && !too_many(other, 31, 160),
            "those of the last minute are forgotten"
        );
    }
}
