//! TLS by rustls: certificates from PEM files, which `refresh_certs` reads again, and the handshake.
//!
//! Connections that are open keep what they began with.
//!
//! Deliberately absent: a choice of ciphers (rustls has none that are weak), versions below 1.2, other key formats than
//! PEM, and kernel TLS.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache, WebPkiClientVerifier};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{HandshakeKind, ServerConfig};
use tokio_rustls::server::TlsStream;

use super::secret;
use crate::pem;

/// What `-o ssl_*` says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsSettings {
    /// Whom clients' certificates must come from.
    pub authorities: Option<PathBuf>,
    /// The server's certificate, and those between it and its authority.
    pub chain: PathBuf,
    /// The server's key; `None` if it stands in the same file.
    pub key: Option<PathBuf>,
    /// Whether TLS 1.2 is refused, too.
    pub is_13_only: bool,
    /// Whether sessions may be resumed.
    pub resumes: bool,
    /// What is asked of clients where nothing else is said.
    pub verify: Verify,
    /// Unsent bytes that TLS keeps of each connection at most.
    pub write_bytes: usize,
}

/// How a listener is protected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Security {
    /// Not at all.
    Plain,
    /// By TLS.
    Tls(Verify),
}

/// What a client has to show.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verify {
    /// Nothing.
    None,
    /// A certificate if it has one; a wrong one is refused.
    Request,
    /// A certificate.
    Require,
}

/// One of `ssl_*`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TlsOption {
    /// `ssl_ca_cert`
    Authorities(PathBuf),
    /// `ssl_chain_cert`
    Chain(PathBuf),
    /// `ssl_key`
    Key(PathBuf),
    /// `ssl_min_version`: 0 for TLS 1.0, to 3 for 1.3.
    MinVersion(u8),
    /// `ssl_session_cache`
    Resumes,
    /// `ssl_verify_mode`
    Verify(Verify),
    /// `ssl_wbuf_size`, in bytes.
    WriteBytes(usize),
}

/// What handshakes are made with.
pub(super) struct Tls {
    configs: RwLock<Configs>,
    settings: TlsSettings,
}

/// One for each [`Verify`]; those who show certificates need authorities.
struct Configs {
    open: Arc<ServerConfig>,
    verifying: Option<Verifying>,
}

struct Verifying {
    request: Arc<ServerConfig>,
    require: Arc<ServerConfig>,
}

impl TlsSettings {
    fn key_file(&self) -> &Path {
        self.key.as_ref().unwrap_or(&self.chain)
    }

    /// What the options say together; the later of two like ones counts.
    pub(super) fn new(options: &[&TlsOption]) -> TlsSettings {
        let mut settings = TlsSettings {
            authorities: None,
            chain: PathBuf::new(),
            key: None,
            is_13_only: false,
            resumes: false,
            verify: Verify::None,
            write_bytes: WRITE_BYTES,
        };
        for option in options {
            match (*option).clone() {
                TlsOption::Authorities(path) => settings.authorities = Some(path),
                TlsOption::Chain(path) => settings.chain = path,
                TlsOption::Key(path) => settings.key = Some(path),
                TlsOption::MinVersion(version) => settings.is_13_only = version == VERSION_13,
                TlsOption::Resumes => settings.resumes = true,
                TlsOption::Verify(verify) => settings.verify = verify,
                TlsOption::WriteBytes(bytes) => settings.write_bytes = bytes,
            }
        }
        settings
    }
}

impl TlsOption {
    /// # Errors
    /// A sentence for the user.
    pub(super) fn read(name: &str, value: Option<&str>) -> Result<TlsOption, String> {
        // Absolute, since a daemon has another working directory.
        let path = || {
            let given = value.filter(|path| !path.is_empty()).and_then(|path| std::path::absolute(path).ok());
            given.ok_or(format!("{name} needs a file"))
        };
        let number = |most: usize| {
            let number: Option<usize> = value.and_then(|value| value.parse().ok());
            let number = number.filter(|number| *number <= most);
            number.ok_or(format!("{name} is a number from 0 to {most}"))
        };
        match name {
            "ssl_ca_cert" => path().map(TlsOption::Authorities),
            "ssl_chain_cert" => path().map(TlsOption::Chain),
            "ssl_key" => path().map(TlsOption::Key),
            "ssl_min_version" => number(3).map(|version| TlsOption::MinVersion(version as u8)),
            "ssl_session_cache" => Ok(TlsOption::Resumes),
            "ssl_verify_mode" => number(3).map(|mode| {
                // Once means that a session is not verified again when it is renewed: nobody renews any more.
                TlsOption::Verify([Verify::None, Verify::Request, Verify::Require, Verify::Require][mode])
            }),
            // Without any room nothing could be sent.
            "ssl_wbuf_size" if value == Some("0") => Err("ssl_wbuf_size is at least 1".to_owned()),
            "ssl_wbuf_size" => number(1 << 20).map(|kibibytes| TlsOption::WriteBytes(kibibytes << 10)),
            "ssl_keyformat" if value == Some("1") => {
                Err("keys are PEM always: leave ssl_keyformat out".to_owned())
            }
            "ssl_keyformat" => Err("keys must be PEM".to_owned()),
            "ssl_ciphers" => Err("there is no choice of ciphers: none is weak".to_owned()),
            "ssl_kernel_tls" => Err("there is no TLS in the kernel for this server".to_owned()),
            _ => Err(format!("there is no suboption {name}")),
        }
    }

    /// Whether it allows a version of TLS that is not to be had.
    pub(super) fn is_too_old(&self) -> bool {
        matches!(self, TlsOption::MinVersion(..VERSION_12))
    }
}

impl Tls {
    /// # Errors
    /// If a file cannot be read, or says nothing that can be used; with its name.
    pub(super) fn load(settings: TlsSettings) -> io::Result<Tls> {
        Ok(Tls { configs: RwLock::new(Configs::load(&settings)?), settings })
    }

    /// Reads the files again. If that fails, what was read before stays.
    ///
    /// # Errors
    /// As [`Tls::load`].
    pub(super) fn reload(&self) -> io::Result<()> {
        let configs = Configs::load(&self.settings)?;
        *self.configs.write() = configs;
        Ok(())
    }

    /// Shakes hands; with whether the session is a new one.
    pub(super) async fn accept<S>(&self, stream: S, verify: Verify) -> io::Result<(TlsStream<S>, bool)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.configs.read().of(verify)?;
        let write_bytes = self.settings.write_bytes;
        let handshake = TlsAcceptor::from(config)
            .accept_with(stream, |session| session.set_buffer_limit(Some(write_bytes)));
        let stream = tokio::time::timeout(HANDSHAKE_WITHIN, handshake).await??;
        let is_new = stream.get_ref().1.handshake_kind() != Some(HandshakeKind::Resumed);
        Ok((stream, is_new))
    }
}

impl Configs {
    fn load(settings: &TlsSettings) -> io::Result<Configs> {
        secret::beware(settings.key_file());
        let provider = Arc::new(ring::default_provider());
        let open = config(settings, &provider, None)?;
        let verifying = match &settings.authorities {
            None => None,
            Some(path) => {
                let roots = Arc::new(pem::authorities(path)?);
                let asks =
                    || WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
                let request = asks().allow_unauthenticated().build().map_err(io::Error::other)?;
                let require = asks().build().map_err(io::Error::other)?;
                Some(Verifying {
                    request: config(settings, &provider, Some(request))?,
                    require: config(settings, &provider, Some(require))?,
                })
            }
        };
        Ok(Configs { open, verifying })
    }

    fn of(&self, verify: Verify) -> io::Result<Arc<ServerConfig>> {
        let found = match (verify, &self.verifying) {
            (Verify::None, _) => &self.open,
            (Verify::Request, Some(verifying)) => &verifying.request,
            (Verify::Require, Some(verifying)) => &verifying.require,
            (Verify::Request | Verify::Require, None) => return Err(io::ErrorKind::InvalidInput.into()),
        };
        Ok(Arc::clone(found))
    }
}

fn config(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
) -> io::Result<Arc<ServerConfig>> {
    let versions: &[_] = if settings.is_13_only { &[&TLS13] } else { &[&TLS13, &TLS12] };
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider));
    let builder = builder.with_protocol_versions(versions).map_err(io::Error::other)?;
    let builder = match verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let (chain, key) = (pem::certificates(&settings.chain)?, pem::key(settings.key_file())?);
    let made = builder.with_single_cert(chain, key);
    let mut config = made.map_err(|error| pem::named(error, &settings.chain))?;
    if settings.resumes {
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
    } else {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Arc::new(config))
}

/// A peer that says nothing would hold its place for ever.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// Sessions of TLS 1.2 and tickets of 1.3 that are remembered.
const SESSIONS_MAX: usize = 4096;
/// What TLS keeps unsent of a connection unless `ssl_wbuf_size` says otherwise, as in memcached.
const WRITE_BYTES: usize = 16 << 10;
/// As `ssl_min_version` counts them.
const VERSION_12: u8 = 2;
const VERSION_13: u8 = 3;
