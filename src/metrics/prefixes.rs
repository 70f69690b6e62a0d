//! Uses of keys by their prefixes, for `stats detail`. Nothing is counted until somebody asks for it.
//!
//! A prefix ends before the first delimiter; keys without one are not counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// The uses of all prefixes that were seen.
#[derive(Debug)]
pub struct Prefixes {
    delimiter: u8,
    is_on: AtomicBool,
    uses: Mutex<BTreeMap<Box<[u8]>, Uses>>,
}

/// How keys of one prefix were used.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Uses {
    /// `delete` and its like.
    pub deletes: u64,
    /// Reads.
    pub gets: u64,
    /// How many of them found a value.
    pub hits: u64,
    /// Storing commands, whatever became of them.
    pub sets: u64,
}

/// One use of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Use {
    /// It was deleted.
    Delete,
    /// It was read, and a value was found or not.
    Get {
        /// Whether one was.
        is_hit: bool,
    },
    /// Somebody wanted to store under it.
    Set,
}

impl Prefixes {
    /// Prefixes that end before this byte, counted from the beginning or not.
    pub fn new(delimiter: u8, is_on: bool) -> Self {
        Prefixes { delimiter, is_on: AtomicBool::new(is_on), uses: Mutex::default() }
    }

    /// Counts from now on, or no more. What was counted stays.
    pub fn switch(&self, is_on: bool) {
        self.is_on.store(is_on, Ordering::Relaxed);
    }

    /// Whether uses are counted.
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Counts a use of a key, if that is asked for, unless it has a new prefix and there are [`PREFIXES_MAX`] already.
    pub fn count(&self, key: &[u8], used: Use) {
        if !self.is_on() {
            return;
        }
        let Some(end) = memchr::memchr(self.delimiter, key) else { return };
        let (prefix, mut all) = (&key[..end], self.uses.lock());
        if !all.contains_key(prefix) {
            if all.len() == PREFIXES_MAX {
                return;
            }
            all.insert(prefix.into(), Uses::default());
        }
        let uses = all.get_mut(prefix).expect("it is there now");
        match used {
            Use::Delete => uses.deletes += 1,
            Use::Get { is_hit } => {
                uses.gets += 1;
                uses.hits += u64::from(is_hit);
            }
            Use::Set => uses.sets += 1,
        }
    }

    /// Shows all that was counted, prefix by prefix.
    pub fn each(&self, mut tell: impl FnMut(&[u8], Uses)) {
        self.uses.lock().iter().for_each(|(prefix, uses)| tell(prefix, *uses));
    }

    /// Forgets what was counted.
    pub fn reset(&self) {
        self.uses.lock().clear();
    }
}

/// Prefixes that are counted; of later ones nothing is known.
pub const PREFIXES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn told(prefixes: &Prefixes) -> Vec<(Vec<u8>, Uses)> {
        let mut told = Vec::new();
        prefixes.each(|prefix, uses| told.push((prefix.to_vec(), uses)));
        told
    }

    #[test]
    fn uses_are_counted_only_while_somebody_wants_it() {
        let prefixes = Prefixes::new(b':', false);
        prefixes.count(b"a:1", Use::Set);
        prefixes.switch(true);
        for (key, used) in [
            (&b"a:1"[..], Use::Set),
            (b"a:2:3", Use::Get { is_hit: true }),
            (b"a:", Use::Get { is_hit: false }),
            (b"a", Use::Delete),
            (b"b:1", Use::Delete),
        ] {
            prefixes.count(key, used);
        }
        prefixes.switch(false);
        prefixes.count(b"a:1", Use::Set);
        let expected = [
            (b"a".to_vec(), Uses { gets: 2, hits: 1, sets: 1, deletes: 0 }),
            (b"b".to_vec(), Uses { deletes: 1, ..Uses::default() }),
        ];
        assert_eq!(told(&prefixes), expected);
        prefixes.reset();
        assert!(told(&prefixes).is_empty());
    }

    #[test]
    fn no_more_prefixes_are_counted_than_there_is_room_for() {
        let prefixes = Prefixes::new(b':', true);
        for number in 0..=PREFIXES_MAX {
            prefixes.count(format!("{number}:").as_bytes(), Use::Set);
        }
        prefixes.count(b"0:", Use::Set);
        let told = told(&prefixes);
        assert_eq!((told.len(), told[0].1.sets), (PREFIXES_MAX, 2));
    }
}
