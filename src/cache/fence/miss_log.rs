//! The misses of one connection: the implicit leases of a client that sends no tokens.
//!
//! A ring, oldest miss first. A store of a key is checked against the connection's own miss of it. Hash
//! chains through the ring lead to the misses of a key, so neither a hit nor a miss searches the ring.
//!
//! A full ring forgets its oldest miss, and no store is refused for that: the records of keys, which all
//! connections share, are what keeps old values out.
//!
//! Deliberately absent: the invalidations. The shard knows the newest one of a key, and passes it in.

use std::num::NonZeroU32;

use crate::store::item::key::KeyHash;
use crate::store::item::seq::Seq;

/// The misses of one connection.
pub(crate) struct MissLog {
    /// Positions only grow; the miss at position `p` is stored at `p % ring.len()`.
    ring: Box<[Miss]>,
    next: u64,
    /// The number of misses before `next`.
    kept: u32,
    /// The monotonic second after that of the newest miss that was forgotten while it counted.
    forgotten: Option<NonZeroU32>,
}

/// A miss, and the connection's own invalidations of its key since.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Miss {
    hash: KeyHash,
    /// The last sequence number before the miss.
    seq: Seq,
    /// The connection's own newest invalidation of the key since; it alone is disregarded.
    own: Seq,
    status: Status,
    /// The head of the chain that begins at this place of the ring: the position of its newest miss, plus
    /// one. It belongs to the place, and stays when another miss takes it.
    chain: u64,
    /// The next older miss of the same chain, as a position plus one.
    older: u64,
    /// When the key was missed, in monotonic seconds.
    second: u32,
    /// Whether the key was missed again before a store or the connection's own invalidation.
    is_repeated: bool,
    /// Whether a store has answered an older miss first.
    is_overtaken: bool,
}

/// The miss that a store is checked against.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Taken {
    pub(crate) miss: Miss,
    /// Whether younger misses are open, of this key or of others: several loads are running.
    pub(crate) overlaps: bool,
    /// Whether the store of an older miss came first. One program that loads while it loads stores the inner
    /// value first.
    pub(crate) is_overtaken: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Status {
    /// A store on this miss is refused, whatever is known of the key now: another connection invalidated the
    /// key before this one did, or the key was held off.
    Invalidated,
    Open,
    /// A store answered it, or the connection has had a hit or a fill with a token since.
    Removed,
}

/// The age up to which misses count. They carry a time of their own: the logical clock stands still while
/// nothing changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Age {
    /// For how many seconds a miss counts.
    pub(crate) max: u32,
    /// The monotonic second.
    pub(crate) now: u32,
}

impl MissLog {
    pub(crate) fn new() -> Self {
        MissLog { ring: Box::default(), next: 0, kept: 0, forgotten: None }
    }

    /// Whether the ring is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.kept == 0
    }

    fn oldest(&self) -> u64 {
        self.next - u64::from(self.kept)
    }

    /// Adds a miss at `seq`; that of a key that is held off counts as invalidated. If an older miss of the
    /// key is open, that one stays: returns how many seconds ago it was.
    pub(crate) fn add(&mut self, hash: KeyHash, seq: Seq, is_held_off: bool, age: Age) -> Option<u32> {
        let status = if is_held_off { Status::Invalidated } else { Status::Open };
        if let Some(old) = self.find(hash, age) {
            if is_held_off {
                old.status = Status::Invalidated;
            }
            // A program that has deleted the key itself looks again.
            old.is_repeated |= old.own == Seq::ZERO;
            return Some(age.now.saturating_sub(old.second));
        }
        self.push(Miss { hash, seq, status, second: age.now, ..Miss::REMOVED }, age);
        None
    }

    /// Removes the miss of a key after a hit or a fill with a token: the connection's next store of it
    /// answers no miss.
    pub(crate) fn remove(&mut self, hash: KeyHash, age: Age) {
        if let Some(miss) = self.find(hash, age) {
            miss.status = Status::Removed;
        }
    }

    /// Removes and returns the miss that a store of this key is checked against.
    #[inline]
    pub(crate) fn take(&mut self, hash: KeyHash, age: Age) -> Option<Taken> {
        // Most connections have none, and need no search.
        if self.is_empty() {
            return None;
        }
        let position = self.position(hash, age)?;
        let overtakes = self.overtake(position, age);
        let index = self.index(position);
        let miss = self.ring[index];
        self.ring[index].status = Status::Removed;
        Some(Taken { miss, overlaps: miss.is_repeated || overtakes, is_overtaken: miss.is_overtaken })
    }

    /// Marks the open misses younger than that at `position`, up to the first that is marked already. Returns
    /// whether there are any.
    fn overtake(&mut self, position: u64, age: Age) -> bool {
        let mut overtakes = false;
        for younger in (position + 1..self.next).rev() {
            let index = self.index(younger);
            let miss = &mut self.ring[index];
            if miss.counts(age) {
                overtakes = true;
                if std::mem::replace(&mut miss.is_overtaken, true) {
                    break;
                }
            }
        }
        overtakes
    }

    /// Whether a miss was forgotten that would still count. If so, a key that is not found may have been
    /// missed.
    pub(crate) fn has_forgotten(&self, age: Age) -> bool {
        self.forgotten.is_some_and(|after| age.is_young(after.get() - 1))
    }

    /// The connection itself invalidates a key at `own`; `newest` was its newest invalidation before.
    pub(crate) fn invalidate(&mut self, hash: KeyHash, newest: Seq, own: Seq, age: Age) {
        self.each(hash, age, |miss| miss.invalidate(newest, own));
    }

    /// The connection itself invalidates everything: `invalidation_of` a hash returns the key's newest
    /// invalidation before, and this one.
    pub(crate) fn invalidate_all(&mut self, invalidation_of: impl Fn(KeyHash) -> (Seq, Seq)) {
        for position in self.oldest()..self.next {
            let index = self.index(position);
            let (newest, own) = invalidation_of(self.ring[index].hash);
            self.ring[index].invalidate(newest, own);
        }
    }

    fn push(&mut self, mut miss: Miss, age: Age) {
        if self.kept as usize == self.ring.len() {
            self.make_room(age);
        }
        let (chain, index) = (self.chain(miss.hash), self.index(self.next));
        (miss.chain, miss.older) = (self.ring[index].chain, self.ring[chain].chain);
        self.ring[index] = miss;
        self.next += 1;
        self.kept += 1;
        self.ring[chain].chain = self.next;
    }

    /// Drops the oldest miss, or doubles the ring if that miss still counts and the limit allows.
    fn make_room(&mut self, age: Age) {
        while self.kept > 0 && !self.at(self.oldest()).counts(age) {
            self.kept -= 1;
        }
        if (self.kept as usize) < self.ring.len() {
            return;
        }
        if self.ring.len() < MISS_LOG_MAX {
            return self.grow(age);
        }
        self.forgotten = NonZeroU32::new(self.at(self.oldest()).second.saturating_add(1));
        self.kept -= 1;
    }

    fn grow(&mut self, age: Age) {
        let len = (self.ring.len() * 2).max(MISS_LOG_MIN);
        let kept: Vec<Miss> = (self.oldest()..self.next).map(|position| *self.at(position)).collect();
        self.ring = vec![Miss::REMOVED; len].into();
        (self.next, self.kept) = (0, 0);
        for miss in kept {
            self.push(miss, age);
        }
    }

    /// The oldest miss of this key that counts.
    fn find(&mut self, hash: KeyHash, age: Age) -> Option<&mut Miss> {
        let position = self.position(hash, age)?;
        let index = self.index(position);
        Some(&mut self.ring[index])
    }

    fn position(&mut self, hash: KeyHash, age: Age) -> Option<u64> {
        let mut found = None;
        self.each_position(hash, |miss, position| {
            if miss.hash == hash && miss.counts(age) {
                found = Some(position);
            }
        });
        found
    }

    fn each(&mut self, hash: KeyHash, age: Age, change: impl Fn(&mut Miss)) {
        self.each_position(hash, |miss, _| {
            if miss.hash == hash && miss.counts(age) {
                change(miss);
            }
        });
    }

    /// Walks the chain of this hash, newest first.
    fn each_position(&mut self, hash: KeyHash, mut visit: impl FnMut(&mut Miss, u64)) {
        if self.is_empty() {
            return;
        }
        let oldest = self.oldest();
        let mut link = self.ring[self.chain(hash)].chain;
        while link > oldest {
            let index = self.index(link - 1);
            visit(&mut self.ring[index], link - 1);
            link = self.ring[index].older;
        }
    }

    fn at(&self, position: u64) -> &Miss {
        &self.ring[self.index(position)]
    }

    fn index(&self, position: u64) -> usize {
        position as usize & (self.ring.len() - 1)
    }

    fn chain(&self, hash: KeyHash) -> usize {
        (hash.bits() >> 24) as usize & (self.ring.len() - 1)
    }
}

impl Miss {
    const REMOVED: Miss = Miss {
        hash: KeyHash::NONE,
        seq: Seq::ZERO,
        own: Seq::ZERO,
        status: Status::Removed,
        chain: 0,
        older: 0,
        second: 0,
        is_repeated: false,
        is_overtaken: false,
    };

    pub(crate) fn seq(&self) -> Seq {
        self.seq
    }

    /// Whether a store on this miss must be refused, given the newest invalidation of its key.
    pub(crate) fn is_invalidated(&self, newest: Seq) -> bool {
        self.status == Status::Invalidated || (newest > self.seq && newest != self.own)
    }

    fn counts(&self, age: Age) -> bool {
        self.status != Status::Removed && age.is_young(self.second)
    }

    fn invalidate(&mut self, newest: Seq, own: Seq) {
        match self.status {
            Status::Removed => {}
            Status::Invalidated | Status::Open if self.is_invalidated(newest) => {
                self.status = Status::Invalidated;
            }
            Status::Invalidated | Status::Open => self.own = own,
        }
    }
}

impl Age {
    fn is_young(self, second: u32) -> bool {
        self.now.saturating_sub(second) <= self.max
    }
}

/// Misses that one connection remembers; the ring starts small, and doubles while they count.
pub const MISS_LOG_MAX: usize = 1024;
const MISS_LOG_MIN: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Age = Age { max: 60, now: 100 };

    fn key(number: u64) -> KeyHash {
        KeyHash::new(number)
    }

    fn later(seconds: u32) -> Age {
        Age { now: NOW.now + seconds, ..NOW }
    }

    fn seq(number: u64) -> Seq {
        Seq::new(number).unwrap()
    }

    #[test]
    fn the_oldest_miss_of_a_key_counts_and_is_taken_once() {
        let mut log = MissLog::new();
        log.add(key(1), seq(10), false, NOW);
        log.add(key(1), seq(20), false, NOW);
        let miss = log.take(key(1), NOW).unwrap().miss;
        assert!(miss.is_invalidated(seq(15)) && !miss.is_invalidated(seq(10)));
        assert_eq!(log.take(key(1), NOW), None);
    }

    #[test]
    fn an_own_invalidation_is_disregarded_unless_it_hides_anothers() {
        let mut log = MissLog::new();
        log.add(key(1), seq(10), false, NOW);
        log.invalidate(key(1), seq(5), seq(11), NOW);
        assert!(!log.take(key(1), NOW).unwrap().miss.is_invalidated(seq(11)));

        log.add(key(1), seq(20), false, NOW);
        log.invalidate(key(1), seq(21), seq(22), NOW);
        assert!(log.take(key(1), NOW).unwrap().miss.is_invalidated(seq(22)), "21 was of another connection");
    }

    /// Whether loads overlap, and whether one was overtaken, for each key that is stored in turn.
    fn signs(misses: &[u64], stores: &[u64]) -> Vec<(bool, bool)> {
        let mut log = MissLog::new();
        misses.iter().for_each(|&hash| _ = log.add(key(hash), seq(1), false, NOW));
        let signs =
            |hash| log.take(key(hash), NOW).map(|taken| (taken.overlaps, taken.is_overtaken)).unwrap();
        stores.iter().copied().map(signs).collect()
    }

    #[test]
    fn nested_loads_are_those_of_one_program_and_crossing_ones_are_not() {
        assert_eq!(signs(&[1, 2, 3], &[3, 2, 1]), [(false, false); 3]);
        assert_eq!(signs(&[1, 2], &[1, 2]), [(true, false), (false, true)]);
        assert_eq!(signs(&[1, 2, 3], &[2, 1, 3]), [(true, false), (true, false), (false, true)]);
        assert_eq!(signs(&[1, 1], &[1]), [(true, false)], "two workers may load it");
    }

    #[test]
    fn an_own_flush_does_not_bring_a_removed_miss_back() {
        let mut log = MissLog::new();
        log.add(key(1), seq(10), false, NOW);
        log.remove(key(1), NOW);
        log.invalidate_all(|_| (seq(11), seq(12)));
        assert_eq!(log.take(key(1), NOW), None);
    }

    #[test]
    fn a_miss_while_held_off_counts_as_invalidated() {
        let mut log = MissLog::new();
        log.add(key(1), seq(10), false, NOW);
        log.add(key(1), seq(11), true, NOW);
        assert!(log.take(key(1), NOW).unwrap().miss.is_invalidated(Seq::ZERO));
    }

    #[test]
    fn the_newest_misses_are_kept_and_the_log_says_that_it_forgot() {
        let mut log = MissLog::new();
        for n in 0..MISS_LOG_MAX as u64 {
            log.add(key(n << 24), seq(100 + n), false, NOW);
        }
        assert!(!log.has_forgotten(NOW));
        log.add(key(1 << 20), seq(9_000), false, NOW);
        assert_eq!((log.ring.len(), log.has_forgotten(NOW)), (MISS_LOG_MAX, true));
        assert_eq!((log.take(key(0), NOW), log.take(key(1 << 24), NOW).is_some()), (None, true));
        assert!(!log.has_forgotten(later(61)), "it would not count any more");
    }

    #[test]
    fn a_long_life_needs_no_more_than_the_ring() {
        let mut log = MissLog::new();
        for n in 0..100_000u64 {
            let hash = key(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            log.add(hash, seq(n + 1), false, NOW);
            assert!(log.take(hash, NOW).is_some());
        }
        assert!(log.ring.len() <= MISS_LOG_MIN);
    }
}
