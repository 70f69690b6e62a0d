//! Logs: written to standard error, at the edge only.
//!
//! A program that embeds the server and has a log of its own does not call [`init`]; then [`set`] does nothing.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt};

/// Starts logging with as much as so many `-v` flags ask for.
pub fn init(verbosity: u32) {
    let (filter, handle) = reload::Layer::new(level(verbosity));
    let is_terminal = std::io::stderr().is_terminal();
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(is_terminal);
    tracing_subscriber::registry().with(filter).with(lines).init();
    HANDLE.set(handle).expect("init is called once");
}

/// Changes how much is logged, as `verbosity <level>` asks for.
pub fn set(verbosity: u32) {
    if let Some(handle) = HANDLE.get() {
        handle.reload(level(verbosity)).expect("the subscriber lives as long as the process");
    }
}

fn level(verbosity: u32) -> LevelFilter {
    match verbosity {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}

static HANDLE: OnceLock<Handle<LevelFilter, Registry>> = OnceLock::new();
