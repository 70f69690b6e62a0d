//! Checks whether the fence for plain clients costs a class of keys too much: more than a few refused sets
//! in a hundred.
//!
//! The server cannot know which refused sets carried current values. Stale ones are few where loads are
//! short, so a high share of refusals means mostly good ones, for which there is a remedy.

use std::collections::HashMap;

use crate::cache::ClassCounts;
use crate::clock::Now;

/// The counts at the last check.
#[derive(Default)]
pub(super) struct FenceCost {
    known: HashMap<Box<[u8]>, (u64, u64)>,
    checked: Option<u64>,
}

impl FenceCost {
    /// Whether a minute has passed since the last check.
    pub(super) fn is_due(&self, now: Now) -> bool {
        self.checked.is_none_or(|checked| now.millis >= checked + EVERY_MS)
    }

    /// The classes with too many refused sets since the last check, with that share in percent.
    pub(super) fn check(&mut self, classes: Vec<ClassCounts>, now: Now) -> Vec<(ClassCounts, u64)> {
        self.checked = Some(now.millis);
        let known = std::mem::take(&mut self.known);
        let mut costly = Vec::new();
        for class in classes {
            let (sets, refused) = known.get(&class.name).copied().unwrap_or_default();
            self.known.insert(class.name.clone(), (class.sets, class.refused));
            let (sets, refused) = (class.sets.saturating_sub(sets), class.refused.saturating_sub(refused));
            if sets >= SETS_MIN && refused * 100 > sets * PERCENT_MAX {
                costly.push((class, refused * 100 / sets));
            }
        }
        costly
    }
}

const EVERY_MS: u64 = 60_000;
/// Fewer sets in a minute are not significant.
const SETS_MIN: u64 = 600;
const PERCENT_MAX: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::LoadTime;

    fn class(sets: u64, refused: u64) -> Vec<ClassCounts> {
        let load_time = LoadTime { max_ms: 1_000, samples: 0 };
        vec![ClassCounts { name: (*b"user:").into(), load_time, mode: "every", sets, refused }]
    }

    #[test]
    fn a_class_is_costly_if_more_than_5_percent_of_recent_sets_were_refused() {
        let (mut cost, at) = (FenceCost::default(), |millis| Now { millis, unix: 0 });
        assert!(cost.is_due(at(0)) && cost.check(class(1_000, 40), at(0)).is_empty());
        assert!(!cost.is_due(at(59_999)) && cost.is_due(at(60_000)));
        assert_eq!(cost.check(class(2_000, 140), at(60_000))[0].1, 10);
        assert!(cost.check(class(2_500, 640), at(120_000)).is_empty(), "too few sets are not significant");
        assert!(cost.check(class(10, 10), at(180_000)).is_empty(), "counts were reset");
    }
}
