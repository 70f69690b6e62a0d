//! The configuration of sources, `[source.NAME]`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::rule::Rules;
pub use super::source::config::{DeadLettersConfig, Kind, SourceConfig, SourceTable};

/// All sources and rules of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Events {
    /// The rules, in order.
    pub rules: Arc<Rules>,
    /// The sources, by name.
    pub sources: Vec<SourceConfig>,
}

/// Something wrong in the configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wrong {
    /// The names of the tables and of the setting, from the outermost on; a number counts in an array.
    pub path: Vec<String>,
    /// A sentence that names the source or rule, and the remedy.
    pub why: String,
}

impl Events {
    /// Checks the tables of a configuration.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn new(tables: &BTreeMap<String, SourceTable>, rules: Rules) -> Result<Events, Wrong> {
        let named = |(name, table): (&String, &SourceTable)| {
            table.checked(name).map_err(|why| Wrong::of_source(name, why))
        };
        let sources = tables.iter().map(named).collect::<Result<Vec<_>, _>>()?;
        for (nth, rule) in rules.iter().enumerate() {
            if let Some(unknown) = rule.sources().iter().find(|source| !tables.contains_key(*source)) {
                let why = format!(
                    "the rule {:?} names the source {unknown:?}: add [source.{unknown}]",
                    rule.name()
                );
                return Err(Wrong::of_rule(nth, "source", why));
            }
        }
        for source in &sources {
            source.check_covers(&rules).map_err(|why| Wrong::of_source(&source.name, why))?;
        }
        for (nth, source) in sources.iter().enumerate() {
            if let Some(other) = sources[..nth].iter().find(|other| other.has_slot_of(source)) {
                let why = format!("the slot is that of [source.{}]: each needs its own", other.name);
                return Err(Wrong::of_source(&source.name, ("slot", why)));
            }
        }
        if let Some(first) = rules.iter().next().filter(|_| sources.is_empty()) {
            let why = format!("the rule {:?} has no source: add a [source.NAME]", first.name());
            return Err(Wrong::of_rule(0, "", why));
        }
        Ok(Events { rules: Arc::new(rules), sources })
    }

    /// Checks the sources that a policy depends on, and its bound.
    ///
    /// # Errors
    /// The name of the setting, and a sentence with the remedy.
    pub fn check_dependency(
        &self,
        depends_on: &[String],
        max_staleness: Duration,
    ) -> Result<(), (&'static str, String)> {
        for name in depends_on {
            let Some(source) = self.sources.iter().find(|source| source.name == *name) else {
                return Err((
                    "depends-on",
                    format!("depends-on names the source {name:?}: add [source.{name}]"),
                ));
            };
            if max_staleness.is_zero() {
                continue;
            }
            let least = source.least_staleness();
            let least =
                least.map_err(|why| ("max-staleness", format!("max-staleness: [source.{name}] {why}")))?;
            if max_staleness < least {
                let why = format!(
                    "max-staleness = {max_staleness:?} is less than {least:?}, twice the heartbeat of [source.{name}] \
                     and its slow: values would be withheld in normal operation"
                );
                return Err(("max-staleness", why));
            }
        }
        Ok(())
    }

    /// Checks the files that the sources need while the server runs.
    ///
    /// # Errors
    /// The first file that is unusable.
    pub fn check_files(&self) -> Result<(), Wrong> {
        let check =
            |source: &SourceConfig| source.check_files().map_err(|why| Wrong::of_source(&source.name, why));
        self.sources.iter().try_for_each(check)
    }

    /// Sources that nothing follows from.
    pub fn idle(&self) -> Vec<Wrong> {
        let is_idle = |source: &&SourceConfig| {
            !source.settings().takes_instructions && !self.rules.iter().any(|rule| rule.is_for(&source.name))
        };
        let why = || "no rule is for this source: its events invalidate nothing".to_owned();
        let idle = self.sources.iter().filter(is_idle);
        idle.map(|source| Wrong::of_source(&source.name, ("", why()))).collect()
    }

    /// Those of these sources by whose events no key with this prefix is ever invalidated.
    pub fn unrelated<'n>(&self, depends_on: &'n [String], prefix: &str) -> Vec<&'n str> {
        let is_unrelated = |name: &&String| {
            let source = self.sources.iter().find(|source| source.name == **name);
            source.is_some_and(|source| !source.may_name_below(prefix, &self.rules))
        };
        depends_on.iter().filter(is_unrelated).map(String::as_str).collect()
    }
}

impl Wrong {
    fn of_rule(nth: usize, setting: &str, why: String) -> Wrong {
        Wrong { path: vec!["rule".to_owned(), nth.to_string(), setting.to_owned()], why }
    }

    fn of_source(name: &str, (setting, why): (&str, String)) -> Wrong {
        let path = vec!["source".to_owned(), name.to_owned(), setting.to_owned()];
        Wrong { path, why: format!("[source.{name}]: {why}") }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn events(sources: Value, rules: Value) -> Result<Events, String> {
        let tables = serde_json::from_value(sources).map_err(|error| error.to_string())?;
        let rules = serde_json::from_value(rules).map_err(|error| error.to_string())?;
        Events::new(&tables, rules).map_err(|wrong| wrong.why)
    }

    fn database() -> Value {
        json!({"kind": "postgres", "url": "postgresql://a@b/c", "slot": "s", "publication": "p"})
    }

    #[test]
    fn sources_have_defaults() {
        let events = events(json!({"db": database(), "app": {"kind": "http"}}), json!([])).unwrap();
        let [app, db] = events.sources.as_slice() else { panic!("two sources") };
        assert_eq!((app.kind_name(), db.kind_name(), db.storm), ("http", "postgres", 2_000));
        assert!(db.settings().resumes && !db.settings().takes_instructions && !app.settings().resumes);
    }

    #[test]
    fn wrong_sources_are_refused_with_the_remedy() {
        let with = |name: &str, value: Value| {
            let mut table = database();
            table[name] = value;
            json!({"db": table})
        };
        for (sources, rules, why) in [
            (
                json!({"db": {"kind": "postgres"}}),
                json!([]),
                "[source.db]: publication = \"NAME\" is missing",
            ),
            (json!({"a b": {"kind": "http"}}), json!([]), "letters, digits"),
            (
                json!({"app": {"kind": "http", "slot": "s"}}),
                json!([]),
                "slot has no effect for kind = \"http\"",
            ),
            (json!({"app": {"kind": "kafka"}}), json!([]), "unknown variant `kafka`"),
            (with("format", json!("json")), json!([]), "format has no effect"),
            (with("covers", json!(["p"])), json!([]), "does not end in ':'"),
            (with("heartbeat", json!("fast")), json!([]), "is not a time span"),
            (with("dead-letters", json!({"file": "f", "max": "1"})), json!([]), "is not a size"),
            (with("password-file", json!("/nonexistent/p")), json!([]), "password-file: /nonexistent/p"),
            (with("speed", json!(1)), json!([]), "unknown field `speed`"),
            (with("url", json!("mysql://a@b/c")), json!([]), "url: "),
            (with("url", json!("postgresql://a@b/c?sslmode=verifyfull")), json!([]), "url: "),
            (with("slot", json!("My-Slot")), json!([]), "lower-case letters"),
            (json!({"a": database(), "b": database()}), json!([]), "the slot is that of [source.a]"),
            (
                with("covers", json!(["p:"])),
                json!([{"table": "t", "keys": ["p:{row.id}", "q:{row.id}"]}]),
                "names \"q:\", which is not in covers",
            ),
            (json!({}), json!([{"table": "t", "keys": ["k"]}]), "add a [source.NAME]"),
            (json!({"app": {"kind": "http"}}), json!([{"source": "db", "keys": ["k"]}]), "add [source.db]"),
        ] {
            let error = events(sources.clone(), rules).expect_err("it is wrong");
            assert!(error.contains(why), "{sources}: {error}");
        }
    }

    #[test]
    fn a_bound_has_to_be_possible() {
        let mut silent = database();
        silent["heartbeat"] = json!("0s");
        silent["slot"] = json!("other");
        let all = json!({"db": database(), "silent": silent, "app": {"kind": "http"}, "sure": {"kind": "http", "through": true}});
        let events = events(all, json!([])).unwrap();
        let check =
            |name: &str, seconds| events.check_dependency(&[name.to_owned()], Duration::from_secs(seconds));
        assert!(check("db", 3).is_ok() && check("sure", 1).is_ok() && check("app", 0).is_ok());
        for (name, seconds, why) in [
            ("db", 2, "is less than 2.5s"),
            ("silent", 60, "set heartbeat"),
            ("app", 60, "set through = true"),
            ("none", 60, "add [source.none]"),
        ] {
            let error = check(name, seconds).expect_err(name);
            assert!(error.1.contains(why), "{error:?}");
        }
    }
}
