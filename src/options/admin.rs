//! `--admin`: the address of the HTTP interface for operators, and its token.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;

/// The flags of the layer above this one.
#[derive(Args, Clone, Debug, Default)]
pub struct AdminOptions {
    /// Address for metrics, health, a web page and invalidations over HTTP [default: none; port: 8211]
    #[arg(long = "admin", value_name = "ADDR", value_parser = address)]
    pub address: Option<SocketAddr>,

    /// File with the token that HTTP clients must send; required for an address that other machines can reach
    #[arg(long = "admin-token-file", value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Sources of events that must be live for /readyz to succeed, comma-separated [default: none]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub ready_needs: Vec<String>,
}

impl AdminOptions {
    /// The conflict between the flags, if there is one.
    pub(super) fn conflict(&self) -> Option<String> {
        match (self.address, &self.token_file) {
            (None, Some(_)) => Some("--admin-token-file requires --admin".to_owned()),
            (None, None) if !self.ready_needs.is_empty() => Some("--ready-needs requires --admin".to_owned()),
            (Some(address), None) if !address.ip().to_canonical().is_loopback() => Some(format!(
                "--admin {address} is reachable from other machines, which could invalidate everything: \
                 add --admin-token-file, or use a loopback address"
            )),
            (None, None) | (Some(_), _) => None,
        }
    }
}

/// Parses `address`, `address:port`, `[v6]:port`, or `localhost` as the address. Other names are refused,
/// because they may resolve differently later.
fn address(text: &str) -> Result<SocketAddr, String> {
    let named = text.strip_prefix("localhost").map(|rest| format!("{}{rest}", Ipv4Addr::LOCALHOST));
    let text = named.as_deref().unwrap_or(text);
    let ip = text.strip_prefix('[').and_then(|inside| inside.strip_suffix(']')).unwrap_or(text);
    let alone = || ip.parse().map(|ip: IpAddr| SocketAddr::new(ip, PORT));
    text.parse().or_else(|_| alone()).map_err(|_| "not an address such as 127.0.0.1:8211".to_owned())
}

const PORT: u16 = 8211;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_the_admin_address_is_optional() {
        for (text, expected) in [
            ("127.0.0.1", "127.0.0.1:8211"),
            ("10.0.0.1:9", "10.0.0.1:9"),
            ("::1", "[::1]:8211"),
            ("[::1]", "[::1]:8211"),
            ("[::]:0", "[::]:0"),
            ("localhost", "127.0.0.1:8211"),
            ("localhost:7", "127.0.0.1:7"),
        ] {
            assert_eq!(address(text).unwrap().to_string(), expected);
        }
        for text in ["", "cache.example:80", "127.0.0.1:", "127.0.0.1:65536"] {
            assert!(address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_public_admin_address_requires_a_token() {
        let mistake = |text: &str, token: Option<&str>| {
            let token_file = token.map(PathBuf::from);
            AdminOptions { address: address(text).ok(), token_file, ..AdminOptions::default() }.conflict()
        };
        for text in ["127.0.0.2:1", "::1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(mistake(text, None), None, "{text}");
        }
        for text in ["0.0.0.0", "[::]:1", "192.168.0.1:1"] {
            assert!(mistake(text, None).is_some(), "{text}");
            assert_eq!(mistake(text, Some("token")), None, "{text}");
        }
        assert!(mistake("nothing", Some("token")).is_some());
    }
}
