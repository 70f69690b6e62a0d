//! One server after another, on the same sockets and with the same items (`leasehold handover`).
//!
//! The server that uses a memory file listens on a Unix socket beside it, for its own user only. Whoever is to serve
//! next speaks to it there, in lines:
//!
//! | who | line | and means |
//! |---|---|---|
//! | next | `leasehold handover 1` | give me what you listen on |
//! | former | `sockets <microseconds> <address>` | here they are, as descriptors; systemd wants to hear from us that often (0: never); `--admin` is there (`-`: nowhere) |
//! | next | `take <pid> <milliseconds>` | I have all I need: stop, and write your items within that time |
//! | former | `writing` | I am at it: now and then, about once a second |
//! | former | `kept <items>` or `empty <why>` | nothing of mine is in your way any more |
//!
//! Until `take` the former one serves on, whatever becomes of the next. From then on it accepts nobody, and ends,
//! whatever becomes of the next: there are never two that serve. The next one accepts once it has the last line, or the
//! connection has broken: then the former one is gone.
//!
//! Deliberately absent: items on the way themselves. They go through the memory file, as over any restart.

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

/// Where the server that uses this memory file is spoken to.
fn socket_beside(memory_file: &Path) -> PathBuf {
    let mut name = memory_file.as_os_str().to_owned();
    name.push(".leasehold-handover");
    name.into()
}

/// The first line, with the version of all that follows.
const HELLO: &str = "leasehold handover 1";
/// What the former server says as long as it writes.
const WRITING: &str = "writing";
/// How long either side may take for one line, beside what writing the items takes.
const PATIENCE: Duration = Duration::from_secs(10);
