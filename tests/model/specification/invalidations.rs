//! Invalidations of groups: tags, prefixes, and everything, which is the group [`ALL`].

use std::collections::HashMap;

/// The invalidations of every group.
#[derive(Default)]
pub struct Invalidations {
    names: HashMap<String, Recorded>,
    /// The newest of a tag or prefix.
    pub newest_group: u64,
}

/// Points and times; 0 for none.
#[derive(Clone, Copy, Default)]
struct Recorded {
    hard: u64,
    /// Of soft invalidations two are known: a value that was stored between them counts from the last, unless
    /// it was met before. When the copies of the first are over, that is a hard one.
    first: (u64, u64),
    last: (u64, u64),
}

/// The effect of invalidations on a value, by its sequence number.
#[derive(Clone, Copy, PartialEq)]
pub enum Cover {
    None,
    Soft { since_s: u64 },
    Hard,
}

impl Invalidations {
    /// Copies are over after `kept_s`.
    pub fn invalidate(&mut self, name: &str, is_soft: bool, seq: u64, now_s: u64, kept_s: u64) {
        if name != ALL {
            self.newest_group = seq;
        }
        let recorded = self.names.entry(name.to_owned()).or_default();
        if !is_soft {
            recorded.hard = seq;
            return;
        }
        if now_s >= recorded.first.1 + kept_s {
            recorded.hard = recorded.hard.max(recorded.first.0);
            recorded.first = recorded.last;
        }
        if recorded.first.0 <= recorded.hard {
            recorded.first = (seq, now_s);
        }
        recorded.last = (seq, now_s);
    }

    /// The effect of the invalidations of a key, its prefix and its tag.
    pub fn cover(&self, key: &str, tag: Option<&str>, as_of: u64) -> Cover {
        let covers = names(key, tag).map(|name| match self.names.get(name) {
            Some(recorded) if as_of < recorded.hard => Cover::Hard,
            Some(recorded) if as_of < recorded.first.0 => Cover::Soft { since_s: recorded.first.1 },
            Some(recorded) if as_of < recorded.last.0 => Cover::Soft { since_s: recorded.last.1 },
            Some(_) | None => Cover::None,
        });
        covers.fold(Cover::None, |one, other| match (one, other) {
            (Cover::Hard, _) | (_, Cover::Hard) => Cover::Hard,
            (Cover::None, cover) | (cover, Cover::None) => cover,
            (Cover::Soft { since_s: one }, Cover::Soft { since_s: other }) => {
                Cover::Soft { since_s: one.min(other) }
            }
        })
    }

    /// Whether the prefix of a key or a tag was invalidated since.
    pub fn is_invalidated(&self, key: &str, tag: Option<&str>, since: u64) -> bool {
        names(key, tag).skip(1).any(|name| {
            self.names.get(name).is_some_and(|recorded| recorded.hard.max(recorded.last.0) > since)
        })
    }
}

fn names<'a>(key: &'a str, tag: Option<&'a str>) -> impl Iterator<Item = &'a str> {
    let prefix = key.split_inclusive(':').filter(|part| part.ends_with(':'));
    std::iter::once(ALL).chain(prefix).chain(tag)
}

pub const ALL: &str = "*";
/// How long a soft invalidation keeps copies if the policy keeps none.
pub const SOFT_S: u64 = 10;
