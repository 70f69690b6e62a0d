//! Ghosts: what is remembered of items that were removed lately, by their keys: their uses, and whether a
//! client removed them.
//!
//! A fixed table of sets; the oldest ghost of a full set is replaced. Ages are counted in removed bytes, as
//! S3-FIFO counts its ghost queue (Yang et al., SOSP 2023).
//!
//! Two keys may share a fingerprint; then an item may get the uses of another one.

use crate::store::item::key::KeyHash;
use crate::store::item::uses::Uses;

/// The ghosts of one shard.
pub(super) struct Ghosts {
    /// From the highest bit: fingerprint, uses, whether a client removed it, time. 0 is empty.
    sets: Box<[[u32; WAYS]]>,
    /// The current time, in ticks.
    now: u32,
    /// Bytes removed since this tick began, times [`TICKS_PER_WINDOW`].
    passed: u64,
    /// The age at which a ghost is forgotten, in removed bytes.
    window: u64,
}

/// An item that was removed lately.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Ghost {
    pub(super) uses: Uses,
    /// A client removed it, so its return says nothing about eviction.
    pub(super) is_deleted: bool,
}

impl Ghosts {
    /// The ghosts of a shard of so many bytes.
    pub(super) fn new(shard_bytes: usize) -> Self {
        let sets = (shard_bytes / BYTES_PER_GHOST / WAYS).next_power_of_two();
        let window = (shard_bytes as u64 / 10 * 9).max(TICKS_PER_WINDOW);
        Ghosts { sets: vec![[0; WAYS]; sets].into_boxed_slice(), now: 0, passed: 0, window }
    }

    /// Adds a ghost for an item of so many bytes.
    pub(super) fn put(&mut self, hash: KeyHash, bytes: usize, ghost: Ghost) {
        self.advance(bytes);
        let (now, print) = (self.now, fingerprint(hash));
        // Its own place comes before an empty one, and that before the oldest. Ranks of eight ways are found
        // and compared without a branch, several at once.
        let rank = |packed: u32| {
            let (is_own, is_empty) = (packed & PRINT_MASK == print, packed == 0);
            let rank = if is_empty { EMPTY_RANK } else { age(packed, now) as i32 };
            if is_own { OWN_RANK } else { rank }
        };
        let set = self.set(hash);
        let ranks: [i32; WAYS] =
            std::array::from_fn(|way| rank(set[way]) * WAYS as i32 + FIRST_WAY - way as i32);
        let highest = ranks.into_iter().fold(0, i32::max);
        let deleted = if ghost.is_deleted { DELETED } else { 0 };
        let place = FIRST_WAY as usize - highest as usize % WAYS;
        set[place] = print | ghost.uses.bits() << USES_SHIFT | deleted | now;
    }

    /// Removes the ghost with this hash, and returns it and whether it is young: in the first quarter of the
    /// time for which ghosts are kept.
    pub(super) fn take(&mut self, hash: KeyHash) -> Option<(Ghost, bool)> {
        let (now, print) = (self.now, fingerprint(hash));
        let set = self.set(hash);
        // Most keys have none, which is known without a branch for each way.
        if !set.iter().fold(false, |found, packed| found | ((packed ^ print) & PRINT_MASK == 0)) {
            return None;
        }
        let is_it =
            |packed: u32| packed & PRINT_MASK == print && u64::from(age(packed, now)) <= TICKS_PER_WINDOW;
        let packed = std::mem::take(set.iter_mut().find(|packed| is_it(**packed))?);
        let ghost = Ghost { uses: Uses::from_bits(packed >> USES_SHIFT), is_deleted: packed & DELETED != 0 };
        Some((ghost, u64::from(age(packed, now)) <= TICKS_PER_WINDOW / 4))
    }

    /// Advances the time by so many removed bytes.
    fn advance(&mut self, bytes: usize) {
        self.passed += bytes as u64 * TICKS_PER_WINDOW;
        if self.passed >= self.window {
            self.now = self.now.wrapping_add((self.passed / self.window) as u32) & TIME_MASK;
            self.passed %= self.window;
        }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.sets)
    }

    fn set(&mut self, hash: KeyHash) -> &mut [u32; WAYS] {
        &mut self.sets[(hash.bits() >> SET_SHIFT) as usize & (self.sets.len() - 1)]
    }
}

fn age(packed: u32, now: u32) -> u32 {
    now.wrapping_sub(packed) & TIME_MASK
}

/// Never 0, which is an empty place.
fn fingerprint(hash: KeyHash) -> u32 {
    (hash.bits() as u32 | 1 << PRINT_SHIFT) & PRINT_MASK
}

const WAYS: usize = 8;
/// One ghost, of four bytes, for so many bytes of items.
const BYTES_PER_GHOST: usize = 1024;
const TIME_BITS: u32 = 10;
const TIME_MASK: u32 = (1 << TIME_BITS) - 1;
const DELETED: u32 = 1 << TIME_BITS;
const USES_SHIFT: u32 = TIME_BITS + 1;
const PRINT_SHIFT: u32 = USES_SHIFT + 4;
const PRINT_MASK: u32 = u32::MAX << PRINT_SHIFT;
/// Time wraps around: an old ghost seems young again after four windows, but by then its place has been
/// taken.
const TICKS_PER_WINDOW: u64 = 1 << (TIME_BITS - 2);
/// Above all ages.
const EMPTY_RANK: i32 = TIME_MASK as i32 + 1;
const OWN_RANK: i32 = EMPTY_RANK + 1;
/// Of ways of the same rank, the first one is taken.
const FIRST_WAY: i32 = WAYS as i32 - 1;
/// Above the bits that the fingerprint is made of.
const SET_SHIFT: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u64) -> KeyHash {
        KeyHash::new(n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    const GHOST: Ghost = Ghost { uses: Uses::NONE, is_deleted: false };

    fn is_there(ghosts: &mut Ghosts, n: u64) -> bool {
        ghosts.take(hash(n)).is_some()
    }

    #[test]
    fn a_ghost_is_found_once_and_within_its_window_only() {
        let mut ghosts = Ghosts::new(1 << 20);
        ghosts.put(hash(1), 100, GHOST);
        assert!(!is_there(&mut ghosts, 2) && is_there(&mut ghosts, 1) && !is_there(&mut ghosts, 1));
        ghosts.put(hash(1), 100, GHOST);
        ghosts.put(hash(3), (1 << 20) / 10 * 8, GHOST);
        assert!(is_there(&mut ghosts, 1));
        ghosts.put(hash(1), 100, GHOST);
        ghosts.put(hash(4), 1 << 20, GHOST);
        assert!(!is_there(&mut ghosts, 1));
    }

    #[test]
    fn a_ghost_keeps_the_uses_and_is_young_for_a_quarter_of_its_time() {
        let mut ghosts = Ghosts::new(1 << 20);
        let returned = Uses::from_bits(5).returned();
        for (number, is_deleted, bytes, is_young) in [(1, false, 100_000, true), (2, true, 400_000, false)] {
            let ghost = Ghost { uses: returned, is_deleted };
            ghosts.put(hash(number), 100, ghost);
            ghosts.put(hash(9), bytes, GHOST);
            assert_eq!(ghosts.take(hash(number)), Some((ghost, is_young)));
        }
    }

    #[test]
    fn the_oldest_ghost_of_a_full_set_is_replaced() {
        let mut ghosts = Ghosts::new(1);
        let hash = |n: u64| KeyHash::new(n << PRINT_SHIFT << 1);
        (1..=WAYS as u64 + 1).for_each(|n| ghosts.put(hash(n), 10, GHOST));
        assert!(ghosts.take(hash(1)).is_none() && ghosts.take(hash(2)).is_some());
    }

    #[test]
    fn a_key_that_was_evicted_twice_has_one_ghost() {
        let mut ghosts = Ghosts::new(1 << 20);
        ghosts.put(hash(1), 100, GHOST);
        ghosts.put(hash(1), 100, GHOST);
        assert!(is_there(&mut ghosts, 1) && !is_there(&mut ghosts, 1));
    }
}
