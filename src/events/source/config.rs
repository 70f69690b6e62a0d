//! The configuration of one source: its table, and what it means.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::{http, postgres};
use crate::cache::Depth;
use crate::events::delivery::Settings;
use crate::events::format::Format;
use crate::events::rule::Rules;
use crate::events::rule::template::Template;
use crate::events::targets::{Targets, check_prefix};
use crate::events::units::{Size, Span};

/// The setting that is wrong, and the reason; an empty name for a setting that is missing.
pub(in crate::events) type Objection = (&'static str, String);

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
    fn absolute(self) -> Result<Self, Objection> {
        let file = std::path::absolute(&self.file);
        let file = file.map_err(|error| ("dead-letters", format!("dead-letters: {error}")))?;
        Ok(DeadLettersConfig { file, ..self })
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

    pub(in crate::events) fn has_slot_of(&self, other: &SourceConfig) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Postgres(one), Kind::Postgres(other)) => one.slot == other.slot && one.url == other.url,
            (Kind::Http(_), _) | (_, Kind::Http(_)) => false,
        }
    }

    /// Checks that a gap invalidates everything that the rules name.
    pub(in crate::events) fn check_covers(&self, rules: &Rules) -> Result<(), Objection> {
        let Some(covers) = &self.covers else { return Ok(()) };
        for rule in rules.iter().filter(|rule| rule.is_for(&self.name)) {
            let scope = rule.scope();
            let is_covered = |name: &&String| covers.iter().any(|prefix| name.starts_with(prefix.as_str()));
            if let Some(name) = scope.keys.iter().chain(&scope.prefixes).find(|name| !is_covered(name)) {
                let rule = rule.name();
                let why = format!(
                    "the rule {rule:?} names {name:?}, which is not in covers: a gap would leave it stale"
                );
                return Err(("covers", why));
            }
        }
        Ok(())
    }

    /// Checks the files that it reads and writes while the server runs.
    pub(in crate::events) fn check_files(&self) -> Result<(), Objection> {
        if let Some(letters) = &self.dead_letters {
            let folder = letters.file.parent().unwrap_or(Path::new("/"));
            if !folder.is_dir() {
                let why = format!("dead-letters: there is no folder {}: create it", folder.display());
                return Err(("dead-letters", why));
            }
        }
        match &self.kind {
            Kind::Http(_) => Ok(()),
            Kind::Postgres(settings) => settings.check_files().map_err(|why| ("url", format!("url: {why}"))),
        }
    }

    /// Whether its events may invalidate keys with this prefix.
    pub(in crate::events) fn may_name_below(&self, prefix: &str, rules: &Rules) -> bool {
        self.settings().takes_instructions || rules.scope(&self.name).may_name_below(prefix)
    }

    /// The least bound that it can keep in normal operation.
    pub(in crate::events) fn least_staleness(&self) -> Result<Duration, &'static str> {
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
    pub(in crate::events) fn checked(&self, name: &str) -> Result<SourceConfig, Objection> {
        let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(is_legal) {
            return Err(("", format!("a name has 1 to {NAME_BYTES_MAX} letters, digits, - and _")));
        }
        let covers = self.covers.iter().flatten().try_for_each(|prefix| check_prefix(prefix));
        covers.map_err(|why| ("covers", why))?;
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

    fn http(&self) -> Result<Kind, Objection> {
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

    fn postgres(&self) -> Result<Kind, Objection> {
        refuse(&[("format", self.format.is_some()), ("through", self.through.is_some())], "postgres")?;
        let heartbeat = self.heartbeat.unwrap_or(HEARTBEAT_DEFAULT).0;
        if heartbeat.is_zero() && self.max_backlog.is_some() {
            let why = "max-backlog is measured by the heartbeat: set heartbeat = \"1s\", or remove it";
            return Err(("max-backlog", why.to_owned()));
        }
        let needed = |value: &Option<String>, what: &str| {
            value.clone().ok_or_else(|| ("", format!("{what} is missing")))
        };
        let password = self.password_file.as_ref().map(|path| {
            let unreadable = |error| ("password-file", format!("password-file: {}: {error}", path.display()));
            let text = fs::read_to_string(path).map_err(unreadable)?;
            Ok::<_, Objection>(text.trim_end_matches(['\r', '\n']).to_owned())
        });
        let settings = postgres::Settings {
            create: self.create.unwrap_or(false),
            heartbeat,
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

fn refuse(others: &[(&'static str, bool)], kind: &str) -> Result<(), Objection> {
    match others.iter().find(|(_, is_set)| *is_set) {
        Some((name, _)) => Err((name, format!("{name} has no effect for kind = \"{kind}\": remove it"))),
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
