//! The load generator, `leasehold bench`: what a server can do, and what its users would feel.
//!
//! A [`Plan`] says what is asked. `source` encodes requests, `connection` sends them batch by batch and holds the replies
//! against what was asked, `worker` drives the connections of one thread, and [`Report`] tells what was seen.
//!
//! It must never be what is measured: requests are encoded into one buffer per connection and sent in one write, replies
//! are read in place and values skipped, the clock is read once for each batch, and nothing is allocated for a request.
//!
//! Deliberately absent: Unix sockets, TLS, and everything of Redis but GET, MGET, SET and DEL.

mod connection;
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
mod tally;
mod worker;

use std::fs;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::ErrorKind;

pub use self::connection::Failure;
pub use self::options::{Options, Plan};
pub use self::report::{Report, Round, median};
pub use self::run::{Progress, preload, run};
pub use self::server::{Dialect, Server};

/// `leasehold bench`, from its flags to its exit code.
pub fn main(options: Options) -> ExitCode {
    if let Err(sentence) = options.plan.check(options.servers()) {
        let _ = Options::command().error(ErrorKind::ValueValidation, sentence).print();
        return ExitCode::FAILURE;
    }
    let told = measure(&options).and_then(|report| {
        tell(&report, options.json.as_deref())?;
        Ok(report.errors())
    });
    match told {
        Ok(0) => ExitCode::SUCCESS,
        Ok(errors) => {
            eprintln!("{errors} wrong answers");
            ExitCode::FAILURE
        }
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Loads all servers in turn, round after round.
///
/// # Errors
/// If one of them cannot be measured.
pub fn measure(options: &Options) -> Result<Report, Failure> {
    let (plan, servers) = (&options.plan, options.servers());
    let tells = options.progress || io::stderr().is_terminal();
    let tell = |server: &Server, doing: &str, Progress { requests, seconds }: Progress| {
        if tells {
            eprintln!("{server}: {doing}{seconds} s, {requests} requests a second");
        }
    };
    if !plan.no_preload {
        for server in servers {
            preload(plan, server, &mut |progress| tell(server, "storing every key, ", progress))?;
        }
    }
    let mut rounds = vec![Vec::new(); servers.len()];
    for _ in 0..if options.compare.is_empty() { 1 } else { options.rounds } {
        for (server, rounds) in servers.iter().zip(&mut rounds) {
            let measured = run(plan, server, &mut |progress| tell(server, "", progress))?;
            rounds.push(Round::new(&measured));
        }
    }
    Ok(Report::new(servers, rounds))
}

fn tell(report: &Report, json: Option<&Path>) -> io::Result<()> {
    let is_dash = json == Some(Path::new("-"));
    let text = serde_json::to_string_pretty(report)? + "\n";
    print!("{}", if is_dash { text.clone() } else { report.to_string() });
    match json {
        Some(path) if !is_dash => fs::write(path, text),
        _ => Ok(()),
    }
}
