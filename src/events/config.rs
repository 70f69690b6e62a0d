//! The configuration of sources, `[source.NAME]`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::delivery::Settings;
use super::format::Format;
use super::rule::Rules;
use super::rule::template::Template;
use super::source::http;
use super::source::postgres;
use super::targets::{Targets, check_prefix};
use super::units::{Size, Span};
use crate::cache::Depth;

/// All sources and rules of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Events {
    /// The rules, in order.
    pub rules: Arc<Rules>,
    /// The sources, by name.
    pub sources: Vec<SourceConfig>,
}

/// One source.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceConfig {
    /// The key prefixes of everything that its events can name; `None` for what the rules say.
    pub covers: Option<Vec<String>>,
    /// Where events are kept that could not be applied.
    pub dead_letters: Option<DeadLettersConfig>,
    /// The identity of an event.
    pub id: Option<Template>,
    /// Its kind, with the settings of that.
    pub kind: Kind,
    /// How much may wait to be read before the source begins again at the end.
    pub max_backlog: Option<u64>,
    /// Its name.
    pub name: String,
    /// Whether stale copies stay after a gap.
    pub on_gap: Depth,
    /// Events that are applied later than this after their commit are counted and logged.
    pub slow: Span,
    /// How many prefixes below one parent are invalidated one by one in a second.
    pub storm: usize,
}

/// The kind of a source.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Requests to the admin interface.
    Http(http::Settings),
    /// The log of a PostgreSQL database.
    Postgres(postgres::Settings),
}

/// `dead-letters = { file = "…", max = "64MiB" }`
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct DeadLettersConfig {
    /// The file.
    pub file: PathBuf,
    /// Its greatest size; a full file is replaced.
    #[serde(default = "dead_letter_bytes")]
    pub max: Size,
}

/// The table of one source as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SourceTable {
    covers: Option<Vec<String>>,
    create: Option<bool>,
    dead_letters: Option<DeadLettersConfig>,
    format: Option<Format>,
    heartbeat: Option<Span>,
    id: Option<Template>,
    kind: KindName,
    max_backlog: Option<Size>,
    messages: Option<String>,
    on_gap: Option<OnGap>,
    password_file: Option<PathBuf>,
    publication: Option<String>,
    slot: Option<String>,
    slow: Option<Span>,
    storm: Option<usize>,
    through: Option<bool>,
    url: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
enum KindName {
    Http,
    Postgres,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OnGap {
    Invalidate,
    Soft,
}

impl DeadLettersConfig {
    /// The same, for a process that changes its folder.
    fn absolute(self) -> Result<Self, String> {
        let file = std::path::absolute(&self.file).map_err(|error| format!("dead-letters: {error}"))?;
        Ok(DeadLettersConfig { file, ..self })
    }
}

impl Events {
    /// Checks the tables of a configuration.
    ///
    /// # Errors
    /// A sentence that names the source or rule, and the remedy.
    pub fn new(tables: &BTreeMap<String, SourceTable>, rules: Rules) -> Result<Events, String> {
        let named = |(name, table): (&String, &SourceTable)| {
            table.checked(name).map_err(|why| format!("[source.{name}]: {why}"))
        };
        let sources = tables.iter().map(named).collect::<Result<Vec<_>, _>>()?;
        for rule in rules.iter() {
            if let Some(unknown) = rule.sources().iter().find(|source| !tables.contains_key(*source)) {
                return Err(format!(
                    "the rule {:?} names the source {unknown:?}: add [source.{unknown}]",
                    rule.name()
                ));
            }
        }
        sources.iter().try_for_each(|source| source.check_covers(&rules))?;
        for (nth, source) in sources.iter().enumerate() {
            if let Some(other) = sources[..nth].iter().find(|other| other.has_slot_of(source)) {
                let (name, other) = (&source.name, &other.name);
                return Err(format!(
                    "[source.{name}]: the slot is that of [source.{other}]: each needs its own"
                ));
            }
        }
        if let Some(first) = rules.iter().next().filter(|_| sources.is_empty()) {
            return Err(format!("the rule {:?} has no source: add a [source.NAME]", first.name()));
        }
        Ok(Events { rules: Arc::new(rules), sources })
    }

    /// Checks the sources that a policy depends on, and its bound.
    ///
    /// # Errors
    /// A sentence with the remedy.
    pub fn check_dependency(&self, depends_on: &[String], max_staleness: Duration) -> Result<(), String> {
        for name in depends_on {
            let Some(source) = self.sources.iter().find(|source| source.name == *name) else {
                return Err(format!("depends-on names the source {name:?}: add [source.{name}]"));
            };
            if max_staleness.is_zero() {
                continue;
            }
            let least =
                source.least_staleness().map_err(|why| format!("max-staleness: [source.{name}] {why}"))?;
            if max_staleness < least {
                return Err(format!(
                    "max-staleness = {:?} is less than {least:?}, twice the heartbeat of [source.{name}] and its \
                     slow: values would be withheld in normal operation",
                    max_staleness
                ));
            }
        }
        Ok(())
    }
}

impl SourceConfig {
    /// Its kind in the configuration.
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Http(_) => "http",
            Kind::Postgres(_) => "postgres",
        }
    }

    /// The settings of its delivery.
    pub fn settings(&self) -> Settings {
        let (resumes, takes_instructions) = match &self.kind {
            Kind::Http(_) => (false, false),
            Kind::Postgres(settings) => (true, settings.messages.is_some()),
        };
        Settings {
            covers: self.covers.clone(),
            id: self.id.clone(),
            max_backlog: self.max_backlog,
            name: self.name.clone(),
            on_gap: self.on_gap,
            resumes,
            storm: self.storm,
            takes_instructions,
        }
    }

    /// Everything that its events can name.
    pub fn scope(&self, rules: &Rules) -> Targets {
        self.settings().scope(rules)
    }

    /// How old the newest proof of how far it has come may be in normal operation; `None` if it gives none.
    pub fn proof_within(&self) -> Option<Duration> {
        match &self.kind {
            Kind::Postgres(settings) if !settings.heartbeat.is_zero() => {
                Some(settings.heartbeat * 3 + PROOF_SPARE)
            }
            Kind::Http(_) | Kind::Postgres(_) => None,
        }
    }

    fn has_slot_of(&self, other: &SourceConfig) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Postgres(one), Kind::Postgres(other)) => one.slot == other.slot && one.url == other.url,
            (Kind::Http(_), _) | (_, Kind::Http(_)) => false,
        }
    }

    /// Checks that a gap invalidates everything that the rules name.
    fn check_covers(&self, rules: &Rules) -> Result<(), String> {
        let Some(covers) = &self.covers else { return Ok(()) };
        for rule in rules.iter().filter(|rule| rule.is_for(&self.name)) {
            let scope = rule.scope();
            let is_covered = |name: &&String| covers.iter().any(|prefix| name.starts_with(prefix.as_str()));
            if let Some(name) = scope.keys.iter().chain(&scope.prefixes).find(|name| !is_covered(name)) {
                return Err(format!(
                    "[source.{}]: the rule {:?} names {name:?}, which is not in covers: a gap would leave it stale",
                    self.name,
                    rule.name()
                ));
            }
        }
        Ok(())
    }

    /// The least bound that it can keep in normal operation.
    fn least_staleness(&self) -> Result<Duration, &'static str> {
        match &self.kind {
            Kind::Http(settings) if !settings.proves => Err(
                "does not say that its sender proves how far it has come: set through = true, and send the \
                     header Leasehold-Through",
            ),
            Kind::Http(_) => Ok(self.slow.0),
            Kind::Postgres(settings) if settings.heartbeat.is_zero() => {
                Err("has no heartbeat that proves how far it has come: set heartbeat = \"1s\"")
            }
            Kind::Postgres(settings) => Ok(settings.heartbeat * 2 + self.slow.0),
        }
    }
}

impl SourceTable {
    fn checked(&self, name: &str) -> Result<SourceConfig, String> {
        let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(is_legal) {
            return Err(format!("a name has 1 to {NAME_BYTES_MAX} letters, digits, - and _"));
        }
        self.covers.iter().flatten().try_for_each(|prefix| check_prefix(prefix))?;
        let kind = match self.kind {
            KindName::Http => self.http()?,
            KindName::Postgres => self.postgres()?,
        };
        Ok(SourceConfig {
            covers: self.covers.clone(),
            dead_letters: self.dead_letters.clone().map(DeadLettersConfig::absolute).transpose()?,
            id: self.id.clone(),
            kind,
            max_backlog: self.max_backlog.map(|size| size.0),
            name: name.to_owned(),
            on_gap: if matches!(self.on_gap, Some(OnGap::Soft)) { Depth::Soft } else { Depth::Hard },
            slow: self.slow.unwrap_or(SLOW_DEFAULT),
            storm: self.storm.unwrap_or(STORM_DEFAULT),
        })
    }

    fn http(&self) -> Result<Kind, String> {
        let others = [
            ("create", self.create.is_some()),
            ("heartbeat", self.heartbeat.is_some()),
            ("max-backlog", self.max_backlog.is_some()),
            ("messages", self.messages.is_some()),
            ("password-file", self.password_file.is_some()),
            ("publication", self.publication.is_some()),
            ("slot", self.slot.is_some()),
            ("url", self.url.is_some()),
        ];
        refuse(&others, "http")?;
        let format = self.format.unwrap_or_default();
        Ok(Kind::Http(http::Settings { format, proves: self.through.unwrap_or(false) }))
    }

    fn postgres(&self) -> Result<Kind, String> {
        refuse(&[("format", self.format.is_some()), ("through", self.through.is_some())], "postgres")?;
        let needed =
            |value: &Option<String>, what: &str| value.clone().ok_or_else(|| format!("{what} is missing"));
        let password = self.password_file.as_ref().map(|path| {
            let text = fs::read_to_string(path)
                .map_err(|error| format!("password-file: {}: {error}", path.display()))?;
            Ok::<_, String>(text.trim_end_matches(['\r', '\n']).to_owned())
        });
        let settings = postgres::Settings {
            create: self.create.unwrap_or(false),
            heartbeat: self.heartbeat.unwrap_or(HEARTBEAT_DEFAULT).0,
            messages: self.messages.clone(),
            password: password.transpose()?,
            publication: needed(&self.publication, "publication = \"NAME\"")?,
            slot: needed(&self.slot, "slot = \"NAME\"")?,
            url: needed(&self.url, "url = \"postgresql://user@host/database\"")?,
        };
        settings.check()?;
        Ok(Kind::Postgres(settings))
    }
}

fn refuse(others: &[(&str, bool)], kind: &str) -> Result<(), String> {
    match others.iter().find(|(_, is_set)| *is_set) {
        Some((name, _)) => Err(format!("{name} has no effect for kind = \"{kind}\": remove it")),
        None => Ok(()),
    }
}

fn dead_letter_bytes() -> Size {
    Size(64 << 20)
}

const NAME_BYTES_MAX: usize = 63;
const HEARTBEAT_DEFAULT: Span = Span(Duration::from_secs(1));
/// Heartbeats may be this late on a busy machine.
const PROOF_SPARE: Duration = Duration::from_secs(2);
const SLOW_DEFAULT: Span = Span(Duration::from_millis(500));
const STORM_DEFAULT: usize = 2_000;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn events(sources: Value, rules: Value) -> Result<Events, String> {
        let tables = serde_json::from_value(sources).map_err(|error| error.to_string())?;
        Events::new(&tables, serde_json::from_value(rules).map_err(|error| error.to_string())?)
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
            assert!(error.contains(why), "{error}");
        }
    }
}
