//! The memory of servers: per item, with changing sizes, and after everything has expired.
//!
//! It is measured from outside. A server's fixed tables count only once they have been written to. So the
//! empty server first deletes many absent keys, which writes to such tables and stores nothing; the memory
//! after that is the baseline.

use std::io;

use leasehold::Clock;

use crate::bench::Bench;
use crate::replayer::{Replayer, pause};
use crate::server::{Kind, Program, Server};
use crate::synthetic;
use crate::table::{self, Figure, Target};
use crate::trace::{Expiry, Op, Request};
use crate::wire::Connection;

/// Bytes per item beyond its key and value, by the number of items.
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

/// Memory of a small server whose value sizes change.
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
    table::print("  peak", 1, Target::None, &column(1));
    Ok(())
}

/// Memory of a server whose values all have one size, and then all another.
pub fn steps(bench: &Bench) -> io::Result<()> {
    let samples = bench.on_each(|program| {
        let server = program.start(STEPS_MB)?;
        let mut replayer = Replayer::new(server.connect()?, &bench.values);
        let mut stored = 0;
        let mut step = |(sets, value_bytes): (u32, u32)| {
            let first = stored;
            stored += bench.scaled(sets);
            let set = |key| Request { value_bytes, ..item(key, Expiry::Never) };
            replayer.play((first..stored).map(set))?;
            Ok(server.resident_bytes()? as f64 / MIB)
        };
        STEPS.into_iter().map(&mut step).collect::<io::Result<Vec<f64>>>()
    })?;
    for (index, (sets, value_bytes)) in STEPS.into_iter().enumerate() {
        let figure = |(kind, sample): &(Kind, Vec<f64>)| (*kind, Figure::Is(sample[index]));
        let what =
            format!("MiB resident at -m {STEPS_MB} after {} more of {value_bytes} bytes", bench.scaled(sets));
        table::print(
            &what,
            1,
            Target::AtMost(f64::from(STEPS_MB) + 26.0),
            &samples.iter().map(figure).collect(),
        );
    }
    Ok(())
}

/// The time until a server is empty when all its items expire in the same second, without requests for them.
pub fn expiry(bench: &Bench) -> io::Result<()> {
    let samples = bench.on_each(|program| bench.rounds(|| MassExpiry::watch(bench, program)))?;
    let column = |read: fn(&MassExpiry) -> f64, limit: f64| {
        let figure = |rounds: &Vec<MassExpiry>| {
            let value = table::median(rounds.iter().map(read).collect());
            if value < limit { Figure::Is(value) } else { Figure::Above(limit) }
        };
        samples.iter().map(|(kind, rounds)| (*kind, figure(rounds))).collect()
    };
    let patience = bench.patience_ms() as f64 / 1e3;
    let what = format!("s until {} items that expire together are removed", bench.scaled(EXPIRING_ITEMS));
    table::print(&what, 1, Target::AtMost(5.0), &column(|expiry| expiry.empty_seconds, patience));
    let freed = column(|expiry| expiry.freed_seconds, patience);
    table::print("  and nine tenths of their memory are freed", 1, Target::AtMost(5.0), &freed);
    let pings = column(|expiry| expiry.ping_ms_max, f64::MAX);
    table::print("  longest latency meanwhile, ms", 1, Target::None, &pings);
    Ok(())
}

/// The overheads of one server that is filled step by step.
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

/// The times of a mass expiry; infinite if it did not happen.
struct MassExpiry {
    freed_seconds: f64,
    empty_seconds: f64,
    ping_ms_max: f64,
}

impl MassExpiry {
    fn watch(bench: &Bench, program: &Program) -> io::Result<MassExpiry> {
        let server = program.start(LARGE_MB)?;
        let clock = Clock::system();
        let mut replayer = Replayer::new(server.connect()?, &bench.values);
        replayer.play(touches())?;
        let empty = server.settled_bytes()?;
        let end = clock.now().unix + bench.lead_seconds();
        let expiry = Expiry::At(u32::try_from(end).expect("it is not yet 2106"));
        replayer.play((0..bench.scaled(EXPIRING_ITEMS)).map(|key| item(key, expiry)))?;
        if clock.now().unix >= end {
            return Err(io::Error::other(
                "items expired before the last one was stored: this machine is too slow",
            ));
        }
        let full = server.settled_bytes()?;
        while clock.now().unix < end {
            pause(POLL_MS);
        }
        MassExpiry::poll(
            &server,
            server.connect()?,
            empty + full.saturating_sub(empty) / 10,
            bench.patience_ms(),
        )
    }

    /// Polls the server like any client, until it is empty and its memory is down to `low`.
    fn poll(
        server: &Server,
        mut connection: Connection,
        low: u64,
        patience_ms: u64,
    ) -> io::Result<MassExpiry> {
        let mut seen = MassExpiry { freed_seconds: f64::MAX, empty_seconds: f64::MAX, ping_ms_max: 0.0 };
        let clock = Clock::system();
        let seconds = || clock.now().millis as f64 / 1e3;
        while clock.now().millis < patience_ms && seen.freed_seconds.max(seen.empty_seconds) == f64::MAX {
            let sent = clock.now().millis;
            connection.ask_get(b"ping");
            connection.send()?;
            connection.value()?;
            seen.ping_ms_max = seen.ping_ms_max.max((clock.now().millis - sent) as f64);
            if connection.holds()? == 0 {
                seen.empty_seconds = seen.empty_seconds.min(seconds());
            }
            if server.written_bytes()? <= low {
                seen.freed_seconds = seen.freed_seconds.min(seconds());
            }
            pause(POLL_MS);
        }
        Ok(seen)
    }
}

fn item(key: u32, expiry: Expiry) -> Request {
    Request { expiry, key, key_bytes: KEY_BYTES, op: Op::Set, time: 0, value_bytes: VALUE_BYTES }
}

/// Deletes of keys that are never stored.
fn touches() -> impl Iterator<Item = Request> {
    (0..TOUCHES).map(|n| Request { op: Op::Delete, ..item(u32::MAX - n, Expiry::Never) })
}

const ITEM_COUNTS: [u32; 4] = [600_000, 800_000, 1_000_000, 1_200_000];
const EXPIRING_ITEMS: u32 = 1_000_000;
const KEY_BYTES: u8 = 20;
const VALUE_BYTES: u32 = 100;
const SMALL_MB: u32 = 64;
/// Sets, and the length of their values.
const STEPS: [(u32, u32); 5] =
    [(14_763, 20_000), (1_270_000, 200), (3_500, 100_000), (300_000, 1_000), (1_000, 600_000)];
const STEPS_MB: u32 = 256;
const LARGE_MB: u32 = 1_024;
const MIB: f64 = 1_048_576.0;
const POLL_MS: u64 = 10;
/// Enough to write to each page of a few megabytes many times.
const TOUCHES: u32 = 50_000;
