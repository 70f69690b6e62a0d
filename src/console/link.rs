//! The connection to one server: opened on demand, optionally with TLS and a login.
//!
//! No request is sent twice. A connection that was closed before anything was sent is opened again. If it
//! is lost while a request is pending, the error says that the outcome is unknown.

use std::fmt;
use std::future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig};

use super::reply::{Entry, Garbled};
use super::request::Request;
use super::verbs::Ends;
use crate::client::{Login, Server, Stream};
use crate::pem;

/// The server, and the way to connect to it.
pub(super) struct Target {
    pub(super) login: Option<Login>,
    pub(super) server: Server,
    pub(super) tls: Option<TlsConnector>,
}

/// The current connection, if any.
pub(super) struct Link {
    input: BytesMut,
    stream: Option<Box<dyn Stream>>,
    target: Target,
}

/// The result of preparing to send a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ready {
    /// The server had closed the connection since the last answer, and a new one was opened.
    Again,
    /// The connection is open.
    Yes,
}

/// The reason why there is no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The server closed the connection while a request was pending.
    Closed,
    /// It does not speak the protocol.
    Garbled,
    /// The login failed, with the server's message.
    Login(String),
    /// The answer cannot be printed.
    Output(io::Error),
    /// The server reset the connection instead of an answer, without TLS.
    Reset,
    /// An option of the command line is unusable.
    Setup(io::Error),
    /// It speaks TLS, and the client does not.
    Tls,
    /// No connection could be opened to this server.
    Unreachable(String, io::Error),
}

impl Link {
    pub(super) fn new(target: Target) -> Link {
        Link { input: BytesMut::new(), stream: None, target }
    }

    /// Opens a connection if there is none.
    pub(super) async fn ready(&mut self) -> Result<Ready, Trouble> {
        let was_open = self.stream.is_some();
        if was_open && self.is_open().await {
            return Ok(Ready::Yes);
        }
        self.input.clear();
        self.stream = None;
        let opened = timeout(CONNECT_WITHIN, self.open()).await;
        opened.unwrap_or_else(|_| Err(self.unreachable(io::ErrorKind::TimedOut.into())))?;
        Ok(if was_open { Ready::Again } else { Ready::Yes })
    }

    fn is_plain(&self) -> bool {
        self.target.tls.is_none()
    }

    /// The server cannot be reached for this reason.
    pub(super) fn unreachable(&self, error: io::Error) -> Trouble {
        Trouble::Unreachable(self.target.server.to_string(), error)
    }

    /// Sends a request, and passes the answer on line by line. If this fails or is dropped, the connection
    /// is closed.
    pub(super) async fn ask(
        &mut self,
        request: &Request,
        receive: &mut dyn FnMut(Entry) -> io::Result<()>,
    ) -> Result<(), Trouble> {
        let mut stream = self.stream.take().ok_or(Trouble::Closed)?;
        let ends = request.ends();
        let sent = match stream.write_all(&request.bytes()).await {
            Ok(()) => stream.flush().await,
            Err(error) => Err(error),
        };
        sent.map_err(|_| Trouble::Closed)?;
        loop {
            if self.input.starts_with(TLS_ALERT) {
                return Err(Trouble::Tls);
            }
            while let Some(entry) = Entry::read(&mut self.input)? {
                let is_last = if ends == Ends::Silent { entry.line == b"MN" } else { entry.is_last(ends) };
                if !(is_last && ends == Ends::Silent) {
                    receive(entry).map_err(Trouble::Output)?;
                }
                if is_last {
                    self.stream = Some(stream);
                    return Ok(());
                }
            }
            match stream.read_buf(&mut self.input).await {
                Ok(0) | Err(_) if matches!(ends, Ends::Closing | Ends::Never) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset && self.is_plain() => {
                    return Err(Trouble::Reset);
                }
                Ok(0) | Err(_) => return Err(Trouble::Closed),
                Ok(_) => {}
            }
        }
    }

    /// Whether the server has neither closed the connection nor sent anything unsolicited.
    async fn is_open(&mut self) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        // The runtime learns the socket's state while this task yields.
        tokio::task::yield_now().await;
        tokio::select! {
            biased;
            _ = stream.read_buf(&mut self.input) => false,
            () = future::ready(()) => true,
        }
    }

    async fn open(&mut self) -> Result<(), Trouble> {
        let Target { login, server, tls } = &self.target;
        let stream = server.connect().await.map_err(|error| self.unreachable(error))?;
        self.stream = Some(match tls {
            None => stream,
            Some(connector) => {
                let name = ServerName::try_from(server.host().to_owned());
                let name = name.map_err(|error| self.unreachable(io::Error::other(error)))?;
                let secured = connector.connect(name, stream).await;
                Box::new(secured.map_err(|error| self.unreachable(handshake(error)))?)
            }
        });
        let Some(request) = login.as_ref().map(log_in) else { return Ok(()) };
        let mut answer = Vec::new();
        let mut receive = |entry: Entry| {
            answer = entry.line;
            Ok(())
        };
        self.ask(&request, &mut receive).await?;
        if answer == b"STORED" { Ok(()) } else { Err(Trouble::Login(super::body::harmless(&answer))) }
    }
}

impl From<Garbled> for Trouble {
    fn from(_: Garbled) -> Trouble {
        Trouble::Garbled
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Trouble::Closed => f.write_str("the server closed the connection before it answered"),
            Trouble::Garbled => f.write_str("this server does not speak memcached's text protocol"),
            Trouble::Login(answer) => write!(f, "authentication failed: {answer}"),
            Trouble::Output(error) => write!(f, "cannot write the answer: {error}"),
            Trouble::Reset => f.write_str(
                "the server closed the connection before it answered: if it requires TLS, add --ca FILE",
            ),
            Trouble::Setup(error) => error.fmt(f),
            Trouble::Tls => f.write_str("this server requires TLS: add --ca FILE with its authority"),
            Trouble::Unreachable(server, error) => write!(f, "cannot connect to {server}: {error}"),
        }
    }
}

/// TLS that accepts servers certified by one of the authorities in a file. `own` holds the files of a
/// client certificate and its key.
///
/// # Errors
/// If a file cannot be read; the error names it.
pub(super) fn tls(authorities: &Path, own: Option<(&Path, &Path)>) -> io::Result<TlsConnector> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let builder = builder.with_root_certificates(pem::authorities(authorities)?);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let config = builder.with_client_auth_cert(pem::certificates(certificate)?, pem::key(key)?);
            config.map_err(|error| pem::named(error, certificate))?
        }
    };
    Ok(Arc::new(config).into())
}

/// The error of a handshake, with a hint if the answer was no TLS.
fn handshake(error: io::Error) -> io::Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    let is_plain = matches!(cause, Some(rustls::Error::InvalidMessage(_)))
        || matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset);
    match is_plain {
        true => io::Error::new(error.kind(), format!("{error}; if it does not use TLS, leave out --ca")),
        false => error,
    }
}

fn log_in(login: &Login) -> Request {
    let words = format!("{} {}", login.user, login.password);
    let line = format!("set login 0 0 {}", words.len());
    Request { line: line.into(), value: super::request::Value::Given(words.into()) }
}

/// How a TLS server answers plain text.
const TLS_ALERT: &[u8] = &[0x15, 3];
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
