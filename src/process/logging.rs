//! Logging to the standard error. Only code at the edge logs.
//!
//! A program that embeds the server and has a log of its own does not call [`init`]; then [`set`] has no
//! effect.

use std::fs::File;
use std::io::{self, IsTerminal, stderr};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

/// Starts logging at the level of this many `-v` flags.
pub fn init(verbosity: u32) {
    let (filter, handle) = reload::Layer::new(level(verbosity));
    let lines = fmt::layer().with_writer(stderr).with_target(false).with_ansi(stderr().is_terminal());
    let lines = if is_journal() { lines.without_time().boxed() } else { lines.boxed() };
    tracing_subscriber::registry().with(filter).with(lines).init();
    HANDLE.set(handle).expect("init is called once");
}

/// Changes the log level, for the command `verbosity <level>`.
pub fn set(verbosity: u32) {
    if let Some(handle) = HANDLE.get() {
        handle.reload(level(verbosity)).expect("the subscriber lives as long as the process");
    }
}

/// Whether the log goes to systemd's journal, which also receives a daemon's log and adds the time itself.
pub fn is_journal() -> bool {
    let own = || -> io::Result<String> {
        let metadata = File::from(stderr().as_fd().try_clone_to_owned()?).metadata()?;
        Ok(format!("{}:{}", metadata.dev(), metadata.ino()))
    };
    // The variable alone is not enough: a process with redirected standard error inherits it, too.
    std::env::var("JOURNAL_STREAM").is_ok_and(|journal| own().is_ok_and(|own| own == journal))
}

fn level(verbosity: u32) -> LevelFilter {
    match verbosity {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}

static HANDLE: OnceLock<Handle<LevelFilter, Registry>> = OnceLock::new();
