//! `-l` and `-p`: the addresses to listen on, and how each is protected and spoken to.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};

use super::command_line::Options;
use super::tls::{Security, Verify};
use crate::process::Inherited;
use crate::protocol::Protocols;

/// How clients connect to a listener.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Listening {
    /// The protocols that its clients may speak.
    pub protocols: Protocols,
    /// Whether it uses TLS.
    pub security: Security,
}

impl Options {
    /// The TCP addresses to listen on, and how each is protected and spoken to.
    ///
    /// # Errors
    /// If a name cannot be resolved.
    pub fn addresses(&self) -> io::Result<Vec<(SocketAddr, Listening)>> {
        let port = match self.tcp_port() {
            0 => return Ok(Vec::new()),
            -1 => 0,
            port => u16::try_from(port).expect("the range was checked"),
        };
        if self.listen.is_empty() {
            return Ok(vec![((Ipv4Addr::LOCALHOST, port).into(), self.listening())]);
        }
        let mut addresses = Vec::new();
        for place in self.listen_specs() {
            let ListenSpec { protection, protocol, name } = place.map_err(io::Error::other)?;
            let protocols = protocol.map_or_else(|| self.protocols(), |protocol| self.allowed(protocol));
            let listening = Listening { protocols, security: self.security(protection) };
            let resolved = resolve(name, port)?;
            addresses.extend(resolved.into_iter().map(|address| (address, listening)));
        }
        Ok(addresses)
    }

    /// The addresses that other machines can reach without TLS or authentication.
    ///
    /// # Errors
    /// If a name cannot be resolved.
    pub fn exposed(&self, inherited: &Inherited) -> io::Result<Vec<SocketAddr>> {
        if self.auth_file.is_some() || self.socket.is_some() {
            return Ok(Vec::new());
        }
        let addresses = if self.serves_all_of(inherited) {
            inherited.addresses().map(|address| (address, self.listening())).collect()
        } else {
            self.addresses()?
        };
        let plain = addresses.into_iter().filter(|(_, listening)| listening.security == Security::Plain);
        Ok(plain.map(|(address, _)| address).filter(|address| !is_loopback(*address)).collect())
    }

    /// Whether all inherited sockets are served, because no flag names an address.
    pub(crate) fn serves_all_of(&self, inherited: &Inherited) -> bool {
        let names_places = self.port.is_some() || self.socket.is_some() || !self.listen.is_empty();
        !names_places && !inherited.is_empty()
    }

    /// The parts of the lists; empty ones are skipped.
    fn listen_specs(&self) -> impl Iterator<Item = Result<ListenSpec<'_>, String>> {
        let parts = self.listen.iter().flat_map(|list| list.split([',', ';']));
        parts.filter(|part| !part.is_empty()).map(ListenSpec::parse)
    }

    /// The protection and the protocols of a listener that `-l` does not describe.
    pub(crate) fn listening(&self) -> Listening {
        Listening { protocols: self.protocols(), security: self.security(None) }
    }

    fn security(&self, prefix: Option<&str>) -> Security {
        match (self.tls(), prefix) {
            (None, _) | (Some(_), Some("notls")) => Security::Plain,
            (Some(_), Some("btls")) => Security::Tls(Verify::None),
            (Some(_), Some("mtls")) => Security::Tls(Verify::Require),
            (Some(settings), _) => Security::Tls(settings.verify),
        }
    }

    /// The conflict between the protocol of an address and the login, if there is one.
    pub(super) fn protocol_conflict(&self) -> Option<String> {
        let mut protocols = self.listen_specs().filter_map(|place| place.ok()?.protocol);
        let has_no_login = self.auth_file.is_some() && !self.enable_sasl;
        (has_no_login && protocols.any(|protocol| protocol == Protocols::Binary)).then(|| {
            "-l proto[binary] with -Y needs -S: clients of the binary protocol log in by SASL".to_owned()
        })
    }

    /// The conflict between the options of TLS, if there is one.
    pub(super) fn tls_conflict(&self) -> Option<String> {
        let mut protections = self.listen_specs().filter_map(|place| place.ok()?.protection);
        let Some(settings) = self.tls() else {
            return protections.next().map(|prefix| format!("-l {prefix}: requires -Z"));
        };
        if settings.chain.as_os_str().is_empty() {
            Some("-Z needs -o ssl_chain_cert".to_owned())
        } else if settings.verify == Verify::Require && settings.authorities.is_none() {
            Some("client certificates require -o ssl_ca_cert".to_owned())
        } else {
            None
        }
    }
}

impl Options {
    /// Whether an address requires client certificates, none of which can be verified.
    pub fn verifies_nothing(&self) -> bool {
        let has_authorities = self.tls().is_none_or(|settings| settings.authorities.is_some());
        !has_authorities && self.listen_specs().any(|place| place.is_ok_and(|place| place.is_mutual()))
    }
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// `[notls:|btls:|mtls:][proto[ascii]:][tag[name]:]address`, in this order, as in memcached.
struct ListenSpec<'t> {
    /// The protection, if it is specified.
    protection: Option<&'t str>,
    /// The protocols, if they are specified.
    protocol: Option<Protocols>,
    name: &'t str,
}

impl ListenSpec<'_> {
    fn is_mutual(&self) -> bool {
        self.protection == Some("mtls")
    }

    fn parse(text: &str) -> Result<ListenSpec<'_>, String> {
        let known = |(prefix, _): &(&str, &str)| ["notls", "btls", "mtls"].contains(prefix);
        let prefixed = text.split_once(':').filter(known);
        let (protection, rest) = prefixed.map_or((None, text), |(prefix, rest)| (Some(prefix), rest));
        let (protocol, rest) = match bracketed(rest, "proto[", ']') {
            Some((protocol, rest)) => (Some(protocols(protocol)?), rest),
            None => (None, rest),
        };
        // Tags are for memcached's proxy, and have no effect here.
        let tagged = bracketed(rest, "tag[", ']').or_else(|| bracketed(rest, "tag_", '_'));
        let name = match tagged {
            Some((tag, _)) if !(1..=TAG_BYTES_MAX).contains(&tag.len()) => {
                return Err(format!("-l {text}: a tag has 1 to {TAG_BYTES_MAX} bytes"));
            }
            Some((_, rest)) => rest,
            None => rest,
        };
        Ok(ListenSpec { protection, protocol, name })
    }
}

/// The text between `start` and `end`, and the text after the colon that follows.
fn bracketed<'t>(text: &'t str, start: &str, end: char) -> Option<(&'t str, &'t str)> {
    let (inside, rest) = text.strip_prefix(start)?.split_once(end)?;
    Some((inside, rest.strip_prefix(':')?))
}

/// `negotiating` leaves the choice to the client.
fn protocols(name: &str) -> Result<Protocols, String> {
    let why = match name {
        "ascii" => return Ok(Protocols::Text),
        "binary" => return Ok(Protocols::Binary),
        "negotiating" => return Ok(Protocols::Any),
        "proxy" => "this server has no proxy",
        _ => "there is no such protocol: expected ascii, binary or negotiating",
    };
    Err(format!("-l proto[{name}]: {why}"))
}

/// Resolves `address`, `address:port`, `[v6]:port`, `*` or a host name.
fn resolve(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let refused = |why: String| io::Error::other(format!("cannot listen on {name}: {why}"));
    let (host, port) = host_and_port(name, port).ok_or_else(|| refused("not an address".to_owned()))?;
    if host == "*" {
        return Ok(vec![(Ipv4Addr::UNSPECIFIED, port).into()]);
    }
    let found = (host, port).to_socket_addrs().map(Iterator::collect);
    found.map_err(|error| refused(error.to_string()))
}

fn host_and_port(name: &str, port: u16) -> Option<(&str, u16)> {
    let (host, rest) = match name.strip_prefix('[') {
        Some(inside) => inside.split_once(']')?,
        // An IPv6 address without brackets.
        None if name.matches(':').count() > 1 => (name, ""),
        None => name.split_at(name.find(':').unwrap_or(name.len())),
    };
    match rest {
        "" => Some((host, port)),
        _ => Some((host, rest.strip_prefix(':')?.parse().ok()?)),
    }
}

const TAG_BYTES_MAX: usize = 8;

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
            found.iter().map(|(address, listening)| (address.to_string(), listening.security)).collect();
        let expected: Vec<_> =
            expected.iter().map(|(address, security)| (address.to_string(), *security)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn loopback_is_the_default_address() {
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
    fn address_lists_allow_empty_parts_and_prefixes() {
        const PLAIN: Security = Security::Plain;
        check("-p 5 -l ,127.0.0.1,,;::1, -l ,", &[("127.0.0.1:5", PLAIN), ("[::1]:5", PLAIN)]);
        check("-p 5 -l ,", &[]);
        check("-p 5 -l proto[ascii]:tag[12345678]:*:6", &[("0.0.0.0:6", PLAIN)]);
        check(
            "-p 5 -l proto[negotiating]:[127.0.0.1]:7,tag_x_:::1",
            &[("127.0.0.1:7", PLAIN), ("[::1]:5", PLAIN)],
        );
        for (flags, why) in [
            ("-l proto[proxy]:127.0.0.1", "no proxy"),
            ("-l proto[http]:127.0.0.1", "no such protocol"),
            ("-l tag[123456789]:127.0.0.1", "1 to 8 bytes"),
            ("-l tag[]:127.0.0.1", "1 to 8 bytes"),
            ("-l [::1", "not an address"),
            ("-l [::1]7", "not an address"),
            ("-l 127.0.0.1:x", "not an address"),
            ("-l 127.0.0.1:65536", "not an address"),
        ] {
            let error = parse(&format!("leasehold {flags}")).unwrap().addresses().unwrap_err().to_string();
            assert!(error.contains(why), "{flags}: {error}");
        }
    }

    /// As in memcached, the protocol of an address replaces that of `-B`.
    #[test]
    fn each_address_may_have_its_protocol() {
        use Protocols::{Any, Binary, Text};
        let all = "-l ::1,proto[ascii]:[::1]:1,proto[binary]:tag[x]:[::1]:2,proto[negotiating]:[::1]:3";
        for (flags, expected) in [
            ("-t 1", [Any, Text, Binary, Any]),
            ("-B ascii", [Text, Text, Binary, Any]),
            ("-B binary", [Binary, Text, Binary, Any]),
            ("-S -Y users", [Any, Text, Binary, Any]),
        ] {
            let found = parse(&format!("leasehold {flags} {all}")).unwrap().addresses().unwrap();
            let found: Vec<_> = found.iter().map(|(_, listening)| listening.protocols).collect();
            assert_eq!(found, expected, "{flags}");
        }
        // Without SASL the binary protocol has no login.
        let error = parse("leasehold -Y users -l proto[binary]:::1").unwrap_err();
        assert!(error.contains("-l proto[binary] with -Y needs -S"), "{error}");
        let options = parse("leasehold -Y users -l proto[negotiating]:::1").unwrap();
        assert_eq!(options.addresses().unwrap()[0].1.protocols, Text);
    }

    #[test]
    fn plain_addresses_reachable_from_other_machines_are_exposed() {
        const TLS: &str = "-Z -o ssl_chain_cert=x";
        let all = "127.0.0.1:5,127.9.9.9:5,[::1]:5,[::ffff:127.0.0.1]:5,0.0.0.0:6,[::]:7,10.0.0.1:8";
        let exposed: &[&str] = &["0.0.0.0:6", "[::]:7", "10.0.0.1:8"];
        for (flags, expected) in [
            (format!("-l {all}"), exposed),
            ("-t 1".to_owned(), &[]),
            (format!("-l {all} -s /run/x"), &[]),
            (format!("-l {all} -Y users"), &[]),
            (format!("-l {all} {TLS}"), &[]),
            (format!("{TLS} -l notls:*:6,*:7"), &exposed[..1]),
        ] {
            let found = parse(&format!("leasehold {flags}")).unwrap().exposed(&Inherited::default()).unwrap();
            assert_eq!(found.iter().map(SocketAddr::to_string).collect::<Vec<_>>(), expected, "{flags}");
        }
    }

    #[test]
    fn the_prefix_of_an_address_sets_its_protection() {
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
        let wrong = ["-l notls:127.0.0.1", "-Z", "-Z -o ssl_chain_cert=x,ssl_verify_mode=2"];
        for flags in wrong {
            assert!(parse(&format!("leasehold {flags}")).is_err(), "{flags}");
        }
        for (flags, verifies_nothing) in [
            ("-Z -o ssl_chain_cert=x -l mtls:127.0.0.1", true),
            ("-Z -o ssl_chain_cert=x,ssl_ca_cert=x -l mtls:127.0.0.1", false),
            ("-Z -o ssl_chain_cert=x -l btls:127.0.0.1", false),
            ("-l 127.0.0.1", false),
        ] {
            let options = parse(&format!("leasehold {flags}")).unwrap();
            assert_eq!(options.verifies_nothing(), verifies_nothing, "{flags}");
        }
    }
}
