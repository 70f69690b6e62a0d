//! The signals that a server handles.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::protocol::Shutdown;

/// The handled signals.
pub struct Signals {
    /// Signals that end the server.
    pub end: EndSignals,
    /// SIGHUP, which makes the server read its files again.
    pub hangup: Signal,
}

/// Signals that end the server.
pub struct EndSignals {
    interrupt: Signal,
    terminate: Signal,
    user: Signal,
}

impl Signals {
    /// Catches the signals; from now on none of them ends the process by itself.
    ///
    /// # Errors
    /// If the system refuses, or outside of a runtime.
    pub fn catch() -> io::Result<Signals> {
        let end = EndSignals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            user: signal(SignalKind::user_defined1())?,
        };
        Ok(Signals { end, hangup: signal(SignalKind::hangup())? })
    }
}

impl EndSignals {
    /// Waits for a signal; returns how to end, and the signal's name.
    pub async fn recv(&mut self) -> (Shutdown, &'static str) {
        tokio::select! {
            _ = self.interrupt.recv() => (Shutdown::AtOnce, "SIGINT"),
            _ = self.terminate.recv() => (Shutdown::AtOnce, "SIGTERM"),
            _ = self.user.recv() => (Shutdown::Graceful, "SIGUSR1"),
        }
    }

    /// Waits for a signal that ends the server without a snapshot. The other one stays pending.
    pub async fn at_once(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
