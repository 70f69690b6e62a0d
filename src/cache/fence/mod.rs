//! The fence for plain clients: implicit leases.
//!
//! A client that uses only `get`, `set` and `delete` reads the database after a miss and stores the value
//! that it read. A value that was read before the key's newest invalidation must not be stored. Every miss is
//! remembered by its key, and sets are judged by counting: see [`record`]. The misses of one connection
//! ([`miss_log`]) are a second line, which only refuses. `docs/design/fence.md` explains the rule.

pub(crate) mod classes;
pub(crate) mod judgment;
pub(crate) mod load_time;
pub(crate) mod miss_log;
pub(crate) mod origin;
pub(crate) mod record;
pub(crate) mod sessions;
pub(crate) mod table;

pub(crate) use self::classes::Classes;
pub(crate) use self::judgment::{Answers, Judged, Reader, Verdict};
pub(crate) use self::load_time::LoadTimes;
pub(crate) use self::record::Touch;
pub(crate) use self::sessions::Sessions;
pub(crate) use self::table::{Entry, Forgotten, Table};
