//! Who is loading what: lease records, for herd control only.
//!
//! Safety never rests on a record, since tokens certify themselves. So the table is small, fixed and forgetful: the
//! oldest record of a full set makes room, and its key is simply granted once more.

use super::seq::Seq;

/// One outstanding (or lately ended) lease.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    hash: u64,
    /// The connection that holds it.
    pub(crate) holder: u64,
    /// The point of its grant; `Seq::ZERO` where the place is empty.
    pub(crate) seq: Seq,
    /// When it was granted, in monotonic milliseconds.
    pub(crate) granted_at: u64,
    /// Until when it makes others wait, in monotonic milliseconds; 0 once it was filled, voided or given back.
    pub(crate) until: u64,
    /// Whether a connection sleeps until it ends.
    pub(crate) awaited: bool,
}

/// The records of one shard: sets of [`WAYS`] places.
pub(crate) struct Leases(Box<[[Lease; WAYS]]>);

impl Lease {
    pub(crate) fn new(hash: u64, seq: Seq, holder: u64, granted_at: u64, until: u64) -> Self {
        Lease { hash, holder, seq, granted_at, until, awaited: false }
    }

    pub(crate) fn is_outstanding(&self, now_ms: u64) -> bool {
        now_ms < self.until
    }
}

impl Leases {
    /// What one record takes.
    pub(crate) const BYTES: usize = size_of::<Lease>();

    /// Room for about `len` records.
    pub(crate) fn new(len: usize) -> Self {
        Leases(vec![[EMPTY; WAYS]; (len / WAYS).max(1)].into_boxed_slice())
    }

    /// Writes a grant down; returns the hash whose waiters must ask again, if its record had to go.
    pub(crate) fn insert(&mut self, lease: Lease) -> Option<u64> {
        let set = self.set(lease.hash);
        let own = set.iter().position(|old| old.hash == lease.hash && old.seq != Seq::ZERO);
        let place = own.unwrap_or_else(|| {
            (0..WAYS).min_by_key(|way| (set[*way].until, set[*way].seq)).expect("a set has places")
        });
        let old = std::mem::replace(&mut set[place], lease);
        old.awaited.then_some(old.hash)
    }

    pub(crate) fn find(&mut self, hash: u64) -> Option<&mut Lease> {
        self.set(hash).iter_mut().find(|lease| lease.hash == hash && lease.seq != Seq::ZERO)
    }

    pub(crate) fn read(&self, hash: u64) -> Option<&Lease> {
        self.0[self.place(hash)].iter().find(|lease| lease.hash == hash && lease.seq != Seq::ZERO)
    }

    /// Ends the lease of a key, whoever holds it; true if somebody waits for that.
    pub(crate) fn end(&mut self, hash: u64) -> bool {
        self.find(hash).is_some_and(|lease| {
            lease.until = 0;
            std::mem::take(&mut lease.awaited)
        })
    }

    /// Ends the lease granted at `seq` and no other; true if somebody waits for that.
    pub(crate) fn end_of(&mut self, hash: u64, seq: Seq) -> bool {
        self.find(hash).is_some_and(|lease| lease.seq == seq) && self.end(hash)
    }

    /// Ends all; returns the hashes somebody waits for.
    pub(crate) fn end_all(&mut self) -> Vec<u64> {
        let mut awaited = Vec::new();
        for lease in self.0.as_flattened_mut() {
            lease.until = 0;
            if std::mem::take(&mut lease.awaited) {
                awaited.push(lease.hash);
            }
        }
        awaited
    }

    pub(crate) fn outstanding(&self, now_ms: u64) -> usize {
        self.0.as_flattened().iter().filter(|lease| lease.is_outstanding(now_ms)).count()
    }

    fn set(&mut self, hash: u64) -> &mut [Lease; WAYS] {
        let place = self.place(hash);
        &mut self.0[place]
    }

    fn place(&self, hash: u64) -> usize {
        (hash >> SET_SHIFT) as usize % self.0.len()
    }
}

const EMPTY: Lease = Lease { hash: 0, holder: 0, seq: Seq::ZERO, granted_at: 0, until: 0, awaited: false };
const WAYS: usize = 8;
/// Above the bits that choose the shard.
const SET_SHIFT: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(hash: u64, seq: u64) -> Lease {
        Lease::new(hash, Seq::new(seq).unwrap(), 1, 0, 1_000 + seq)
    }

    #[test]
    fn a_full_set_forgets_its_oldest_and_says_who_waited_for_it() {
        let mut leases = Leases::new(WAYS);
        for seq in 1..=WAYS as u64 {
            assert_eq!(leases.insert(lease(seq, seq)), None);
        }
        leases.find(1).unwrap().awaited = true;
        assert_eq!(leases.insert(lease(99, 99)), Some(1));
        assert!(leases.find(1).is_none() && leases.find(2).is_some() && leases.find(99).is_some());
        assert_eq!(leases.outstanding(0), WAYS);
    }

    #[test]
    fn a_lease_is_ended_by_its_own_point_only() {
        let mut leases = Leases::new(WAYS);
        leases.insert(lease(7, 5));
        leases.find(7).unwrap().awaited = true;
        assert!(!leases.end_of(7, Seq::new(4).unwrap()) && leases.find(7).unwrap().is_outstanding(0));
        assert!(leases.end_of(7, Seq::new(5).unwrap()) && !leases.find(7).unwrap().is_outstanding(0));
    }
}
