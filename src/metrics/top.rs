//! The most frequent keys, in bounded memory: the Space-Saving algorithm (Metwally et al., ICDT 2005). Its
//! counts are halved from time to time, so that it describes the last few minutes.
//!
//! A key with at least one [`TOP`]th of all occurrences is always in the result. Others may be. A key
//! that replaces another one inherits its count: a count is never too low, and it is too high by the
//! smallest count at most.

/// Keys with their recent frequency.
#[derive(Debug, Default)]
pub struct Top {
    all: u64,
    entries: Vec<Met>,
    /// When the counts were last halved, in monotonic seconds.
    halved: u32,
}

/// A frequent key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Met {
    /// Its recent occurrences, which count less with age.
    pub count: u64,
    /// The key.
    pub key: Box<[u8]>,
}

impl Top {
    /// Counts a key in this monotonic second.
    pub fn add(&mut self, key: &[u8], second: u32) {
        self.age(second);
        self.all += 1;
        if let Some(known) = self.entries.iter_mut().find(|met| *met.key == *key) {
            known.count += 1;
        } else if self.entries.len() < TOP {
            self.entries.push(Met { count: 1, key: key.into() });
        } else {
            let least = self.entries.iter_mut().min_by_key(|met| met.count).expect("there are some");
            *least = Met { count: least.count + 1, key: key.into() };
        }
    }

    /// The most frequent keys, and the number of occurrences of all keys.
    pub fn most(&mut self, few: usize, second: u32) -> (Vec<Met>, u64) {
        self.age(second);
        let mut most = self.entries.clone();
        most.sort_by(|one, other| other.count.cmp(&one.count).then_with(|| one.key.cmp(&other.key)));
        most.truncate(few);
        (most, self.all)
    }

    fn age(&mut self, second: u32) {
        let halvings = second.saturating_sub(self.halved) / HALF_LIFE_SECONDS;
        if halvings == 0 {
            return;
        }
        self.halved += halvings * HALF_LIFE_SECONDS;
        let aged = |count: u64| count.checked_shr(halvings).unwrap_or(0);
        self.all = aged(self.all);
        self.entries.iter_mut().for_each(|met| met.count = aged(met.count));
        self.entries.retain(|met| met.count > 0);
    }
}

/// The limit on tracked keys.
pub const TOP: usize = 128;
/// After this time, an occurrence counts half.
const HALF_LIFE_SECONDS: u32 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    fn names(top: &mut Top, second: u32) -> Vec<(String, u64)> {
        let (most, _) = top.most(3, second);
        most.into_iter().map(|met| (String::from_utf8(met.key.into()).unwrap(), met.count)).collect()
    }

    #[test]
    fn a_frequent_key_is_found_among_many_rare_ones() {
        let mut top = Top::default();
        for n in 0..10_000 {
            top.add(format!("rare:{n}").as_bytes(), 2);
            if n % 20 == 0 {
                top.add(b"often", 2);
            }
        }
        let (name, count) = names(&mut top, 2).remove(0);
        assert!(name == "often" && (500..=600).contains(&count), "{name}: {count}");
        assert_eq!((top.entries.len(), top.all), (TOP, 10_500));
    }

    #[test]
    fn old_occurrences_count_less_and_then_nothing() {
        let mut top = Top::default();
        (0..8).for_each(|_| top.add(b"old", 40));
        (0..5).for_each(|_| top.add(b"new", 60));
        assert_eq!(names(&mut top, 60), [("new".to_owned(), 5), ("old".to_owned(), 4)]);
        assert_eq!(names(&mut top, 125), [("new".to_owned(), 1), ("old".to_owned(), 1)]);
        assert_eq!(names(&mut top, u32::MAX), []);
        assert_eq!(top.most(3, u32::MAX).1, 0);
    }
}
