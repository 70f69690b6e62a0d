//! Switching users, and going into the background.

use std::io;

use nix::unistd::{self, User};

/// Switches to another user if this process runs as root, as memcached does.
///
/// # Errors
/// If the user does not exist, or the system refuses.
pub fn become_user(name: &str) -> io::Result<()> {
    if !unistd::geteuid().is_root() {
        return Ok(());
    }
    let unknown = || io::Error::new(io::ErrorKind::NotFound, format!("there is no user {name}"));
    let user = User::from_name(name)?.ok_or_else(unknown)?;
    unistd::setgroups(&[user.gid])?;
    unistd::setgid(user.gid)?;
    unistd::setuid(user.uid)?;
    Ok(())
}

/// Continues in the background; keeps the working directory and the standard streams only if asked to. Call
/// this before any thread is started.
///
/// # Errors
/// If the system refuses.
pub fn daemonize(keeps_folder: bool, keeps_output: bool) -> io::Result<()> {
    Ok(unistd::daemon(keeps_folder, keeps_output)?)
}
