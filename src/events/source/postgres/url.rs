//! The URL of a PostgreSQL server: `postgresql://user:password@host:port/database?sslmode=verify-full&…`.
//!
//! Errors say what is wrong and the remedy, and never show the password. The environment (`PGHOST`,
//! `PGPASSFILE`, …) is not consulted: the configuration is all that counts.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;

/// A server, and how to connect to it.
#[derive(Clone, Debug)]
pub(super) struct Url {
    pub(super) application_name: String,
    /// Files of the client's certificate and its key.
    pub(super) certificate: Option<(PathBuf, PathBuf)>,
    /// The most that connecting to one host may take.
    pub(super) connect_timeout: Duration,
    pub(super) database: String,
    /// In the order in which they are tried.
    pub(super) hosts: Vec<Host>,
    pub(super) mode: SslMode,
    pub(super) password: Option<Secret>,
    pub(super) role: Role,
    /// The file with the authorities.
    pub(super) roots: Option<PathBuf>,
    pub(super) user: String,
}

/// Where a server listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Host {
    Tcp { name: String, port: u16 },
    Unix(PathBuf),
}

/// Which TLS is required, as libpq defines it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SslMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// Which of several hosts is meant (`target_session_attrs`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Role {
    Any,
    Primary,
}

/// A password, which no message shows.
#[derive(Clone, Eq, PartialEq)]
pub(super) struct Secret(pub(super) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Host::Tcp { name, port } if name.contains(':') => write!(f, "[{name}]:{port}"),
            Host::Tcp { name, port } => write!(f, "{name}:{port}"),
            Host::Unix(path) => path.display().fmt(f),
        }
    }
}

impl Url {
    /// Parses a URL as libpq does.
    ///
    /// # Errors
    /// What is wrong, and the remedy.
    pub(super) fn parse(text: &str) -> Result<Url, String> {
        let rest = text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://"));
        let rest = rest.ok_or(
            "the URL of the database must begin with postgresql://, as in postgresql://user@host:5432/database",
        )?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (place, path) = place.split_once('/').unwrap_or((place, ""));
        let (login, hosts) = place.rsplit_once('@').unwrap_or(("", place));
        let mut fields = Fields::default();
        let (user, password) = login.split_once(':').map_or((login, None), |(user, it)| (user, Some(it)));
        fields.set("user", user)?;
        password.map_or(Ok(()), |password| fields.set("password", password))?;
        fields.set("dbname", path)?;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            fields.set(name, value)?;
        }
        fields.url(hosts)
    }
}

/// The parameters as texts; those in the query take precedence.
#[derive(Default)]
struct Fields {
    application_name: Option<String>,
    certificate: Option<String>,
    connect_timeout: Option<String>,
    database: Option<String>,
    host: Option<String>,
    key: Option<String>,
    mode: Option<String>,
    password: Option<String>,
    port: Option<String>,
    role: Option<String>,
    roots: Option<String>,
    user: Option<String>,
}

impl Fields {
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let field = match name {
            "application_name" => &mut self.application_name,
            "connect_timeout" => &mut self.connect_timeout,
            "dbname" => &mut self.database,
            "host" => &mut self.host,
            "password" => &mut self.password,
            "port" => &mut self.port,
            "sslcert" => &mut self.certificate,
            "sslkey" => &mut self.key,
            "sslmode" => &mut self.mode,
            "sslrootcert" => &mut self.roots,
            "target_session_attrs" => &mut self.role,
            "user" => &mut self.user,
            other => return Err(format!("unknown parameter {other:?} in the URL: expected one of {KNOWN}")),
        };
        let value = decoded(value).ok_or_else(|| {
            format!(
                "invalid {name} in the URL: write special characters in UTF-8 as %XX, and % itself as %25"
            )
        })?;
        if !value.is_empty() {
            *field = Some(value);
        }
        Ok(())
    }

    fn url(self, hosts: &str) -> Result<Url, String> {
        let user = self.user.ok_or("no user in the URL: expected postgresql://user@host:5432/database")?;
        let hosts = match &self.host {
            Some(host) => host.split(',').map(str::to_owned).collect(),
            None => hosts.split(',').map(str::to_owned).collect::<Vec<_>>(),
        };
        let ports: Vec<_> = self.port.as_deref().unwrap_or(PORT).split(',').collect();
        let host = |(index, host): (usize, &String)| {
            let port = ports.get(index).or(ports.first()).copied().filter(|port| !port.is_empty());
            parse_host(host, port.unwrap_or(PORT))
        };
        let hosts = hosts.iter().enumerate().map(host).collect::<Result<Vec<_>, _>>()?;
        let certificate = match (self.certificate, self.key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
            _ => return Err("sslcert and sslkey in the URL belong together: give both or none".to_owned()),
        };
        Ok(Url {
            application_name: self.application_name.unwrap_or_else(|| "leasehold".to_owned()),
            certificate,
            connect_timeout: timeout(self.connect_timeout.as_deref())?,
            database: self.database.unwrap_or_else(|| user.clone()),
            hosts,
            mode: mode(self.mode.as_deref())?,
            password: self.password.map(Secret),
            role: role(self.role.as_deref())?,
            roots: self.roots.map(PathBuf::from),
            user,
        })
    }
}

/// `host`, `host:port`, `[address]:port` or the folder of a Unix socket.
fn parse_host(text: &str, port: &str) -> Result<Host, String> {
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, after)) => (address, after.strip_prefix(':').unwrap_or(port)),
        None if text.parse::<Ipv6Addr>().is_ok() => (text, port),
        None => text.rsplit_once(':').unwrap_or((text, port)),
    };
    let port: u16 = match port.parse() {
        Ok(port) if port > 0 => port,
        _ => return Err(format!("invalid port {port:?} in the URL: expected 1 to 65535")),
    };
    let name = decoded(name).filter(|name| !name.is_empty());
    let name = name.ok_or("no host in the URL: expected postgresql://user@host:5432/database")?;
    if name.starts_with('/') {
        return Ok(Host::Unix(PathBuf::from(name).join(format!(".s.PGSQL.{port}"))));
    }
    Ok(Host::Tcp { name, port })
}

fn mode(text: Option<&str>) -> Result<SslMode, String> {
    Ok(match text {
        Some("disable") => SslMode::Disable,
        None | Some("prefer") => SslMode::Prefer,
        Some("require") => SslMode::Require,
        Some("verify-ca") => SslMode::VerifyCa,
        Some("verify-full") => SslMode::VerifyFull,
        Some(other) => {
            return Err(format!(
                "invalid sslmode {other:?} in the URL: expected disable, prefer, require, verify-ca or verify-full"
            ));
        }
    })
}

fn role(text: Option<&str>) -> Result<Role, String> {
    match text {
        None | Some("any") => Ok(Role::Any),
        Some("primary" | "read-write") => Ok(Role::Primary),
        Some(other) => Err(format!(
            "invalid target_session_attrs {other:?} in the URL: expected any, primary or read-write"
        )),
    }
}

/// As libpq: seconds, of which 1 means 2. Without a limit, a host that does not answer would never be given
/// up: 0 is the default.
fn timeout(text: Option<&str>) -> Result<Duration, String> {
    match text.map(str::parse::<u32>) {
        None | Some(Ok(0)) => Ok(CONNECT_WITHIN),
        Some(Ok(seconds)) => Ok(Duration::from_secs(u64::from(seconds).max(2))),
        Some(Err(_)) => Err("invalid connect_timeout in the URL: expected a number of seconds".to_owned()),
    }
}

/// Resolves `%XX`; `None` if that is malformed or no UTF-8.
fn decoded(text: &str) -> Option<String> {
    let is_hexadecimal = |code: &str| code.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    let is_encoded = text.split('%').skip(1).all(is_hexadecimal);
    percent_decode_str(text).decode_utf8().ok().filter(|_| is_encoded).map(Into::into)
}

const CONNECT_WITHIN: Duration = Duration::from_secs(10);
const PORT: &str = "5432";
const KNOWN: &str = "application_name, connect_timeout, dbname, host, password, port, sslcert, sslkey, sslmode, \
                     sslrootcert, target_session_attrs, user";

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(name: &str, port: u16) -> Host {
        Host::Tcp { name: name.to_owned(), port }
    }

    #[test]
    fn a_url_has_all_that_a_connection_needs() {
        let url = Url::parse(
            "postgresql://us%40er:p%3Aw%2F@db-1:15432,[::1],db-3:7/shop?sslmode=verify-full&sslrootcert=/ca%20s.pem\
             &connect_timeout=3&application_name=eu&target_session_attrs=primary&sslcert=a&sslkey=b",
        )
        .expect("legal");
        assert_eq!((url.user.as_str(), url.database.as_str()), ("us@er", "shop"));
        assert_eq!(url.password, Some(Secret("p:w/".to_owned())));
        assert_eq!(url.hosts, [tcp("db-1", 15432), tcp("::1", 5432), tcp("db-3", 7)]);
        assert_eq!((url.mode, url.roots), (SslMode::VerifyFull, Some(PathBuf::from("/ca s.pem"))));
        assert_eq!((url.connect_timeout, url.role), (Duration::from_secs(3), Role::Primary));
        assert_eq!((url.application_name.as_str(), url.certificate), ("eu", Some(("a".into(), "b".into()))));
    }

    #[test]
    fn a_short_url_has_the_defaults_of_libpq() {
        let url = Url::parse("postgres://shop@localhost").expect("legal");
        assert_eq!((url.hosts, url.database.as_str()), (vec![tcp("localhost", 5432)], "shop"));
        assert_eq!((url.mode, url.role, url.password), (SslMode::Prefer, Role::Any, None));
        assert_eq!(url.connect_timeout, CONNECT_WITHIN);
    }

    #[test]
    fn a_unix_socket_is_named_by_its_folder() {
        let socket = Host::Unix("/run/pg/.s.PGSQL.6000".into());
        let query = Url::parse("postgresql://shop@/shop?host=/run/pg&port=6000").expect("legal");
        assert_eq!(query.hosts, std::slice::from_ref(&socket));
        let encoded = Url::parse("postgresql://shop@%2Frun%2Fpg:6000/shop").expect("legal");
        assert_eq!(encoded.hosts, [socket]);
    }

    #[test]
    fn an_error_names_the_part_and_the_remedy_but_no_password() {
        for (url, expected) in [
            ("mysql://u:hunter2@h/d", "must begin with postgresql://"),
            ("postgresql://h/d", "no user"),
            ("postgresql://u:hunter2@/d", "no host"),
            ("postgresql://u:hunter2@h:port/d", "invalid port \"port\" in the URL: expected 1 to 65535"),
            ("postgresql://u:hunter2@h:0/d", "invalid port"),
            ("postgresql://u:hunter2%@h/d", "invalid password in the URL: write special characters"),
            ("postgresql://u:hunter2@h/d?sslmode=allow", "expected disable, prefer, require, verify-ca"),
            ("postgresql://u:hunter2@h/d?sslmod=require", "unknown parameter \"sslmod\""),
            ("postgresql://u:hunter2@h/d?sslcert=x", "belong together"),
            ("postgresql://u:hunter2@h/d?connect_timeout=x", "a number of seconds"),
            ("postgresql://u:hunter2@h/d?target_session_attrs=x", "expected any, primary"),
        ] {
            let error = Url::parse(url).expect_err(url);
            assert!(error.contains(expected), "{url}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let url = Url::parse("postgresql://u:hunter2@h/d").expect("legal");
        assert!(!format!("{url:?}").contains("hunter2"));
    }
}
