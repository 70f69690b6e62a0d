//! The misses of one connection, and its own invalidations since.

use super::AGE_S;

#[derive(Default)]
pub struct MissLog(Vec<Miss>);

struct Miss {
    is_invalidated: bool,
    missed_s: u64,
    name: String,
    own: u64,
    seq: u64,
}

impl MissLog {
    /// Adds a miss at `seq`; that of a held-off key counts as invalidated. If an older miss is open, that one
    /// stays: returns how many seconds ago it was.
    pub fn add(&mut self, name: &str, seq: u64, is_held: bool, now_s: u64) -> Option<u64> {
        self.0.retain(|miss| now_s - miss.missed_s <= AGE_S);
        if let Some(old) = self.0.iter_mut().find(|miss| miss.name == name) {
            old.is_invalidated |= is_held;
            return Some(now_s - old.missed_s);
        }
        self.0.push(Miss { is_invalidated: is_held, missed_s: now_s, name: name.to_owned(), own: 0, seq });
        None
    }

    pub fn remove(&mut self, name: &str) {
        self.0.retain(|miss| miss.name != name);
    }

    /// Takes the miss of a key for a store: whether there is one, and whether the key was invalidated since,
    /// or `is_invalidated` since.
    pub fn take(
        &mut self,
        name: &str,
        newest: u64,
        is_invalidated: impl Fn(u64) -> bool,
        now_s: u64,
    ) -> Option<bool> {
        self.0.retain(|miss| now_s - miss.missed_s <= AGE_S);
        let miss = self.0.iter().find(|miss| miss.name == name)?;
        let is_invalidated = miss.is_invalidated(newest) || is_invalidated(miss.seq);
        self.remove(name);
        Some(is_invalidated)
    }

    /// The connection itself invalidates keys at `own`; `newest` is the newest invalidation of each before.
    pub fn invalidate(&mut self, own: u64, newest: impl Fn(&str) -> Option<u64>) {
        for miss in &mut self.0 {
            match newest(&miss.name) {
                Some(newest) if miss.is_invalidated(newest) => miss.is_invalidated = true,
                Some(_) => miss.own = own,
                None => {}
            }
        }
    }
}

impl Miss {
    fn is_invalidated(&self, newest: u64) -> bool {
        self.is_invalidated || (newest > self.seq && newest != self.own)
    }
}
