//! The server's program, for examples that start it as a process.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The `leasehold` of the same profile: this program is in `target/<profile>/examples`. Cargo builds examples
/// without it.
pub fn leasehold() -> io::Result<PathBuf> {
    let this = env::current_exe()?;
    let folder = this.ancestors().nth(2).expect("a program in a folder of examples");
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    if let Some(cargo) = env::var_os("CARGO") {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--bin", "leasehold", "--profile", profile]);
        if !build.arg("--manifest-path").arg(manifest).status()?.success() {
            return Err(io::Error::other("leasehold does not build"));
        }
    }
    Ok(folder.join("leasehold"))
}
