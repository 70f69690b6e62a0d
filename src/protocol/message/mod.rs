//! Messages: requests of clients and replies to them, as values that say nothing of how they are written.

mod admin;
mod keys;
mod meta;
mod refusal;
mod reply;
mod request;
mod status;

pub use self::admin::{Dump, DumpForm, Statistics, Watched};
pub(in crate::protocol) use self::keys::words;
pub use self::keys::{Keys, TagWords};
pub use self::meta::{CountMode, Flags, Meta, Numbers, SetMode};
pub(in crate::protocol) use self::meta::{TAG, bit};
pub use self::refusal::{BadPacket, Refusal};
pub use self::reply::{
    Block, Inspected, Listed, MetaFields, MetaReply, MetaStatus, MetaValue, Part, Reply, Ttl,
};
pub use self::request::{CasUnique, Invalidated, LeaseSet, Request, Sasl, Shutdown, Store, Upcoming};
pub use self::status::Status;
