//! The signals that a server answers.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::protocol::Shutdown;

/// The signals that are answered.
pub struct Signals {
    /// Those that end the server.
    pub end: EndSignals,
    /// Asks it to read its files again.
    pub hangup: Signal,
}

/// Those that end the server.
pub struct EndSignals {
    interrupt: Signal,
    terminate: Signal,
    user: Signal,
}

impl Signals {
    /// From now on none of them ends the process by itself.
    ///
    /// # Errors
    /// If the system refuses, or it is called outside of a runtime.
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
    /// Waits for one: how to end, and its name.
    pub async fn recv(&mut self) -> (Shutdown, &'static str) {
        tokio::select! {
            _ = self.interrupt.recv() => (Shutdown::AtOnce, "SIGINT"),
            _ = self.terminate.recv() => (Shutdown::AtOnce, "SIGTERM"),
            _ = self.user.recv() => (Shutdown::Graceful, "SIGUSR1"),
        }
    }

    /// Waits for one that ends it without a snapshot. The other one stays pending.
    pub async fn at_once(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
