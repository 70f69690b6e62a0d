//! Logging to the standard error. Only code at the edge logs.
//!
//! A log never stops the server: once it serves, a separate thread writes the lines. At most
//! [`WAITING_LINES_MAX`] lines wait for that thread; further ones are dropped and counted. Messages that
//! clients can cause have a rate limit ([`Limit`]).
//!
//! A program that embeds the server and has a log of its own does not call [`init`]; then [`set`] has no
//! effect.

use std::fs::File;
use std::io::{self, IsTerminal, Write, stderr};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

/// Starts logging at the level of this many `-v` flags, which is also the highest level that [`set`] allows.
/// Lines are written at once until [`begin_waiting`] is called.
pub fn init(verbosity: u32) {
    let (filter, handle) = reload::Layer::new(level(verbosity));
    let lines = fmt::layer().with_writer(|| Lines).with_target(false).with_ansi(stderr().is_terminal());
    let lines = if is_journal() { lines.without_time().boxed() } else { lines.boxed() };
    tracing_subscriber::registry().with(filter).with(lines).init();
    ALLOWED.store(verbosity, Ordering::Relaxed);
    HANDLE.set(handle).expect("init is called once");
}

/// Starts the thread that writes the lines. Call this only once the process is in the background: going there
/// ends all threads but one.
pub fn begin_waiting() {
    let builder = NonBlockingBuilder::default().buffered_lines_limit(WAITING_LINES_MAX).thread_name("log");
    let (lines, guard): (NonBlocking, WorkerGuard) = builder.finish(stderr());
    *WRITER.lock() = Some(guard);
    WAITING
        .set(Waiting { lines, done: AtomicUsize::new(0), reports_dropped: AtomicUsize::new(0) })
        .ok()
        .expect("called once");
}

/// Writes the waiting lines, for at most a second. Call this last: later lines are not written.
pub fn end() {
    drop(WRITER.lock().take());
}

/// Changes the log level, for the command `verbosity <level>`; at most to that of [`init`]. Returns the new
/// level.
pub fn set(verbosity: u32) -> u32 {
    let verbosity = verbosity.min(ALLOWED.load(Ordering::Relaxed));
    if let Some(handle) = HANDLE.get() {
        handle.reload(level(verbosity)).expect("the subscriber lives as long as the process");
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

/// The lines that wait to be written.
struct Waiting {
    lines: NonBlocking,
    /// The number of dropped lines at the last report, and the number of reports dropped since then.
    done: AtomicUsize,
    reports_dropped: AtomicUsize,
}

impl Waiting {
    /// Reports lines that were dropped since the last report. While the queue is full, the report is dropped,
    /// too.
    fn report_dropped(&self) {
        let counter = self.lines.error_counter();
        let (dropped, done) = (counter.dropped_lines(), self.done.load(Ordering::Relaxed));
        if dropped == done {
            return;
        }
        let count = (dropped - done).saturating_sub(self.reports_dropped.load(Ordering::Relaxed));
        let _ = self.lines.clone().write(format!("WARN {count} log lines were dropped\n").as_bytes());
        if counter.dropped_lines() == dropped {
            self.done.store(dropped, Ordering::Relaxed);
            self.reports_dropped.store(0, Ordering::Relaxed);
        } else {
            self.reports_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes lines to the standard error, or to the queue of its thread.
struct Lines;

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let Some(waiting) = WAITING.get() else { return stderr().write(line) };
        waiting.report_dropped();
        waiting.lines.clone().write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
static WRITER: Mutex<Option<WorkerGuard>> = Mutex::new(None);
static WAITING: OnceLock<Waiting> = OnceLock::new();
static ALLOWED: AtomicU32 = AtomicU32::new(0);
/// The largest number of lines that wait to be written.
pub const WAITING_LINES_MAX: usize = 4_096;
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
