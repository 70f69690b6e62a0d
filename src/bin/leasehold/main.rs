//! The binary: runs the program named by the first word of its command line.

mod announcement;
mod events;
mod healthcheck;
mod manual;
mod serve;

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Command, CommandFactory, FromArgMatches, Parser};
use leasehold::bench;
use leasehold::console::{self, Cli, Top};
use leasehold::options::{self, Options};

use crate::events::EventsTool;
use crate::healthcheck::HealthCheck;
use crate::serve::Handover;

/// A program and its command line; the first word is the name that usage lines show.
type Program = fn(Vec<OsString>) -> ExitCode;

/// Any other first word belongs to the server, which takes memcached's flags.
const SUBCOMMANDS: [(&str, Program); 10] = [
    ("bench", |arguments| read(arguments, EXIT_FAILURE, bench::main)),
    ("cli", |arguments| read(arguments, console::FAILED, Cli::main)),
    ("completions", |arguments| read(arguments, EXIT_FAILURE, manual::completions)),
    ("events", |arguments| read(arguments, EXIT_FAILURE, EventsTool::main)),
    ("handover", |arguments| configured(&Handover::command(), arguments, serve::handover)),
    ("healthcheck", |arguments| read(arguments, EXIT_FAILURE, HealthCheck::main)),
    ("help", |_| server(vec!["leasehold".into(), "--help".into()])),
    ("man", |arguments| read(arguments, EXIT_FAILURE, manual::page)),
    ("serve", server),
    ("top", |arguments| read(arguments, console::FAILED, Top::main)),
];

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = env::args_os().collect();
    let wanted = |(name, _): &(&str, Program)| arguments.get(1).is_some_and(|word| word == name);
    match SUBCOMMANDS.into_iter().find(wanted) {
        None => match lone_word(&arguments) {
            None => server(arguments),
            Some(word) => unknown(&word),
        },
        Some((name, program)) => {
            let mut arguments = arguments.split_off(1);
            arguments[0] = format!("leasehold {name}").into();
            program(arguments)
        }
    }
}

/// The only argument, if it is no flag. memcached ignores words among its flags, and so does the server; but
/// a word alone is a mistyped subcommand.
fn lone_word(arguments: &[OsString]) -> Option<String> {
    match arguments {
        [_, word] => word.to_str().filter(|word| !word.starts_with('-')).map(str::to_owned),
        _ => None,
    }
}

fn unknown(word: &str) -> ExitCode {
    let distance = |name: &&str| strsim::osa_distance(word, name);
    let nearest = SUBCOMMANDS.into_iter().map(|(name, _)| name).min_by_key(distance);
    // Fewer than half of the letters are wrong.
    let nearest = nearest.filter(|name| 2 * distance(name) < word.len());
    let hint = match nearest {
        Some(name) => format!("did you mean `leasehold {name}`?"),
        None => "`leasehold help` lists the flags and the subcommands".to_owned(),
    };
    eprintln!("error: unknown subcommand {word:?}: {hint}");
    EXIT_FAILURE.into()
}

fn server(arguments: Vec<OsString>) -> ExitCode {
    let names = SUBCOMMANDS.map(|(name, _)| name).join(", ");
    let help = format!(
        "Flags also come from the environment: LEASEHOLD_MEMORY_LIMIT=1g is --memory-limit 1g\n\n\
        Subcommands: {names}; each has its own --help"
    );
    configured(&Options::command().after_help(help), arguments, serve::main)
}

/// As [`read`], for a server, whose flags also come from the environment.
fn configured<P: FromArgMatches>(
    command: &Command,
    arguments: Vec<OsString>,
    run: impl FnOnce(P) -> ExitCode,
) -> ExitCode {
    start(options::parse(command, arguments), EXIT_FAILURE, run)
}

/// Parses a command line and runs its program; an invalid one exits with `failure`.
fn read<P: Parser>(arguments: Vec<OsString>, failure: u8, run: impl FnOnce(P) -> ExitCode) -> ExitCode {
    start(P::try_parse_from(arguments), failure, run)
}

fn start<P>(parsed: Result<P, clap::Error>, failure: u8, run: impl FnOnce(P) -> ExitCode) -> ExitCode {
    match parsed {
        Ok(options) => run(options),
        Err(error) => {
            let _ = error.print();
            if error.use_stderr() { failure.into() } else { ExitCode::SUCCESS }
        }
    }
}

const EXIT_FAILURE: u8 = 1;
