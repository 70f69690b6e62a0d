//! What servers take from the machine: for an item, for sizes that change, and after everything has expired.
//!
//! All of it is seen from outside. A server's fixed tables are only taken from the machine once they are written to.
//! So the empty server is first told to delete many keys that it does not have, which writes to such tables and
//! stores nothing; what it has then, connection and all, is where the count begins.

use std::io;

use leasehold::Clock;

use crate::bench::Bench;
use crate::replayer::{Replayer, pause};
use crate::server::{Kind, Program, Server};
use crate::synthetic;
use crate::table::{self, Figure, Target};
use crate::trace::{Expiry, Op, Request};
use crate::wire::Connection;

/// Bytes for an item beyond its key and its value, by how full the server is.
pub fn per_item(bench: &Bench) -> io::Result<()> {
    let samples = bench.on_each(|program| bench.rounds(|| overheads(bench, program)))?;
    let column = |read: &dyn Fn(&Vec<f64>) -> f64| {
        let of_server = |rounds: &Vec<Vec<f64>>| rounds.iter().map(read).collect();
        table::medians(samples.iter().map(|(kind, rounds)| (*kind, of_server(rounds))).collect())
    };
    for (index, items) in ITEM_COUNTS.into_iter().enumerate() {
        let what = format!("bytes beyond key + value of an item, {} items", bench.scaled(items));
        let target = if items == 1_000_000 { Target::AtMost(50.0) } else { Target::None };
        table::print(&what, 1, target, &column(&|overheads| overheads[index]));
    }
    let average = column(&|overheads| overheads.iter().sum::<f64>() / overheads.len() as f64);
    table::print("  their average", 1, Target::AtMost(45.0), &average);
    Ok(())
}

/// Memory of a small server that sees sizes come and go.
pub fn resident(bench: &Bench) -> io::Result<()> {
    let sets = bench.scaled(5_000_000);
    let samples = bench.on_each(|program| {
        let server = program.start(SMALL_MB)?;
        Replayer::new(server.connect()?, &bench.values).play(synthetic::drift(sets))?;
        Ok([server.resident_bytes()?, server.peak_bytes()?].map(|bytes| bytes as f64 / MIB))
    })?;
    let column = |index: usize| {
        let figure = |(kind, sample): &(Kind, [f64; 2])| (*kind, Figure::Is(sample[index]));
        samples.iter().map(figure).collect()
    };
    let what = format!("MiB resident at -m {SMALL_MB} after {sets} sets of changing sizes");
    table::print(&what, 1, Target::AtMost(f64::from(SMALL_MB) + 12.0), &column(0));
    table::print("  at its highest", 1, Target::None, &column(1));
    Ok(())
}

/// How soon a server is empty when all that it holds ends in the same second, although nobody asks for it.
pub fn expiry(bench: &Bench) -> io::Result<()> {
    let samples = bench.on_each(|program| bench.rounds(|| Ending::watch(bench, program)))?;
    let column = |read: fn(&Ending) -> f64, limit: f64| {
        let figure = |rounds: &Vec<Ending>| {
            let value = table::median(rounds.iter().map(read).collect());
            if value < limit { Figure::Is(value) } else { Figure::Above(limit) }
        };
        samples.iter().map(|(kind, rounds)| (*kind, figure(rounds))).collect()
    };
    let patience = bench.patience_ms() as f64 / 1e3;
    let what = format!("s until {} items that end together are gone", bench.scaled(ENDING_ITEMS));
    table::print(&what, 1, Target::AtMost(5.0), &column(|ending| ending.empty_seconds, patience));
    let back = column(|ending| ending.back_seconds, patience);
    table::print("  and nine tenths of their memory", 1, Target::AtMost(5.0), &back);
    let pings = column(|ending| ending.ping_ms_max, f64::MAX);
    table::print("  longest wait of others meanwhile, ms", 1, Target::None, &pings);
    Ok(())
}

/// Overheads of one server that is filled step by step.
fn overheads(bench: &Bench, program: &Program) -> io::Result<Vec<f64>> {
    let server = program.start(LARGE_MB)?;
    let mut replayer = Replayer::new(server.connect()?, &bench.values);
    replayer.play(touches())?;
    let (empty, mut filled) = (server.settled_bytes()?, 0);
    let mut measure = |items: u32| {
        replayer.play((filled..items).map(|key| item(key, Expiry::Never)))?;
        filled = items;
        let taken = server.settled_bytes()?.saturating_sub(empty);
        Ok(taken as f64 / f64::from(items) - f64::from(KEY_BYTES) - f64::from(VALUE_BYTES))
    };
    ITEM_COUNTS.into_iter().map(|items| measure(bench.scaled(items))).collect()
}

/// What was seen of a mass expiry; infinite if it did not come.
struct Ending {
    back_seconds: f64,
    empty_seconds: f64,
    ping_ms_max: f64,
}

impl Ending {
    fn watch(bench: &Bench, program: &Program) -> io::Result<Ending> {
        let server = program.start(LARGE_MB)?;
        let clock = Clock::system();
        let mut replayer = Replayer::new(server.connect()?, &bench.values);
        replayer.play(touches())?;
        let empty = server.settled_bytes()?;
        let end = clock.now().unix + bench.lead_seconds();
        let expiry = Expiry::At(u32::try_from(end).expect("it is not yet 2106"));
        replayer.play((0..bench.scaled(ENDING_ITEMS)).map(|key| item(key, expiry)))?;
        if clock.now().unix >= end {
            return Err(io::Error::other(
                "the items have ended before the last was stored: is all well here?",
            ));
        }
        let full = server.settled_bytes()?;
        while clock.now().unix < end {
            pause(POLL_MS);
        }
        Ending::poll(&server, server.connect()?, empty + full.saturating_sub(empty) / 10, bench.patience_ms())
    }

    /// Looks at the server, and waits for it as any client would, until it is empty and its memory is `low`.
    fn poll(server: &Server, mut connection: Connection, low: u64, patience_ms: u64) -> io::Result<Ending> {
        let mut seen = Ending { back_seconds: f64::MAX, empty_seconds: f64::MAX, ping_ms_max: 0.0 };
        let clock = Clock::system();
        let seconds = || clock.now().millis as f64 / 1e3;
        while clock.now().millis < patience_ms && seen.back_seconds.max(seen.empty_seconds) == f64::MAX {
            let asked = clock.now().millis;
            connection.ask_get(b"ping");
            connection.send()?;
            connection.value()?;
            seen.ping_ms_max = seen.ping_ms_max.max((clock.now().millis - asked) as f64);
            if connection.holds()? == 0 {
                seen.empty_seconds = seen.empty_seconds.min(seconds());
            }
            if server.written_bytes()? <= low {
                seen.back_seconds = seen.back_seconds.min(seconds());
            }
            pause(POLL_MS);
        }
        Ok(seen)
    }
}

fn item(key: u32, expiry: Expiry) -> Request {
    Request { expiry, key, key_bytes: KEY_BYTES, op: Op::Set, time: 0, value_bytes: VALUE_BYTES }
}

/// Deletes of keys that no row stores.
fn touches() -> impl Iterator<Item = Request> {
    (0..TOUCHES).map(|n| Request { op: Op::Delete, ..item(u32::MAX - n, Expiry::Never) })
}

const ITEM_COUNTS: [u32; 4] = [600_000, 800_000, 1_000_000, 1_200_000];
const ENDING_ITEMS: u32 = 1_000_000;
const KEY_BYTES: u8 = 20;
const VALUE_BYTES: u32 = 100;
const SMALL_MB: u32 = 64;
const LARGE_MB: u32 = 1_024;
const MIB: f64 = 1_048_576.0;
const POLL_MS: u64 = 10;
/// Enough to meet each page of a few megabytes many times.
const TOUCHES: u32 = 50_000;
