//! How the events of a source are delivered.

use super::super::rule::Rules;
use super::super::rule::template::Template;
use super::super::targets::Targets;
use crate::cache::Depth;

/// How the events of a source are delivered.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The scope; `None` for what the rules can name.
    pub covers: Option<Vec<String>>,
    /// The identity of an event, if it does not bring one.
    pub id: Option<Template>,
    /// How much may wait to be read before it is given up, in the unit of `Batch::behind`.
    pub max_backlog: Option<u64>,
    /// The name of the source.
    pub name: String,
    /// How stale copies are dealt with after a gap.
    pub on_gap: Depth,
    /// Whether the source resumes at positions, so that a position is saved only after its repetitions.
    pub resumes: bool,
    /// How many prefixes below one parent are invalidated one by one in a second.
    pub storm: usize,
    /// Whether messages may name what they invalidate.
    pub takes_instructions: bool,
}

impl Settings {
    /// Everything that events of the source can name.
    pub fn scope(&self, rules: &Rules) -> Targets {
        match &self.covers {
            Some(prefixes) => Targets { prefixes: prefixes.clone(), ..Targets::default() },
            None if self.takes_instructions => Targets { is_all: true, ..Targets::default() },
            None => rules.scope(&self.name),
        }
    }
}
