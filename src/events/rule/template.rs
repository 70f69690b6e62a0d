//! Templates: names with holes that are filled from an event.
//!
//! `template = { literal | "{" path { "|" ( path | filter ) } "}" }`; `{{` and `}}` stand for braces. Of
//! several paths the first one that leads somewhere counts. A missing value is an error, because a name with
//! a hole in it would invalidate the wrong value; with `?` the name is left out.

use std::fmt::Write;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::cursor::{Cursor, Malformed};
use super::filter::Filter;
use super::path::{Choice, Found, Missing, Path};
use crate::events::event::Event;
use crate::events::parsed::parsed;

/// A parsed template.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    parts: Vec<Part>,
    text: String,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Hole(Hole),
    Literal(String),
}

#[derive(Clone, Debug, PartialEq)]
struct Hole {
    filters: Vec<Filter>,
    paths: Vec<Path>,
}

/// One attempt to fill all holes.
enum Filled<'p> {
    /// An array of so many elements has to be looked through first.
    Array(&'p str, usize),
    Done(String),
    /// An optional value is missing.
    LeftOut,
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// [`Malformed`] has the column and the reason.
    pub fn parse(text: &str) -> Result<Template, Malformed> {
        let mut at = Cursor::new(text);
        let mut parts = Vec::new();
        let mut literal = String::new();
        while let Some(next) = at.peek() {
            if at.take("{{") {
                literal.push('{');
            } else if at.take("}}") {
                literal.push('}');
            } else if next == '}' {
                return Err(at.error("a \"}\" without \"{\": write \"}}\" for a brace"));
            } else if at.take("{") {
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                }
                parts.push(Part::Hole(Hole::parse(&mut at)?));
            } else {
                literal.push_str(at.take_while(|c| !matches!(c, '{' | '}')));
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Template { parts, text: text.to_owned() })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text before the first hole, and whether there is a hole.
    pub fn beginning(&self) -> (&str, bool) {
        match self.parts.as_slice() {
            [] => ("", false),
            [Part::Literal(text)] => (text, false),
            [Part::Literal(text), ..] => (text, true),
            [Part::Hole(_), ..] => ("", true),
        }
    }

    /// Whether it needs columns of the row before the change.
    pub fn needs_before(&self) -> bool {
        self.paths().any(Path::needs_before)
    }

    /// Whether it needs columns of the old row that are no part of the row's identity, as far as its names
    /// show: `key` are the columns of the identity.
    pub fn needs_full_before(&self, key: &[&str]) -> bool {
        let needs =
            |path: &Path| path.needs_before() && !path.column().is_some_and(|name| key.contains(&name));
        self.paths().any(needs)
    }

    /// Renders all names that result from an event, each to `name`: at most `left`, which are left of `most`.
    ///
    /// # Errors
    /// A sentence that says which hole cannot be filled.
    pub fn render(
        &self,
        event: &Event,
        mut left: usize,
        most: usize,
        mut name: impl FnMut(String),
    ) -> Result<(), String> {
        let mut count = |rendered| {
            left = left.checked_sub(1).ok_or_else(|| format!("{}: more than {most} names", self.text))?;
            name(rendered);
            Ok(())
        };
        let rows = if self.parts.iter().any(Part::is_each) { event.images() } else { [false, true] };
        let mut first = None;
        for is_before in [true, false].into_iter().filter(|is_before| rows[usize::from(!is_before)]) {
            let mut choice = Choice::of(is_before);
            self.expand(event, &mut choice, &mut |rendered| {
                if first.as_ref() == Some(&rendered) {
                    return Ok(());
                }
                if is_before && first.is_none() {
                    first = Some(rendered.clone());
                }
                count(rendered)
            })?;
        }
        Ok(())
    }

    /// Renders the only text that results from an event; `None` if an optional value is missing.
    ///
    /// # Errors
    /// As [`Template::render`], and if there are several.
    pub fn render_one(&self, event: &Event) -> Result<Option<String>, String> {
        let mut only = None;
        self.render(event, 1, 1, |text| only = Some(text))?;
        Ok(only)
    }

    /// Renders the only value that results from an event: as [`Template::render_one`], but a template of
    /// nothing but one path to an object or array is its JSON.
    ///
    /// # Errors
    /// As [`Template::render_one`].
    pub fn render_value(&self, event: &Event) -> Result<Option<String>, String> {
        if let [Part::Hole(hole)] = self.parts.as_slice()
            && let ([path], []) = (hole.paths.as_slice(), hole.filters.as_slice())
            && let Found::Value(value @ (Value::Array(_) | Value::Object(_))) =
                path.find(event, &Choice::default())
        {
            return Ok(Some(value.to_string()));
        }
        self.render_one(event)
    }

    fn expand<'p>(
        &'p self,
        event: &Event,
        choice: &mut Choice<'p>,
        name: &mut impl FnMut(String) -> Result<(), String>,
    ) -> Result<(), String> {
        match self.fill(event, choice)? {
            Filled::Done(text) => name(text),
            Filled::LeftOut => Ok(()),
            Filled::Array(prefix, length) => (0..length).try_for_each(|index| {
                choice.choose(prefix, index);
                let expanded = self.expand(event, choice, name);
                choice.forget_last();
                expanded
            }),
        }
    }

    fn fill<'p>(&'p self, event: &Event, choice: &Choice<'p>) -> Result<Filled<'p>, String> {
        let mut text = String::with_capacity(self.text.len() + 16);
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Hole(hole) => match hole.fill(event, choice, &mut text)? {
                    Filled::Done(_) => {}
                    other => return Ok(other),
                },
            }
        }
        Ok(Filled::Done(text))
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().flat_map(|part| match part {
            Part::Hole(hole) => hole.paths.as_slice(),
            Part::Literal(_) => &[],
        })
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parsed(from, |text| Template::parse(text).map_err(|error| format!("{text:?}, {error}")))
    }
}

impl Part {
    fn is_each(&self) -> bool {
        matches!(self, Part::Hole(hole) if hole.paths.iter().any(|path| path.root == super::path::Root::Each))
    }
}

impl Hole {
    fn parse(at: &mut Cursor) -> Result<Hole, Malformed> {
        let mut hole = Hole { filters: Vec::new(), paths: vec![Path::parse(at)?] };
        loop {
            if at.take("}") {
                return Ok(hole);
            }
            if !at.take("|") {
                return Err(at.error("expected \"}\" or \"|\""));
            }
            let mut ahead = *at;
            let filter = ahead.word().and_then(Filter::named);
            match filter {
                Some(filter) if matches!(ahead.peek(), Some('|' | '}')) => {
                    *at = ahead;
                    hole.filters.push(filter);
                }
                _ if !hole.filters.is_empty() => {
                    let names = Filter::ALL.map(|(name, _)| name).join(", ");
                    return Err(at.error(format!("unknown filter; there are {names}")));
                }
                _ => {
                    let start = *at;
                    let path = Path::parse(at)?;
                    // A column and a field of an application's event are never in one event.
                    if hole.paths[0].is_of_row() && path.is_field() {
                        let names = Filter::ALL.map(|(name, _)| name).join(", ");
                        return Err(start.error(format!("unknown filter; there are {names}")));
                    }
                    hole.paths.push(path);
                }
            }
        }
    }

    fn fill<'p>(
        &'p self,
        event: &Event,
        choice: &Choice<'p>,
        text: &mut String,
    ) -> Result<Filled<'p>, String> {
        let mut missing = None;
        for path in &self.paths {
            match path.find(event, choice) {
                Found::Array(prefix, length) => return Ok(Filled::Array(prefix, length)),
                Found::Missing(why) => missing = missing.or(Some((path, why))),
                found => {
                    self.write(path, found, text)?;
                    return Ok(Filled::Done(String::new()));
                }
            }
        }
        match missing {
            Some((path, why)) if !self.paths.iter().any(|path| path.is_optional) => {
                Err(format!("{{{}}}: {}", path.text(), why.reason()))
            }
            _ => Ok(Filled::LeftOut),
        }
    }

    fn write(&self, path: &Path, found: Found, text: &mut String) -> Result<(), String> {
        if self.filters.is_empty() {
            match &found {
                Found::Text(found) => text.push_str(found),
                Found::Number(number) => write!(text, "{number}").expect("a string takes everything"),
                Found::Value(value) => write_scalar(path, value, text)?,
                Found::Array(..) | Found::Missing(_) => unreachable!("the caller has dealt with them"),
            }
            return Ok(());
        }
        let mut plain = String::new();
        Hole { filters: Vec::new(), paths: Vec::new() }.write(path, found, &mut plain)?;
        for filter in &self.filters {
            plain = filter.apply(&plain).map_err(|why| format!("{{{}}}: {why}", path.text()))?;
        }
        text.push_str(&plain);
        Ok(())
    }
}

impl Missing {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Missing::Absent => "there is no such field in the event",
            Missing::NoBefore => {
                "the row before the change is not in the event; PostgreSQL sends it with REPLICA IDENTITY FULL"
            }
            Missing::Null => "it is null",
            Missing::Unavailable => {
                "the column is large and did not change, so it is not in the event; PostgreSQL sends it with \
                 REPLICA IDENTITY FULL"
            }
        }
    }
}

fn write_scalar(path: &Path, value: &Value, text: &mut String) -> Result<(), String> {
    match value {
        Value::Array(_) => {
            return Err(format!(
                "{{{0}}}: it is an array; write {{{0}[]}} for each of its elements",
                path.text()
            ));
        }
        Value::Object(_) => return Err(format!("{{{}}}: it is an object", path.text())),
        Value::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
        Value::Null => text.push_str("null"),
        // The digits that were sent are not known any more: 1.10 would become 1.1.
        Value::Number(number) if number.is_f64() => {
            return Err(format!("{{{}}}: {number} is no whole number: send it as text", path.text()));
        }
        Value::Number(number) => write!(text, "{number}").expect("a string takes everything"),
        Value::String(value) => text.push_str(value),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::events::event::Op;

    fn render(text: &str, event: &Event) -> Result<Vec<String>, String> {
        let template = Template::parse(text).map_err(|error| error.to_string())?;
        let mut names = Vec::new();
        template.render(event, 10, 10, |name| names.push(name))?;
        Ok(names)
    }

    fn update() -> Event {
        Event {
            before: json!({"id": 7, "cat": 1, "note": null}),
            after: json!({"id": 7, "cat": 2, "ok": true, "name": "Ä b", "body": crate::events::event::UNAVAILABLE}),
            key: json!({"id": 7}),
            op: Op::Update,
            table: Some("public.products".to_owned()),
            ..Event::default()
        }
    }

    fn order() -> Event {
        let data = json!({"type": "order", "lines": [{"p": 1, "tags": ["x", "y"]}, {"p": 2, "tags": []}]});
        Event { data, headers: [("Nats-Msg-Id".to_owned(), "n1".to_owned())].into(), ..Event::default() }
    }

    #[test]
    fn templates_render_names() {
        for (text, event, expected) in [
            ("product:{row.id}", update(), &["product:7"][..]),
            ("cat:{each.cat}", update(), &["cat:1", "cat:2"]),
            ("p:{each.id}", update(), &["p:7"]),
            ("{table}:{row.name|lower|url}:{row.ok}", update(), &["public.products:%C3%A4%20b:true"]),
            ("{{{row.id}}}", update(), &["{7}"]),
            ("n:{before.note?}", update(), &[]),
            ("n:{row.none|before.note|row.id}", update(), &["n:7"]),
            ("p:{lines[].p}", order(), &["p:1", "p:2"]),
            ("p:{lines[].p}:{lines[].tags[]}", order(), &["p:1:x", "p:1:y"]),
            ("p:{lines[0].p}", order(), &["p:1"]),
            ("{type}:{headers.nats-msg-id}:{id?}", order(), &[]),
            ("{type}:{headers.nats-msg-id}", order(), &["order:n1"]),
            ("all", order(), &["all"]),
        ] {
            assert_eq!(render(text, &event).as_deref(), Ok(expected.map_owned().as_slice()), "{text}");
        }
    }

    trait MapOwned {
        fn map_owned(&self) -> Vec<String>;
    }

    impl MapOwned for &[&str] {
        fn map_owned(&self) -> Vec<String> {
            self.iter().map(|text| (*text).to_owned()).collect()
        }
    }

    #[test]
    fn a_missing_value_is_an_error_and_never_an_empty_name() {
        let partly = Event { before: Value::Null, ..update() };
        for (text, event, why) in [
            ("p:{row.none}", update(), "no such field"),
            ("p:{before.note}", update(), "it is null"),
            ("p:{before.id}", partly.clone(), "REPLICA IDENTITY FULL"),
            ("p:{each.cat}", partly.clone(), "REPLICA IDENTITY FULL"),
            ("p:{each.id}", order(), "no such field"),
            ("p:{row.body}", update(), "large and did not change"),
            ("p:{each.body}", update(), "REPLICA IDENTITY FULL"),
            ("p:{lines}", order(), "write {lines[]} for each"),
            ("p:{lines[1]}", order(), "it is an object"),
            ("p:{price}", Event { data: json!({"price": 1.1}), ..Event::default() }, "send it as text"),
            ("p:{lines[5].p}", order(), "no such field"),
            ("p:{type[].p}", order(), "no such field"),
        ] {
            let error = render(text, &event).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
        assert_eq!(
            render("p:{each.id}", &partly),
            Ok(vec!["p:7".to_owned()]),
            "an unchanged identity is known"
        );
    }

    #[test]
    fn one_event_has_a_limited_number_of_names() {
        let event = Event { data: json!({"ids": (0..11).collect::<Vec<_>>()}), ..Event::default() };
        assert!(render("p:{ids[]}", &event).unwrap_err().contains("more than 10 names"));
    }

    #[test]
    fn errors_have_the_column() {
        for (text, column, why) in [
            ("a{", 3, "name of a field"),
            ("a{row.}", 7, "name of a field"),
            ("a}b", 2, "write \"}}\""),
            ("{row.id", 8, "expected \"}\""),
            ("{row[x]}", 6, "number in brackets"),
            ("{row.id|lower|shout}", 15, "unknown filter; there are lower, md5"),
            ("{row.id lower}", 8, "expected \"}\""),
            ("{row.id|lowr}", 9, "unknown filter; there are lower, md5"),
        ] {
            let error = Template::parse(text).expect_err(text);
            assert!(error.column == column && error.why.contains(why), "{text}: {error}");
        }
    }
}
