//! The configuration of a client: its servers, timeouts and limits.

use std::error;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The behavior of a [`Client`](super::Client); start from the default and change what you must.
#[derive(Clone, Debug)]
pub struct Config {
    /// For how long a connection may take to open.
    pub connect_timeout: Duration,
    /// Connections to each server. A key always takes the same one.
    pub connections: usize,
    /// Sent first on every connection, for servers that require it (`-Y`).
    pub login: Option<Login>,
    /// The longest pause before reconnecting to a server that is down; the first pause is a hundredth of
    /// it. The actual pause is random, between half and all of that.
    pub retry_pause_max: Duration,
    /// For how long a server may stay silent while a reply is pending. After that the connection counts as
    /// dead, and all pending requests on it are lost.
    pub silence_max: Duration,
    /// How keys are distributed over the servers. All clients of a fleet must agree.
    pub spread: Spread,
    /// The time limit for one operation. A late answer is dropped.
    pub timeout: Duration,
    /// Connections to each server for fetches that wait for another client's load; each carries one wait at
    /// a time.
    pub waits: usize,
    /// How a fetch behaves when the cache is unavailable.
    pub without_cache: WithoutCache,
}

/// How keys are distributed over servers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Spread {
    /// libmemcached's weighted ketama: `ketama_weighted` in pylibmc, `OPT_LIBKETAMA_COMPATIBLE` in PHP. A
    /// new server takes over its share of the keys, and all others stay in place.
    #[default]
    Ketama,
    /// pymemcache's `HashClient`: the highest MurmurHash3 of server and key. A new server takes over its
    /// share here, too, but there are no weights, and each lookup hashes the key for every server. It
    /// agrees with pymemcache for keys of ASCII letters, passed as `str`.
    Rendezvous,
}

/// Name and password, for ASCII authentication.
#[derive(Clone)]
pub struct Login {
    /// Without spaces.
    pub user: String,
    /// Without line ends.
    pub password: String,
}

/// How a fetch behaves when the cache is unavailable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WithoutCache {
    /// Returns the cache's error, so that an outage of the cache does not become one of the database.
    Fail,
    /// Loads, and stores nothing.
    Load,
}

/// A server: `host`, `host:port`, or the path of a Unix socket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Server {
    pub(super) place: Place,
    /// Its share of the keys relative to the others (ketama only); at least 1.
    pub(super) weight: u32,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Place {
    Tcp { host: String, port: u16 },
    Unix(String),
}

/// The text is not a valid server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BadServer;

impl Default for Config {
    fn default() -> Self {
        Config {
            connect_timeout: Duration::from_secs(1),
            connections: 2,
            login: None,
            retry_pause_max: Duration::from_secs(1),
            silence_max: Duration::from_secs(3),
            spread: Spread::Ketama,
            timeout: Duration::from_secs(1),
            waits: 16,
            without_cache: WithoutCache::Load,
        }
    }
}

/// Omits the password, which must not appear in logs.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Server {
    /// The same server with this weight; 0 counts as 1.
    pub fn weighing(self, weight: u32) -> Server {
        Server { weight: weight.max(1), ..self }
    }

    /// Its host name or address; empty for a Unix socket.
    pub(crate) fn host(&self) -> &str {
        match &self.place {
            Place::Tcp { host, .. } => host.trim_start_matches('[').trim_end_matches(']'),
            Place::Unix(_) => "",
        }
    }

    /// Its name on libmemcached's ring.
    pub(super) fn ketama_name(&self) -> String {
        match &self.place {
            Place::Tcp { host, port: PORT_DEFAULT } => host.clone(),
            Place::Tcp { .. } => self.to_string(),
            // libmemcached gives Unix sockets port 0.
            Place::Unix(path) => format!("{path}:0"),
        }
    }
}

impl FromStr for Server {
    type Err = BadServer;

    fn from_str(text: &str) -> Result<Server, BadServer> {
        let place = match text.rsplit_once(':') {
            _ if text.starts_with('/') => Place::Unix(text.to_owned()),
            Some((host, port)) if !host.is_empty() && !text.ends_with(']') => {
                Place::Tcp { host: host.to_owned(), port: port.parse().map_err(|_| BadServer)? }
            }
            None if text.is_empty() => return Err(BadServer),
            Some(("", _)) => return Err(BadServer),
            Some(_) | None => Place::Tcp { host: text.to_owned(), port: PORT_DEFAULT },
        };
        Ok(Server { place, weight: 1 })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.place {
            Place::Tcp { host, port } => write!(f, "{host}:{port}"),
            Place::Unix(path) => f.write_str(path),
        }
    }
}

impl fmt::Display for BadServer {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("invalid server: expected host, host:port or the absolute path of a Unix socket")
    }
}

impl error::Error for BadServer {}

/// memcached's port.
const PORT_DEFAULT: u16 = 11211;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_parsed_from_text() {
        check("cache-1", Some("cache-1:11211"));
        check("10.0.0.1:11212", Some("10.0.0.1:11212"));
        check("[::1]:11212", Some("[::1]:11212"));
        check("[::1]", Some("[::1]:11211"));
        check("/run/leasehold.sock", Some("/run/leasehold.sock"));
        check("", None);
        check(":11211", None);
        check("host:port", None);
        check("host:65536", None);
    }

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let server = text.parse::<Server>().ok().map(|server| server.to_string());
        assert_eq!(server.as_deref(), expected, "{text}");
    }
}
