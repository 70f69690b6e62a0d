//! Ghosts: fingerprints of the keys of items that were removed lately. An item that comes back soon enters
//! the main queue.
//!
//! A fixed table of sets; the oldest ghost of a full set is replaced. Ages are counted in removed bytes, as
//! S3-FIFO counts its ghost queue (Yang et al., SOSP 2023).
//!
//! Two keys may share a fingerprint; then an item may enter the main queue for no reason.

use crate::store::item::key::KeyHash;

/// The ghosts of one shard.
pub(super) struct Ghosts {
    /// Fingerprint in the upper bits, time in the lower; 0 is empty.
    sets: Box<[[u32; WAYS]]>,
    /// Bytes removed so far.
    removed: u64,
    /// The age at which a ghost is forgotten, in removed bytes.
    window: u64,
}

impl Ghosts {
    /// The ghosts of a shard of so many bytes.
    pub(super) fn new(shard_bytes: usize) -> Self {
        let sets = (shard_bytes / BYTES_PER_GHOST / WAYS).next_power_of_two();
        let window = (shard_bytes as u64 / 10 * 9).max(TICKS_PER_WINDOW);
        Ghosts { sets: vec![[0; WAYS]; sets].into_boxed_slice(), removed: 0, window }
    }

    /// Adds a ghost for an item of so many bytes.
    pub(super) fn put(&mut self, hash: KeyHash, bytes: usize) {
        self.removed += bytes as u64;
        let now = self.time();
        let age = |ghost: u32| if ghost == 0 { u32::MAX } else { now.wrapping_sub(ghost) & TIME_MASK };
        let set = self.set(hash);
        let own = set.iter().position(|ghost| *ghost != 0 && ghost & !TIME_MASK == fingerprint(hash));
        let place =
            own.unwrap_or_else(|| (0..WAYS).max_by_key(|way| age(set[*way])).expect("a set has places"));
        set[place] = fingerprint(hash) | now;
    }

    /// Removes the ghost with this hash; true if there was one.
    pub(super) fn take(&mut self, hash: KeyHash) -> bool {
        let now = self.time();
        let is_it = |ghost: u32| {
            let age = now.wrapping_sub(ghost) & TIME_MASK;
            ghost != 0 && ghost & !TIME_MASK == fingerprint(hash) && u64::from(age) <= TICKS_PER_WINDOW
        };
        let found = self.set(hash).iter_mut().find(|ghost| is_it(**ghost));
        found.is_some_and(|ghost| std::mem::take(ghost) != 0)
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.sets)
    }

    fn set(&mut self, hash: KeyHash) -> &mut [u32; WAYS] {
        &mut self.sets[(hash.bits() >> SET_SHIFT) as usize & (self.sets.len() - 1)]
    }

    fn time(&self) -> u32 {
        (self.removed * TICKS_PER_WINDOW / self.window) as u32 & TIME_MASK
    }
}

/// Never 0, which is an empty place.
fn fingerprint(hash: KeyHash) -> u32 {
    (hash.bits() as u32 | 1 << TIME_BITS) & !TIME_MASK
}

const WAYS: usize = 8;
/// One ghost, of four bytes, for so many bytes of items.
const BYTES_PER_GHOST: usize = 256;
const TIME_BITS: u32 = 12;
const TIME_MASK: u32 = (1 << TIME_BITS) - 1;
/// Time wraps around: an old ghost seems young again after four windows, but by then its place has been
/// taken.
const TICKS_PER_WINDOW: u64 = 1 << (TIME_BITS - 2);
/// Above the bits that the fingerprint is made of.
const SET_SHIFT: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u64) -> KeyHash {
        KeyHash::new(n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    #[test]
    fn a_ghost_is_found_once_and_within_its_window_only() {
        let mut ghosts = Ghosts::new(1 << 20);
        ghosts.put(hash(1), 100);
        assert!(!ghosts.take(hash(2)) && ghosts.take(hash(1)) && !ghosts.take(hash(1)));
        ghosts.put(hash(1), 100);
        ghosts.put(hash(3), (1 << 20) / 10 * 8);
        assert!(ghosts.take(hash(1)));
        ghosts.put(hash(1), 100);
        ghosts.put(hash(4), 1 << 20);
        assert!(!ghosts.take(hash(1)));
    }

    #[test]
    fn the_oldest_ghost_of_a_full_set_is_replaced() {
        let mut ghosts = Ghosts::new(1);
        for n in 1..=WAYS as u64 + 1 {
            ghosts.put(KeyHash::new(n << TIME_BITS << 1), 100);
        }
        assert!(
            !ghosts.take(KeyHash::new(1 << TIME_BITS << 1)) && ghosts.take(KeyHash::new(2 << TIME_BITS << 1))
        );
    }

    #[test]
    fn a_key_that_was_evicted_twice_has_one_ghost() {
        let mut ghosts = Ghosts::new(1 << 20);
        ghosts.put(hash(1), 100);
        ghosts.put(hash(1), 100);
        assert!(ghosts.take(hash(1)) && !ghosts.take(hash(1)));
    }
}
