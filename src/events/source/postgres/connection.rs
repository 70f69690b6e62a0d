//! A connection: TLS, login, and simple queries.

use std::io;
use std::time::Duration;

use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::frontend;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self};

use super::failure::{Answer, Failure};
use super::link::{Frame, Link, Stream};
use super::tls;
use super::url::{Host, Role, SslMode, Url};

/// A connection on which the server waits for a query.
pub(super) struct Connection {
    link: Link,
}

/// A row as text.
pub(super) type Row = Vec<Option<String>>;

/// The use of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Purpose {
    Queries,
    Replication,
}

impl Connection {
    /// Connects to the first of the hosts that accepts the connection.
    pub(super) async fn open(url: &Url, purpose: Purpose) -> Result<Connection, Failure> {
        let mut last = Failure::Unusable("no host in the URL".to_owned());
        for host in &url.hosts {
            let opened = timeout(url.connect_timeout, Connection::open_at(url, host, purpose)).await;
            let opened = opened.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
            match opened {
                Ok(connection) => return Ok(connection),
                Err(failure) => last = failure.at(host),
            }
        }
        Err(last)
    }

    async fn open_at(url: &Url, host: &Host, purpose: Purpose) -> Result<Connection, Failure> {
        let (stream, binding) = secured(url, host).await?;
        let mut login = Login { binding, link: Link::new(stream), scram: None, url };
        login.start(purpose)?;
        let link = login.finish().await?;
        let mut connection = Connection { link };
        if url.role == Role::Primary {
            let rows = connection.query("SELECT pg_is_in_recovery()").await?;
            if rows.first().and_then(|row| row.first()?.as_deref()) != Some("f") {
                return Err(Failure::Io(io::Error::other("it is not the primary")));
            }
        }
        Ok(connection)
    }

    /// Executes statements, and returns the rows of all of them.
    pub(super) async fn query(&mut self, sql: &str) -> Result<Vec<Row>, Failure> {
        frontend::query(sql, &mut self.link.output)?;
        let (mut rows, mut failure) = (Vec::new(), None);
        loop {
            let frame = self.link.receive().await?;
            match frame.tag {
                b'D' => rows.push(row(&frame)?),
                b'E' => failure = Some(Failure::Server(Answer::parse(&frame.body))),
                b'Z' => return failure.map_or(Ok(rows), Err),
                _ => {}
            }
        }
    }

    /// Executes a command that begins to copy in both directions.
    pub(super) async fn copy(mut self, sql: &str) -> Result<Link, Failure> {
        frontend::query(sql, &mut self.link.output)?;
        loop {
            let frame = self.link.receive().await?;
            match frame.tag {
                b'E' => return Err(Failure::Server(Answer::parse(&frame.body))),
                b'W' => return Ok(self.link),
                b'Z' => return Err(Failure::Protocol("the server does not begin to replicate".to_owned())),
                _ => {}
            }
        }
    }
}

impl Failure {
    /// Names the host.
    fn at(self, host: &Host) -> Failure {
        match self {
            Failure::Io(error) => Failure::Io(io::Error::new(error.kind(), format!("{host}: {error}"))),
            Failure::Protocol(why) => Failure::Protocol(format!("{host}: {why}")),
            Failure::Server(answer) => {
                Failure::Server(Answer { message: format!("{host}: {}", answer.message), ..answer })
            }
            Failure::Unusable(why) => Failure::Unusable(format!("{host}: {why}")),
        }
    }
}

/// A socket with the TLS that the URL asks for, and the hash of the certificate for SCRAM.
async fn secured(url: &Url, host: &Host) -> Result<(Box<dyn Stream>, Option<Vec<u8>>), Failure> {
    let (name, port) = match host {
        // As with libpq, TLS is not used on Unix sockets.
        Host::Unix(path) => return Ok((Box::new(UnixStream::connect(path).await?), None)),
        Host::Tcp { name, port } => (name.as_str(), *port),
    };
    let mut stream = TcpStream::connect((name, port)).await?;
    tune(&stream)?;
    let Some(connector) = tls::connector(url)? else { return Ok((Box::new(stream), None)) };
    let mut request = bytes::BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await?;
    match (stream.read_u8().await?, url.mode) {
        (b'S', _) => {}
        (_, SslMode::Prefer) => return Ok((Box::new(stream), None)),
        _ => {
            return Err(Failure::Unusable(format!(
                "the server does not offer TLS, which sslmode={} requires: set ssl = on there",
                mode_name(url.mode)
            )));
        }
    }
    let server = ServerName::try_from(name.to_owned());
    let server = server.map_err(|_| Failure::Unusable(format!("{name:?} is no name for TLS")))?;
    let stream = connector.connect(server, stream).await.map_err(handshake)?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let binding = certificate.and_then(|certificate| tls::end_point(certificate));
    Ok((Box::new(stream), binding))
}

/// A certificate that is refused stays refused; anything else may be the network.
fn handshake(error: io::Error) -> Failure {
    match error.get_ref().and_then(|cause| cause.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(why)) => Failure::Unusable(format!(
            "the server's certificate is refused: {why}; check sslrootcert and the host"
        )),
        Some(rustls::Error::AlertReceived(_)) => Failure::Unusable(format!("TLS: {error}")),
        _ => Failure::Io(error),
    }
}

/// No delay for small messages, and an end for connections whose other side is silent.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3).with_retries(3);
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(())
}

/// A connection from its first message to the first query.
struct Login<'a> {
    binding: Option<Vec<u8>>,
    link: Link,
    /// Present once the server has asked for it.
    scram: Option<Scram>,
    url: &'a Url,
}

struct Scram {
    exchange: ScramSha256,
    /// Whether the server has proved that it knows the password, too.
    is_finished: bool,
}

impl Login<'_> {
    fn start(&mut self, purpose: Purpose) -> io::Result<()> {
        let mut parameters = vec![
            ("user", self.url.user.as_str()),
            ("database", &self.url.database),
            ("application_name", &self.url.application_name),
            ("client_encoding", "UTF8"),
        ];
        if purpose == Purpose::Replication {
            // Values are printed in one form, whatever the server's defaults are.
            parameters.extend([
                ("replication", "database"),
                ("DateStyle", "ISO"),
                ("IntervalStyle", "postgres"),
                ("TimeZone", "UTC"),
                ("extra_float_digits", "3"),
                ("bytea_output", "hex"),
            ]);
        }
        frontend::startup_message(parameters, &mut self.link.output)
    }

    async fn finish(mut self) -> Result<Link, Failure> {
        loop {
            let frame = self.link.receive().await?;
            match frame.tag {
                b'E' => return Err(Failure::Server(Answer::parse(&frame.body))),
                b'R' => self.authenticate(&frame.body)?,
                b'Z' => return Ok(self.link),
                b'K' | b'N' | b'S' | b'v' => {}
                _ => return Err(Failure::Protocol("it does not answer like a PostgreSQL server".to_owned())),
            }
        }
    }

    fn authenticate(&mut self, body: &[u8]) -> Result<(), Failure> {
        let truncated = || Failure::Protocol("a truncated request for authentication".to_owned());
        let (kind, rest) = body.split_first_chunk::<4>().ok_or_else(truncated)?;
        match u32::from_be_bytes(*kind) {
            0 if self.scram.as_ref().is_none_or(|scram| scram.is_finished) => {}
            0 => return Err(Failure::Protocol("the server ended SCRAM without its own proof".to_owned())),
            3 => {
                let password = self.password()?.to_owned();
                frontend::password_message(password.as_bytes(), &mut self.link.output)?;
            }
            5 => {
                let salt = *rest.first_chunk::<4>().ok_or_else(truncated)?;
                let hash = md5_hash(self.url.user.as_bytes(), self.password()?.as_bytes(), salt);
                frontend::password_message(hash.as_bytes(), &mut self.link.output)?;
            }
            10 => self.begin_scram(rest)?,
            11 => {
                let scram = self.scram.as_mut().ok_or_else(truncated)?;
                scram.exchange.update(rest).map_err(scram_failed)?;
                frontend::sasl_response(scram.exchange.message(), &mut self.link.output)?;
            }
            12 => {
                let scram = self.scram.as_mut().ok_or_else(truncated)?;
                scram.exchange.finish(rest).map_err(scram_failed)?;
                scram.is_finished = true;
            }
            other => {
                return Err(Failure::Unusable(format!(
                    "the server asks for an unsupported authentication ({other}): allow scram-sha-256 for this \
                     user in pg_hba.conf"
                )));
            }
        }
        Ok(())
    }

    /// Chooses the mechanism: with channel binding if both sides can.
    fn begin_scram(&mut self, mechanisms: &[u8]) -> Result<(), Failure> {
        let offers =
            |name: &str| mechanisms.split(|byte| *byte == 0).any(|offered| offered == name.as_bytes());
        let (mechanism, binding) = match (&self.binding, offers(SCRAM_SHA_256_PLUS)) {
            (Some(hash), true) => (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(hash.clone())),
            (Some(_), false) => (SCRAM_SHA_256, ChannelBinding::unrequested()),
            (None, _) => (SCRAM_SHA_256, ChannelBinding::unsupported()),
        };
        if !offers(mechanism) {
            return Err(Failure::Unusable("the server offers no SCRAM-SHA-256".to_owned()));
        }
        let exchange = ScramSha256::new(self.password()?.as_bytes(), binding);
        frontend::sasl_initial_response(mechanism, exchange.message(), &mut self.link.output)?;
        self.scram = Some(Scram { exchange, is_finished: false });
        Ok(())
    }

    fn password(&self) -> Result<&str, Failure> {
        let password = self.url.password.as_ref().map(|secret| secret.0.as_str());
        password.ok_or_else(|| {
            Failure::Unusable(format!(
                "the server asks for the password of {}: none is configured",
                self.url.user
            ))
        })
    }
}

/// The proof of the server is wrong, or its messages are.
fn scram_failed(error: io::Error) -> Failure {
    Failure::Protocol(format!("SCRAM: {error}"))
}

fn row(frame: &Frame) -> Result<Row, Failure> {
    parse_row(&frame.body).ok_or_else(|| Failure::Protocol("a truncated row".to_owned()))
}

fn parse_row(body: &[u8]) -> Option<Row> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut row = Row::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = i32::from_be_bytes(*length);
        let (value, after) = after.split_at_checked(usize::try_from(length).unwrap_or(0))?;
        row.push((length >= 0).then(|| String::from_utf8_lossy(value).into_owned()));
        rest = after;
    }
    Some(row)
}

fn mode_name(mode: SslMode) -> &'static str {
    match mode {
        SslMode::Disable => "disable",
        SslMode::Prefer => "prefer",
        SslMode::Require => "require",
        SslMode::VerifyCa => "verify-ca",
        SslMode::VerifyFull => "verify-full",
    }
}

const KEEPALIVE: Duration = Duration::from_secs(15);
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    fn login(url: &Url, binding: Option<Vec<u8>>) -> Login<'_> {
        let (near, _far) = tokio::io::duplex(64);
        Login { binding, link: Link::new(Box::new(near)), scram: None, url }
    }

    fn url() -> Url {
        Url::parse("postgresql://u:hunter2@h/d").expect("legal")
    }

    #[test]
    fn scram_is_bound_to_the_certificate_if_both_sides_can() {
        const BOTH: &[u8] = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
        const PLAIN: &[u8] = b"SCRAM-SHA-256\0\0";
        for (binding, offered, expected) in [
            (Some(vec![7]), BOTH, &b"SCRAM-SHA-256-PLUS\0\0\0\0\x35p=tls-server-end-point,,n="[..]),
            // The server would notice if somebody in between had removed its offer.
            (Some(vec![7]), PLAIN, b"SCRAM-SHA-256\0\0\0\0\x20y,,n="),
            (None, BOTH, b"SCRAM-SHA-256\0\0\0\0\x20n,,n="),
        ] {
            let url = url();
            let mut login = login(&url, binding);
            login.begin_scram(offered).expect("it is offered");
            let sent = &login.link.output[5..];
            assert!(sent.starts_with(expected), "{}", sent.escape_ascii());
        }
    }

    #[test]
    fn a_server_must_prove_that_it_knows_the_password() {
        let url = url();
        let mut login = login(&url, None);
        login.authenticate(b"\0\0\0\x0aSCRAM-SHA-256\0\0").expect("it is offered");
        let skipped = login.authenticate(&[0; 4]);
        assert!(matches!(skipped, Err(Failure::Protocol(why)) if why.contains("without its own proof")));
    }

    #[test]
    fn what_a_server_asks_for_may_be_impossible() {
        let url = Url { password: None, ..url() };
        for (request, expected) in [
            (&b"\0\0\0\x03"[..], "asks for the password of u"),
            (b"\0\0\0\x05salt", "asks for the password of u"),
            (b"\0\0\0\x0aSCRAM-SHA-256\0\0", "asks for the password of u"),
            (b"\0\0\0\x0aOTHER\0\0", "offers no SCRAM-SHA-256"),
            (b"\0\0\0\x07", "allow scram-sha-256 for this user in pg_hba.conf"),
            (b"\0\0\0\x0b", "truncated"),
            (b"\0\0\0\x05sa", "truncated"),
            (b"\0", "truncated"),
        ] {
            let failure = login(&url, None).authenticate(request).expect_err("it is impossible");
            assert!(failure.to_string().contains(expected), "{failure}");
        }
    }

    #[test]
    fn a_truncated_row_is_no_row() {
        let body = b"\0\x03\0\0\0\x01x\xff\xff\xff\xff\0\0\0\0";
        let row = vec![Some("x".to_owned()), None, Some(String::new())];
        assert_eq!(parse_row(body), Some(row));
        (0..body.len()).for_each(|end| assert_eq!(parse_row(&body[..end]), None));
    }
}
