//! Snapshots: a cache's items in a file, passed from one process to the next (`-e`).

mod boot;
mod error;
mod file;
mod format;
mod positions;
mod progress;

pub use self::boot::Boot;
pub(crate) use self::boot::SnapshotFile;
pub use self::file::probe;
