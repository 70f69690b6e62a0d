//! The configuration of the source, and its checks without the server.

use std::fmt;
use std::time::Duration;

use super::tls;
use super::url::Url;

/// The configuration of the source.
#[derive(Clone, PartialEq)]
pub struct Settings {
    /// Creates slot and publication if they are missing, and the slot again if it is lost.
    pub create: bool,
    /// The time between two heartbeats; zero for none.
    pub heartbeat: Duration,
    /// The prefix of the messages of `pg_logical_emit_message` that become events. Their content is JSON.
    pub messages: Option<String>,
    /// Takes precedence over the password in the URL.
    pub password: Option<String>,
    /// The publication, which names the tables.
    pub publication: String,
    /// The replication slot. No other program may read it.
    pub slot: String,
    /// `postgresql://user@host:port/database?sslmode=…`
    pub url: String,
}

impl Settings {
    /// Checks what can be checked without the server.
    ///
    /// # Errors
    /// The name of the setting, and a sentence with the remedy, without the password.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        Url::parse(&self.url).map_err(|why| ("url", format!("url: {why}")))?;
        let is_legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if (1..=SLOT_BYTES_MAX).contains(&self.slot.len()) && self.slot.chars().all(is_legal) {
            return Ok(());
        }
        let why =
            format!("slot: PostgreSQL's slots have 1 to {SLOT_BYTES_MAX} lower-case letters, digits and _");
        Err(("slot", why))
    }

    /// Checks the certificates that the URL names.
    ///
    /// # Errors
    /// A sentence with the file.
    pub fn check_files(&self) -> Result<(), String> {
        let url = Url::parse(&self.url)?;
        // As libpq, it reads the authorities only for modes that verify something.
        tls::connector(&url).map(|_| ()).map_err(|failure| failure.to_string())
    }
}

/// Shows no password, nor the URL, which may have one.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Settings").field("slot", &self.slot).finish_non_exhaustive()
    }
}

const SLOT_BYTES_MAX: usize = 63;
