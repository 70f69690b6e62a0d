//! Uses of keys by their prefixes, for `stats detail`. Nothing is counted until a client turns it on.
//!
//! A prefix ends before the first delimiter; keys without one are not counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// The uses of all prefixes seen.
#[derive(Debug)]
pub struct Prefixes {
    delimiter: u8,
    is_on: AtomicBool,
    uses: Mutex<BTreeMap<Box<[u8]>, Uses>>,
}

/// The uses of one prefix.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Uses {
    /// `delete` and similar commands.
    pub deletes: u64,
    /// Reads.
    pub gets: u64,
    /// Reads that found a value.
    pub hits: u64,
    /// Storing commands, whatever their outcome.
    pub sets: u64,
}

/// A use of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Use {
    /// A command deleted it.
    Delete,
    /// A command read it.
    Get {
        /// Whether it had a value.
        is_hit: bool,
    },
    /// A command tried to store a value.
    Set,
}

impl Prefixes {
    /// An empty table for prefixes that end before this byte; `is_on` starts the counting.
    pub fn new(delimiter: u8, is_on: bool) -> Self {
        Prefixes { delimiter, is_on: AtomicBool::new(is_on), uses: Mutex::default() }
    }

    /// Starts or stops counting. Earlier counts stay.
    pub fn switch(&self, is_on: bool) {
        self.is_on.store(is_on, Ordering::Relaxed);
    }

    /// Whether uses are counted.
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Counts a use of a key while counting is on. A new prefix is ignored once there are [`PREFIXES_MAX`].
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

    /// Passes on the uses of each prefix.
    pub fn each(&self, mut emit: impl FnMut(&[u8], Uses)) {
        self.uses.lock().iter().for_each(|(prefix, uses)| emit(prefix, *uses));
    }

    /// Removes all counts.
    pub fn reset(&self) {
        self.uses.lock().clear();
    }
}

/// The limit on counted prefixes; later ones are ignored.
pub const PREFIXES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn all_uses(prefixes: &Prefixes) -> Vec<(Vec<u8>, Uses)> {
        let mut all = Vec::new();
        prefixes.each(|prefix, uses| all.push((prefix.to_vec(), uses)));
        all
    }

    #[test]
    fn uses_are_counted_only_while_enabled() {
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
        assert_eq!(all_uses(&prefixes), expected);
        prefixes.reset();
        assert!(all_uses(&prefixes).is_empty());
    }

    #[test]
    fn the_number_of_prefixes_is_limited() {
        let prefixes = Prefixes::new(b':', true);
        for number in 0..=PREFIXES_MAX {
            prefixes.count(format!("{number}:").as_bytes(), Use::Set);
        }
        prefixes.count(b"0:", Use::Set);
        let uses = all_uses(&prefixes);
        assert_eq!((uses.len(), uses[0].1.sets), (PREFIXES_MAX, 2));
    }
}
