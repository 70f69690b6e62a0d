//! Logging to the standard error. Only code at the edge logs.
//!
//! A log never stops the server: once it serves, a separate thread writes the lines. At most
//! [`WAITING_LINES_MAX`] lines wait for that thread; further ones are dropped and counted. Messages that
//! clients can cause have a rate limit ([`Limit`]).
//!
//! The `-v` flags choose among leasehold's own lines; `RUST_LOG` takes their place, and reaches libraries,
//! too.
//!
//! A program that embeds the server and has a log of its own does not call [`init`]; then [`set`] has no
//! effect.

use std::env;
use std::fs::File;
use std::io::{self, IsTerminal, Write, stderr};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use super::log_queue::Queue;

pub use super::log_queue::WAITING_LINES_MAX;

/// `--log-format`
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Format {
    /// A line of text for each event
    #[default]
    Text,
    /// A JSON object in each line
    Json,
}

/// Starts logging at the level of this many `-v` flags, which is also the highest level that [`set`] allows.
/// Lines are written at once until [`begin_waiting`] is called.
pub fn init(verbosity: u32, format: Format) {
    let requested = env::var(RUST_LOG).ok().filter(|text| !text.is_empty());
    let parsed = requested.as_deref().map(str::parse::<Targets>);
    let (filter, is_own) = match &parsed {
        Some(Ok(targets)) => (targets.clone(), false),
        None | Some(Err(_)) => (own_lines(verbosity), true),
    };
    let (filter, handle) = reload::Layer::new(filter);
    tracing_subscriber::registry().with(filter).with(layer(format)).init();
    ALLOWED.store(verbosity, Ordering::Relaxed);
    // With `RUST_LOG`, the command `verbosity` must not undo what the operator asked for.
    if is_own {
        HANDLE.set(handle).expect("init is called once");
    }
    if let Some(Err(error)) = parsed {
        tracing::warn!("{RUST_LOG} is ignored: {error}; expected levels such as leasehold=debug,mio=trace");
    }
}

/// Prints events in that form.
fn layer(format: Format) -> Box<dyn Layer<Filtered> + Send + Sync> {
    let lines = fmt::layer().with_target(false);
    match (format, is_journal()) {
        (Format::Json, is_journal) => {
            let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
            let lines = lines.with_writer(Lines { report: json_report });
            if is_journal { lines.without_time().boxed() } else { lines.boxed() }
        }
        (Format::Text, is_journal) => {
            let lines = lines.with_ansi(stderr().is_terminal()).with_writer(Lines { report: text_report });
            if is_journal { lines.without_time().boxed() } else { lines.boxed() }
        }
    }
}

type Filtered = tracing_subscriber::layer::Layered<reload::Layer<Targets, Registry>, Registry>;

/// Starts the thread that writes the lines. Call this only once the process is in the background: going there
/// ends all threads but one.
pub fn begin_waiting() {
    let writer = thread::Builder::new().name("log".to_owned());
    match writer.spawn(|| QUEUE.write(stderr())) {
        Ok(_) => IS_WAITING.store(true, Ordering::Release),
        Err(error) => tracing::warn!("the log is written without a thread of its own: {error}"),
    }
}

/// Writes the waiting lines, for at most a second. Call this last.
pub fn end() {
    QUEUE.finish(END_TIME);
}

/// Changes the log level, for the command `verbosity <level>`; at most to that of [`init`]. Returns the new
/// level.
pub fn set(verbosity: u32) -> u32 {
    let verbosity = verbosity.min(ALLOWED.load(Ordering::Relaxed));
    if let Some(handle) = HANDLE.get() {
        handle.reload(own_lines(verbosity)).expect("the subscriber lives as long as the process");
    }
    verbosity
}

/// A rate limit for a message that clients can cause: [`MESSAGES_MAX`] within [`MESSAGES_TIME`].
pub struct Limit(Mutex<Messages>);

struct Messages {
    begin: Option<Instant>,
    count: u32,
    suppressed: u64,
}

impl Limit {
    /// A limit without any messages yet.
    pub const fn new() -> Self {
        Limit(Mutex::new(Messages { begin: None, count: 0, suppressed: 0 }))
    }

    /// Returns `None` if the message must not be logged now, and otherwise the number of messages suppressed
    /// since the last one.
    pub fn admit(&self, now: Instant) -> Option<u64> {
        let mut messages = self.0.lock();
        if messages.begin.is_none_or(|begin| now.duration_since(begin) >= MESSAGES_TIME) {
            (messages.begin, messages.count) = (Some(now), 0);
        }
        if messages.count == MESSAGES_MAX {
            messages.suppressed += 1;
            return None;
        }
        messages.count += 1;
        Some(std::mem::take(&mut messages.suppressed))
    }
}

impl Default for Limit {
    fn default() -> Self {
        Limit::new()
    }
}

/// Writes lines to the standard error, or to the queue of its thread.
#[derive(Clone, Copy)]
struct Lines {
    /// The line that reports this many dropped lines.
    report: fn(u64) -> Vec<u8>,
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !IS_WAITING.load(Ordering::Acquire) {
            return stderr().write(line);
        }
        QUEUE.push(line, self.report);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'l> MakeWriter<'l> for Lines {
    type Writer = Lines;

    fn make_writer(&'l self) -> Lines {
        *self
    }
}

fn text_report(dropped: u64) -> Vec<u8> {
    format!("WARN {dropped} log lines were dropped\n").into_bytes()
}

fn json_report(dropped: u64) -> Vec<u8> {
    let report =
        serde_json::json!({ "dropped": dropped, "level": "WARN", "message": "log lines were dropped" });
    format!("{report}\n").into_bytes()
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

/// This program's lines at the level of that many `-v` flags, and only problems of libraries.
fn own_lines(verbosity: u32) -> Targets {
    let level = match verbosity {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    Targets::new().with_target("leasehold", level).with_default(LevelFilter::WARN)
}

static ALLOWED: AtomicU32 = AtomicU32::new(0);
static HANDLE: OnceLock<Handle<Targets, Registry>> = OnceLock::new();
static IS_WAITING: AtomicBool = AtomicBool::new(false);
static QUEUE: Queue = Queue::new();
const RUST_LOG: &str = "RUST_LOG";
/// The time for the last lines.
const END_TIME: Duration = Duration::from_secs(1);
/// The largest number of times that a limited message is logged within [`MESSAGES_TIME`].
pub const MESSAGES_MAX: u32 = 10;
/// See [`MESSAGES_MAX`].
pub const MESSAGES_TIME: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_beyond_the_limit_are_only_counted() {
        let (limit, start) = (Limit::new(), Instant::now());
        assert!((0..MESSAGES_MAX).all(|_| limit.admit(start) == Some(0)));
        assert_eq!((limit.admit(start), limit.admit(start)), (None, None));
        assert_eq!(limit.admit(start + MESSAGES_TIME), Some(2));
        assert_eq!(limit.admit(start + MESSAGES_TIME), Some(0));
    }
}
