//! The programs as processes: flags, signals, files, terminals, systemd and packaging.

mod bench;
mod bench_stale;
mod console;
mod environment;
mod events;
mod handover;
mod logging;
mod memory;
mod packaging;
mod process;
mod sessions;
#[path = "../support/mod.rs"]
mod support;
mod systemd;
mod terminal;
