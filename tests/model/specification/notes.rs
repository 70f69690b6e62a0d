//! The notes of one connection: what it has missed, and what its own hand has voided since.

use super::AGE_S;

#[derive(Default)]
pub struct Notes(Vec<Note>);

struct Note {
    is_dead: bool,
    name: String,
    own: u64,
    seq: u64,
    taken_s: u64,
}

impl Notes {
    /// Notes a miss at `seq`; that of a held-off key is void from the start. If an older one is open, it stays: returns how
    /// many seconds ago that was.
    pub fn miss(&mut self, name: &str, seq: u64, is_held: bool, now_s: u64) -> Option<u64> {
        self.0.retain(|note| now_s - note.taken_s <= AGE_S);
        if let Some(old) = self.0.iter_mut().find(|note| note.name == name) {
            old.is_dead |= is_held;
            return Some(now_s - old.taken_s);
        }
        self.0.push(Note { is_dead: is_held, name: name.to_owned(), own: 0, seq, taken_s: now_s });
        None
    }

    pub fn clear(&mut self, name: &str) {
        self.0.retain(|note| note.name != name);
    }

    /// Whether a store finds a note, and whether that is void, or `is_void` since; it is used up.
    pub fn take(
        &mut self,
        name: &str,
        covering: u64,
        is_void: impl Fn(u64) -> bool,
        now_s: u64,
    ) -> Option<bool> {
        self.0.retain(|note| now_s - note.taken_s <= AGE_S);
        let note = self.0.iter().find(|note| note.name == name)?;
        let is_void = note.is_void(covering) || is_void(note.seq);
        self.clear(name);
        Some(is_void)
    }

    /// The connection voids names by its own hand at `own`; `covering` tells what covered each of them before.
    pub fn own_void(&mut self, own: u64, covering: impl Fn(&str) -> Option<u64>) {
        for note in &mut self.0 {
            match covering(&note.name) {
                Some(covering) if note.is_void(covering) => note.is_dead = true,
                Some(_) => note.own = own,
                None => {}
            }
        }
    }
}

impl Note {
    fn is_void(&self, covering: u64) -> bool {
        self.is_dead || (covering > self.seq && covering != self.own)
    }
}
