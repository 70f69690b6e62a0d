//! Handover: a new server takes over the sockets and items of a running one (`leasehold handover`).
//!
//! The server that uses a snapshot file listens on a Unix socket beside it, for its own user only. The new
//! server connects to it; both send lines:
//!
//! | sender | line | meaning |
//! |---|---|---|
//! | new | `leasehold handover 1` | asks for the listening sockets |
//! | old | `sockets <microseconds> <address>` | the sockets, as descriptors; the period of systemd's watchdog (0: none); the address of `--admin` (`-`: none) |
//! | new | `take <pid> <milliseconds>` | ready: stop, and write the items within that time |
//! | old | `writing` | the items are being written; about once a second |
//! | old | `kept <items>` or `empty <why>` | the sockets and files are free |
//!
//! Until `take` the old server keeps serving, even if the new one fails. After it, the old server accepts no
//! connections and exits, even if the new one fails: two servers never serve at once. The new server accepts
//! once it has the last line, or the connection has broken: then the old process has ended.
//!
//! Items do not pass through this connection: they go through the snapshot file, as over any restart.

mod boot;
mod descriptors;
mod incoming;
mod outgoing;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::boot::take_over;
pub use self::incoming::Predecessor;
pub use self::outgoing::{Completion, Successor};
pub(crate) use self::outgoing::{ControlSocket, Offer};

/// The control socket of the server that uses this snapshot file.
fn socket_beside(memory_file: &Path) -> PathBuf {
    let mut name = memory_file.as_os_str().to_owned();
    name.push(".leasehold-handover");
    name.into()
}

/// The first line, with the version of all that follows.
const HELLO: &str = "leasehold handover 1";
/// Sent by the old server while it writes.
const WRITING: &str = "writing";
/// Timeout of either side for one line; writing the items has its own.
const PATIENCE: Duration = Duration::from_secs(10);
