//! `invalidate`: keys, tags, prefixes, or everything.

use super::observe::Outcome;
use super::{Command, Conversation, Flow, legal};
use crate::cache::{Cache, Depth, Group, KEY_BYTES_MAX};
use crate::clock::Now;
use crate::protocol::{Invalidated, Output, Replies, Reply, Status};

/// The targets of an invalidation that does not come as a command line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Targets<'a> {
    /// Whether stale copies stay.
    pub depth: Depth,
    /// Whether everything is invalidated, whatever else is named.
    pub is_all: bool,
    /// Keys.
    pub keys: Vec<&'a [u8]>,
    /// Key prefixes, including the delimiter at their end.
    pub prefixes: Vec<&'a [u8]>,
    /// Tags.
    pub tags: Vec<&'a [u8]>,
}

/// An invalidation of many values at once, as the log shows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Invalidation {
    /// Whether stale copies stay.
    pub depth: Depth,
    /// The first of the names; empty for everything.
    pub first: Box<[u8]>,
    /// The kind of its target.
    pub kind: InvalidationKind,
    /// The number of different names; 1 for everything.
    pub names: u64,
}

/// The target of an invalidation of many values.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InvalidationKind {
    /// `invalidate all`
    All,
    /// `flush_all`
    Flush,
    /// Key prefixes.
    Prefix,
    /// Tags.
    Tag,
}

/// The reason why nothing was invalidated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotInvalidated<'a> {
    /// This is not a legal key, prefix or tag.
    BadName(&'a [u8]),
    /// Invalidating everything is disabled (`-F`).
    Forbidden,
}

/// Invalidates all targets, or none of them if a name is illegal.
///
/// # Errors
/// [`NotInvalidated`] has the reason.
pub fn invalidate<'a>(
    targets: &Targets<'a>,
    cache: &Cache,
    conversation: &mut Conversation,
    now: Now,
) -> Result<(), NotInvalidated<'a>> {
    let is_legal = |name: &&[u8]| (1..=KEY_BYTES_MAX).contains(&name.len());
    let is_prefix = |name: &&[u8]| is_legal(name) && Group::prefix(name).is_some();
    let bad_name = targets.keys.iter().chain(&targets.tags).find(|name| !is_legal(name));
    if let Some(name) = bad_name.or_else(|| targets.prefixes.iter().find(|name| !is_prefix(name))) {
        return Err(NotInvalidated::BadName(name));
    }
    if targets.is_all && !conversation.rules.may_flush {
        return Err(NotInvalidated::Forbidden);
    }
    let mut output = Output::default();
    let watched = conversation.metrics.watchers.topics();
    let mut command = Command { cache, conversation, replies: Replies::text(&mut output), now, watched };
    if targets.is_all {
        command.invalidate_all(targets.depth);
    }
    command.invalidate_keys(targets.keys.iter().copied(), targets.depth);
    command.invalidate_groups(targets.tags.iter().map(|tag| Group::Tag(tag)), targets.depth);
    command.invalidate_groups(targets.prefixes.iter().map(|prefix| Group::Prefix(prefix)), targets.depth);
    Ok(())
}

impl Command<'_> {
    /// Invalidates nothing if a name is illegal.
    pub(super) fn invalidate(&mut self, what: &Invalidated, is_soft: bool, noreply: bool) -> Flow {
        let depth = if is_soft { Depth::Soft } else { Depth::Hard };
        let invalidated = match *what {
            Invalidated::All if !self.conversation.rules.may_flush => Err(Status::FlushNotAllowed),
            Invalidated::All => Ok(self.invalidate_all(depth)),
            Invalidated::Keys(keys) => Ok(self.invalidate_keys(keys, depth)),
            Invalidated::Prefixes(prefixes) => {
                let names: Option<Vec<Group>> = prefixes.map(Group::prefix).collect();
                names.map(|names| self.invalidate_groups(names, depth)).ok_or(Status::BadPrefix)
            }
            Invalidated::Tags(tags) => Ok(self.invalidate_groups(tags.map(Group::Tag), depth)),
        };
        match invalidated {
            Ok(names) => {
                if !noreply {
                    self.replies.send(Reply::Invalidated(names));
                }
                let many = |kind, first: Option<&[u8]>| {
                    let first = first.unwrap_or_default().into();
                    Flow::Invalidated(Box::new(Invalidation { depth, first, kind, names }))
                };
                match *what {
                    Invalidated::All => many(InvalidationKind::All, None),
                    Invalidated::Keys(_) => Flow::Next,
                    Invalidated::Prefixes(mut prefixes) => many(InvalidationKind::Prefix, prefixes.next()),
                    Invalidated::Tags(mut tags) => many(InvalidationKind::Tag, tags.next()),
                }
            }
            Err(status) => {
                self.reply(status, noreply);
                Flow::Next
            }
        }
    }

    fn invalidate_all(&mut self, depth: Depth) -> u64 {
        self.cache.invalidate_all(None, depth, &mut self.conversation.session, self.now);
        self.report(Outcome::InvalidatedAll { depth });
        1
    }

    fn invalidate_keys<'a>(&mut self, keys: impl IntoIterator<Item = &'a [u8]>, depth: Depth) -> u64 {
        let keys = distinct(keys);
        for bytes in &keys {
            let key = legal(self.cache, bytes);
            let before = self.before(&key);
            let was_live = self.cache.invalidate_key(&key, depth, &mut self.conversation.session, self.now);
            self.report(Outcome::InvalidatedKey { key: bytes, before, depth, was_live });
        }
        keys.len() as u64
    }

    fn invalidate_groups<'a>(&mut self, groups: impl IntoIterator<Item = Group<'a>>, depth: Depth) -> u64 {
        let groups = distinct(groups);
        self.cache.invalidate(groups.iter().copied(), depth, self.now);
        self.report(Outcome::InvalidatedGroups { depth, groups: &groups });
        groups.len() as u64
    }
}

/// Drops duplicate names.
fn distinct<T: Ord>(names: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut names: Vec<T> = names.into_iter().collect();
    names.sort_unstable();
    names.dedup();
    names
}
