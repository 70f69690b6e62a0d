//! The binary: which program it is, by the first word of its command line.

mod manual;
mod serve;

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use leasehold::bench;
use leasehold::console::{Cli, Top};
use leasehold::server::HealthCheck;

/// A program, handed its command line; the first word stands for its own name.
type Program = fn(Vec<OsString>) -> ExitCode;

/// Whatever else comes first belongs to the server, which takes memcached's flags.
const SUBCOMMANDS: [(&str, Program); 7] = [
    ("bench", bench::main),
    ("cli", Cli::main),
    ("completions", manual::completions),
    ("handover", serve::handover),
    ("healthcheck", HealthCheck::main),
    ("man", manual::page),
    ("top", Top::main),
];

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = env::args_os().collect();
    let wanted = |(name, _): &(&str, Program)| arguments.get(1).is_some_and(|word| word == name);
    match SUBCOMMANDS.into_iter().find(wanted) {
        None => serve::main(arguments),
        Some((_, program)) => program(arguments.split_off(1)),
    }
}
