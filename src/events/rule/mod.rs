//! Rules: which names an event invalidates.

pub mod condition;
mod cursor;
pub(super) mod filter;
mod path;
mod pattern;
pub mod rules;
pub mod template;

use serde::Deserialize;

pub use self::cursor::Malformed;
use self::rules::{Effects, Rule};
use super::event::{Event, Op};
use super::targets::Targets;

/// All rules of a configuration, in its order.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(transparent)]
pub struct Rules(Vec<Rule>);

/// The part of one rule in an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict<'r> {
    /// The rule applies, with these effects.
    Applies(&'r Rule, Box<Effects>),
    /// The event does not fit the rule, for this reason.
    Misfit(&'r Rule, String),
    /// The table was truncated: everything that the rule can ever name is to be invalidated.
    Truncated(&'r Rule),
}

impl Rules {
    /// The verdicts of all rules that an event of this source matches.
    pub fn judge<'r>(&'r self, source: &str, event: &Event) -> impl Iterator<Item = Verdict<'r>> {
        self.0.iter().filter_map(move |rule| {
            if rule.is_match(source, event) {
                return match rule.apply(event) {
                    Ok(effects) => effects.map(|effects| Verdict::Applies(rule, Box::new(effects))),
                    Err(why) => Some(Verdict::Misfit(rule, why)),
                };
            }
            let table = event.table.as_deref().filter(|_| event.op == Op::Truncate)?;
            (rule.is_for(source) && rule.is_for_table(table)).then_some(Verdict::Truncated(rule))
        })
    }

    /// Everything that events of a source can ever invalidate.
    pub fn scope(&self, source: &str) -> Targets {
        let mut scope = Targets::default();
        self.0.iter().filter(|rule| rule.is_for(source)).for_each(|rule| scope.add(rule.scope()));
        scope
    }

    /// The rules, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.0.iter()
    }
}

impl From<Vec<Rule>> for Rules {
    fn from(rules: Vec<Rule>) -> Self {
        Rules(rules)
    }
}
