//! What systemd is told of this server, if it was started by it (`Type=notify`).
//!
//! A server that cannot tell it is served by it all the same: failures are only logged.

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

/// Something that takes long makes progress: the server is alive, and its start or its end may take a while yet.
pub fn extend_timeout() {
    notify(&[NotifyState::Watchdog, NotifyState::ExtendTimeoutUsec(EXTENSION_USEC)]);
}

/// Another process takes the place of this one.
pub fn main_pid(pid: u32) {
    notify(&[NotifyState::MainPid(pid)]);
}

/// How often it wants to hear that the server is alive. A successor is told by its predecessor.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

fn notify(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("cannot tell systemd: {error}");
    }
}

/// As often as `WatchdogSec` of our unit; progress is made each second.
const EXTENSION_USEC: u32 = 30_000_000;
