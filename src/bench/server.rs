//! A server to load, as named on the command line.

use std::fmt::{self, Display};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// The address and protocol of a server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Server {
    /// HOST:PORT
    pub address: String,
    /// Its protocol.
    pub dialect: Dialect,
}

/// The protocol of a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dialect {
    /// RESP, as Redis and Valkey do.
    Redis,
    /// memcached's text protocol, with the meta commands and the lease verbs.
    Text,
}

impl Server {
    /// Whether it speaks RESP.
    pub fn is_redis(&self) -> bool {
        self.dialect == Dialect::Redis
    }

    /// All addresses of its name; any of them may be the one that accepts connections.
    ///
    /// # Errors
    /// If the name cannot be resolved.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        Ok(self.address.to_socket_addrs()?.collect())
    }
}

impl FromStr for Server {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Server, &'static str> {
        let (address, dialect) = match text.strip_prefix(REDIS) {
            None => (text, Dialect::Text),
            Some(address) => (address, Dialect::Redis),
        };
        let (host, port) = address.rsplit_once(':').ok_or("HOST:PORT, or redis://HOST:PORT")?;
        if host.is_empty() || port.parse::<u16>().is_err() {
            return Err("HOST:PORT, or redis://HOST:PORT");
        }
        Ok(Server { address: address.to_owned(), dialect })
    }
}

impl Display for Server {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        let scheme = if self.is_redis() { REDIS } else { "" };
        write!(to, "{scheme}{}", self.address)
    }
}

const REDIS: &str = "redis://";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_of_the_address_selects_the_dialect() {
        let text = Server { address: "localhost:11211".to_owned(), dialect: Dialect::Text };
        assert_eq!("localhost:11211".parse(), Ok(text));
        let redis = Server { address: "[::1]:6379".to_owned(), dialect: Dialect::Redis };
        assert_eq!("redis://[::1]:6379".parse(), Ok(redis.clone()));
        assert_eq!(redis.to_string(), "redis://[::1]:6379");
        for wrong in ["", "localhost", ":1", "a:65536", "redis://a"] {
            assert!(wrong.parse::<Server>().is_err(), "{wrong}");
        }
    }
}
