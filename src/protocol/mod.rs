//! Bytes to requests, and replies to bytes.
//!
//! `message/` has the requests and replies as values, which is all that commands know. `text/` is memcached's
//! text protocol: its [`Decoder`] makes a [`Request`] of bytes, its encoder makes bytes of a [`Reply`].
//! [`Output`] queues these bytes.
//!
//! A second protocol is a folder beside `text/`: a decoder that makes the same requests, and an `encode` for
//! the same replies. A connection's first byte decides between the decoders, and [`Replies`] keeps which
//! `encode` is meant, with what its replies repeat of a request: [`Replies::send`] is the only place that
//! matches on it. Commands stay as they are. The requests of memcached's binary protocol are meta commands
//! here, of which they are a subset: quiet, CAS unique and the key in the reply are flags.
//!
//! Nothing here depends on the content of a cache.

pub(crate) mod base64;
mod message;
mod output;
mod replies;
mod scan;
mod text;

pub use self::message::{
    Block, CasUnique, CountMode, Dump, DumpForm, Flags, Inspected, Invalidated, Keys, LeaseSet, Listed, Meta,
    MetaFields, MetaReply, MetaStatus, MetaValue, Numbers, Part, Refusal, Reply, Request, SetMode, Shutdown,
    Statistics, Status, Store, TagWords, Ttl, Upcoming, Watched,
};
pub use self::output::{OUTPUT_BYTES_MAX, Output};
pub use self::replies::Replies;
pub use self::text::{Decoder, Space};
pub use crate::limits::{
    KEYS_LINE_BYTES_MAX, KEYS_PER_GET_MAX, LINE_BYTES_MAX, NAMES_PER_INVALIDATE_MAX, TAGS_MAX,
    VALUE_APART_BYTES_MIN,
};
