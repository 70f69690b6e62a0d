//! The process around a server: user, background, limits, signals, systemd, logging, sockets and files.

mod daemon;
mod files;
mod inherited;
mod limits;
mod log_queue;
pub mod logging;
pub mod secret;
pub mod signals;
pub mod sockets;
pub mod systemd;

pub use self::daemon::{become_user, daemonize};
pub use self::files::{PidFile, write_ports};
pub use self::inherited::Inherited;
pub use self::limits::{allow_cores, allow_descriptors, allow_locked_memory, lock_memory, mappings, usage};
