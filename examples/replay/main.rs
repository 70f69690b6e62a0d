//! The numbers that leasehold's engine must reach, measured beside memcached and Redis in the same run.
//!
//! `cargo run --release --example replay` starts each server as a process of its own, drives it over loopback, and
//! prints a table with the target of each row. All of it takes about a quarter of an hour; `--only` picks rows,
//! `--quick` shows in seconds that it works, and its figures mean nothing. Values are checked byte for byte.
//!
//! It knows nothing of the engine: what a server holds is told by the kernel and by its own statistics.
//!
//! Deliberately absent: speed. `benches/` measures that.

mod bench;
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
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::bench::Bench;
use crate::server::{Kind, Program};
use crate::trace::Values;

/// Measures leasehold beside memcached and Redis, and prints how it stands to its targets
#[derive(Parser)]
struct Options {
    /// Rows to measure, parted by commas [default: all but aside]
    #[arg(long, value_name = "ROW", value_delimiter = ',')]
    only: Vec<Row>,

    /// Servers to measure beside leasehold, parted by commas
    #[arg(long, value_name = "SERVER", value_delimiter = ',', default_value = "memcached,redis")]
    peers: Vec<Kind>,

    /// Folder with oltp.csv.zst, w106.csv.zst and ttlmix.csv.zst
    #[arg(long, value_name = "DIR", default_value = "../shared/traces")]
    traces: PathBuf,

    /// The leasehold to measure [default: this checkout's]
    #[arg(long, value_name = "FILE")]
    leasehold: Option<PathBuf>,

    /// Compare at 1 GiB, too, which takes 7 GiB and many minutes
    #[arg(long)]
    large: bool,

    /// Little of everything: a test of this program, not of the servers
    #[arg(long)]
    quick: bool,
}

#[derive(Clone, Copy, Eq, PartialEq, ValueEnum)]
enum Row {
    /// Memory for an item beyond its key and value
    PerItem,
    /// Memory after sizes have changed
    Resident,
    /// Misses on the recorded traces
    Misses,
    /// Memory that memcached needs for as few misses
    SameMisses,
    /// Time until a mass of items that end together is gone
    Expiry,
    /// Misses on made-up traces that nobody tunes on
    Aside,
}

fn main() -> io::Result<()> {
    let options = Options::parse();
    let mut programs = vec![Program::leasehold(options.leasehold)?];
    for kind in options.peers {
        match Program::peer(kind) {
            Some(program) => programs.push(program),
            None => println!("{}: skipped, it is not installed", kind.name()),
        }
    }
    let bench = Bench {
        is_large: options.large,
        is_quick: options.quick,
        programs,
        traces: options.traces,
        values: Values::new(),
    };
    if bench.is_quick {
        println!("a quick look at whether all this works; the figures mean nothing");
    }
    table::print_head();
    for row in Row::value_variants() {
        let is_wanted = if options.only.is_empty() { *row != Row::Aside } else { options.only.contains(row) };
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
            Row::Resident => memory::resident(bench),
            Row::Misses => misses::recorded(bench),
            Row::SameMisses => misses::same_misses(bench),
            Row::Expiry => memory::expiry(bench),
            Row::Aside => misses::aside(bench),
        }
    }
}
