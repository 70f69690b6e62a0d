//! leasehold beside memcached and Redis, in the same minute, on the same machine.
//!
//! `cargo bench --bench compare` starts each with one worker thread on loopback, loads them in turn, round
//! after round, with the load generator of `leasehold bench`, and prints medians, ratios and goals. With two
//! cores, servers are pinned to one and the generator to the other. The limit is a server that answers every
//! request with the same bytes, from mio's epoll: no server with sockets is faster.
//!
//! `-- --rows get/1,set/1 --rounds 5 --seconds 2 --keys 10000`; `--growth` for other rows: more items, more
//! connections; `--out DIR` writes `compare.json` and `compare.svg` there; `--test` runs each row for a
//! moment, to test the bench itself. Servers that are not installed are left out.

mod idle;
mod limit;
mod peers;
mod plot;
mod results;
mod rows;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use clap::builder::{PossibleValuesParser, RangedU64ValueParser};
use leasehold::bench::{Options, Plan, Round, Server, interrupt, preload, run};
use signal_hook::consts::SIGTERM;
use signal_hook::flag;

use crate::limit::Limit;
use crate::peers::{Cores, Fleet, Kind, Peer};
use crate::results::{Line, Results, Sample};
use crate::rows::{GROWTH, Machine, ROWS, Row, Unit};

/// The command line.
#[derive(Parser)]
#[command(name = "compare")]
struct Arguments {
    /// Rounds of each row; an odd number
    #[arg(long, default_value_t = 3, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    rounds: usize,

    /// Seconds of a round
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,

    /// Different keys, unless the row sets them
    #[arg(long, default_value_t = KEYS, value_parser = RangedU64ValueParser::<usize>::new().range(1..=KEYS_MAX))]
    keys: usize,

    /// Only these rows, comma-separated
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(ROWS.iter().chain(&GROWTH).map(|row| row.name)))]
    rows: Vec<String>,

    /// Folder for compare.json and compare.svg
    #[arg(long)]
    out: Option<PathBuf>,

    /// Path of leasehold, if not the one built for this bench
    #[arg(long, default_value = env!("CARGO_BIN_EXE_leasehold"))]
    leasehold: PathBuf,

    /// Path of memcached, if not the installed one
    #[arg(long, default_value = "memcached")]
    memcached: PathBuf,

    /// Path of redis-server, if not the installed one
    #[arg(long, default_value = "redis-server")]
    redis: PathBuf,

    /// Measure growth instead: one hot key, growing numbers of items and connections
    #[arg(long)]
    growth: bool,

    /// Run each row only for a moment
    #[arg(long)]
    test: bool,

    /// Set by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> io::Result<()> {
    let mut arguments = Arguments::parse();
    // Like criterion, this is only a test without cargo's flag --bench.
    if arguments.test || !arguments.bench {
        (arguments.rounds, arguments.seconds, arguments.test) = (1, 0.05, true);
    }
    idle::allow_connections()?;
    // The servers are stopped when this function ends, even by a panic, so a signal must not end the process
    // before.
    let interrupted = interrupt()?;
    flag::register(SIGTERM, Arc::clone(&interrupted))?;
    let cores = Cores::find();
    if !cores.are_pinned() {
        println!("nothing is pinned to a core: this needs two cores");
    }
    let mut results = Results::default();
    for (machine, cores, threads) in
        [(Machine::OneCoreEach, cores, 1), (Machine::TwoThreads, cores.free(), 2)]
    {
        let rows: Vec<&Row> = arguments.rows().filter(|row| row.machine == machine).collect();
        let is_interrupted = || interrupted.load(Ordering::Relaxed);
        if rows.is_empty() || is_interrupted() {
            continue;
        }
        let fleet = Fleet::start(&arguments, cores, threads);
        for row in rows {
            let line = measure(row, &fleet, &arguments, &results, &interrupted)?;
            if is_interrupted() {
                break;
            }
            if let Some(line) = line {
                println!("{line}");
                results.0.push(line);
            }
        }
    }
    println!("\n{results}");
    // An incomplete table must not overwrite a complete one.
    if let Some(folder) = arguments.out.as_ref().filter(|_| !interrupted.load(Ordering::Relaxed)) {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("compare.json"), results.json())?;
        fs::write(folder.join("compare.svg"), plot::svg(&results))?;
    }
    Ok(())
}

/// Loads in turn all servers that support the row; `None` if it needs a figure that was not measured.
fn measure(
    row: &'static Row,
    fleet: &Fleet,
    arguments: &Arguments,
    results: &Results,
    interrupted: &AtomicBool,
) -> io::Result<Option<Line>> {
    if let Unit::BytesEach(connections) = row.unit {
        return idle(row, fleet, connections).map(Some);
    }
    let Some(rate) = results.rate(row) else {
        println!("{} is left out: it needs memcached's rate of get/1", row.name);
        return Ok(None);
    };
    // With its own core the generator can spin. Otherwise waking it would cost the server time, unlike on two
    // machines.
    let extra = if fleet.cores.are_pinned() { rate + " --spin" } else { rate };
    let plan = |kind| plan(row, kind, arguments, &extra);
    let peers: Vec<(&Peer, Plan)> =
        fleet.peers.iter().filter_map(|peer| Some((peer, plan(peer.kind)?))).collect();
    for (peer, plan) in &peers {
        preload(plan, &peer.server, interrupted, &mut |_| ())?;
    }
    let limit = Limit::start(row, fleet, arguments.keys)?;
    let mut line = Line::new(row);
    for _ in 0..arguments.rounds {
        for (peer, plan) in &peers {
            line.add(peer.kind, round(row, plan, &peer.server, interrupted, || peer.busy_seconds())?);
        }
        if let (Some(limit), Some(plan)) = (&limit, plan(Kind::Limit)) {
            line.add(Kind::Limit, round(row, &plan, &limit.server, interrupted, || limit.busy_seconds())?);
        }
    }
    Ok(Some(line))
}

/// Measured once: in a second round, memory kept for closed connections would be reused.
fn idle(row: &'static Row, fleet: &Fleet, connections: usize) -> io::Result<Line> {
    let mut line = Line::new(row);
    for peer in &fleet.peers {
        line.add(peer.kind, Sample { busy: None, figure: idle::bytes_each(peer, connections)? });
    }
    Ok(line)
}

fn round(
    row: &Row,
    plan: &Plan,
    server: &Server,
    interrupted: &AtomicBool,
    busy_seconds: impl Fn() -> f64,
) -> io::Result<Sample> {
    let before = busy_seconds();
    let round = Round::new(&run(plan, server, interrupted, &mut |_| ())?);
    assert_eq!(round.errors, 0, "{server} answers wrongly: {round}");
    let seconds = round.seconds + plan.warm_up().as_secs_f64();
    Ok(Sample::new(row, &round, (busy_seconds() - before) / seconds))
}

/// `None` if that server does not support the requests of this row.
fn plan(row: &Row, kind: Kind, arguments: &Arguments, extra: &str) -> Option<Plan> {
    let flags = row.flags(kind, arguments.keys)?;
    let line = format!("bench {flags} {extra} -d {} -w {}", arguments.seconds, arguments.seconds / 10.0);
    let mut plan = Options::parse_from(line.split_whitespace()).plan;
    if arguments.test {
        plan.keys = plan.keys.min(10_000);
    }
    Some(plan)
}

/// More than fit in the processor's caches, as in a typical cache server.
const KEYS: usize = 100_000;
/// As many as fit in the servers, because a get that misses costs less.
const KEYS_MAX: u64 = 4_000_000;

/// Checks the time before the servers start.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.001..=3600.0).contains(&seconds) => Ok(seconds),
        Ok(_) | Err(_) => Err("expected 0.001 to 3600 seconds".to_owned()),
    }
}

impl Arguments {
    /// The named rows; by default all of one kind, or of both in a test.
    fn rows(&self) -> impl Iterator<Item = &'static Row> {
        let is_wanted = |row: &Row, by_kind| match self.rows.is_empty() {
            true => by_kind,
            false => self.rows.iter().any(|name| name == row.name),
        };
        let rows = ROWS.iter().filter(move |row| is_wanted(row, !self.growth));
        rows.chain(GROWTH.iter().filter(move |row| is_wanted(row, self.growth || self.test)))
    }
}
