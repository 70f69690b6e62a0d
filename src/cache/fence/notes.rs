//! What one connection has missed: the implicit leases of clients that know nothing of leases.
//!
//! A ring of notes, oldest first. A miss leaves one; a store of the same key is later checked against it. Notes are
//! found by hash chains through the ring, so neither a hit nor a miss searches it.
//!
//! Deliberately absent: the voids themselves. The shard knows what covers a key and asks here what that means.

use crate::store::seq::Seq;

/// A miss that was seen, and what has happened to its key by this connection's own hand since.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Note {
    hash: u64,
    /// The last point given out when the key was missed.
    seq: Seq,
    /// The connection's own void of the key since, which alone is disregarded.
    own: Seq,
    mark: Mark,
    /// The next older note of the same chain, as a position plus one.
    older: u64,
    /// When the key was missed, in monotonic seconds.
    taken: u32,
}

/// How old notes may be: they end by their own time, since the void clock stands still while nothing changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Age {
    /// Points up to this one were given out before any note that still counts was taken.
    pub(crate) horizon: Seq,
    /// For how many seconds a note counts.
    pub(crate) max: u32,
    /// The monotonic second.
    pub(crate) now: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mark {
    /// Used up by a store, or cleared by a hit.
    Cleared,
    /// A store on it is refused whatever covers the key: a foreign void was seen, or the key was held off.
    Dead,
    Open,
}

/// The notes of one connection.
pub(crate) struct Notes {
    /// Positions rise for ever; position `p` lies at `p % ring.len()`.
    ring: Vec<Note>,
    chains: Vec<u64>,
    oldest: u64,
    next: u64,
    lost: Option<Lost>,
}

/// Notes that the ring had no room for: as long as the newest is young, any key may have been among them.
#[derive(Clone, Copy, Debug)]
struct Lost {
    /// Whether one of them was void already, whatever covers its key now.
    is_dead: bool,
    newest_taken: u32,
    oldest: Seq,
}

impl Age {
    fn is_young(self, taken: u32) -> bool {
        self.now.saturating_sub(taken) <= self.max
    }
}

impl Note {
    pub(crate) fn seq(&self) -> Seq {
        self.seq
    }

    /// Whether a store on this note must be refused, given the newest void that covers its key.
    pub(crate) fn is_void(&self, covering: Seq) -> bool {
        self.mark == Mark::Dead || (covering > self.seq && covering != self.own)
    }
}

impl Notes {
    pub(crate) fn new() -> Self {
        Notes { ring: Vec::new(), chains: Vec::new(), oldest: 0, next: 0, lost: None }
    }

    /// Whether no miss is noted.
    pub(crate) fn is_empty(&self) -> bool {
        self.oldest == self.next
    }

    /// Notes a miss at `seq`; `held_off` makes it void from the start. If an older one is open, it stays: returns how many
    /// seconds ago that was.
    pub(crate) fn miss(&mut self, hash: u64, seq: Seq, held_off: bool, age: Age) -> Option<u32> {
        let mark = if held_off { Mark::Dead } else { Mark::Open };
        if let Some(old) = self.find(hash, age) {
            if held_off {
                old.mark = Mark::Dead;
            }
            return Some(age.now.saturating_sub(old.taken));
        }
        self.push(Note { hash, seq, own: Seq::ZERO, mark, older: 0, taken: age.now }, age);
        None
    }

    /// A hit or a fill by token: what the client stores next is no fill for the miss before.
    pub(crate) fn clear(&mut self, hash: u64, age: Age) {
        if let Some(note) = self.find(hash, age) {
            note.mark = Mark::Cleared;
        }
    }

    /// The note that a store of this key is to be checked against; it is used up.
    pub(crate) fn take(&mut self, hash: u64, age: Age) -> Option<Note> {
        if let Some(note) = self.find(hash, age) {
            let taken = *note;
            note.mark = Mark::Cleared;
            return Some(taken);
        }
        self.lost_note(hash, age)
    }

    /// This connection voids the key itself at `own`, where `covering` covered it before.
    pub(crate) fn own_void(&mut self, hash: u64, covering: Seq, own: Seq, age: Age) {
        if self.oldest == self.next && self.lost.is_none() {
            return;
        }
        if self.find(hash, age).is_none()
            && let Some(note) = self.lost_note(hash, age)
        {
            self.push(note, age);
        }
        self.each(hash, age, |note| note.disregard(covering, own));
    }

    /// This connection voids everything: `shard_of` a hash tells where, and `floors` each shard's floor before
    /// and after.
    pub(crate) fn own_flush(&mut self, voided: impl Fn(u64) -> (Seq, Seq)) {
        for position in self.oldest..self.next {
            let index = self.index(position);
            let (covering, own) = voided(self.ring[index].hash);
            self.ring[index].disregard(covering, own);
        }
    }

    fn push(&mut self, mut note: Note, age: Age) {
        if self.next - self.oldest == self.ring.len() as u64 {
            self.make_room(age);
        }
        let chain = self.chain(note.hash);
        note.older = self.chains[chain];
        let index = self.index(self.next);
        self.ring[index] = note;
        self.next += 1;
        self.chains[chain] = self.next;
    }

    /// Forgets the oldest note, or doubles the ring if that one still counts and the limit allows.
    fn make_room(&mut self, age: Age) {
        while self.oldest < self.next && !self.at(self.oldest).counts(age) {
            self.oldest += 1;
        }
        if self.next - self.oldest < self.ring.len() as u64 {
            return;
        }
        if self.ring.len() < NOTES_MAX {
            return self.grow(age);
        }
        let Note { mark, seq, taken, .. } = *self.at(self.oldest);
        let former = self.lost.filter(|lost| age.is_young(lost.newest_taken));
        self.lost = Some(Lost {
            is_dead: mark == Mark::Dead || former.is_some_and(|lost| lost.is_dead),
            newest_taken: taken,
            oldest: former.map_or(seq, |lost| lost.oldest.min(seq)),
        });
        self.oldest += 1;
    }

    fn grow(&mut self, age: Age) {
        let len = (self.ring.len() * 2).max(NOTES_MIN);
        let kept: Vec<Note> = (self.oldest..self.next).map(|position| *self.at(position)).collect();
        let empty = Note { hash: 0, seq: Seq::ZERO, own: Seq::ZERO, mark: Mark::Cleared, older: 0, taken: 0 };
        self.ring = vec![empty; len];
        self.chains = vec![0; len];
        (self.oldest, self.next) = (0, 0);
        for note in kept {
            self.push(note, age);
        }
    }

    /// A note in place of one that was lost, if any could have been for this key.
    fn lost_note(&mut self, hash: u64, age: Age) -> Option<Note> {
        self.lost = self.lost.filter(|lost| age.is_young(lost.newest_taken));
        let Lost { is_dead, newest_taken: taken, oldest } = self.lost?;
        let mark = if is_dead { Mark::Dead } else { Mark::Open };
        Some(Note { hash, seq: oldest.max(age.horizon), own: Seq::ZERO, mark, older: 0, taken })
    }

    /// The oldest note of this key that counts.
    fn find(&mut self, hash: u64, age: Age) -> Option<&mut Note> {
        let mut found = None;
        self.each_position(hash, |note, position| {
            if note.hash == hash && note.counts(age) {
                found = Some(position);
            }
        });
        let index = self.index(found?);
        Some(&mut self.ring[index])
    }

    fn each(&mut self, hash: u64, age: Age, change: impl Fn(&mut Note)) {
        self.each_position(hash, |note, _| {
            if note.hash == hash && note.counts(age) {
                change(note);
            }
        });
    }

    /// Walks the chain of this hash, newest first.
    fn each_position(&mut self, hash: u64, mut visit: impl FnMut(&mut Note, u64)) {
        if self.oldest == self.next {
            return;
        }
        let mut link = self.chains[self.chain(hash)];
        while link > self.oldest {
            let index = self.index(link - 1);
            visit(&mut self.ring[index], link - 1);
            link = self.ring[index].older;
        }
    }

    fn at(&self, position: u64) -> &Note {
        &self.ring[self.index(position)]
    }

    fn index(&self, position: u64) -> usize {
        position as usize & (self.ring.len() - 1)
    }

    fn chain(&self, hash: u64) -> usize {
        (hash >> 24) as usize & (self.chains.len() - 1)
    }
}

impl Note {
    fn counts(&self, age: Age) -> bool {
        self.mark != Mark::Cleared && age.is_young(self.taken)
    }

    fn disregard(&mut self, covering: Seq, own: Seq) {
        match self.mark {
            Mark::Cleared => {}
            Mark::Dead | Mark::Open if self.is_void(covering) => self.mark = Mark::Dead,
            Mark::Dead | Mark::Open => self.own = own,
        }
    }
}

/// Notes that a connection keeps; the ring starts small and doubles while they count.
pub const NOTES_MAX: usize = 1024;
const NOTES_MIN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Age = Age { horizon: Seq::ZERO, max: 60, now: 100 };

    fn later(seconds: u32) -> Age {
        Age { now: NOW.now + seconds, ..NOW }
    }

    fn seq(number: u64) -> Seq {
        Seq::new(number).unwrap()
    }

    #[test]
    fn the_oldest_miss_of_a_key_counts_and_is_used_up() {
        let mut notes = Notes::new();
        notes.miss(1, seq(10), false, NOW);
        notes.miss(1, seq(20), false, NOW);
        let note = notes.take(1, NOW).unwrap();
        assert!(note.is_void(seq(15)) && !note.is_void(seq(10)));
        assert_eq!(notes.take(1, NOW), None);
    }

    #[test]
    fn an_own_void_is_disregarded_unless_it_hides_anothers() {
        let mut notes = Notes::new();
        notes.miss(1, seq(10), false, NOW);
        notes.own_void(1, seq(5), seq(11), NOW);
        assert!(!notes.take(1, NOW).unwrap().is_void(seq(11)));

        notes.miss(1, seq(20), false, NOW);
        notes.own_void(1, seq(21), seq(22), NOW);
        assert!(notes.take(1, NOW).unwrap().is_void(seq(22)), "21 was somebody else's");
    }

    #[test]
    fn an_own_flush_does_not_raise_a_cleared_note_from_the_dead() {
        let mut notes = Notes::new();
        notes.miss(1, seq(10), false, NOW);
        notes.clear(1, NOW);
        notes.own_flush(|_| (seq(11), seq(12)));
        assert_eq!(notes.take(1, NOW), None);
    }

    #[test]
    fn a_miss_while_held_off_is_void_whatever_comes() {
        let mut notes = Notes::new();
        notes.miss(1, seq(10), false, NOW);
        notes.miss(1, seq(11), true, NOW);
        assert!(notes.take(1, NOW).unwrap().is_void(Seq::ZERO));
    }

    #[test]
    fn what_the_ring_forgets_still_counts_for_every_key_while_it_is_young() {
        let mut notes = Notes::new();
        for n in 0..NOTES_MAX as u64 + 2 {
            notes.miss(n << 24, seq(100 + n), false, NOW);
        }
        assert_eq!(notes.ring.len(), NOTES_MAX);
        let lost = notes.take(0, NOW).unwrap();
        assert!(lost.is_void(seq(101)) && !lost.is_void(seq(100)));
        let horizon = seq(101);
        assert!(
            !notes.take(0, Age { horizon, ..NOW }).unwrap().is_void(seq(101)),
            "it was not taken before that"
        );
        assert_eq!(notes.take(0, later(61)), None, "too old to matter");
        assert!(notes.take(2 << 24, NOW).is_some());
    }

    #[test]
    fn a_miss_while_held_off_stays_void_when_the_ring_forgets_it() {
        let mut notes = Notes::new();
        notes.miss(0, seq(100), true, NOW);
        for n in 1..NOTES_MAX as u64 + 2 {
            notes.miss(n << 24, seq(100 + n), false, NOW);
        }
        assert!(notes.take(0, NOW).unwrap().is_void(Seq::ZERO));
        assert_eq!(notes.take(0, later(61)), None);
    }

    #[test]
    fn after_an_overflow_an_own_void_is_still_ones_own() {
        let mut notes = Notes::new();
        for n in 0..NOTES_MAX as u64 + 2 {
            notes.miss(n << 24, seq(100 + n), false, NOW);
        }
        notes.own_void(0, seq(50), seq(1_000), NOW);
        assert!(!notes.take(0, NOW).unwrap().is_void(seq(1_000)));
    }

    #[test]
    fn a_long_life_needs_no_more_than_the_ring() {
        let mut notes = Notes::new();
        for n in 0..100_000u64 {
            let hash = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            notes.miss(hash, seq(n + 1), false, NOW);
            assert!(notes.take(hash, NOW).is_some());
        }
        assert!(notes.ring.len() <= NOTES_MIN);
    }
}
