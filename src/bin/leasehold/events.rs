//! `leasehold events`: rules tried on samples, dead letters applied again, and slots that are given up.

use std::fmt::Write;
use std::fs;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use leasehold::cache::Depth;
use leasehold::client::{Client, Copies, Invalidate};
use leasehold::clock::Clock;
use leasehold::events::config::{Events, Kind, SourceConfig};
use leasehold::events::dead_letters;
use leasehold::events::delivery::letter::Letter;
use leasehold::events::event::Event;
use leasehold::events::format::{Format, Headers};
use leasehold::events::rule::Verdict;
use leasehold::events::rule::rules::Effects;
use leasehold::events::source::postgres::Postgres;
use leasehold::events::targets::Targets;
use leasehold::options;
use serde_json::{Value, json};

/// Work with the sources and rules of a configuration
#[derive(Debug, Parser)]
#[command(name = "events")]
pub struct EventsTool {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Drop the replication slot of a PostgreSQL source, so that the database keeps no log for it
    Forget {
        /// Name of the source
        source: String,

        /// Configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Apply dead letters again, to a running server
    Replay {
        /// File with dead letters
        letters: PathBuf,

        /// Configuration file with the rules, mended meanwhile
        #[arg(long, value_name = "FILE")]
        config: PathBuf,

        /// Print the invalidations, and send none
        #[arg(long)]
        dry_run: bool,

        /// Only letters of this rule
        #[arg(long, value_name = "NAME")]
        rule: Option<String>,

        /// Servers to invalidate at, each with its port
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:11211")]
        server: Vec<String>,
    },
    /// Print what the rules make of sample events, one JSON object in each line
    TestRules {
        /// File with samples: events as they are sent, or dead letters; - for standard input
        samples: PathBuf,

        /// Configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,

        /// File with the output to compare with; a difference exits with 1
        #[arg(long, value_name = "FILE")]
        expect: Option<PathBuf>,

        /// Source that the samples are from [default: the only one]
        #[arg(long, value_name = "NAME")]
        source: Option<String>,
    },
}

impl EventsTool {
    /// The subcommand, from its flags to its exit code.
    pub fn main(self) -> ExitCode {
        let done = match self.task {
            Task::Forget { source, config } => forget(&source, &config),
            Task::Replay { letters, config, dry_run, rule, server } => {
                let servers: Vec<&str> = server.iter().map(String::as_str).collect();
                replay(&letters, &config, rule.as_deref(), if dry_run { &[] } else { &servers })
            }
            Task::TestRules { samples, config, expect, source } => {
                test_rules(&samples, &config, expect.as_deref(), source.as_deref())
            }
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("leasehold events: {why}");
                ExitCode::FAILURE
            }
        }
    }
}

fn forget(name: &str, config: &Path) -> Result<(), String> {
    let events = options::read_events(config)?;
    let Kind::Postgres(settings) = &source(&events, Some(name))?.kind else {
        return Err(format!("the source {name:?} has no replication slot"));
    };
    let mut database = Postgres::new(settings.clone(), Clock::system());
    match wait(database.forget()).map_err(|error| error.to_string())? {
        true => println!("dropped the slot {:?}", settings.slot),
        false => println!("there is no slot {:?}: nothing was dropped", settings.slot),
    }
    Ok(())
}

fn replay(letters: &Path, config: &Path, rule: Option<&str>, servers: &[&str]) -> Result<(), String> {
    let events = options::read_events(config)?;
    let (mut all, mut failed) = (Vec::new(), 0);
    for letter in dead_letters::read(letters)? {
        if rule.is_some() && letter.rule.as_deref() != rule {
            continue;
        }
        let outcome = event_of(&letter).and_then(|event| judged(&events, &letter.source, &event));
        match outcome {
            Ok(effects) => {
                effects.iter().for_each(|effects| println!("{} {}", letter.source, as_json(effects)));
                all.extend(effects);
            }
            Err(why) => {
                failed += 1;
                println!("{} ✗ {why}", letter.source);
            }
        }
    }
    if !servers.is_empty() {
        wait(async {
            // A client belongs to the runtime that it is made in.
            let client = Client::of(servers).map_err(|error| error.to_string())?;
            for effects in &all {
                send(&client, &effects.targets, effects.depth).await?;
            }
            Ok::<_, String>(())
        })?;
    }
    if failed > 0 { Err(format!("{failed} letters cannot be applied")) } else { Ok(()) }
}

async fn send(client: &Client, targets: &Targets, depth: Depth) -> Result<(), String> {
    let copies = if depth == Depth::Soft { Copies::Keep } else { Copies::Drop };
    let how = || Invalidate { copies, within: SENT_WITHIN };
    let done = async {
        if !targets.keys.is_empty() {
            client.invalidate_keys(&targets.keys, how()).await?;
        }
        if !targets.prefixes.is_empty() {
            client.invalidate_prefixes(&targets.prefixes, how()).await?;
        }
        if !targets.tags.is_empty() {
            client.invalidate_tags(&targets.tags, how()).await?;
        }
        if targets.is_all { client.invalidate_all(how()).await } else { Ok(()) }
    };
    done.await.map_err(|error| error.to_string())
}

fn test_rules(
    samples: &Path,
    config: &Path,
    expect: Option<&Path>,
    source_name: Option<&str>,
) -> Result<(), String> {
    let events = options::read_events(config)?;
    let source = source(&events, source_name)?;
    let (mut printed, mut failed) = (String::new(), 0);
    for (nth, line) in lines(samples)?.into_iter().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let place = format!("{}:{}", samples.display(), nth + 1);
        let outcome = sample(&source.name, &line).and_then(|(name, event)| {
            let effects = judged(&events, &name, &event)?;
            Ok(effects.iter().map(as_json).collect::<Vec<_>>())
        });
        let value = match outcome {
            Ok(effects) if effects.is_empty() => json!({ "sample": nth + 1, "unmatched": true }),
            Ok(effects) => json!({ "sample": nth + 1, "effects": effects }),
            Err(why) => {
                failed += 1;
                json!({ "sample": nth + 1, "error": why, "at": place })
            }
        };
        writeln!(printed, "{value}").expect("a string takes everything");
    }
    let Some(expect) = expect else {
        print!("{printed}");
        return if failed > 0 { Err(format!("{failed} samples cannot be applied")) } else { Ok(()) };
    };
    let expected = fs::read_to_string(expect).map_err(|error| format!("{}: {error}", expect.display()))?;
    let differing = printed.lines().zip(expected.lines()).position(|(one, other)| one != other);
    let (ours, theirs) = (printed.lines().count(), expected.lines().count());
    match differing.or((ours != theirs).then_some(ours.min(theirs))) {
        None => Ok(()),
        Some(line) => {
            let of = |text: &str| text.lines().nth(line).unwrap_or("nothing").to_owned();
            let (is, was) = (of(&printed), of(&expected));
            Err(format!("{}:{}: expected {was}\nbut the rules make of it {is}", expect.display(), line + 1))
        }
    }
}

/// The source and the event of a sample.
fn sample(source: &str, line: &str) -> Result<(String, Event), String> {
    if let Ok(letter) = serde_json::from_str::<Letter>(line) {
        return Ok((letter.source.clone(), event_of(&letter)?));
    }
    let event = Format::Auto.decode(line.as_bytes(), Headers::new())?;
    Ok((source.to_owned(), event.ok_or("it is a tombstone: it announces nothing")?))
}

/// The event of a letter, decoded again if that failed before.
fn event_of(letter: &Letter) -> Result<Event, String> {
    match (&letter.event, &letter.payload) {
        (Some(event), _) => Ok(event.clone()),
        (None, Some(payload)) => {
            let bytes = payload.bytes().ok_or("the payload is not valid base64")?;
            Format::Auto.decode(&bytes, Headers::new())?.ok_or_else(|| "it announces nothing".to_owned())
        }
        (None, None) => Err("the letter has no event".to_owned()),
    }
}

/// The effects of all rules for an event.
fn judged(events: &Events, source: &str, event: &Event) -> Result<Vec<Effects>, String> {
    let effects = events.rules.judge(source, event).map(|verdict| match verdict {
        Verdict::Applies(_, effects) => Ok(*effects),
        Verdict::Misfit(rule, why) => Err(format!("rule {:?}: {why}", rule.name())),
        Verdict::Truncated(rule) => Ok(Effects { targets: rule.scope(), ..Effects::default() }),
    });
    effects.collect()
}

fn as_json(effects: &Effects) -> Value {
    let set: Vec<Value> =
        effects.set.iter().map(|stored| json!({ "key": stored.key, "value": stored.value })).collect();
    let all = json!({
        "all": effects.targets.is_all.then_some(true),
        "incr": list(&effects.incr),
        "keys": list(&effects.targets.keys),
        "prefixes": list(&effects.targets.prefixes),
        "repeat_after_ms": effects.repeat_after.map(|after| after.as_millis() as u64),
        "set": (!set.is_empty()).then_some(set),
        "soft": (effects.depth == Depth::Soft).then_some(true),
        "tags": list(&effects.targets.tags),
        "version": effects.version,
    });
    let Value::Object(mut all) = all else { unreachable!("it is an object") };
    all.retain(|_, value| !value.is_null());
    Value::Object(all)
}

fn list(names: &[String]) -> Option<&[String]> {
    (!names.is_empty()).then_some(names)
}

fn source<'e>(events: &'e Events, name: Option<&str>) -> Result<&'e SourceConfig, String> {
    let names = || events.sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(", ");
    match (name, events.sources.as_slice()) {
        (None, [only]) => Ok(only),
        (None, _) => Err(format!("name the source of the samples with --source: {}", names())),
        (Some(name), all) => {
            let found = all.iter().find(|source| source.name == name);
            found.ok_or_else(|| format!("there is no source {name:?}: there are {}", names()))
        }
    }
}

fn lines(path: &Path) -> Result<Vec<String>, String> {
    let named = |error: io::Error| format!("{}: {error}", path.display());
    if path.as_os_str() == "-" {
        return io::stdin().lock().lines().collect::<Result<_, _>>().map_err(named);
    }
    Ok(fs::read_to_string(path).map_err(named)?.lines().map(str::to_owned).collect())
}

/// The time limit for one letter, at all servers.
const SENT_WITHIN: Duration = Duration::from_secs(10);

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("the system has room for a runtime").block_on(future)
}
