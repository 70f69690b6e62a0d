//! TLS by rustls: the handshake, and certificates from PEM files, which `refresh_certs` and SIGHUP reload.
//!
//! Open connections keep the certificates of their handshake.
//!
//! There is no choice of ciphers (rustls has no weak ones), and no support for versions below 1.2, for key
//! formats other than PEM, or for kernel TLS.

use std::io;
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

use crate::options::{TlsSettings, Verify};
use crate::pem;
use crate::process::secret;

/// The certificates and settings for handshakes.
pub(super) struct Tls {
    configs: RwLock<Configs>,
    settings: TlsSettings,
}

/// One for each [`Verify`]; client certificates need authorities.
struct Configs {
    open: Arc<ServerConfig>,
    verifying: Option<Verifying>,
}

struct Verifying {
    request: Arc<ServerConfig>,
    require: Arc<ServerConfig>,
}

impl Tls {
    /// # Errors
    /// If a file is unreadable or unusable; the error names it.
    pub(super) fn load(settings: TlsSettings) -> io::Result<Tls> {
        Ok(Tls { configs: RwLock::new(Configs::load(&settings)?), settings })
    }

    /// Reads the files again. If that fails, the old certificates stay.
    ///
    /// # Errors
    /// As [`Tls::load`].
    pub(super) fn reload(&self) -> io::Result<()> {
        let configs = Configs::load(&self.settings)?;
        *self.configs.write() = configs;
        Ok(())
    }

    /// Completes the handshake; also returns whether the session is new.
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
        secret::warn_if_readable(settings.key_file());
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
            // Without authorities, a certificate that is not required proves nothing, and is not asked for.
            (Verify::None, _) | (Verify::Request, None) => &self.open,
            (Verify::Request, Some(verifying)) => &verifying.request,
            (Verify::Require, Some(verifying)) => &verifying.require,
            (Verify::Require, None) => return Err(io::ErrorKind::InvalidInput.into()),
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

/// A silent peer would otherwise occupy its connection for ever.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// The limit on stored TLS 1.2 sessions and 1.3 tickets.
const SESSIONS_MAX: usize = 4096;
