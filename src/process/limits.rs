//! The system limits that a server needs raised, and its processor time.

use std::io;
use std::time::Duration;

use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{RLIM_INFINITY, Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeVal;

use crate::metrics::Usage;

/// Raises the limit on descriptors as far as this many connections need.
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

/// How many mappings of memory the system allows a process; `None` if it does not say so.
pub fn mappings() -> Option<usize> {
    std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?.trim().parse().ok()
}

/// Allows core files, up to the system's hard limit.
///
/// # Errors
/// If that allows none.
pub fn allow_cores() -> io::Result<()> {
    // Only root may raise the hard limit as well.
    if setrlimit(Resource::RLIMIT_CORE, RLIM_INFINITY, RLIM_INFINITY).is_ok() {
        return Ok(());
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE)?;
    if hard == 0 {
        return Err(io::Error::other("cannot allow core files (-r): the hard limit is 0"));
    }
    Ok(setrlimit(Resource::RLIMIT_CORE, hard, hard)?)
}

/// Allows this process to lock all its memory in RAM, even after it has switched users. [`lock_memory`]
/// does the locking.
///
/// # Errors
/// If the system's hard limit forbids it, because later allocations would fail.
pub fn allow_locked_memory() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).map_err(|error| {
        io::Error::other(format!("cannot lock memory (-k): cannot raise the limit: {error}"))
    })
}

/// Locks all current and future memory of this process in RAM.
///
/// # Errors
/// If the system refuses.
pub fn lock_memory() -> io::Result<()> {
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE)
        .map_err(|error| io::Error::other(format!("cannot lock memory (-k): {error}")))
}

/// The processor time of this process, summed over all threads.
pub fn usage() -> Usage {
    let span = |time: TimeVal| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000);
    // It fails only for invalid arguments.
    getrusage(UsageWho::RUSAGE_SELF).map_or(Usage::default(), |usage| Usage {
        system: span(usage.system_time()),
        user: span(usage.user_time()),
    })
}

/// Listeners, runtimes and standard streams.
const DESCRIPTORS_BESIDE: u64 = 64;
