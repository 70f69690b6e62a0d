//! `-l` and `-p`: where to listen, and how each address is protected.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use super::Options;
use super::tls::{Security, Verify};

impl Options {
    /// The TCP addresses to listen on, and how each is protected.
    ///
    /// # Errors
    /// If a name cannot be resolved.
    pub fn addresses(&self) -> io::Result<Vec<(SocketAddr, Security)>> {
        let port = match self.port {
            0 => return Ok(Vec::new()),
            -1 => 0,
            port => u16::try_from(port).expect("the range was checked"),
        };
        if self.listen.is_empty() {
            return Ok(vec![((Ipv4Addr::LOCALHOST, port).into(), self.security(None))]);
        }
        let mut addresses = Vec::new();
        for text in &self.listen {
            let (prefix, name) = protection(text);
            let resolved = resolve(name, port)?;
            addresses.extend(resolved.into_iter().map(|address| (address, self.security(prefix))));
        }
        Ok(addresses)
    }

    fn security(&self, prefix: Option<&str>) -> Security {
        match (self.tls(), prefix) {
            (None, _) | (Some(_), Some("notls")) => Security::Plain,
            (Some(_), Some("btls")) => Security::Tls(Verify::None),
            (Some(_), Some("mtls")) => Security::Tls(Verify::Require),
            (Some(settings), _) => Security::Tls(settings.verify),
        }
    }

    /// What is wrong with the options of TLS.
    pub(super) fn tls_mistake(&self) -> Option<String> {
        let prefix = self.listen.iter().find_map(|text| protection(text).0);
        let Some(settings) = self.tls() else {
            return prefix.map(|prefix| format!("-l {prefix}: means nothing without -Z"));
        };
        let verifies =
            settings.verify != Verify::None || self.listen.iter().any(|text| text.starts_with("mtls:"));
        if settings.chain.as_os_str().is_empty() {
            Some("-Z needs -o ssl_chain_cert".to_owned())
        } else if verifies && settings.authorities.is_none() {
            Some("to ask clients for certificates takes -o ssl_ca_cert".to_owned())
        } else {
            None
        }
    }
}

/// What stands before an address: how it is protected.
fn protection(text: &str) -> (Option<&str>, &str) {
    let known = |(prefix, _): &(&str, &str)| ["notls", "btls", "mtls"].contains(prefix);
    text.split_once(':').filter(known).map_or((None, text), |(prefix, name)| (Some(prefix), name))
}

/// `address`, `address:port`, `[v6]:port`, `*` or a host's name.
fn resolve(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if name == "*" {
        return Ok(vec![(Ipv4Addr::UNSPECIFIED, port).into()]);
    }
    if let Ok(address) = name.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(vec![(address, port).into()]);
    }
    let found = match name.parse::<SocketAddr>() {
        Ok(address) => Ok(vec![address]),
        Err(_) if name.contains(':') => name.to_socket_addrs().map(Iterator::collect),
        Err(_) => (name, port).to_socket_addrs().map(Iterator::collect),
    };
    found.map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {name}: {error}")))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::try_parse_from(line.split(' ')).map_err(|error| error.to_string()).and_then(Options::checked)
    }

    #[track_caller]
    fn check(flags: &str, expected: &[(&str, Security)]) {
        let found = parse(&format!("leasehold {flags}")).unwrap().addresses().unwrap();
        let found: Vec<_> =
            found.iter().map(|(address, security)| (address.to_string(), *security)).collect();
        let expected: Vec<_> =
            expected.iter().map(|(address, security)| (address.to_string(), *security)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn without_l_it_listens_on_loopback() {
        const PLAIN: Security = Security::Plain;
        check("-t 1", &[("127.0.0.1:11211", PLAIN)]);
        check("-p 0", &[]);
        check("-p -1", &[("127.0.0.1:0", PLAIN)]);
        check(
            "-p 5 -l *,[::1],127.0.0.1:7",
            &[("0.0.0.0:5", PLAIN), ("[::1]:5", PLAIN), ("127.0.0.1:7", PLAIN)],
        );
    }

    #[test]
    fn what_stands_before_an_address_protects_it() {
        let [none, request, require] = [Verify::None, Verify::Request, Verify::Require].map(Security::Tls);
        check(
            "-p 5 -Z -o ssl_chain_cert=x,ssl_ca_cert=x,ssl_verify_mode=1 -l ::1,notls:[::1]:1,btls:127.0.0.1:2,mtls:*",
            &[
                ("[::1]:5", request),
                ("[::1]:1", Security::Plain),
                ("127.0.0.1:2", none),
                ("0.0.0.0:5", require),
            ],
        );
        let wrong = [
            "-l notls:127.0.0.1",
            "-Z",
            "-Z -o ssl_chain_cert=x -l mtls:127.0.0.1",
            "-Z -o ssl_chain_cert=x,ssl_verify_mode=2",
        ];
        for flags in wrong {
            assert!(parse(&format!("leasehold {flags}")).is_err(), "{flags}");
        }
    }
}
