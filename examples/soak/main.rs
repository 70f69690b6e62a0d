//! A long test of the server's program, with many faults at once.
//!
//! `cargo run --release --example soak -- --hours 8`. The sizes of values change, values are sent in half,
//! readers are slow, requests come byte by byte, clients hang up, nobody reads the log, SIGHUP changes
//! policies, and servers hand over to their successors. All along, resident memory must be within its bound,
//! each reply must come, in order, and no read may return a value that is older than it may be.
//!
//! A verdict never depends on how fast anything is. The seed, which is printed, decides what each client
//! does, but not how they interleave.

#[path = "../common/built.rs"]
mod built;
#[path = "../price_change/dice.rs"]
mod dice;
mod faults;
mod owner;
mod server;
mod shopper;
mod value;
mod wire;
mod world;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::thread;

use clap::Parser;
use leasehold::Clock;
use leasehold::protocol::OUTPUT_BYTES_MAX;

use crate::owner::Owner;
use crate::server::Server;
use crate::wire::Wire;
use crate::world::{SIZES, World, pause};

/// Play faults against the server, and check its memory and all its replies
#[derive(Parser)]
struct Options {
    /// Seconds to play
    #[arg(long, value_name = "NUM", default_value_t = 180)]
    seconds: u64,

    /// Hours to play, instead of seconds
    #[arg(long, value_name = "NUM")]
    hours: Option<u64>,

    /// Seed of the clients [default: by the time]
    #[arg(long, value_name = "NUM")]
    seed: Option<u64>,

    /// Memory for items, in megabytes
    #[arg(short, long, value_name = "MB", default_value_t = 64)]
    memory: usize,

    /// Path of leasehold [default: the one of this checkout]
    #[arg(long, value_name = "FILE")]
    leasehold: Option<PathBuf>,
}

/// The director of the play: it changes what all clients see.
struct Director<'a> {
    clock: Clock,
    /// The bound on resident memory besides the limit and the tables.
    flight_bytes: usize,
    highest: usize,
    memory_bytes: usize,
    server: Server,
    world: &'a World,
}

fn main() -> io::Result<ExitCode> {
    let options = Options::parse();
    let seconds = options.hours.map_or(options.seconds, |hours| hours * 3600);
    let seed = options.seed.unwrap_or_else(|| Clock::system().now().unix);
    let program = options.leasehold.map_or_else(built::leasehold, Ok)?;
    let server = Server::start(program, options.memory)?;
    let world = &World::new(server.address, seed);
    let flight_bytes = flight_bytes(world)?;
    println!(
        "seed {seed}: {seconds} s at -m {}, {} MiB of tables, at most {} MiB being received and sent",
        options.memory,
        server.table_bytes >> 20,
        flight_bytes >> 20
    );
    let memory_bytes = options.memory << 20;
    let clock = Clock::system();
    let mut director = Director { clock, flight_bytes, highest: 0, memory_bytes, server, world };
    thread::scope(|scope| {
        for name in 0..OWNERS {
            let owner = Owner::new(world, name);
            scope.spawn(move || owner.work());
        }
        for name in 0..SHOPPERS {
            scope.spawn(move || shopper::work(world, 100 + name));
        }
        for name in 0..FAULTY {
            scope.spawn(move || faults::work(world, 200 + name));
        }
        let directed = director.direct(seconds);
        world.is_over.store(true, Ordering::Relaxed);
        directed
    })?;
    director.end()?;
    let wrongs = world.wrongs();
    wrongs.iter().for_each(|wrong| println!("WRONG: {wrong}"));
    Ok(if wrongs.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The bytes that all connections may have in flight: those being received, by the server's own limit if it
/// has one, and those being sent.
fn flight_bytes(world: &World) -> io::Result<usize> {
    let limit = Wire::open(world.address)?.number("stats settings", "receive_limit")?;
    let connections = OWNERS + (SHOPPERS + FAULTY * (faults::CONNECTIONS_EACH + 1)) as usize;
    let received = limit.map_or(connections * faults::VALUE_BYTES_MAX, |limit| limit as usize);
    Ok(received + connections * (OUTPUT_BYTES_MAX + READ_BYTES))
}

impl Director<'_> {
    /// Changes everything in turn, and measures all along.
    fn direct(&mut self, seconds: u64) -> io::Result<()> {
        let mut round = 0;
        while self.clock.now().millis < seconds * 1_000 && !self.world.is_over() {
            round += 1;
            self.measure(self.memory_bytes + self.flight_bytes)?;
            if round % ROUNDS_OF_A_SIZE == 0 {
                let size = SIZES[(round / ROUNDS_OF_A_SIZE) as usize % SIZES.len()];
                self.world.value_bytes.store(size, Ordering::Relaxed);
            }
            if round % ROUNDS_OF_A_POLICY == 0 {
                self.server.reload(round)?;
            }
            if round % ROUNDS_OF_A_SERVER == 0 {
                self.hand_over()?;
            }
            if round % ROUNDS_OF_A_REPORT == 0 {
                self.report()?;
            }
            pause(ROUND_MS);
        }
        self.report()
    }

    fn hand_over(&mut self) -> io::Result<()> {
        self.world.begun.fetch_add(1, Ordering::SeqCst);
        self.server.hand_over()?;
        Wire::open(self.world.address)?.number("stats", "pid")?;
        self.world.ended.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn measure(&mut self, bound: usize) -> io::Result<()> {
        let resident = self.server.resident_bytes()?;
        self.highest = self.highest.max(resident);
        let most = bound + self.server.table_bytes + SLACK_BYTES;
        if resident > most {
            self.world.wrong(format!("{} MiB are resident, more than {}", resident >> 20, most >> 20));
        }
        Ok(())
    }

    fn report(&self) -> io::Result<()> {
        println!(
            "{:6} s: {} replies, {} servers, {} MiB resident, at most {}",
            self.clock.now().millis / 1_000,
            self.world.replies.load(Ordering::Relaxed),
            self.world.ended.load(Ordering::SeqCst) + 1,
            self.server.resident_bytes()? >> 20,
            self.highest >> 20
        );
        Ok(())
    }

    /// Without clients, and with an eighth of the memory, the rest must be the system's again.
    fn end(mut self) -> io::Result<()> {
        let mut wire = Wire::open(self.world.address)?;
        let eighth = self.memory_bytes / 8;
        wire.send(format!("cache_memlimit {}\r\n", eighth >> 20).as_bytes())?;
        wire.line()?;
        let is_over = |now: Option<u64>| now.is_none_or(|bytes| bytes > eighth as u64);
        let mut rounds = 0;
        while is_over(wire.number("stats memory", "charged_bytes")?) && rounds < ROUNDS_MAX {
            rounds += 1;
            pause(ROUND_MS);
        }
        if rounds == ROUNDS_MAX {
            self.world.wrong("the limit is lower, but not reached".to_owned());
        }
        self.measure(eighth)?;
        println!("{} MiB resident at an eighth of the memory", self.server.resident_bytes()? >> 20);
        drop(wire);
        self.server.stop()
    }
}

const OWNERS: usize = 4;
const SHOPPERS: u64 = 6;
const FAULTY: u64 = 6;
/// One read of a connection.
const READ_BYTES: usize = 16 << 10;
const SLACK_BYTES: usize = 12 << 20;
const ROUND_MS: u64 = 50;
const ROUNDS_OF_A_SIZE: u64 = 40;
const ROUNDS_OF_A_POLICY: u64 = 17;
const ROUNDS_OF_A_SERVER: u64 = 290;
const ROUNDS_OF_A_REPORT: u64 = 600;
/// A limit that is not reached after so many is never reached.
const ROUNDS_MAX: u64 = 2_000;
