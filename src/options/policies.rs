//! Policies for keys: from flags for all keys, and from the configuration file for all keys or by prefix.
//!
//! A flag takes precedence over the file's `[default]`; a prefix inherits from the policy of all keys.
//!
//! Sockets, memory and threads can be set by flags only.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use super::place::{Place, locate, place};
use crate::cache::{AGE_SECONDS_MAX, Implicit, KEY_BYTES_MAX, Policies, Policy, WhileLost};
use crate::events::config::{Events, SourceTable, Wrong};
use crate::events::rule::Rules;

/// The flags for policies, and the configuration file.
#[derive(Args, Clone, Debug, Default)]
pub struct PolicyOptions {
    /// Configuration file with policies, for all keys or by prefix; reloaded at SIGHUP
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Check the configuration file and exit
    #[arg(long, requires = "config")]
    pub check_config: bool,

    /// Fence plain gets and sets like leases and fills [default: on]
    #[arg(long, value_name = "MODE")]
    pub implicit_leases: Option<ImplicitLeases>,

    /// Seconds for which other clients wait for the holder of a lease [default: 10]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub lease_window: Option<Duration>,

    /// Least seconds between two leases for one key [default: 0]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub lease_min_interval: Option<Duration>,

    /// Seconds for which a lease may be filled [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=i64::from(AGE_SECONDS_MAX)))]
    pub lease_max_age: Option<u32>,

    /// Seconds that a load takes at most, from a miss to its set; a later set is refused if its key was
    /// invalidated meanwhile [default: learned]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub load_time_max: Option<Duration>,

    /// Seconds for which deleted and expired values are kept as stale copies for lease-get [default: 0]
    #[arg(long, value_name = "SECONDS")]
    pub stale: Option<u32>,

    /// Seconds for which the newest version of a row is remembered [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub version_keep: Option<Duration>,

    /// The content of the file.
    #[arg(skip)]
    file: File,
}

/// `--implicit-leases`
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ImplicitLeases {
    /// Plain stores behave as in memcached
    Off,
    /// Like off, and counts stores that would have been refused
    Observe,
    /// Fenced; a program with a single connection and no other clients sees memcached's exact behavior
    On,
    /// Fenced, also where threads share the server's only connection
    #[value(alias = "strict")]
    #[serde(alias = "strict")]
    Shared,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    default: Table,
    /// Made of rules and sources when the file is parsed: later, its other files may be unreadable.
    #[serde(skip)]
    events: Events,
    prefix: BTreeMap<Prefix, Table>,
    rule: Rules,
    source: BTreeMap<String, SourceTable>,
    /// Complaints that do not keep it from working.
    #[serde(skip)]
    warnings: Vec<(Place, String)>,
}

/// A table of the file; missing fields inherit.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Table {
    depends_on: Option<Vec<String>>,
    herd_wait: Option<Seconds<60>>,
    hold_off: Option<Seconds<3_600>>,
    implicit_leases: Option<ImplicitLeases>,
    lease_min_interval: Option<Seconds<3_600>>,
    lease_window: Option<Seconds<3_600>>,
    load_time_max: Option<Seconds<3_600>>,
    max_staleness: Option<Seconds<3_600>>,
    serve_stale: Option<bool>,
    stale: Option<Seconds<SECONDS_MAX>>,
    ttl: Option<Seconds<SECONDS_MAX>>,
    ttl_jitter: Option<Percent>,
    ttl_max: Option<Seconds<SECONDS_MAX>>,
    while_lost: Option<WhileLostName>,
}

/// `while-lost`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WhileLostName {
    Serve,
    Soft,
    Withhold,
}

/// The prefix of a policy's keys.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Prefix(String);

/// A duration of at most `MAX` seconds.
#[derive(Clone, Copy, Debug)]
struct Seconds<const MAX: u64>(Duration);

/// 0 to 100.
#[derive(Clone, Copy, Debug)]
struct Percent(u32);

impl PolicyOptions {
    /// Reads the file, if one is named, and checks the other files that it names; the old content stays if
    /// one is invalid.
    ///
    /// # Errors
    /// A sentence with file and line.
    pub fn read(&mut self) -> Result<(), String> {
        if let Some(path) = &self.config {
            self.file = read(path, Events::check_files)?;
        }
        Ok(())
    }

    /// Complaints about the file that do not keep it from working, each with its place.
    pub fn warnings(&self) -> Vec<String> {
        let path = self.config.as_deref().unwrap_or(Path::new(""));
        self.file.warnings.iter().map(|(place, why)| at(path, *place, why)).collect()
    }

    /// The policies that result from flags and file.
    pub fn policies(&self) -> Policies {
        let general = self.flagged(self.file.default.overriding(&Policy::default()));
        let prefixes = self.file.prefix.iter();
        let prefixes: Vec<_> = prefixes
            .map(|(prefix, table)| (prefix.0.as_bytes().into(), table.overriding(&general)))
            .collect();
        Policies::new(general, prefixes)
    }

    /// The sources of events and the rules for them.
    pub fn events(&self) -> &Events {
        &self.file.events
    }

    fn flagged(&self, policy: Policy) -> Policy {
        let seconds = |seconds: Option<u32>| seconds.map(|seconds| Duration::from_secs(seconds.into()));
        Policy {
            implicit: self.implicit_leases.map_or(policy.implicit, Implicit::from),
            lease_max_age: seconds(self.lease_max_age).unwrap_or(policy.lease_max_age),
            lease_min_interval: self.lease_min_interval.unwrap_or(policy.lease_min_interval),
            lease_window: self.lease_window.unwrap_or(policy.lease_window),
            load_time_max: self.load_time_max.unwrap_or(policy.load_time_max),
            stale: seconds(self.stale).unwrap_or(policy.stale),
            version_keep: self.version_keep.unwrap_or(policy.version_keep),
            ..policy
        }
    }
}

impl Table {
    fn overriding(&self, policy: &Policy) -> Policy {
        Policy {
            depends_on: self.depends_on.clone().unwrap_or_else(|| policy.depends_on.clone()),
            herd_wait: span(self.herd_wait, policy.herd_wait),
            hold_off: span(self.hold_off, policy.hold_off),
            implicit: self.implicit_leases.map_or(policy.implicit, Implicit::from),
            lease_min_interval: span(self.lease_min_interval, policy.lease_min_interval),
            lease_window: span(self.lease_window, policy.lease_window),
            load_time_max: span(self.load_time_max, policy.load_time_max),
            max_staleness: span(self.max_staleness, policy.max_staleness),
            serve_stale: self.serve_stale.unwrap_or(policy.serve_stale),
            stale: span(self.stale, policy.stale),
            ttl: span(self.ttl, policy.ttl),
            ttl_jitter: self.ttl_jitter.map_or(policy.ttl_jitter, |percent| percent.0),
            ttl_max: span(self.ttl_max, policy.ttl_max),
            while_lost: self.while_lost.map_or(policy.while_lost, WhileLost::from),
            ..policy.clone()
        }
    }
}

fn span<const MAX: u64>(given: Option<Seconds<MAX>>, otherwise: Duration) -> Duration {
    given.map_or(otherwise, |seconds| seconds.0)
}

impl From<WhileLostName> for WhileLost {
    fn from(name: WhileLostName) -> Self {
        match name {
            WhileLostName::Serve => WhileLost::Serve,
            WhileLostName::Soft => WhileLost::Soft,
            WhileLostName::Withhold => WhileLost::Withhold,
        }
    }
}

impl From<ImplicitLeases> for Implicit {
    fn from(mode: ImplicitLeases) -> Self {
        match mode {
            ImplicitLeases::Off => Implicit::Off,
            ImplicitLeases::Observe => Implicit::Observe,
            ImplicitLeases::On => Implicit::On,
            ImplicitLeases::Shared => Implicit::Shared,
        }
    }
}

/// The sources of events and the rules of a configuration file.
///
/// # Errors
/// A sentence with file, line and column.
pub fn read_events(path: &Path) -> Result<Events, String> {
    // The programs that use it may run elsewhere, without the files of the server.
    read(path, |_| Ok(())).map(|file| file.events)
}

fn read(path: &Path, check: impl Fn(&Events) -> Result<(), Wrong>) -> Result<File, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let file = parse(&text).map_err(|(place, why)| at(path, place, &why))?;
    check(&file.events).map_err(|wrong| at(path, locate(&text, &wrong.path), &wrong.why))?;
    Ok(file)
}

fn at(path: &Path, (line, column): Place, why: &str) -> String {
    format!("{}:{line}:{column}: {why}", path.display())
}

/// The parsed file, or the invalid place and the reason.
fn parse(text: &str) -> Result<File, (Place, String)> {
    let mut file: File = toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        (place(text, start), error.message().replace('\n', " "))
    })?;
    if file.prefix.len() > PREFIXES_MAX {
        return Err(((1, 1), format!("more than {PREFIXES_MAX} prefixes")));
    }
    let events = Events::new(&file.source, std::mem::take(&mut file.rule));
    file.events = events.map_err(|wrong| (locate(text, &wrong.path), wrong.why))?;
    let prefixes = file.prefix.iter().map(|(prefix, table)| (vec!["prefix", &*prefix.0], table));
    for (mut path, table) in prefixes.chain([(vec!["default"], &file.default)]) {
        let policy = table.overriding(&file.default.overriding(&Policy::default()));
        let checked = file.events.check_dependency(&policy.depends_on, policy.max_staleness);
        checked.map_err(|(setting, why)| {
            path.push(setting);
            (locate(text, &path), why)
        })?;
        file.warnings.extend(unrelated(&file.events, &policy, &path).map(|why| {
            path.push("depends-on");
            (locate(text, &path), why)
        }));
    }
    let all = || file.prefix.values().chain([&file.default]);
    let is_bounded = |table: &&Table| table.max_staleness.is_some_and(|bound| !bound.0.is_zero());
    if all().any(|table| is_bounded(&table))
        && all().all(|table| table.depends_on.as_ref().is_none_or(Vec::is_empty))
    {
        let bounded = file.prefix.iter().find(|(_, table)| is_bounded(table));
        let mut path = bounded.map_or(vec!["default"], |(prefix, _)| vec!["prefix", &*prefix.0]);
        path.push("max-staleness");
        let why = "max-staleness has no effect without depends-on = [\"SOURCE\"]";
        return Err((locate(text, &path), why.to_owned()));
    }
    let idle = file.events.idle().into_iter();
    file.warnings.extend(idle.map(|wrong| (locate(text, &wrong.path), wrong.why)));
    Ok(file)
}

/// A complaint about a policy for one prefix that depends on sources which never invalidate such a key.
fn unrelated(events: &Events, policy: &Policy, path: &[&str]) -> Option<String> {
    let ["prefix", prefix] = path else { return None };
    let unrelated = events.unrelated(&policy.depends_on, prefix);
    (!unrelated.is_empty()).then(|| {
        format!(
            "no rule of the source {} names keys with the prefix {prefix:?}: they may be stale, whatever it proves",
            unrelated.join(", ")
        )
    })
}

/// Seconds on the command line, with fractions.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(span) if span <= SPAN_MAX => Ok(span),
        _ => Err("seconds are from 0 to 3600".to_owned()),
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let prefix = String::deserialize(from)?;
        let is_legal = prefix.bytes().all(|byte| byte > b' ' && byte != 0x7f);
        if is_legal && (1..=KEY_BYTES_MAX).contains(&prefix.len()) {
            return Ok(Prefix(prefix));
        }
        Err(D::Error::custom(format!("a prefix has 1 to {KEY_BYTES_MAX} bytes, and no space among them")))
    }
}

impl<'de, const MAX: u64> Deserialize<'de> for Seconds<MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let seconds = from.deserialize_any(Number { most: MAX, of: "seconds" })?;
        Ok(Seconds(Duration::from_secs_f64(seconds)))
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Percent(from.deserialize_any(Number { most: 100, of: "hundredths" })? as u32))
    }
}

/// Reads an integer or fraction from 0 to `most`.
struct Number {
    most: u64,
    of: &'static str,
}

impl Visitor<'_> for Number {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "a number of {} from 0 to {}", self.of, self.most)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<f64, E> {
        if (0.0..=self.most as f64).contains(&number) {
            return Ok(number);
        }
        Err(E::invalid_value(Unexpected::Float(number), &self))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<f64, E> {
        self.visit_f64(number as f64)
    }
}

/// The limit exists because every request searches the prefixes.
const PREFIXES_MAX: usize = 1_000;
/// Ten years.
const SECONDS_MAX: u64 = 10 * 365 * 86_400;
const SPAN_MAX: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    use super::*;

    /// The example file that ships with the server.
    const EXAMPLE: &str = include_str!("../../docs/leasehold.toml");

    fn policies(text: &str, flags: PolicyOptions) -> Policies {
        PolicyOptions { file: parse(text).unwrap(), ..flags }.policies()
    }

    #[track_caller]
    fn check_refused(text: &str, line: usize, why: &str) {
        let (found, message) = parse(text).expect_err("it is wrong");
        assert!(found.0 == line && message.contains(why), "{found:?}: {message}");
    }

    #[test]
    fn the_example_file_shows_the_defaults() {
        let shown = policies(EXAMPLE, PolicyOptions::default());
        assert_eq!(shown, Policy::default().into(), "the packaged file changes nothing");
        let keys = [
            "depends-on",
            "herd-wait",
            "hold-off",
            "implicit-leases",
            "lease-min-interval",
            "lease-window",
            "max-staleness",
            "serve-stale",
            "stale",
            "ttl",
            "ttl-jitter",
            "ttl-max",
            "while-lost",
        ];
        keys.iter().for_each(|key| assert!(EXAMPLE.contains(&format!("\n{key} = ")), "{key}"));
    }

    #[test]
    fn the_suggestions_in_the_example_file_are_valid() {
        let suggested: Vec<&str> = EXAMPLE.lines().filter_map(|line| line.strip_prefix("#: ")).collect();
        let policies = policies(&suggested.join("\n"), PolicyOptions::default());
        assert_eq!(policies.prefixes().count(), 4);
        assert!(policies.of(b"page:7").serve_stale && policies.of(b"page:7:price").ttl_max <= SPAN_MAX);
    }

    #[test]
    fn flags_override_the_file_and_prefixes_override_the_default() {
        let text = "[default]\nstale = 5\nttl = 60.5\n[prefix.\"a:\"]\nttl = 7\nstale = 9";
        let flags = PolicyOptions { stale: Some(20), ..PolicyOptions::default() };
        let policies = policies(text, flags);
        let of = |key: &[u8]| (policies.of(key).stale.as_secs(), policies.of(key).ttl.as_millis());
        assert_eq!((of(b"b"), of(b"a:b")), ((20, 60_500), (9, 7_000)));
    }

    /// The sources were made again at each SIGHUP before the file was read: a password file that was gone
    /// since, or that the server's user could not read, was a panic.
    #[test]
    fn sources_do_not_need_their_password_file_again() {
        let path = |name: &str| std::env::temp_dir().join(format!("leasehold-{name}-{}", std::process::id()));
        let (config, password) = (path("sources.toml"), path("password"));
        fs::write(&password, "secret\n").unwrap();
        let text = format!(
            "[source.db]\nkind = \"postgres\"\nurl = \"postgresql://a@b/c\"\nslot = \"s\"\n\
             publication = \"p\"\npassword-file = {password:?}\n"
        );
        fs::write(&config, text).unwrap();
        let mut options = PolicyOptions { config: Some(config.clone()), ..PolicyOptions::default() };
        options.read().unwrap();
        fs::remove_file(password).unwrap();
        assert_eq!(options.events().sources.len(), 1);
        assert!(options.read().unwrap_err().contains("password-file"));
        assert_eq!(options.events().sources.len(), 1, "the former ones stay");
        fs::remove_file(config).unwrap();
    }

    /// Errors in a source or rule were reported at the beginning of its table, or of an array.
    #[test]
    fn errors_in_sources_and_rules_name_the_setting() {
        let database =
            "[source.db]\nkind = \"postgres\"\nurl = \"postgresql://a@b/c\"\npublication = \"p\"\n";
        let rule = "slot = \"s\"\n[[rule]]\ntable = \"t\"\nkeys = [\"p:{row.id}\"]\n";
        for (text, place, why) in [
            ("slot = \"S\"\n", (5, 1), "slot: "),
            ("slot = \"s\"\nformat = \"json\"\n", (6, 1), "format has no effect"),
            ("slot = \"s\"\ncovers = [\"a:\", \"b\"]\n", (6, 1), "does not end in ':'"),
            ("slot = \"s\"\nheartbeat = \"fast\"\n", (6, 13), "is not a time span"),
            (
                "slot = \"s\"\nmax-backlog = \"1GiB\"\nheartbeat = \"0s\"\n",
                (6, 1),
                "measured by the heartbeat",
            ),
            ("", (1, 1), "slot = \"NAME\" is missing"),
            (
                &rule.replace("keys = [", "keys = [\"a\", \"{row.}\", "),
                (8, 14),
                "expected the name of a field",
            ),
            (&rule.replace("keys", "prefixes"), (8, 13), "does not end in ':'"),
            (&rule.replace("\"t\"", "[\"t\", \"\"]"), (7, 15), "an empty name"),
            (&rule.replace("\"t\"", "\"\""), (7, 9), "an empty name"),
            (&format!("{rule}op = [\"create\", \"drop\"]\n"), (9, 17), "unknown op \"drop\""),
            (&format!("{rule}when = \"row.\"\n"), (9, 8), "column 5"),
            (&format!("{rule}source = \"app\"\n"), (9, 1), "add [source.app]"),
            (&format!("covers = [\"q:\"]\n{rule}"), (5, 1), "which is not in covers"),
            (
                &format!("{rule}[default]\nttl = 5\ndepends-on = [\"db\"]\nmax-staleness = 1\n"),
                (12, 1),
                "is less than 2.5s",
            ),
            (
                &format!("{rule}[prefix.'p:']\nttl = 5\nmax-staleness = 9\ndepends-on = [\"app\"]\n"),
                (12, 1),
                "add [source.app]",
            ),
        ] {
            let (found, message) = parse(&format!("{database}{text}")).expect_err(text);
            assert!(found == place && message.contains(why), "{text}: {found:?}: {message}");
        }
    }

    #[test]
    fn settings_without_an_effect_are_warnings() {
        let source = "[source.app]\nkind = \"http\"\nthrough = true\n";
        let rule = "[[rule]]\ntype = \"t\"\nkeys = [\"a:b:{id}\"]\n";
        let bound = |prefix: &str| {
            format!("{source}{rule}[prefix.\"{prefix}\"]\nmax-staleness = 5\ndepends-on = [\"app\"]\n")
        };
        let tagged = format!("{}[[rule]]\ntype = \"u\"\ntags = [\"t\"]\n", bound("c:"));
        for (text, expected) in [
            (source, Some(((1, 1), "no rule is for this source"))),
            (&bound("b:"), Some(((9, 1), "no rule of the source app names keys with the prefix \"b:\""))),
            (&bound("a:"), None),
            (&bound("a:b:c:"), None),
            (&tagged, None),
        ] {
            let warnings = parse(text).expect(text).warnings;
            match (&warnings[..], expected) {
                ([], None) => {}
                ([(place, why)], Some(expected)) => {
                    assert!(*place == expected.0 && why.contains(expected.1), "{text}: {place:?}: {why}");
                }
                _ => panic!("{text}: {warnings:?}"),
            }
        }
    }

    #[test]
    fn errors_name_the_line() {
        check_refused("[default]\nttl = 5\nspeed = 9", 3, "unknown field `speed`");
        check_refused("[default]\n\nttl = -1", 3, "a number of seconds from 0");
        check_refused("[default]\nttl = \"1h\"", 2, "a number of seconds from 0");
        check_refused("[default]\nttl-jitter = 101", 2, "hundredths from 0 to 100");
        check_refused("[default]\nimplicit-leases = \"no\"", 2, "unknown variant `no`");
        check_refused("[prefix.\"\"]\nttl = 5", 1, "a prefix has 1 to 250 bytes");
        check_refused("[prefix.\"a b\"]\nttl = 5", 1, "no space");
        check_refused("[prefix.a]\nttl = 5\n[prefix.a]\n", 3, "duplicate");
        check_refused("[policy]", 1, "unknown field `policy`");
        check_refused("[default]\nttl = 1\nmax-staleness = 5", 3, "has no effect without depends-on");
        check_refused("ttl", 1, "");
        let prefixes = |count: usize| (0..count).map(|n| format!("[prefix.p{n}]\n")).collect::<String>();
        assert!(parse(&prefixes(PREFIXES_MAX)).is_ok());
        check_refused(&prefixes(PREFIXES_MAX + 1), 1, "more than 1000 prefixes");
    }
}
