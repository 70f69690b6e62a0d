//! TLS as libpq's `sslmode` defines it, and the channel binding of SCRAM.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256, Sha384, Sha512};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::failure::Failure;
use super::url::{SslMode, Url};
use crate::pem;

/// The TLS of this URL; `None` if it is disabled.
pub(super) fn connector(url: &Url) -> Result<Option<TlsConnector>, Failure> {
    if url.mode == SslMode::Disable {
        return Ok(None);
    }
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().map_err(unusable)?;
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier(url, provider)?);
    let config = match &url.certificate {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(
                pem::certificates(certificate).map_err(unusable)?,
                pem::key(key).map_err(unusable)?,
            )
            .map_err(unusable)?,
    };
    Ok(Some(Arc::new(config).into()))
}

fn unusable(error: impl ToString) -> Failure {
    Failure::Unusable(error.to_string())
}

/// How the server's certificate is verified. As with libpq, `require` with authorities is `verify-ca`.
fn verifier(url: &Url, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, Failure> {
    let roots = match (url.mode, &url.roots) {
        (SslMode::Disable | SslMode::Prefer, _) | (SslMode::Require, None) => {
            return Ok(Arc::new(Lenient { provider, inner: None }));
        }
        (_, Some(path)) => roots(path)?,
        (SslMode::VerifyCa | SslMode::VerifyFull, None) => {
            return Err(Failure::Unusable(
                "sslmode verify-ca and verify-full need sslrootcert=FILE with the authority of the server's \
                 certificate, or sslrootcert=system"
                    .to_owned(),
            ));
        }
    };
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let inner = inner.build().map_err(unusable)?;
    Ok(match url.mode {
        SslMode::VerifyFull => inner,
        _ => Arc::new(Lenient { provider, inner: Some(inner) }),
    })
}

fn roots(path: &Path) -> Result<RootCertStore, Failure> {
    if path == Path::new("system") {
        let bundle = SYSTEM_ROOTS.into_iter().map(PathBuf::from).find(|bundle| bundle.exists());
        let bundle = bundle.ok_or_else(|| {
            Failure::Unusable("sslrootcert=system: this system has no authorities; name a file".to_owned())
        })?;
        let mut roots = RootCertStore::empty();
        // As browsers do, without those that are too old to be understood.
        roots.add_parsable_certificates(pem::certificates(&bundle).map_err(unusable)?);
        return Ok(roots);
    }
    pem::authorities(path).map_err(unusable)
}

/// Does not verify the name in the certificate, and without `inner` not its issuer either.
#[derive(Debug)]
struct Lenient {
    inner: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(inner) = &self.inner else { return Ok(ServerCertVerified::assertion()) };
        // The name is verified last.
        match inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// `tls-server-end-point` of RFC 5929: the certificate, hashed as its signature hashes it.
///
/// `None` if that hash is not known; then there is no binding.
pub(super) fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (certificate_fields, _) = element(certificate, SEQUENCE)?;
    let (_signed, rest) = element(certificate_fields, SEQUENCE)?;
    let (algorithm, _) = element(rest, SEQUENCE)?;
    let (identifier, _) = element(algorithm, OBJECT_IDENTIFIER)?;
    match identifier {
        // RSA with MD5, SHA-1 and SHA-256, ECDSA with SHA-1 and SHA-256: RFC 5929 replaces the weak ones.
        [.., 1, 1, 4 | 5 | 11] | [.., 0x3d, 4, 1] | [.., 0x3d, 4, 3, 2] => {
            Some(Sha256::digest(certificate).to_vec())
        }
        [.., 1, 1, 12] | [.., 0x3d, 4, 3, 3] => Some(Sha384::digest(certificate).to_vec()),
        [.., 1, 1, 13] | [.., 0x3d, 4, 3, 4] => Some(Sha512::digest(certificate).to_vec()),
        _ => None,
    }
}

/// The content of the first element of DER, and the bytes after it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<2>()?;
    if head[0] != tag {
        return None;
    }
    let (length, rest) = match head[1] {
        short @ 0..0x80 => (usize::from(short), rest),
        long => {
            let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7f).min(4))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
    };
    rest.split_at_checked(length)
}

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 6;
/// Debian and Alpine, Fedora, SUSE.
const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

    use super::*;

    #[test]
    fn the_binding_has_the_hash_of_the_certificates_signature() {
        for (algorithm, length) in
            [(&PKCS_ECDSA_P256_SHA256, Some(32)), (&PKCS_ECDSA_P384_SHA384, Some(48)), (&PKCS_ED25519, None)]
        {
            let key = KeyPair::generate_for(algorithm).expect("a known algorithm");
            let params = CertificateParams::new(["localhost".to_owned()]).expect("a legal name");
            let certificate = params.self_signed(&key).expect("it signs");
            let bound = end_point(certificate.der());
            assert_eq!(bound.as_ref().map(Vec::len), length);
            // Any beginning of a certificate is harmless.
            (0..certificate.der().len()).for_each(|end| drop(end_point(&certificate.der()[..end])));
        }
    }
}
