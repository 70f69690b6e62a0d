//! Paths: which part of an event a rule means.
//!
//! `path = name { "." name | "[]" | "[" n "]" } [ "?" ]`. The first name is one of [`Root`], or else a field
//! of an event's data.

use std::borrow::Cow;

use serde_json::Value;

use super::cursor::{Cursor, Malformed};
use crate::events::event::{Event, Op, UNAVAILABLE};

/// Where something is found in an event.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Path {
    /// Whether nothing is wrong if it is missing.
    pub(super) is_optional: bool,
    pub(super) root: Root,
    steps: Vec<Step>,
    text: String,
}

/// The part of an event in which a path begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Root {
    After,
    At,
    Before,
    Data,
    /// The row before and the row after, one by one.
    Each,
    Headers,
    Id,
    Key,
    Op,
    /// The row after, or before if there is none after.
    Row,
    Source,
    Table,
    Type,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// Each element, one by one.
    All,
    Field(String),
    Index(usize),
}

/// Chooses one row of `each`, and one element of every array that is looked through.
#[derive(Clone, Debug, Default)]
pub(super) struct Choice<'p> {
    /// Whether `each` is the row before.
    is_before: bool,
    /// The beginning of the path, up to and including `[]`, and the element's place.
    elements: Vec<(&'p str, usize)>,
}

/// The thing that a path leads to.
#[derive(Debug, PartialEq)]
pub(super) enum Found<'e, 'p> {
    /// An array of so many elements of which none was chosen; its place is the text up to `[]`.
    Array(&'p str, usize),
    Missing(Missing),
    Number(u64),
    Text(Cow<'e, str>),
    Value(&'e Value),
}

/// The reason why a path leads nowhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Missing {
    /// There is no such field.
    Absent,
    /// The source does not report the row before the change.
    NoBefore,
    /// It is JSON's `null`.
    Null,
    /// The column did not change, and is too large to be sent with every change.
    Unavailable,
}

impl Path {
    pub(super) fn parse(at: &mut Cursor) -> Result<Path, Malformed> {
        let start = *at;
        let first = at.word().ok_or_else(|| at.error("expected the name of a field"))?;
        let root = Root::named(first);
        let mut steps = Vec::new();
        if root == Root::Data && first != "data" {
            steps.push(Step::Field(first.to_owned()));
        }
        loop {
            if at.take(".") {
                let name = at.word().ok_or_else(|| at.error("expected the name of a field after \".\""))?;
                steps.push(Step::Field(name.to_owned()));
            } else if at.take("[]") {
                steps.push(Step::All);
            } else if at.take("[") {
                let digits = at.take_while(|c| c.is_ascii_digit());
                let index =
                    digits.parse().map_err(|_| at.error("expected \"[]\" or a number in brackets"))?;
                at.expect("]")?;
                steps.push(Step::Index(index));
            } else {
                break;
            }
        }
        let length = start.rest().len() - at.rest().len();
        let text = start.rest()[..length].to_owned();
        Ok(Path { is_optional: at.take("?"), root, steps, text })
    }

    /// As it was written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it leads to several values.
    pub(super) fn is_many(&self) -> bool {
        self.root == Root::Each || self.steps.contains(&Step::All)
    }

    /// Whether it leads to a column of a row.
    pub(super) fn is_of_row(&self) -> bool {
        matches!(self.root, Root::After | Root::Before | Root::Each | Root::Key | Root::Row)
    }

    /// Whether it is a field of an application's event, by its name alone.
    pub(super) fn is_field(&self) -> bool {
        self.root == Root::Data && matches!(self.steps.as_slice(), [Step::Field(name)] if *name == self.text)
    }

    /// Whether it needs columns of the row before the change.
    pub(super) fn needs_before(&self) -> bool {
        matches!(self.root, Root::Before | Root::Each)
    }

    /// The column that it names, if it names one.
    pub(super) fn column(&self) -> Option<&str> {
        match self.steps.first() {
            Some(Step::Field(name)) => Some(name),
            _ => None,
        }
    }

    pub(super) fn find<'e, 'p>(&'p self, event: &'e Event, choice: &Choice<'p>) -> Found<'e, 'p> {
        let value = match self.root {
            Root::At => return event.at.map_or(Found::Missing(Missing::Absent), Found::Number),
            Root::Id => return self.text_or_data(event.id.as_deref(), event),
            Root::Op => return Found::Text(event.op.name().into()),
            Root::Table => return self.text_or_data(event.table.as_deref(), event),
            Root::Type => return self.text_or_data(event.kind.as_deref(), event),
            Root::Headers => return self.header(event),
            Root::After => &event.after,
            Root::Before => &event.before,
            Root::Data => &event.data,
            Root::Each if choice.is_before && event.before.is_null() => &event.key,
            Root::Each if choice.is_before => &event.before,
            Root::Each => &event.after,
            Root::Key if event.key.is_null() => return self.in_data("key", event, choice),
            Root::Key => &event.key,
            Root::Row => event.row(),
            Root::Source if event.source.is_null() => return self.in_data("source", event, choice),
            Root::Source => &event.source,
        };
        let is_before = self.root == Root::Before || (self.root == Root::Each && choice.is_before);
        match self.walk(value, choice) {
            // The old row has often no more than the columns of the row's identity.
            Found::Missing(Missing::Absent | Missing::Null)
                if is_before && self.is_only_after(value, event) =>
            {
                Found::Missing(Missing::NoBefore)
            }
            found => found,
        }
    }

    /// Whether the source reports what this path means of the new row, but nothing of the old one.
    fn is_only_after(&self, before: &Value, event: &Event) -> bool {
        let in_row = |row: &Value| self.column().is_some_and(|name| row.get(name).is_some());
        event.op != Op::Message && !in_row(before) && (event.after.is_null() || in_row(&event.after))
    }

    /// A name that stands for a part of all events stands for a field of an application's event that lacks
    /// this part.
    fn in_data<'e, 'p>(&'p self, name: &str, event: &'e Event, choice: &Choice<'p>) -> Found<'e, 'p> {
        match event.data.get(name) {
            Some(value) => self.walk(value, choice),
            None => Found::Missing(Missing::Absent),
        }
    }

    fn text_or_data<'e>(&self, text: Option<&'e str>, event: &'e Event) -> Found<'e, '_> {
        let named = self.text.split(['.', '[']).next().unwrap_or_default();
        match (text, event.data.get(named)) {
            (Some(text), _) => Found::Text(text.into()),
            (None, Some(value)) => self.walk(value, &Choice::default()),
            (None, None) => Found::Missing(Missing::Absent),
        }
    }

    fn header<'e>(&self, event: &'e Event) -> Found<'e, '_> {
        let name = self.text.split_once('.').map_or("", |(_, name)| name);
        let same = |found: &&String| found.eq_ignore_ascii_case(name);
        match event.headers.keys().find(same) {
            Some(found) => Found::Text(event.headers[found].as_str().into()),
            None => Found::Missing(Missing::Absent),
        }
    }

    fn walk<'e, 'p>(&'p self, start: &'e Value, choice: &Choice<'p>) -> Found<'e, 'p> {
        let mut value = start;
        for (number, step) in self.steps.iter().enumerate() {
            let next = match step {
                Step::Field(name) => value.get(name.as_str()),
                Step::Index(index) => value.get(index),
                Step::All => {
                    let Value::Array(elements) = value else { return Found::Missing(Missing::Absent) };
                    let prefix = self.prefix(number);
                    match choice.element(prefix) {
                        Some(index) => elements.get(index),
                        None => return Found::Array(prefix, elements.len()),
                    }
                }
            };
            let Some(next) = next else { return Found::Missing(Missing::Absent) };
            value = next;
        }
        match value {
            Value::Null => Found::Missing(Missing::Null),
            Value::String(text) if text == UNAVAILABLE => Found::Missing(Missing::Unavailable),
            value => Found::Value(value),
        }
    }

    /// The text up to and including the `[]` that is this step.
    fn prefix(&self, step: usize) -> &str {
        let many = self.steps[..=step].iter().filter(|step| **step == Step::All).count();
        let (end, _) = self.text.match_indices("[]").nth(many - 1).expect("the step was written there");
        &self.text[..end + 2]
    }
}

impl Root {
    fn named(name: &str) -> Root {
        match name {
            "after" => Root::After,
            "at" => Root::At,
            "before" => Root::Before,
            "each" => Root::Each,
            "headers" => Root::Headers,
            "id" => Root::Id,
            "key" => Root::Key,
            "op" => Root::Op,
            "row" => Root::Row,
            "source" => Root::Source,
            "table" => Root::Table,
            "type" => Root::Type,
            _ => Root::Data,
        }
    }
}

impl<'p> Choice<'p> {
    /// Chooses the row that `each` stands for.
    pub(super) fn of(is_before: bool) -> Self {
        Choice { is_before, elements: Vec::new() }
    }

    fn element(&self, prefix: &str) -> Option<usize> {
        self.elements.iter().find(|(chosen, _)| *chosen == prefix).map(|(_, index)| *index)
    }

    pub(super) fn choose(&mut self, prefix: &'p str, index: usize) {
        self.elements.push((prefix, index));
    }

    pub(super) fn forget_last(&mut self) {
        self.elements.pop();
    }
}
