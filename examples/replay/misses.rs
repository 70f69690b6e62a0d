//! Miss ratios: misses at the same `-m`, and the `-m` that memcached needs for the same miss ratio.

use std::io;
use std::path::Path;

use crate::bench::Bench;
use crate::replayer::{Replayer, Tally};
use crate::server::{Kind, Program, Server};
use crate::synthetic;
use crate::table::{self, Figure, Target};
use crate::trace::{self, Request};

/// A recorded trace, and its target.
#[derive(Clone, Copy)]
struct Recorded {
    megabytes: u32,
    miss_percent: f64,
    name: &'static str,
}

const RECORDED: [Recorded; 3] = [
    Recorded { megabytes: 32, miss_percent: 29.0, name: "oltp" },
    Recorded { megabytes: 8, miss_percent: 8.9, name: "w106" },
    Recorded { megabytes: 16, miss_percent: 28.4, name: "ttlmix" },
];

/// Misses on the recorded traces.
pub fn recorded(bench: &Bench) -> io::Result<()> {
    let Some(folder) = &bench.traces else { return Ok(()) };
    for Recorded { megabytes, miss_percent, name } in RECORDED {
        let Some(requests) = load(bench, folder, name)? else { continue };
        let figures = bench.on_each(|program| {
            let tally = paced(bench, program, megabytes, &requests)?;
            Ok(Figure::Is(tally.miss_percent()))
        })?;
        let what = format!("misses of {name} at {megabytes} MiB, %");
        table::print(&what, 2, Target::AtMost(miss_percent), &figures);
    }
    Ok(())
}

/// The memory that memcached needs for the same miss ratio, relative to leasehold's.
pub fn same_misses(bench: &Bench) -> io::Result<()> {
    let what =
        |name: &str, megabytes| format!("memory of memcached for equal misses, {name} {megabytes} MiB");
    if let Some(folder) = &bench.traces {
        for Recorded { megabytes, name, .. } in RECORDED {
            let Some(requests) = load(bench, folder, name)? else { continue };
            compare(bench, &what(name, megabytes), megabytes, TARGET, &RUNGS, |program, megabytes| {
                paced(bench, program, megabytes, &requests)
            })?;
        }
    } else {
        for (name, requests) in aside_traces(bench) {
            let what = what(name, SYNTHETIC_MEGABYTES);
            compare(bench, &what, SYNTHETIC_MEGABYTES, Target::None, &RUNGS, |program, megabytes| {
                unpaced(bench, program, megabytes, &requests)
            })?;
        }
    }
    if bench.is_large {
        let (megabytes, keys) = (bench.scaled(1_024), bench.scaled(6_000_000));
        let what = format!("  the same, Zipf over {keys} keys, {megabytes} MiB");
        let gets = bench.scaled(16_000_000) as usize;
        compare(bench, &what, megabytes, TARGET, &LARGE_RUNGS, |program, megabytes| {
            let server = program.start(megabytes)?;
            let replayer = Replayer::new(server.connect()?, &bench.values);
            replayer.warmed_by(gets / 2).play(synthetic::zipf(keys).take(gets))
        })?;
    }
    Ok(())
}

/// Traces that no policy was tuned on.
pub fn aside(bench: &Bench) -> io::Result<()> {
    for (name, requests) in aside_traces(bench) {
        for megabytes in [SYNTHETIC_MEGABYTES / 2, SYNTHETIC_MEGABYTES] {
            let figures = bench.on_each(|program| {
                Ok(Figure::Is(unpaced(bench, program, megabytes, &requests)?.miss_percent()))
            })?;
            table::print(&format!("misses of {name} at {megabytes} MiB, %"), 2, Target::None, &figures);
        }
    }
    Ok(())
}

/// The synthetic traces that no policy was tuned on, with their names.
fn aside_traces(bench: &Bench) -> [(&'static str, Vec<Request>); 2] {
    let requests = bench.scaled(2_000_000) as usize;
    let scans = synthetic::scans().take(requests).collect();
    let shifts = synthetic::shifts().take(requests).collect();
    [("Zipf with scans", scans), ("a shifting working set", shifts)]
}

/// Replays the same trace to leasehold and to memcacheds of many sizes, all at once, and prints where they
/// are equal.
fn compare(
    bench: &Bench,
    what: &str,
    megabytes: u32,
    target: Target,
    rungs: &[f64],
    play: impl Fn(&Program, u32) -> io::Result<Tally> + Sync,
) -> io::Result<()> {
    let (Some(leasehold), Some(memcached)) = (bench.program(Kind::Leasehold), bench.program(Kind::Memcached))
    else {
        println!("{what}: skipped: needs leasehold and memcached");
        return Ok(());
    };
    let mut sizes: Vec<u32> = rungs.iter().map(|rung| (rung * f64::from(megabytes)).round() as u32).collect();
    sizes.dedup();
    let mut runs = vec![(leasehold, megabytes)];
    runs.extend(sizes.iter().map(|size| (memcached, *size)));
    let percents = bench
        .at_once(&runs, |(program, size)| program.named(play(program, *size).map(Tally::miss_percent)))?;
    let (ours, theirs) = (percents[0], &percents[1..]);
    let factors = sizes.iter().map(|size| f64::from(*size) / f64::from(megabytes));
    let ladder: Vec<(f64, f64)> = factors.zip(theirs.iter().copied()).collect();
    eprintln!("{what}: leasehold misses {ours:.2} %; memcached, by memory: {ladder:.2?}");
    let figures = vec![(Kind::Leasehold, meeting(&ladder, ours)), (Kind::Memcached, Figure::Is(1.0))];
    table::print(what, 2, target, &figures);
    Ok(())
}

/// The memory at which a falling curve of misses reaches `goal`, interpolated linearly.
pub fn meeting(curve: &[(f64, f64)], goal: f64) -> Figure {
    let Some(after) = curve.iter().position(|(_, misses)| *misses <= goal) else {
        return Figure::Above(curve[curve.len() - 1].0);
    };
    if after == 0 {
        return Figure::Below(curve[0].0);
    }
    let ((left, above), (right, below)) = (curve[after - 1], curve[after]);
    Figure::Is(left + (right - left) * (above - goal) / (above - below))
}

/// Replays a recorded trace against a new server.
fn paced(bench: &Bench, program: &Program, megabytes: u32, requests: &[Request]) -> io::Result<Tally> {
    let server = program.start(megabytes)?;
    let mut replayer = Replayer::new(server.connect()?, &bench.values).at_speed(SPEED);
    let tally = replayer.play(requests.iter().copied())?;
    if tally.late_ms > LATE_MS {
        let (name, late_ms) = (program.kind.name(), tally.late_ms);
        eprintln!(
            "{name} at {megabytes} MiB: {late_ms} ms behind the trace, so results with TTLs are not reliable"
        );
    }
    Ok(tally)
}

/// Replays a trace without its times against a new server.
fn unpaced(bench: &Bench, program: &Program, megabytes: u32, requests: &[Request]) -> io::Result<Tally> {
    let server = start_unpaced(bench, program, megabytes)?;
    play_unpaced(bench, &server, requests)
}

/// Starts a server for `play_unpaced`.
pub fn start_unpaced(bench: &Bench, program: &Program, megabytes: u32) -> io::Result<Server> {
    if bench.is_one_by_one { program.start(megabytes) } else { program.start_unfenced(megabytes) }
}

/// Replays a trace without its times.
pub fn play_unpaced(bench: &Bench, server: &Server, requests: &[Request]) -> io::Result<Tally> {
    let replayer = Replayer::new(server.connect()?, &bench.values);
    let mut replayer = if bench.is_one_by_one { replayer.one_by_one() } else { replayer };
    replayer.play(requests.iter().copied())
}

/// The recorded traces that are wanted and exist, with their names.
pub fn recorded_traces(
    bench: &Bench,
    is_wanted: impl Fn(&str) -> bool,
) -> io::Result<Vec<(&'static str, Vec<Request>)>> {
    let Some(folder) = &bench.traces else { return Ok(Vec::new()) };
    let mut traces = Vec::new();
    for Recorded { name, .. } in RECORDED.into_iter().filter(|recorded| is_wanted(recorded.name)) {
        traces.extend(load(bench, folder, name)?.map(|requests| (name, requests)));
    }
    Ok(traces)
}

/// `None`, with a message, if the trace does not exist.
fn load(bench: &Bench, folder: &Path, name: &str) -> io::Result<Option<Vec<Request>>> {
    let path = folder.join(format!("{name}.csv.zst"));
    if path.exists() {
        let limit = if bench.is_quick { QUICK_REQUESTS } else { usize::MAX };
        return trace::load(&path, limit).map(Some);
    }
    println!("{name}: skipped: {} does not exist", path.display());
    Ok(None)
}

/// Replay speed: seconds of the trace per second.
const SPEED: u32 = 30;
/// A quarter of the shortest TTL in ttlmix, at this speed.
const LATE_MS: u64 = 500;
/// The memory that memcached should need for as few misses on recorded traces, as a multiple of leasehold's.
const TARGET: Target = Target::AtLeast(1.3);
const SYNTHETIC_MEGABYTES: u32 = 32;
const QUICK_REQUESTS: usize = 10_000;
/// The sizes of memcached to try, as multiples of leasehold's.
const RUNGS: [f64; 9] = [0.75, 0.9, 1.0, 1.125, 1.25, 1.375, 1.5, 1.75, 2.0];
/// Fewer sizes, because all of them run at once.
const LARGE_RUNGS: [f64; 5] = [0.85, 1.0, 1.15, 1.3, 1.5];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_meeting_is_interpolated() {
        let curve = [(1.0, 30.0), (1.5, 20.0), (2.0, 10.0)];
        assert_eq!(meeting(&curve, 25.0), Figure::Is(1.25));
        assert_eq!(meeting(&curve, 10.0), Figure::Is(2.0));
        assert_eq!(meeting(&curve, 9.9), Figure::Above(2.0));
        assert_eq!(meeting(&curve, 31.0), Figure::Below(1.0));
    }
}
