//! The connection options of both programs.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use super::link::{Target, Trouble, tls};
use crate::client::Login;
use crate::pem::named;

/// Options for authentication and TLS.
#[derive(Args, Debug)]
pub struct Connect {
    /// User name, if the server requires authentication (-Y)
    #[arg(long, value_name = "NAME", requires = "password_file")]
    user: Option<String>,

    /// File with the password of --user in its first line
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,

    /// Use TLS; the server's certificate must be signed by an authority in this file
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// Certificate for servers that require one (mtls), followed by its intermediate certificates
    #[arg(long, value_name = "FILE", requires = "ca")]
    cert: Option<PathBuf>,

    /// Key of --cert, if it is in another file
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

impl Connect {
    /// # Errors
    /// If a file cannot be read, or if the server's name is invalid.
    pub(super) fn target(&self, server: Option<&OsStr>) -> Result<Target, Trouble> {
        self.read(server).map_err(Trouble::Setup)
    }

    fn read(&self, server: Option<&OsStr>) -> io::Result<Target> {
        let server = server.map_or(SERVER_DEFAULT.into(), OsStr::to_string_lossy);
        // A path relative to the current directory is a path, too.
        let server = if server.contains('/') {
            std::path::absolute(&*server)?.to_string_lossy().into_owned()
        } else {
            server.into_owned()
        };
        let login = match (&self.user, &self.password_file) {
            (Some(user), Some(file)) => Some(Login { user: user.clone(), password: password(file)? }),
            _ => None,
        };
        let own = self.cert.as_deref().map(|cert| (cert, self.key.as_deref().unwrap_or(cert)));
        let tls = self.ca.as_deref().map(|authorities| tls(authorities, own)).transpose()?;
        Ok(Target { login, server: server.parse().map_err(io::Error::other)?, tls })
    }
}

fn password(file: &Path) -> io::Result<String> {
    let text = fs::read_to_string(file).map_err(|error| named(error, file))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

const SERVER_DEFAULT: &str = "127.0.0.1:11211";
