//! The load generator, `leasehold bench`: it measures the capacity of a server and the latency that its
//! users would see.
//!
//! A [`Plan`] describes the load. `source` encodes requests, `connection` sends them batch by batch and
//! checks the replies, `worker` drives the connections of one thread, and [`Report`] presents the results.
//! `stale` counts stale reads instead, with workers and writers of its own.
//!
//! The load generator must not be the bottleneck. Requests are encoded into one buffer per connection and
//! sent in one write. Replies are parsed in place and values are skipped. The clock is read once for each
//! batch, and no request allocates memory.
//!
//! It supports neither Unix sockets nor TLS, and of Redis only GET, MGET, SET and DEL.

mod connection;
mod course;
mod mix;
mod options;
mod pace;
mod popularity;
mod replies;
mod report;
mod run;
mod server;
mod sizes;
mod source;
mod stale;
mod tally;
mod worker;

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::CommandFactory;
use clap::error::ErrorKind;
use serde::Serialize;
use signal_hook::consts::SIGINT;
use signal_hook::flag;

pub use self::course::Course;
pub use self::options::{Mode, Options, Plan};
pub use self::report::{Report, Round, median};
pub use self::run::{Failure, Progress, preload, run};
pub use self::server::{Dialect, Server};
pub use self::stale::StaleOptions;

/// `leasehold bench`, from its flags to its exit code.
pub fn main(options: Options) -> ExitCode {
    if let Some(Mode::Stale(options)) = &options.mode {
        return stale::main(options);
    }
    if let Err(sentence) = options.plan.check(options.servers()) {
        return refuse(&sentence);
    }
    exit_code(measured(&options).map(|report| {
        let errors = report.errors();
        let wrong = (errors > 0).then(|| format!("{errors} wrong answers"));
        Ending { complaint: report.failure.or(wrong), cut_short: report.cut_short }
    }))
}

/// The result of a measurement.
struct Ending {
    /// The reason why it is a failure, if it is one.
    complaint: Option<String>,
    cut_short: bool,
}

fn exit_code(ended: io::Result<Ending>) -> ExitCode {
    let complaint = match ended {
        Ok(Ending { complaint: Some(complaint), .. }) => complaint,
        Ok(Ending { cut_short: true, .. }) => return INTERRUPTED.into(),
        Ok(_) => return ExitCode::SUCCESS,
        Err(error) => error.to_string(),
    };
    print_error(complaint);
    ExitCode::FAILURE
}

/// Reports options that contradict each other.
fn refuse(sentence: &str) -> ExitCode {
    let _ = Options::command().error(ErrorKind::ValueValidation, sentence).print();
    ExitCode::FAILURE
}

fn measured(options: &Options) -> io::Result<Report> {
    let json = options.course.json.as_deref().map(Json::open).transpose()?;
    let report = measure(options, &*interrupt()?)?;
    print_report(&report, json)?;
    Ok(report)
}

/// Prints to the standard error and ignores failures: it may be closed, or a pipe without a reader.
fn print_error(what: impl Display) {
    let _ = writeln!(io::stderr(), "{what}");
}

/// A flag that the first SIGINT sets; the second one ends the process.
///
/// # Errors
/// If the signal handler cannot be installed.
pub fn interrupt() -> io::Result<Arc<AtomicBool>> {
    let is_interrupted = Arc::new(AtomicBool::new(false));
    // The order matters: the handler that checks the flag is registered before the one that sets it.
    flag::register_conditional_default(SIGINT, Arc::clone(&is_interrupted))?;
    flag::register(SIGINT, Arc::clone(&is_interrupted))?;
    Ok(is_interrupted)
}

/// Loads all servers in turn, round after round, until it is interrupted or one of them cannot be measured
/// any more.
///
/// # Errors
/// If nothing was measured before.
pub fn measure(options: &Options, is_cut_short: &AtomicBool) -> Result<Report, Failure> {
    let (plan, servers) = (&options.plan, options.servers());
    let shows = options.course.progress || io::stderr().is_terminal();
    let show = |server: &Server, doing: &str, Progress { requests, seconds }: Progress| {
        if shows {
            print_error(format_args!("{server}: {doing}{seconds} s, {requests} requests/s"));
        }
    };
    if !plan.no_preload {
        for server in servers {
            let show = &mut |progress| show(server, "storing every key, ", progress);
            preload(plan, server, is_cut_short, show)?;
        }
    }
    let count = if options.compare.is_empty() { 1 } else { options.course.rounds };
    let (rounds, failure) = in_turn(servers, count, is_cut_short, |server| {
        let measured = run(plan, server, is_cut_short, &mut |progress| show(server, "", progress))?;
        Ok(Round::new(&measured))
    })?;
    Ok(Report::new(servers, rounds, is_cut_short.load(Ordering::Relaxed), failure))
}

/// The rounds of each server, and the reason why some of them are missing.
type Rounds<R> = (Vec<Vec<R>>, Option<String>);

/// Measures all servers in turn, round after round, until it is interrupted or one of them cannot be
/// measured any more.
fn in_turn<S, R>(
    servers: &[S],
    count: u32,
    is_cut_short: &AtomicBool,
    mut measure: impl FnMut(&S) -> Result<R, Failure>,
) -> Result<Rounds<R>, Failure> {
    let mut rounds: Vec<Vec<R>> = servers.iter().map(|_| Vec::new()).collect();
    let failed = (0..count).flat_map(|_| servers.iter().enumerate()).find_map(|(nth, server)| {
        if !is_cut_short.load(Ordering::Relaxed) {
            match measure(server) {
                Ok(round) => rounds[nth].push(round),
                Err(failure) => return Some(failure),
            }
        }
        None
    });
    match failed {
        Some(failure) if rounds.iter().all(Vec::is_empty) => Err(failure),
        failed => Ok((rounds, failed.map(|failure| failure.to_string()))),
    }
}

/// The destination of JSON results, opened before the run so that errors appear early.
enum Json {
    File(File, PathBuf),
    StandardOutput,
}

impl Json {
    fn open(path: &Path) -> io::Result<Json> {
        if path == Path::new("-") {
            return Ok(Json::StandardOutput);
        }
        // The results of an earlier run stay until there are new ones.
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        Ok(Json::File(file.map_err(|error| unwritten(error, path))?, path.to_owned()))
    }
}

fn print_report(report: &(impl Serialize + Display), json: Option<Json>) -> io::Result<()> {
    let text = serde_json::to_string_pretty(report)? + "\n";
    let mut output = io::stdout().lock();
    let printed = match json {
        Some(Json::StandardOutput) => output.write_all(text.as_bytes()),
        Some(Json::File(file, path)) => {
            replace(file, text.as_bytes()).map_err(|error| unwritten(error, &path))?;
            write!(output, "{report}")
        }
        None => write!(output, "{report}"),
    };
    printed.and_then(|()| output.flush()).map_err(|error| unwritten(error, Path::new("the standard output")))
}

fn replace(mut file: File, bytes: &[u8]) -> io::Result<()> {
    // Devices and pipes have no length to truncate.
    if file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    file.write_all(bytes)
}

fn unwritten(error: io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display()))
}

/// The exit code that shells report for a program ended by SIGINT.
const INTERRUPTED: u8 = 130;
