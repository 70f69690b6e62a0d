//! The newest invalidation of every key, in fixed memory: an array of sequence numbers, indexed by bits of
//! the key's hash.
//!
//! Keys with the same cell share their invalidations. So a good fill may be refused, about once in
//! `len / invalidations in flight` times, and a stale one is never stored.

use prefetch_index::prefetch_index;

use crate::store::item::key::KeyHash;
use crate::store::item::seq::Seq;

/// An array of sequence numbers, 6 bytes each, that only rise.
pub(crate) struct Cells(Box<[[u8; 6]]>);

impl Cells {
    /// Bytes of one cell.
    pub(crate) const BYTES: usize = 6;

    /// `len` cells; a power of two.
    pub(crate) fn new(len: usize) -> Self {
        assert!(len.is_power_of_two());
        Cells(vec![[0; 6]; len].into_boxed_slice())
    }

    pub(crate) fn raise(&mut self, hash: KeyHash, seq: Seq) {
        if seq > self.read(hash) {
            let bytes = seq.number().to_le_bytes();
            let index = self.index(hash);
            self.0[index].copy_from_slice(&bytes[..6]);
        }
    }

    pub(crate) fn read(&self, hash: KeyHash) -> Seq {
        let [a, b, c, d, e, f] = self.0[self.index(hash)];
        Seq::new(u64::from_le_bytes([a, b, c, d, e, f, 0, 0])).expect("six bytes are 48 bits")
    }

    /// Prefetches the cell.
    pub(crate) fn prefetch(&self, hash: KeyHash) {
        prefetch_index(&self.0[..], self.index(hash));
    }

    fn index(&self, hash: KeyHash) -> usize {
        (hash.bits() >> CELL_SHIFT) as usize & (self.0.len() - 1)
    }
}

/// Above the bits that choose the shard.
const CELL_SHIFT: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_keeps_the_newest_point() {
        let hash = |number: u64| KeyHash::new(number << CELL_SHIFT);
        let mut cells = Cells::new(8);
        let seq = |number| Seq::new(number).unwrap();
        cells.raise(hash(5), seq((1 << 48) - 1));
        cells.raise(hash(5), seq(9));
        assert_eq!(cells.read(hash(5)), seq((1 << 48) - 1));
        assert_eq!(cells.read(hash(6)), Seq::ZERO);
    }
}
