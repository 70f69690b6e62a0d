//! Files with secrets: users, the admin token, the key of a certificate.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Reads one, and warns if every user of this machine can read it.
///
/// # Errors
/// If it cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    warn_if_readable(path);
    fs::read(path)
}

pub(crate) fn warn_if_readable(path: &Path) {
    if fs::metadata(path).is_ok_and(|file| file.permissions().mode() & READ_BY_OTHERS != 0) {
        tracing::warn!("every user of this machine can read {}: chmod o-r it", path.display());
    }
}

const READ_BY_OTHERS: u32 = 0o004;
