//! Lease records: which keys are being loaded, and by which client. They only coalesce loads.
//!
//! Safety never depends on a record, since tokens certify themselves. So the table is small and fixed: if a
//! set is full, its oldest record is overwritten, and the key of that record can be granted again.

use prefetch_index::prefetch_index;

use crate::store::item::key::KeyHash;
use crate::store::item::seq::Seq;

/// One outstanding (or lately ended) lease.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    /// The connection that holds it.
    pub(crate) holder: u64,
    /// The sequence number of its grant; `Seq::ZERO` if the place is empty.
    pub(crate) seq: Seq,
    /// When it was granted, in monotonic milliseconds.
    pub(crate) granted_at: u64,
    /// Until when it makes others wait, in monotonic milliseconds; 0 once it was filled, invalidated or
    /// released.
    pub(crate) until: u64,
    /// Whether a connection sleeps until it ends.
    pub(crate) awaited: bool,
}

/// The records of one shard.
pub(crate) struct Leases(Box<[Set]>);

/// The records of keys whose hashes agree in some bits. The hashes fill one cache line, which shows for most
/// keys that there is no record.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Set {
    hashes: [KeyHash; WAYS],
    leases: [Lease; WAYS],
}

impl Lease {
    pub(crate) fn new(seq: Seq, holder: u64, granted_at: u64, until: u64) -> Self {
        Lease { holder, seq, granted_at, until, awaited: false }
    }

    pub(crate) fn is_outstanding(&self, now_ms: u64) -> bool {
        now_ms < self.until
    }
}

impl Set {
    fn way(&self, hash: KeyHash) -> Option<usize> {
        (0..WAYS).find(|way| self.hashes[*way] == hash && self.leases[*way].seq != Seq::ZERO)
    }
}

impl Leases {
    /// Bytes of one record.
    pub(crate) const BYTES: usize = size_of::<Set>() / WAYS;

    /// Room for about `len` records.
    pub(crate) fn new(len: usize) -> Self {
        Leases(vec![EMPTY; (len / WAYS).max(1)].into_boxed_slice())
    }

    /// Writes the grant of a key down; returns the hash whose waiters must ask again, if its record had to
    /// go.
    pub(crate) fn insert(&mut self, hash: KeyHash, lease: Lease) -> Option<KeyHash> {
        let set = self.set(hash);
        let age = |way: &usize| (set.leases[*way].until, set.leases[*way].seq);
        let way = set.way(hash).or_else(|| (0..WAYS).min_by_key(age)).expect("a set has places");
        let old = std::mem::replace(&mut set.leases[way], lease);
        let old_hash = std::mem::replace(&mut set.hashes[way], hash);
        old.awaited.then_some(old_hash)
    }

    pub(crate) fn find(&mut self, hash: KeyHash) -> Option<&mut Lease> {
        let set = self.set(hash);
        set.way(hash).map(|way| &mut set.leases[way])
    }

    pub(crate) fn read(&self, hash: KeyHash) -> Option<&Lease> {
        let set = &self.0[self.place(hash)];
        set.way(hash).map(|way| &set.leases[way])
    }

    /// Ends the lease of a key; true if a client waits for that.
    pub(crate) fn end(&mut self, hash: KeyHash) -> bool {
        self.find(hash).is_some_and(|lease| {
            lease.until = 0;
            std::mem::take(&mut lease.awaited)
        })
    }

    /// Ends the lease granted at `seq` and no other; true if a client waits for that.
    pub(crate) fn end_of(&mut self, hash: KeyHash, seq: Seq) -> bool {
        self.find(hash).is_some_and(|lease| lease.seq == seq) && self.end(hash)
    }

    /// Ends all; returns the hashes of keys with waiters.
    pub(crate) fn end_all(&mut self) -> Vec<KeyHash> {
        let mut awaited = Vec::new();
        for Set { hashes, leases } in &mut self.0 {
            for (hash, lease) in hashes.iter().zip(leases) {
                lease.until = 0;
                if std::mem::take(&mut lease.awaited) {
                    awaited.push(*hash);
                }
            }
        }
        awaited
    }

    pub(crate) fn outstanding(&self, now_ms: u64) -> usize {
        let all = self.0.iter().flat_map(|set| &set.leases);
        all.filter(|lease| lease.is_outstanding(now_ms)).count()
    }

    /// Prefetches the line that shows whether there is a record.
    pub(crate) fn prefetch(&self, hash: KeyHash) {
        prefetch_index(&self.0[..], self.place(hash));
    }

    fn set(&mut self, hash: KeyHash) -> &mut Set {
        let place = self.place(hash);
        &mut self.0[place]
    }

    /// Bits that the shard does not choose, scaled to the number of sets.
    fn place(&self, hash: KeyHash) -> usize {
        ((u64::from(hash.bits() as u32) * self.0.len() as u64) >> u32::BITS) as usize
    }
}

const EMPTY: Set = Set {
    hashes: [KeyHash::NONE; WAYS],
    leases: [Lease { holder: 0, seq: Seq::ZERO, granted_at: 0, until: 0, awaited: false }; WAYS],
};
const WAYS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> KeyHash {
        KeyHash::new(number)
    }

    fn lease(seq: u64) -> Lease {
        Lease::new(Seq::new(seq).unwrap(), 1, 0, 1_000 + seq)
    }

    #[test]
    fn a_full_set_forgets_its_oldest_and_says_who_waited_for_it() {
        let mut leases = Leases::new(WAYS);
        for seq in 1..=WAYS as u64 {
            assert_eq!(leases.insert(key(seq), lease(seq)), None);
        }
        leases.find(key(1)).unwrap().awaited = true;
        assert_eq!(leases.insert(key(99), lease(99)), Some(key(1)));
        assert!(
            leases.find(key(1)).is_none() && leases.find(key(2)).is_some() && leases.find(key(99)).is_some()
        );
        assert_eq!(leases.outstanding(0), WAYS);
    }

    #[test]
    fn a_lease_is_ended_by_its_own_point_only() {
        let mut leases = Leases::new(WAYS);
        leases.insert(key(7), lease(5));
        leases.find(key(7)).unwrap().awaited = true;
        assert!(
            !leases.end_of(key(7), Seq::new(4).unwrap()) && leases.find(key(7)).unwrap().is_outstanding(0)
        );
        assert!(
            leases.end_of(key(7), Seq::new(5).unwrap()) && !leases.find(key(7)).unwrap().is_outstanding(0)
        );
    }
}
