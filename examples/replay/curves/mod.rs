//! Miss ratios by memory: all servers on all traces, beside two policies in simulation.
//!
//! Traces are replayed as fast as possible, without their times and TTLs. Servers are compared at the same
//! `-m`, and by the resident memory that they have at the end, because some take more than `-m`.

mod plot;
mod policies;
mod report;

use std::fs;
use std::io;

use crate::bench::Bench;
use crate::curves::policies::Policy;
use crate::misses;
use crate::server::{Kind, Program};
use crate::synthetic::TRACES;
use crate::trace::Request;

/// The measured and the simulated misses of one trace.
struct Curves {
    /// Belady's misses in percent, by size.
    belady: Vec<f64>,
    /// The misses if everything fits, in percent: nothing can miss less.
    compulsory: f64,
    gdsf: Vec<f64>,
    is_aside: bool,
    /// The `-m` of each row of the table, in ascending order. There are more points of memcached.
    megabytes: Vec<u32>,
    points: Vec<Point>,
    trace: String,
}

/// A run of one server.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    /// MiB that are resident at the start.
    empty: f64,
    kind: Kind,
    megabytes: u32,
    miss_percent: f64,
    /// MiB that are resident at the end.
    resident: f64,
}

/// A trace with its requests.
struct Trace {
    is_aside: bool,
    name: String,
    requests: Vec<Request>,
}

/// Replays and simulates all traces, prints the tables, and draws the chart.
pub fn measure(bench: &Bench) -> io::Result<()> {
    let mut all = Vec::new();
    let is_wanted = |name: &str| bench.names.is_empty() || bench.names.iter().any(|wanted| wanted == name);
    for synthetic in TRACES.iter().filter(|synthetic| is_wanted(synthetic.name)) {
        let requests = synthetic.requests(|count| bench.scaled(count));
        let name = synthetic.name.to_owned();
        all.push(Curves::measure(bench, &Trace { is_aside: synthetic.is_aside, name, requests })?);
    }
    for (name, requests) in misses::recorded_traces(bench, is_wanted)? {
        all.push(Curves::measure(bench, &Trace { is_aside: false, name: name.to_owned(), requests })?);
    }
    println!("{}", report::markdown(&all));
    if let Some(path) = &bench.chart {
        fs::write(path, plot::svg(&all))?;
        println!("chart: {}", path.display());
    }
    Ok(())
}

impl Curves {
    fn measure(bench: &Bench, trace: &Trace) -> io::Result<Curves> {
        let megabytes: Vec<u32> = if bench.is_large { LARGE_MEGABYTES.into() } else { MEGABYTES.into() };
        let points = bench.in_turn(&runs(bench, &megabytes), |(program, megabytes)| {
            let point = program.named(run(bench, program, *megabytes, &trace.requests))?;
            let (name, kind, Point { miss_percent, resident, .. }) =
                (&trace.name, program.kind.name(), point);
            eprintln!("{name} at {megabytes} MiB: {kind} {miss_percent:.2} %, {resident:.1} MiB resident");
            Ok(point)
        })?;
        let mut jobs: Vec<(Policy, u64)> = vec![(Policy::Gdsf, u64::MAX)];
        for policy in [Policy::Gdsf, Policy::Belady] {
            jobs.extend(megabytes.iter().map(|megabytes| (policy, u64::from(*megabytes) << 20)));
        }
        let simulated = bench
            .in_turn(&jobs, |(policy, limit)| Ok(policy.play(&trace.requests, *limit).miss_percent()))?;
        let (compulsory, limited) = simulated.split_first().expect("the first job is without limit");
        let (gdsf, belady) = limited.split_at(megabytes.len());
        Ok(Curves {
            belady: belady.into(),
            compulsory: *compulsory,
            gdsf: gdsf.into(),
            is_aside: trace.is_aside,
            megabytes,
            points,
            trace: trace.name.clone(),
        })
    }

    fn point(&self, kind: Kind, megabytes: u32) -> Option<&Point> {
        self.points.iter().find(|point| point.kind == kind && point.megabytes == megabytes)
    }

    /// The misses of a server by one of its memories, from the smallest on.
    fn curve(&self, kind: Kind, memory: fn(&Point) -> f64) -> Vec<(f64, f64)> {
        let points = self.points.iter().filter(|point| point.kind == kind);
        let mut curve: Vec<_> = points.map(|point| (memory(point), point.miss_percent)).collect();
        curve.sort_by(|left, right| left.0.total_cmp(&right.0));
        curve
    }
}

/// The runs of all servers. memcached has more sizes, to find where it misses as little as leasehold.
fn runs<'a>(bench: &'a Bench, megabytes: &[u32]) -> Vec<(&'a Program, u32)> {
    let mut runs = Vec::new();
    for program in &bench.programs {
        for megabytes in megabytes {
            runs.push((program, *megabytes));
            if program.kind == Kind::Memcached {
                runs.push((program, (f64::from(*megabytes) * std::f64::consts::SQRT_2).round() as u32));
            }
        }
        let largest = megabytes.last().copied().unwrap_or_default();
        if program.kind == Kind::Memcached {
            runs.push((program, 2 * largest));
        }
    }
    runs
}

/// Replays a trace against a new server.
fn run(bench: &Bench, program: &Program, megabytes: u32, requests: &[Request]) -> io::Result<Point> {
    let server = misses::start_unpaced(bench, program, megabytes)?;
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let empty = mebibytes(server.resident_bytes()?);
    let miss_percent = misses::play_unpaced(bench, &server, requests)?.miss_percent();
    let resident = mebibytes(server.resident_bytes()?);
    Ok(Point { empty, kind: program.kind, megabytes, miss_percent, resident })
}

const MEGABYTES: [u32; 4] = [8, 16, 32, 64];
const LARGE_MEGABYTES: [u32; 6] = [8, 16, 32, 64, 128, 256];
