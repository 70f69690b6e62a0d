//! What a daemon does around its serving: descriptors, user, background, pid file.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{RLIM_INFINITY, Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeVal;
use nix::unistd::{self, User};

use crate::metrics::Usage;

/// Allows as many descriptors as that many connections take.
///
/// # Errors
/// If the system's hard limit is lower.
pub fn allow_descriptors(connections: u32) -> io::Result<()> {
    let wanted = u64::from(connections) + DESCRIPTORS_BESIDE;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft >= wanted {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).map_err(|error| {
        io::Error::other(format!("cannot open {wanted} files for -c {connections} (limit {hard}): {error}"))
    })
}

/// Allows core files, as large as the system's hard limit lets them be.
///
/// # Errors
/// If that allows none.
pub fn allow_cores() -> io::Result<()> {
    // Only root may raise the hard limit, too.
    if setrlimit(Resource::RLIMIT_CORE, RLIM_INFINITY, RLIM_INFINITY).is_ok() {
        return Ok(());
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE)?;
    if hard == 0 {
        return Err(io::Error::other("cannot allow core files (-r): the limit is not to be raised"));
    }
    Ok(setrlimit(Resource::RLIMIT_CORE, hard, hard)?)
}

/// Allows this process to keep all its memory in RAM, also once it is somebody else. [`lock_memory`] does it.
///
/// # Errors
/// If the system's hard limit forbids it: memory that cannot be locked later on could not be had at all.
pub fn allow_locked_memory() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).map_err(|error| {
        io::Error::other(format!("cannot lock memory (-k): the limit is not to be raised: {error}"))
    })
}

/// Keeps all memory in RAM that this process has or will have.
///
/// # Errors
/// If the system refuses.
pub fn lock_memory() -> io::Result<()> {
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE)
        .map_err(|error| io::Error::other(format!("cannot lock memory (-k): {error}")))
}

/// Writes the ports that are listened on to a file, which is there at once and whole.
///
/// # Errors
/// If it cannot be written.
pub fn tell_ports(path: &Path, addresses: &[SocketAddr]) -> io::Result<()> {
    let line = |address: &SocketAddr| {
        let family = if address.is_ipv4() { "INET" } else { "INET6" };
        format!("TCP {family}: {}\n", address.port())
    };
    write_whole(path, ".lck", &addresses.iter().map(line).collect::<String>())
}

/// Writes a file by another name first, which has that ending: whoever waits for it never finds half of it.
fn write_whole(path: &Path, ending: &str, text: &str) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(ending);
    fs::write(&unfinished, text)
        .and_then(|()| fs::rename(&unfinished, path))
        .map_err(|error| io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display())))
}

/// Becomes another user, if this is root; others stay who they are, as in memcached.
///
/// # Errors
/// If there is no such user, or the system refuses.
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

/// Goes on in the background, where it stays in its folder and is heard only if it is told so. To be called before any
/// thread is started.
///
/// # Errors
/// If the system refuses.
pub fn daemonize(keeps_folder: bool, keeps_output: bool) -> io::Result<()> {
    Ok(unistd::daemon(keeps_folder, keeps_output)?)
}

/// The time that this process has had a processor for, all its threads together.
pub fn usage() -> Usage {
    let span = |time: TimeVal| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000);
    // It only fails for somebody that the system does not know.
    getrusage(UsageWho::RUSAGE_SELF).map_or(Usage::default(), |usage| Usage {
        system: span(usage.system_time()),
        user: span(usage.user_time()),
    })
}

/// A file that holds the process's id as long as this lives.
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes the file, which is there at once and whole.
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

/// Listeners, runtimes, standard streams.
const DESCRIPTORS_BESIDE: u64 = 64;
