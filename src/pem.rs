//! PEM files: certificates, authorities and keys. Errors name the file.

use std::fmt::Display;
use std::io;
use std::path::Path;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The certificate authorities in a file.
pub(crate) fn authorities(path: &Path) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| named(error, path))?;
    }
    Ok(roots)
}

/// All certificates in a file, in their order; at least one.
pub(crate) fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found: Vec<_> = found.map_err(|error| named(error, path))?;
    if found.is_empty() {
        return Err(named("no certificate found", path));
    }
    Ok(found)
}

/// The first key in a file.
pub(crate) fn key(path: &Path) -> io::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| named(error, path))
}

pub(crate) fn named(error: impl Display, path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
}
