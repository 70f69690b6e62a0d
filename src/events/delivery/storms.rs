//! Storms: so many prefixes below one parent that invalidating the parent is better.
//!
//! The cache remembers a limited number of prefixes. An import of 100,000 rows that each invalidate a prefix
//! would push all others out.

use std::collections::BTreeMap;

use super::super::targets::{Merged, Targets};

/// Counts the prefixes below each parent, second by second.
#[derive(Debug)]
pub(super) struct Storms {
    below: BTreeMap<String, usize>,
    most: usize,
    second: u64,
}

impl Storms {
    /// More than `most` prefixes below one parent in a second are a storm.
    pub(super) fn new(most: usize) -> Self {
        Storms { below: BTreeMap::new(), most, second: 0 }
    }

    /// Replaces the prefixes of a storm by their parent; the number of parents that were put in.
    pub(super) fn collapse(&mut self, merged: &mut Merged, now_ms: u64) -> u64 {
        if self.second != now_ms / 1000 {
            self.second = now_ms / 1000;
            self.below.clear();
        }
        for prefix in merged.prefixes.keys() {
            if let Some(parent) = parent(prefix) {
                *self.below.entry(parent.to_owned()).or_default() += 1;
            }
        }
        let (below, most) = (&self.below, self.most);
        let is_storm = |parent: &str| below.get(parent).is_some_and(|count| *count > most);
        let mut parents = Merged::default();
        merged.prefixes.retain(|prefix, depth| {
            let Some(parent) = parent(prefix).filter(|parent| is_storm(parent)) else { return true };
            parents.add(Targets { prefixes: vec![parent.to_owned()], ..Targets::default() }, *depth, None);
            false
        });
        let storms = parents.prefixes.len() as u64;
        for (parent, depth) in parents.prefixes {
            merged.add(Targets { prefixes: vec![parent], ..Targets::default() }, depth, None);
        }
        storms
    }
}

/// The prefix that contains this one; `None` at the top.
fn parent(prefix: &str) -> Option<&str> {
    let end = prefix.strip_suffix(':')?.rfind(':')?;
    Some(&prefix[..=end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Depth;

    fn prefixes(names: impl IntoIterator<Item = String>) -> Merged {
        Merged::of(Targets { prefixes: names.into_iter().collect(), ..Targets::default() }, Depth::Hard)
    }

    #[test]
    fn many_prefixes_below_one_parent_become_the_parent() {
        let mut storms = Storms::new(100);
        let mut few = prefixes((0..60).map(|n| format!("product:{n}:")));
        assert_eq!((storms.collapse(&mut few, 1_000), few.names()), (0, 60));
        let mut more = prefixes((60..120).map(|n| format!("product:{n}:")).chain(["page:7:".to_owned()]));
        assert_eq!(storms.collapse(&mut more, 1_999), 1, "the same second");
        assert_eq!(more.prefixes.keys().collect::<Vec<_>>(), ["page:7:", "product:"]);
        let mut later = prefixes((0..60).map(|n| format!("product:{n}:")));
        assert_eq!((storms.collapse(&mut later, 2_000), later.names()), (0, 60));
    }

    #[test]
    fn prefixes_at_the_top_have_no_parent() {
        let mut storms = Storms::new(10);
        let mut tops = prefixes((0..60).map(|n| format!("p{n}:")));
        assert_eq!((storms.collapse(&mut tops, 0), tops.names()), (0, 60));
    }
}
