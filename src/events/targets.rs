//! Targets: the names that events invalidate, checked and merged.

use std::collections::{BTreeMap, BTreeSet};

use crate::cache::Depth;

/// Names to invalidate.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Targets {
    /// Whether everything is meant, whatever else is named.
    pub is_all: bool,
    /// Keys.
    pub keys: Vec<String>,
    /// Key prefixes; they end in `:`.
    pub prefixes: Vec<String>,
    /// Tags.
    pub tags: Vec<String>,
}

/// Targets of many events, each name once.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Merged {
    /// Everything, if it is to be invalidated.
    pub all: Option<Depth>,
    /// Keys.
    pub keys: BTreeMap<String, KeyTarget>,
    /// Key prefixes.
    pub prefixes: BTreeMap<String, Depth>,
    /// Tags.
    pub tags: BTreeMap<String, Depth>,
}

/// How a key is invalidated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeyTarget {
    /// When the earliest of its changes was committed, in microseconds since 1970.
    pub committed: Option<u64>,
    /// Whether a stale copy stays.
    pub depth: Depth,
    /// The version of the row: a value of this version or a newer one stays.
    pub version: Option<u64>,
}

impl Targets {
    /// Whether nothing is named.
    pub fn is_empty(&self) -> bool {
        !self.is_all && self.keys.is_empty() && self.prefixes.is_empty() && self.tags.is_empty()
    }

    /// Whether keys with this prefix may be among them; tags may be those of any key.
    pub fn may_name_below(&self, prefix: &str) -> bool {
        let is_below = |name: &String| name.starts_with(prefix);
        self.is_all
            || !self.tags.is_empty()
            || self.keys.iter().any(is_below)
            || self.prefixes.iter().any(|name| is_below(name) || prefix.starts_with(name.as_str()))
    }

    /// Adds the targets of another one, each name once.
    pub fn add(&mut self, other: Targets) {
        self.is_all |= other.is_all;
        for (names, more) in
            [(&mut self.keys, other.keys), (&mut self.prefixes, other.prefixes), (&mut self.tags, other.tags)]
        {
            let all: BTreeSet<String> = names.drain(..).chain(more).collect();
            names.extend(all);
        }
    }
}

impl Merged {
    /// These targets alone.
    pub fn of(targets: Targets, depth: Depth) -> Merged {
        let mut merged = Merged::default();
        merged.add(targets, depth, None);
        merged
    }

    /// The number of names.
    pub fn names(&self) -> usize {
        self.keys.len() + self.prefixes.len() + self.tags.len()
    }

    /// Adds targets; the harder invalidation of a name counts, and one without a version.
    pub fn add(&mut self, targets: Targets, depth: Depth, version: Option<u64>) {
        self.add_committed(targets, depth, version, None);
    }

    /// As [`Merged::add`], of a change that was committed at this time, in microseconds since 1970.
    pub fn add_committed(
        &mut self,
        targets: Targets,
        depth: Depth,
        version: Option<u64>,
        committed: Option<u64>,
    ) {
        if targets.is_all {
            self.all = Some(self.all.map_or(depth, |known| stricter(known, depth)));
        }
        for key in targets.keys {
            let target = self.keys.entry(key).or_insert(KeyTarget { committed, depth, version });
            *target = KeyTarget {
                committed: target.committed.into_iter().chain(committed).min(),
                depth: stricter(target.depth, depth),
                version: target.version.zip(version).map(|(one, other)| one.max(other)),
            };
        }
        for (names, more) in [(&mut self.prefixes, targets.prefixes), (&mut self.tags, targets.tags)] {
            for name in more {
                let known = names.entry(name).or_insert(depth);
                *known = stricter(*known, depth);
            }
        }
    }
}

fn stricter(one: Depth, other: Depth) -> Depth {
    if one == Depth::Hard { one } else { other }
}

/// Whether a key or tag with this name can exist.
///
/// # Errors
/// A sentence with the name.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    if !(1..=NAME_BYTES_MAX).contains(&name.len()) {
        return Err(format!(
            "the name {name:?} has {} bytes: 1 to {NAME_BYTES_MAX} are possible",
            name.len()
        ));
    }
    if name.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(format!("the name {name:?} has a space or control character: the filter url encodes it"));
    }
    Ok(())
}

/// Whether a prefix with this name can exist.
///
/// # Errors
/// A sentence with the name.
pub(super) fn check_prefix(name: &str) -> Result<(), String> {
    check_name(name)?;
    let delimiters = name.bytes().filter(|byte| *byte == b':').count();
    if !name.ends_with(':') {
        return Err(format!("the prefix {name:?} does not end in ':'"));
    }
    if delimiters > PREFIX_DELIMITERS_MAX {
        return Err(format!("the prefix {name:?} has more than {PREFIX_DELIMITERS_MAX} ':'"));
    }
    Ok(())
}

const NAME_BYTES_MAX: usize = crate::cache::KEY_BYTES_MAX;
const PREFIX_DELIMITERS_MAX: usize = crate::cache::PREFIXES_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> Targets {
        Targets { keys: names.iter().map(|name| (*name).to_owned()).collect(), ..Targets::default() }
    }

    #[test]
    fn a_name_is_invalidated_once_and_by_the_strictest_event() {
        let mut merged = Merged::default();
        merged.add(keys(&["a", "b"]), Depth::Soft, Some(4));
        merged.add(keys(&["a", "a"]), Depth::Soft, Some(9));
        merged.add(keys(&["b"]), Depth::Hard, None);
        let of = |name: &str| (merged.keys[name].depth, merged.keys[name].version);
        assert_eq!((of("a"), of("b"), merged.names()), ((Depth::Soft, Some(9)), (Depth::Hard, None), 2));
    }

    #[test]
    fn the_earliest_commit_of_a_key_counts() {
        let mut merged = Merged::default();
        for committed in [None, Some(9), Some(4), Some(7), None] {
            merged.add_committed(keys(&["a"]), Depth::Hard, None, committed);
        }
        assert_eq!(merged.keys["a"].committed, Some(4));
    }

    #[test]
    fn impossible_names_are_refused() {
        for (name, why) in
            [("", "has 0 bytes"), (&"k".repeat(251), "has 251 bytes"), ("a b", "space"), ("a\n", "space")]
        {
            assert!(check_name(name).unwrap_err().contains(why), "{name:?}");
        }
        assert!(check_name(&"k".repeat(250)).is_ok() && check_prefix("a:b:").is_ok());
        assert!(check_prefix("a").unwrap_err().contains("does not end in ':'"));
        assert!(check_prefix(&":".repeat(17)).unwrap_err().contains("more than 16"));
    }
}
