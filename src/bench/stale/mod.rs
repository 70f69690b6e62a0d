//! `leasehold bench stale`: how often a server serves values that its clients had invalidated before.
//!
//! A [`Workload`](workload::Workload) describes reads and writes; [`presets`] name some. `roles` holds the
//! workers and writers, `database` detects stale reads, and `value` makes each byte verifiable. All of them
//! are tasks of one thread, so that "answered before" is well-defined; `timer` wakes them with microsecond
//! precision.
//!
//! Exact results matter more than speed here: one thread makes about ten thousand reads per second.

mod database;
mod link;
mod options;
mod pool;
mod presets;
mod report;
mod roles;
mod run;
mod timer;
mod value;
mod workload;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

pub use self::options::StaleOptions;
use self::options::Target;
use self::report::{Report, Round};
use self::run::{Progress, run};
use super::{Ending, Failure, Json, exit_code, in_turn, interrupt, print_error, print_report, refuse};

/// `leasehold bench stale`, from its options to its exit code.
pub fn main(options: &StaleOptions) -> ExitCode {
    if let Err(sentence) = options.check() {
        return refuse(&sentence);
    }
    exit_code(measured(options).map(|report| ending(&report, options)))
}

fn measured(options: &StaleOptions) -> io::Result<Report> {
    let json = options.course.json.as_deref().map(Json::open).transpose()?;
    let report = measure(options, &*interrupt()?)?;
    print_report(&report, json)?;
    Ok(report)
}

fn ending(report: &Report, options: &StaleOptions) -> Ending {
    let stale = report.stale_reads();
    let complaint = match report.wrong_answers() {
        _ if report.failure.is_some() => report.failure.clone(),
        0 if options.fail_on_stale && stale > 0 => Some(format!("{stale} stale reads")),
        0 => None,
        wrong => Some(format!("{wrong} wrong answers")),
    };
    Ending { complaint, cut_short: report.cut_short }
}

fn measure(options: &StaleOptions, is_cut_short: &AtomicBool) -> Result<Report, Failure> {
    let targets = options.targets();
    let shows = options.course.progress || io::stderr().is_terminal();
    let count = if options.compare.is_empty() { 1 } else { options.course.rounds };
    let (rounds, failure) = in_turn(targets, count, is_cut_short, |target| {
        let mut progress = |progress| {
            if shows {
                show(target, progress);
            }
        };
        run(options, target, is_cut_short, &mut progress).map(|measured| Round::new(&measured))
    })?;
    let workload = options.workload().to_string();
    Ok(Report::new(workload, targets, rounds, is_cut_short.load(Ordering::Relaxed), failure))
}

fn show(target: &Target, Progress { seconds, tally }: Progress) {
    print_error(format_args!("{target}: {seconds} s, {} of {} reads stale", tally.stale, tally.reads));
}
