//! Messages that need no rule, because they name what they invalidate.

use serde::Deserialize;

use super::super::event::Event;
use super::super::targets::{Targets, check_name, check_prefix};
use crate::cache::Depth;

/// The body of a message that needs no rule, as of `POST /invalidate`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Instruction {
    all: bool,
    keys: Vec<String>,
    prefixes: Vec<String>,
    soft: bool,
    tags: Vec<String>,
}

impl Instruction {
    /// The body of an event, if it has one of the fields and no others.
    pub(super) fn of(event: &Event) -> Option<Instruction> {
        let has_fields = event.data.as_object().is_some_and(|object| !object.is_empty());
        has_fields.then(|| Instruction::deserialize(&event.data).ok()).flatten()
    }

    /// The targets.
    ///
    /// # Errors
    /// A sentence with the name that is not possible.
    pub(super) fn checked(self) -> Result<(Targets, Depth), String> {
        let targets = Targets { is_all: self.all, keys: self.keys, prefixes: self.prefixes, tags: self.tags };
        targets.keys.iter().chain(&targets.tags).try_for_each(|name| check_name(name))?;
        targets.prefixes.iter().try_for_each(|prefix| check_prefix(prefix))?;
        Ok((targets, if self.soft { Depth::Soft } else { Depth::Hard }))
    }
}
