//! `invalidate`: keys, tags, prefixes, or everything.

use super::{Command, legal};
use crate::cache::{Depth, Name};
use crate::metrics::{Count, Use};
use crate::protocol::{Invalidated, Keys, Reply};

impl Command<'_> {
    /// Nothing is voided if a name is wrong.
    pub(super) fn invalidate(&mut self, what: &Invalidated, is_soft: bool, noreply: bool) {
        let depth = if is_soft { Depth::Soft } else { Depth::Hard };
        let voided = match *what {
            Invalidated::All if !self.session.rules.may_flush => Err(Reply::FlushNotAllowed),
            Invalidated::All => {
                self.cache.invalidate_all(depth, &mut self.session.peer, self.now);
                self.session.counters.add(Count::VoidsAll);
                Ok(1)
            }
            Invalidated::Keys(keys) => Ok(self.invalidate_keys(keys, depth)),
            Invalidated::Prefixes(prefixes) => self.invalidate_names(prefixes, depth, Name::prefix),
            Invalidated::Tags(tags) => self.invalidate_names(tags, depth, |tag| Some(Name::Tag(tag))),
        };
        match voided {
            Ok(names) => {
                if !noreply {
                    self.output.invalidated(names);
                }
            }
            Err(reply) => self.reply(reply, noreply),
        }
    }

    fn invalidate_keys(&mut self, keys: Keys, depth: Depth) -> u64 {
        let keys = distinct(keys);
        for bytes in &keys {
            self.used(bytes, Use::Delete);
            self.count_of(bytes, Count::VoidsKey);
            let key = legal(self.cache, bytes);
            self.cache.invalidate_key(&key, depth, &mut self.session.peer, self.now);
        }
        keys.len() as u64
    }

    fn invalidate_names<'a>(
        &mut self,
        names: Keys<'a>,
        depth: Depth,
        name: impl Fn(&'a [u8]) -> Option<Name<'a>>,
    ) -> Result<u64, Reply> {
        let names: Option<Vec<Name>> = distinct(names).into_iter().map(name).collect();
        let names = names.ok_or(Reply::BadPrefix)?;
        self.cache.invalidate(names.iter().copied(), depth, self.now);
        let count = if let [Name::Prefix(_), ..] = names[..] { Count::VoidsPrefix } else { Count::VoidsTag };
        self.session.counters.add_many(count, names.len() as u64);
        Ok(names.len() as u64)
    }
}

/// Each name once.
fn distinct(names: Keys<'_>) -> Vec<&[u8]> {
    let mut names: Vec<&[u8]> = names.collect();
    names.sort_unstable();
    names.dedup();
    names
}
