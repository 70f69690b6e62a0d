//! The targets of leasehold's engine, measured together with memcached and Redis in the same run.
//!
//! `cargo run --release --example replay` starts each server as a process, drives it over loopback, and
//! prints a table with the target of each row. A complete run takes about a quarter of an hour; `--only`
//! selects rows, and `--quick` tests the program in seconds without meaningful figures. Values are checked
//! byte for byte.
//!
//! `--only curves` compares misses instead: on all traces that the program makes itself, with several sizes
//! of the cache, and with two policies in simulation. It prints Markdown and draws a chart, in a quarter of
//! an hour.
//!
//! It does not depend on the engine: memory use and item counts come from the kernel and from the servers'
//! statistics. `benches/` measures speed.

mod bench;
#[path = "../common/built.rs"]
mod built;
mod curves;
mod memory;
mod misses;
mod random;
mod replayer;
mod server;
mod synthetic;
mod table;
mod trace;
mod wire;

use std::io;
use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};

use crate::bench::Bench;
use crate::server::{Kind, Program};
use crate::trace::Values;

/// Measure leasehold together with memcached and Redis, and compare it with its targets
#[derive(Parser)]
struct Options {
    /// Rows to measure, comma-separated [default: all but aside and curves]
    #[arg(long, value_name = "ROW", value_delimiter = ',')]
    only: Vec<Row>,

    /// Servers to measure in addition to leasehold, comma-separated
    #[arg(
        long,
        value_name = "SERVER",
        value_delimiter = ',',
        default_value = "memcached,redis-lru,redis-lfu"
    )]
    peers: Vec<Kind>,

    /// Folder with oltp.csv.zst, w106.csv.zst and ttlmix.csv.zst [default: synthetic traces instead]
    #[arg(long, value_name = "DIR")]
    traces: Option<PathBuf>,

    /// File for the chart of curves [default: docs/misses.svg of this checkout, none with --quick]
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,

    /// Traces of curves, comma-separated [default: all]
    #[arg(long, value_name = "TRACE", value_delimiter = ',')]
    names: Vec<String>,

    /// In curves and aside, send one request at a time, with leasehold's fence; takes ten times as long
    #[arg(long)]
    one_by_one: bool,

    /// Path of leasehold [default: the one of this checkout]
    #[arg(long, value_name = "FILE")]
    leasehold: Option<PathBuf>,

    /// Also compare at 1 GiB, or curves at 128 and 256 MiB; this takes 7 GiB and many minutes
    #[arg(long)]
    large: bool,

    /// Run with small amounts, to test this program
    #[arg(long)]
    quick: bool,
}

#[derive(Clone, Copy, Eq, PartialEq, ValueEnum)]
enum Row {
    /// Memory per item beyond its key and value
    PerItem,
    /// Memory after value sizes have changed
    Resident,
    /// Misses on the recorded traces, or on the synthetic ones if there are none
    Misses,
    /// Memory that memcached needs for the same miss ratio
    SameMisses,
    /// Time until many items that expire together are removed
    Expiry,
    /// Misses on synthetic traces that no policy was tuned on
    Aside,
    /// Misses on all traces, by memory, of all servers and of two policies in simulation
    Curves,
}

fn main() -> io::Result<()> {
    let options = Options::parse();
    let mut programs = vec![Program::leasehold(options.leasehold)?];
    for kind in options.peers {
        match Program::peer(kind) {
            Some(program) => programs.push(program),
            None => println!("{}: skipped: not installed", kind.name()),
        }
    }
    let default_chart =
        (!options.quick).then(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/misses.svg"));
    let bench = Bench {
        chart: options.chart.or(default_chart),
        is_large: options.large,
        is_one_by_one: options.one_by_one,
        names: options.names,
        is_quick: options.quick,
        programs,
        traces: options.traces,
        values: Values::new(),
    };
    if bench.is_quick {
        println!("a quick test of this program; the figures mean nothing");
    }
    if options.only != [Row::Curves] {
        table::print_head();
    }
    for row in Row::value_variants() {
        let is_default = !matches!(row, Row::Aside | Row::Curves);
        let is_wanted = if options.only.is_empty() { is_default } else { options.only.contains(row) };
        if is_wanted {
            row.measure(&bench)?;
        }
    }
    Ok(())
}

impl Row {
    fn measure(self, bench: &Bench) -> io::Result<()> {
        match self {
            Row::PerItem => memory::per_item(bench),
            Row::Resident => memory::resident(bench).and_then(|()| memory::steps(bench)),
            Row::Misses if bench.traces.is_none() => misses::aside(bench),
            Row::Misses => misses::recorded(bench),
            Row::SameMisses => misses::same_misses(bench),
            Row::Expiry => memory::expiry(bench),
            Row::Aside => misses::aside(bench),
            Row::Curves => curves::measure(bench),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clone of the repository has no folder of recorded traces beside it.
    #[test]
    fn without_a_folder_the_traces_are_synthetic() {
        assert_eq!(Options::parse_from(["replay"]).traces, None);
    }
}
