//! Files that describe a running process: its id and its ports.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A file that holds the process id; it is removed when this is dropped.
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes the file atomically.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(path: &Path) -> io::Result<PidFile> {
        write_whole(path, ".tmp", &format!("{}\n", std::process::id()))?;
        Ok(PidFile(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "cannot remove the pid file");
        }
    }
}

/// Writes the listening ports to a file atomically.
///
/// # Errors
/// If it cannot be written.
pub fn write_ports(path: &Path, addresses: &[SocketAddr]) -> io::Result<()> {
    let line = |address: &SocketAddr| {
        let family = if address.is_ipv4() { "INET" } else { "INET6" };
        format!("TCP {family}: {}\n", address.port())
    };
    write_whole(path, ".lck", &addresses.iter().map(line).collect::<String>())
}

/// Writes to a temporary file with this suffix first and renames it, so that readers never see half of it.
fn write_whole(path: &Path, ending: &str, text: &str) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(ending);
    fs::write(&unfinished, text)
        .and_then(|()| fs::rename(&unfinished, path))
        .map_err(|error| io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display())))
}
