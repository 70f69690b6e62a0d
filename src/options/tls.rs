//! `-Z` and `-o ssl_*`: the settings of TLS, under memcached's names.

use std::path::{Path, PathBuf};

/// The settings of `-o ssl_*`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsSettings {
    /// The authorities for client certificates.
    pub authorities: Option<PathBuf>,
    /// The server's certificate, followed by its intermediate certificates.
    pub chain: PathBuf,
    /// The server's key; `None` if it is in the same file.
    pub key: Option<PathBuf>,
    /// Whether TLS 1.2 is refused, too.
    pub is_13_only: bool,
    /// Whether sessions may be resumed.
    pub resumes: bool,
    /// The default for client certificates.
    pub verify: Verify,
    /// Limit of unsent bytes that TLS buffers for each connection.
    pub write_bytes: usize,
}

/// The protection of a listener.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Security {
    /// No protection.
    Plain,
    /// TLS.
    Tls(Verify),
}

/// Whether a client must send a certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verify {
    /// No certificate.
    None,
    /// An optional certificate; an invalid one is refused.
    Request,
    /// A required certificate.
    Require,
}

/// An option of `ssl_*`.
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

impl TlsSettings {
    pub(crate) fn key_file(&self) -> &Path {
        self.key.as_ref().unwrap_or(&self.chain)
    }

    /// All options together; of several equal ones the last wins.
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
    /// A message for the user.
    pub(super) fn read(name: &str, value: Option<&str>) -> Result<TlsOption, String> {
        // The path is made absolute, since a daemon changes its working directory.
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
                // Once means that a renegotiation does not verify again; rustls never renegotiates.
                TlsOption::Verify([Verify::None, Verify::Request, Verify::Require, Verify::Require][mode])
            }),
            // Without a buffer nothing could be sent.
            "ssl_wbuf_size" if value == Some("0") => Err("ssl_wbuf_size is at least 1".to_owned()),
            "ssl_wbuf_size" => number(1 << 20).map(|kibibytes| TlsOption::WriteBytes(kibibytes << 10)),
            "ssl_keyformat" if value == Some("1") => {
                Err("keys are always PEM: leave ssl_keyformat out".to_owned())
            }
            "ssl_keyformat" => Err("keys must be PEM".to_owned()),
            "ssl_ciphers" => Err("ssl_ciphers is not supported: all available ciphers are strong".to_owned()),
            "ssl_kernel_tls" => Err("ssl_kernel_tls is not supported".to_owned()),
            _ => Err(format!("unknown suboption {name}")),
        }
    }

    /// Whether it allows a version of TLS that is not supported.
    pub(super) fn is_too_old(&self) -> bool {
        matches!(self, TlsOption::MinVersion(..VERSION_12))
    }
}

/// The default of `ssl_wbuf_size`, as in memcached.
const WRITE_BYTES: usize = 16 << 10;
/// As `ssl_min_version` counts them.
const VERSION_12: u8 = 2;
const VERSION_13: u8 = 3;
