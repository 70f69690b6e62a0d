//! Rules: their tables in the configuration, and their application to events.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::condition::Condition;
use super::pattern::Pattern;
use super::template::Template;
use crate::cache::Depth;
use crate::events::event::{Event, Op};
use crate::events::parsed::{OneOrMany, parsed};
use crate::events::targets::{Targets, check_name, check_prefix};
use crate::events::units::Span;

/// One rule, `[[rule]]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(try_from = "Table")]
pub struct Rule {
    depth: Depth,
    incr: Vec<Template>,
    keys: Vec<Template>,
    name: Option<String>,
    ops: Vec<Op>,
    prefixes: Vec<Template>,
    repeat_after: Option<Duration>,
    set: Vec<Write>,
    sources: Vec<String>,
    tables: Vec<Pattern>,
    tags: Vec<Template>,
    types: Vec<Pattern>,
    version: Option<Template>,
    when: Option<Condition>,
}

/// The effects of one event by one rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// How its targets are invalidated.
    pub depth: Depth,
    /// Keys whose number is counted up.
    pub incr: Vec<String>,
    /// After how long the targets are invalidated a second time.
    pub repeat_after: Option<Duration>,
    /// Values to store.
    pub set: Vec<Stored>,
    /// Names to invalidate.
    pub targets: Targets,
    /// The version of the row.
    pub version: Option<u64>,
}

/// A value that comes with an event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stored {
    /// Its key.
    pub key: String,
    /// For how long it lives; `None` leaves it to the policy.
    pub ttl: Option<Duration>,
    /// Its bytes.
    pub value: String,
    /// The version of the row: it never replaces a newer one.
    pub version: u64,
}

/// `set = [{ key = …, value = …, ttl = … }]`
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Write {
    key: Template,
    ttl: Option<Span>,
    value: Template,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Table {
    #[serde(default)]
    incr: Vec<Template>,
    #[serde(default)]
    keys: Vec<Template>,
    name: Option<String>,
    op: Option<Vec<OpName>>,
    #[serde(default)]
    prefixes: Vec<PrefixTemplate>,
    repeat_after: Option<Span>,
    #[serde(default)]
    set: Vec<Write>,
    #[serde(default)]
    soft: bool,
    #[serde(default)]
    source: OneOrMany<String>,
    #[serde(default)]
    table: OneOrMany<Pattern>,
    #[serde(default)]
    tags: Vec<Template>,
    #[serde(default, rename = "type")]
    types: OneOrMany<Pattern>,
    version: Option<Template>,
    when: Option<Condition>,
}

#[derive(Debug)]
struct OpName(Op);

/// A template whose text ends in `:`.
#[derive(Debug)]
struct PrefixTemplate(Template);

impl Rule {
    /// Its name in messages; without one of its own, what it is for.
    pub fn name(&self) -> String {
        let patterns: Vec<&str> = self.tables.iter().chain(&self.types).map(Pattern::text).collect();
        match (&self.name, patterns.as_slice()) {
            (Some(name), _) => name.clone(),
            (None, []) => self.sources.join(","),
            (None, patterns) => patterns.join(","),
        }
    }

    /// The sources that it names; none for all of them.
    pub fn sources(&self) -> &[String] {
        &self.sources
    }

    /// Whether it is for events of this source.
    pub fn is_for(&self, source: &str) -> bool {
        self.sources.is_empty() || self.sources.iter().any(|name| name == source)
    }

    /// Whether it names tables.
    pub fn has_tables(&self) -> bool {
        !self.tables.is_empty()
    }

    /// Whether it is for rows of this table, whatever happens to them.
    pub fn is_for_table(&self, table: &str) -> bool {
        self.types.is_empty()
            && !self.tables.is_empty()
            && self.tables.iter().any(|pattern| pattern.is_match_of_table(table))
    }

    /// Whether an event is one of those that it names, before its condition is asked.
    pub fn is_match(&self, source: &str, event: &Event) -> bool {
        let table = event.table.as_deref().unwrap_or_default();
        let kind = event.kind.as_deref().unwrap_or_default();
        self.is_for(source)
            && self.ops.contains(&event.op)
            && (self.tables.is_empty() || self.tables.iter().any(|pattern| pattern.is_match_of_table(table)))
            && (self.types.is_empty() || self.types.iter().any(|pattern| pattern.is_match(kind)))
    }

    /// The effects of an event that it matches; `None` if its condition is not fulfilled.
    ///
    /// # Errors
    /// A sentence that says which part of the event is missing or wrong.
    pub fn apply(&self, event: &Event) -> Result<Option<Effects>, String> {
        if let Some(when) = &self.when
            && !when.holds(event).map_err(|why| format!("when: {why}"))?
        {
            return Ok(None);
        }
        let version = match &self.version {
            Some(template) => Some(version(template, event)?),
            None => None,
        };
        let mut left = NAMES_MAX;
        let mut render = |templates: &[Template], check: fn(&str) -> Result<(), String>| {
            let mut names = Vec::new();
            for template in templates {
                let before = names.len();
                template.render(event, left, NAMES_MAX, |name| names.push(name))?;
                left -= names.len() - before;
            }
            names.iter().try_for_each(|name| check(name))?;
            Ok::<_, String>(names)
        };
        let targets = Targets {
            is_all: false,
            keys: render(&self.keys, check_name)?,
            prefixes: render(&self.prefixes, check_prefix)?,
            tags: render(&self.tags, check_name)?,
        };
        let incr = render(&self.incr, check_name)?;
        let set = self.set.iter().map(|write| write.render(event, version));
        let set = set.filter_map(Result::transpose).collect::<Result<_, _>>()?;
        Ok(Some(Effects { depth: self.depth, incr, repeat_after: self.repeat_after, set, targets, version }))
    }

    /// All names that it can ever invalidate: those to invalidate if one of its events is lost.
    pub fn scope(&self) -> Targets {
        let mut scope = Targets::default();
        let written = self.set.iter().map(|write| &write.key);
        for template in self.keys.iter().chain(&self.prefixes).chain(&self.incr).chain(written) {
            match template.beginning() {
                (key, false) if key.ends_with(':') => scope.prefixes.push(key.to_owned()),
                (key, false) => scope.keys.push(key.to_owned()),
                (text, true) => match text.rfind(':') {
                    Some(end) => scope.prefixes.push(text[..=end].to_owned()),
                    None => scope.is_all = true,
                },
            }
        }
        for template in &self.tags {
            match template.beginning() {
                (tag, false) => scope.tags.push(tag.to_owned()),
                // Tags have no hierarchy that could be invalidated as a whole.
                (_, true) => scope.is_all = true,
            }
        }
        let mut sorted = Targets::default();
        sorted.add(scope);
        sorted
    }

    /// Whether it needs columns of the old row of a table whose identity are these columns.
    pub fn needs_full_before(&self, key: &[&str]) -> bool {
        let templates = self.keys.iter().chain(&self.prefixes).chain(&self.tags).chain(&self.incr);
        let written = self.set.iter().flat_map(|write| [&write.key, &write.value]);
        let changes_rows = self.ops.contains(&Op::Update) || self.ops.contains(&Op::Delete);
        let in_condition = self.when.as_ref().is_some_and(|when| when.needs_full_before(key));
        changes_rows
            && (in_condition || templates.chain(written).any(|template| template.needs_full_before(key)))
    }
}

impl Write {
    fn render(&self, event: &Event, version: Option<u64>) -> Result<Option<Stored>, String> {
        let version = version.ok_or("set needs a version")?;
        let (Some(key), Some(value)) = (self.key.render_one(event)?, self.value.render_value(event)?) else {
            return Ok(None);
        };
        check_name(&key)?;
        Ok(Some(Stored { key, ttl: self.ttl.map(|span| span.0), value, version }))
    }
}

fn version(template: &Template, event: &Event) -> Result<u64, String> {
    let text = template.render_one(event)?.ok_or("version: it is missing")?;
    text.parse().map_err(|_| format!("version: {text:?} is not a number from 0 to 2^64 - 1"))
}

impl TryFrom<Table> for Rule {
    type Error = String;

    fn try_from(table: Table) -> Result<Rule, String> {
        let has_effect = [&table.keys, &table.tags, &table.incr].iter().any(|names| !names.is_empty());
        if !has_effect && table.prefixes.is_empty() && table.set.is_empty() {
            return Err("a rule needs keys, prefixes, tags, incr or set".to_owned());
        }
        if table.version.is_none() && !table.set.is_empty() {
            return Err("set needs a version, such as version = \"{source.lsn}\": without one an old value could replace a newer one".to_owned());
        }
        let (tables, types, sources) = (table.table.0, table.types.0, table.source.0);
        if tables.is_empty() && types.is_empty() && sources.is_empty() {
            return Err("a rule needs a table, a type or a source".to_owned());
        }
        Ok(Rule {
            depth: if table.soft { Depth::Soft } else { Depth::Hard },
            incr: table.incr,
            keys: table.keys,
            name: table.name,
            ops: table.op.map_or(OPS_DEFAULT.to_vec(), |ops| ops.into_iter().map(|op| op.0).collect()),
            prefixes: table.prefixes.into_iter().map(|prefix| prefix.0).collect(),
            repeat_after: table.repeat_after.map(|span| span.0),
            set: table.set,
            sources,
            tables,
            tags: table.tags,
            types,
            version: table.version,
            when: table.when,
        })
    }
}

impl<'de> Deserialize<'de> for PrefixTemplate {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parsed(from, |text| match Template::parse(text) {
            Ok(_) if !text.ends_with(':') => Err(format!("the prefix {text:?} does not end in ':'")),
            Ok(template) => Ok(PrefixTemplate(template)),
            Err(error) => Err(format!("{text:?}, {error}")),
        })
    }
}

impl<'de> Deserialize<'de> for OpName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parsed(from, |name| {
            let all = || Op::ALL.map(Op::name).join(", ");
            Op::named(name).map(OpName).ok_or_else(|| format!("unknown op {name:?}: expected {}", all()))
        })
    }
}

/// A first snapshot changes nothing, and a truncation invalidates the scope of all rules of the table.
const OPS_DEFAULT: [Op; 4] = [Op::Create, Op::Delete, Op::Message, Op::Update];

/// Names of one event by one rule, of all kinds together.
pub const NAMES_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rule(table: Value) -> Rule {
        serde_json::from_value(table.clone()).unwrap_or_else(|error| panic!("{table}: {error}"))
    }

    fn update() -> Event {
        Event {
            after: json!({"id": 7, "category_id": 2, "body": {"title": "Tea"}}),
            before: json!({"id": 7, "category_id": 1}),
            op: Op::Update,
            source: json!({"lsn": 24_023_128}),
            table: Some("public.products".to_owned()),
            ..Event::default()
        }
    }

    #[test]
    fn one_event_invalidates_all_related_names() {
        let rule =
            rule(json!({"table": "public.products", "keys": ["product:{row.id}", "product:{row.id}:price"],
            "prefixes": ["product:{row.id}:"], "tags": ["category:{each.category_id}"],
            "version": "{source.lsn}", "soft": true, "repeat-after": "3s"}));
        assert!(rule.is_match("db", &update()));
        let effects = rule.apply(&update()).unwrap().unwrap();
        assert_eq!(effects.targets.keys, ["product:7", "product:7:price"]);
        assert_eq!(
            (effects.targets.prefixes.as_slice(), effects.depth),
            (&["product:7:".to_owned()][..], Depth::Soft)
        );
        assert_eq!(effects.targets.tags, ["category:1", "category:2"]);
        assert_eq!((effects.version, effects.repeat_after), (Some(24_023_128), Some(Duration::from_secs(3))));
    }

    #[test]
    fn rules_choose_by_source_table_type_and_operation() {
        let matches = |table: Value, event: &Event| rule(table).is_match("db", event);
        let message = Event { kind: Some("product.updated".to_owned()), ..Event::default() };
        let snapshot = Event { op: Op::Snapshot, ..update() };
        for (table, event, expected) in [
            (json!({"table": "products", "keys": ["k"]}), &update(), true),
            (json!({"table": ["orders", "*.products"], "keys": ["k"]}), &update(), true),
            (json!({"table": "products", "op": ["delete"], "keys": ["k"]}), &update(), false),
            (json!({"table": "products", "keys": ["k"]}), &snapshot, false),
            (json!({"table": "products", "source": "app", "keys": ["k"]}), &update(), false),
            (json!({"type": "product.*", "source": ["db", "app"], "keys": ["k"]}), &message, true),
            (json!({"source": "db", "keys": ["k"]}), &message, true),
        ] {
            assert_eq!(matches(table.clone(), event), expected, "{table}");
        }
    }

    /// Each list had a limit of its own.
    #[test]
    fn the_names_of_all_lists_count_together() {
        let rule = rule(json!({"type": "order", "keys": ["k:{items[]}"], "tags": ["t:{more[]}", "t"],
            "incr": ["n:{more[]}"]}));
        let names = |items: usize, more: usize| {
            let data = json!({"items": vec![1; items], "more": vec![1; more]});
            rule.apply(&Event { data, ..Event::default() }).map(drop)
        };
        assert_eq!(names(NAMES_MAX - 21, 10), Ok(()));
        for (items, more) in [(NAMES_MAX - 20, 10), (NAMES_MAX, 0), (NAMES_MAX + 1, 0), (0, NAMES_MAX)] {
            let error = names(items, more).expect_err("it is one more");
            assert!(error.ends_with("more than 1000 names"), "{error}");
        }
    }

    #[test]
    fn a_value_is_stored_with_its_version() {
        let rule = rule(json!({"table": "products", "version": "{source.lsn}", "incr": ["v:{row.id}"],
            "set": [{"key": "product:{row.id}", "value": "{row.body}", "ttl": "1h"}]}));
        let effects = rule.apply(&update()).unwrap().unwrap();
        let stored = Stored {
            key: "product:7".to_owned(),
            ttl: Some(Duration::from_secs(3_600)),
            value: r#"{"title":"Tea"}"#.to_owned(),
            version: 24_023_128,
        };
        assert_eq!((effects.set, effects.incr), (vec![stored], vec!["v:7".to_owned()]));
    }

    #[test]
    fn the_scope_of_a_rule_contains_every_name_of_it() {
        let scope = |table: Value| rule(table).scope();
        let named = scope(
            json!({"table": "t", "keys": ["a:b:{row.id}", "top"], "prefixes": ["c:{row.id}:", "d:"], "tags": ["t"]}),
        );
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let expected = Targets {
            is_all: false,
            keys: names(&["top"]),
            prefixes: names(&["a:b:", "c:", "d:"]),
            tags: names(&["t"]),
        };
        assert_eq!(named, expected);
        assert!(scope(json!({"table": "t", "keys": ["{row.id}"]})).is_all);
        assert!(scope(json!({"table": "t", "tags": ["category:{row.id}"]})).is_all);
    }

    #[test]
    fn rules_say_whether_they_need_the_old_row() {
        let needs = |table: Value| rule(table).needs_full_before(&["id"]);
        assert!(needs(json!({"table": "t", "tags": ["c:{each.category_id}"]})));
        assert!(needs(json!({"table": "t", "when": "changed(price)", "keys": ["k:{row.id}"]})));
        assert!(!needs(json!({"table": "t", "keys": ["k:{each.id}"]})));
        assert!(!needs(json!({"table": "t", "op": ["create"], "tags": ["c:{each.category_id}"]})));
    }

    #[test]
    fn wrong_rules_are_refused_with_the_remedy() {
        for (table, why) in [
            (json!({"table": "t"}), "needs keys, prefixes"),
            (json!({"keys": ["k"]}), "needs a table, a type or a source"),
            (json!({"table": "t", "set": [{"key": "k", "value": "{row.a}"}]}), "set needs a version"),
            (json!({"table": "t", "prefixes": ["p"]}), "does not end in ':'"),
            (json!({"table": "", "keys": ["k"]}), "an empty name"),
            (json!({"table": "t", "keys": ["{row."]}), "column 6"),
            (json!({"table": "t", "when": "row.", "keys": ["k"]}), "column 5"),
            (json!({"table": "t", "op": ["insert"], "keys": ["k"]}), "expected create, delete"),
            (json!({"table": "t", "keys": ["k"], "repeat-after": 3}), "expected a string"),
            (json!({"table": "t", "keys": ["k"], "speed": 3}), "unknown field `speed`"),
        ] {
            let error = serde_json::from_value::<Rule>(table.clone()).expect_err("it is wrong").to_string();
            assert!(error.contains(why), "{table}: {error}");
        }
    }

    #[test]
    fn an_event_that_does_not_fit_its_rule_is_an_error() {
        for (table, why) in [
            (json!({"table": "products", "keys": ["p:{row.slug}"]}), "{row.slug}: there is no such field"),
            (
                json!({"table": "products", "keys": ["p:{row.id}"], "version": "{row.body}"}),
                "it is an object",
            ),
            (json!({"table": "products", "keys": ["p:{row.id}"], "version": "{table}"}), "is not a number"),
            (json!({"table": "products", "keys": ["p {row.id}"]}), "has a space"),
            (json!({"table": "products", "keys": ["p"], "when": "row.x == 1"}), "when: row.x"),
        ] {
            let error = rule(table.clone()).apply(&update()).expect_err("it does not fit");
            assert!(error.contains(why), "{table}: {error}");
        }
    }
}
