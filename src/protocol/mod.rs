//! memcached's text protocol with the lease verbs: bytes to requests, and replies to bytes.
//!
//! [`Decoder`] splits the stream into lines and data blocks. `grammar` parses a line into a [`Request`],
//! with `fast` as a shortcut for frequent forms. [`Output`] writes the replies. protocol.md describes the
//! protocol.
//!
//! Nothing here depends on the content of a cache.

pub(crate) mod base64;
mod message;
mod output;
mod scan;
mod text;

pub use self::message::{
    Block, CasUnique, CountMode, Dump, DumpForm, Flags, Invalidated, Keys, LeaseSet, Listed, Meta, Refusal,
    Reply, Request, SetMode, Shutdown, Statistics, Store, TagWords, Upcoming, Watched,
};
pub use self::output::{OUTPUT_BYTES_MAX, Output};
pub use self::text::{Decoder, VALUE_APART_BYTES_MIN};
pub use crate::limits::{
    KEYS_LINE_BYTES_MAX, KEYS_PER_GET_MAX, LINE_BYTES_MAX, NAMES_PER_INVALIDATE_MAX, TAGS_MAX,
};
