//! Notifications to systemd, if it started this server (`Type=notify`).
//!
//! Failures are only logged, because the server works without them.

use std::time::Duration;

use sd_notify::NotifyState;

/// Connections are accepted.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// The server is about to end.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// The server is alive.
pub fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// A long start or stop makes progress: the server is alive, and needs more time.
pub fn extend_timeout() {
    notify(&[NotifyState::Watchdog, NotifyState::ExtendTimeoutUsec(EXTENSION_USEC)]);
}

/// Another process takes over.
pub fn main_pid(pid: u32) {
    notify(&[NotifyState::MainPid(pid)]);
}

/// The period of the watchdog. A successor receives it from its predecessor.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

fn notify(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("cannot notify systemd: {error}");
    }
}

/// The same as `WatchdogSec` in our unit; progress is reported each second.
const EXTENSION_USEC: u32 = 30_000_000;
