//! Keys that may not be filled until a time: `delete <key> <seconds>`.

/// The hold-offs of one shard, at most [`HOLDOFFS_MAX`]; beyond that the whole shard is held off until the
/// last one ends, since forgetting one would let a stale value in.
#[derive(Default)]
pub(crate) struct Holdoffs {
    /// Hash of the key, and until when, in monotonic milliseconds.
    keys: Vec<(u64, u64)>,
    /// Until when every key is held off.
    all_until: u64,
}

impl Holdoffs {
    pub(crate) const BYTES_MAX: usize = size_of::<(u64, u64)>() * HOLDOFFS_MAX;

    /// Holds a key off until `until`; the longer of two wins.
    pub(crate) fn add(&mut self, hash: u64, until: u64, now_ms: u64) {
        self.keys.retain(|(_, until)| now_ms < *until);
        if let Some((_, old)) = self.keys.iter_mut().find(|(key, _)| *key == hash) {
            *old = until.max(*old);
        } else if self.keys.len() < HOLDOFFS_MAX {
            self.keys.push((hash, until));
        } else {
            let last = self.keys.drain(..).map(|(_, until)| until).max().unwrap_or(0);
            self.add_all(last.max(until));
        }
    }

    /// Holds every key off until `until`.
    pub(crate) fn add_all(&mut self, until: u64) {
        self.all_until = self.all_until.max(until);
    }

    /// Until when every key is held off, and which ones are, by their hashes; those that have ended among
    /// them.
    pub(crate) fn all(&self) -> (u64, impl Iterator<Item = (u64, u64)>) {
        (self.all_until, self.keys.iter().copied())
    }

    /// Ends a key's own hold-off; true if it had one.
    pub(crate) fn end(&mut self, hash: u64) -> bool {
        let before = self.keys.len();
        self.keys.retain(|(key, _)| *key != hash);
        self.keys.len() < before
    }

    /// Keys that are held off one by one.
    pub(crate) fn count(&self, now_ms: u64) -> usize {
        self.keys.iter().filter(|(_, until)| now_ms < *until).count()
    }

    /// Until when the key is held off, if it is.
    pub(crate) fn until(&self, hash: u64, now_ms: u64) -> Option<u64> {
        if self.keys.is_empty() && now_ms >= self.all_until {
            return None;
        }
        let own = self.keys.iter().find(|(key, _)| *key == hash).map_or(0, |(_, until)| *until);
        Some(own.max(self.all_until)).filter(|until| now_ms < *until)
    }
}

/// Hold-offs that a shard remembers one by one.
pub const HOLDOFFS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_of_two_wins_and_a_set_ends_it() {
        let mut holdoffs = Holdoffs::default();
        holdoffs.add(1, 9_000, 0);
        holdoffs.add(1, 5_000, 0);
        assert_eq!((holdoffs.until(1, 8_999), holdoffs.until(1, 9_000)), (Some(9_000), None));
        assert_eq!((holdoffs.count(8_999), holdoffs.count(9_000)), (1, 0));
        assert_eq!(holdoffs.until(2, 0), None);
        assert!(holdoffs.end(1) && !holdoffs.end(1));
        assert_eq!(holdoffs.until(1, 0), None);
    }

    #[test]
    fn a_full_table_holds_the_whole_shard_off_until_the_last_one_ends() {
        let mut holdoffs = Holdoffs::default();
        for hash in 0..HOLDOFFS_MAX as u64 {
            holdoffs.add(hash, 1_000 + hash, 0);
        }
        assert_eq!(holdoffs.until(999, 0), None);
        holdoffs.add(HOLDOFFS_MAX as u64, 500, 0);
        let last = 1_000 + HOLDOFFS_MAX as u64 - 1;
        assert_eq!((holdoffs.until(999, last - 1), holdoffs.until(999, last)), (Some(last), None));
    }

    #[test]
    fn ended_ones_make_room() {
        let mut holdoffs = Holdoffs::default();
        for hash in 0..HOLDOFFS_MAX as u64 {
            holdoffs.add(hash, 1_000, 0);
        }
        holdoffs.add(HOLDOFFS_MAX as u64, 3_000, 2_000);
        assert_eq!(
            (holdoffs.until(HOLDOFFS_MAX as u64, 2_000), holdoffs.until(999, 2_000)),
            (Some(3_000), None)
        );
    }

    #[test]
    fn every_hold_off_is_found() {
        let mut holdoffs = Holdoffs::default();
        for hash in 0..5 {
            holdoffs.add(hash, 1_000 + hash, 0);
        }
        assert!((0..5).all(|hash| holdoffs.until(hash, 0) == Some(1_000 + hash)));
        assert!(holdoffs.end(3) && holdoffs.until(3, 0).is_none() && holdoffs.until(4, 0).is_some());
    }

    #[test]
    fn a_hold_off_that_finds_the_table_full_counts_although_it_is_the_longest() {
        let mut holdoffs = Holdoffs::default();
        for hash in 0..=HOLDOFFS_MAX as u64 {
            holdoffs.add(hash, 1_000 + hash, 0);
        }
        assert_eq!(holdoffs.until(999, 0), Some(1_000 + HOLDOFFS_MAX as u64));
    }

    #[test]
    fn the_longer_of_a_key_and_the_shard_wins() {
        let mut holdoffs = Holdoffs::default();
        holdoffs.add(1, 5_000, 0);
        holdoffs.add(2, 9_000, 0);
        holdoffs.add_all(7_000);
        holdoffs.add_all(6_000);
        assert_eq!([1, 2, 3].map(|hash| holdoffs.until(hash, 0)), [Some(7_000), Some(9_000), Some(7_000)]);
    }
}
