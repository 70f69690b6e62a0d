//! Bytes to requests, and replies to bytes.
//!
//! `message/` has the requests and replies as values, which is all that commands know. `text/` is memcached's
//! text protocol: its [`Decoder`] makes a [`Request`] of bytes, its encoder makes bytes of a [`Reply`].
//! [`Output`] queues these bytes. `binary/` is memcached's binary protocol: a decoder that makes the same
//! requests, and an `encode` for the same replies.
//!
//! [`Requests`] lets a connection's first byte decide between the decoders. [`Replies`] decides between the
//! encoders: its [`ReplyForm`] keeps what the replies repeat of a request. Commands do not know the
//! protocol, with two exceptions that ask [`Replies::is_binary`].
//!
//! Nothing here depends on the content of a cache.

pub(crate) mod base64;
mod binary;
mod message;
mod output;
mod replies;
mod requests;
mod scan;
mod space;
mod text;

pub use self::message::{
    BadPacket, Block, CasUnique, CountMode, Dump, DumpForm, Flags, Inspected, Invalidated, Keys, LeaseSet,
    Listed, Meta, MetaFields, MetaReply, MetaStatus, MetaValue, Numbers, Part, Refusal, Reply, Request, Sasl,
    SetMode, Shutdown, Statistics, Status, Store, TagWords, Ttl, Upcoming, Watched,
};
pub use self::output::{OUTPUT_BYTES_MAX, Output};
pub use self::replies::{Replies, ReplyForm};
pub use self::requests::{Protocols, Requests, Resting};
pub use self::space::{Awaited, Space};
pub use self::text::Decoder;
pub use crate::limits::{
    KEYS_LINE_BYTES_MAX, KEYS_PER_GET_MAX, LINE_BYTES_MAX, NAMES_PER_INVALIDATE_MAX, TAGS_LINE_BYTES_MAX,
    TAGS_MAX, VALUE_APART_BYTES_MIN,
};
