//! memcached's text protocol with the lease verbs: bytes to requests, and replies to bytes.
//!
//! [`Decoder`] splits the stream into lines and data blocks. `grammar` parses a line into a [`Request`],
//! with `fast` as a shortcut for frequent forms. [`Output`] writes the replies. protocol.md describes the
//! protocol.
//!
//! Nothing here depends on the content of a cache.

mod admin;
pub(crate) mod base64;
mod decoder;
mod fast;
mod grammar;
mod listed;
mod meta;
mod output;
mod refusal;
mod request;
mod scan;

pub use self::admin::{Dump, DumpForm, Statistics, Watched};
pub use self::decoder::{Decoder, Upcoming, VALUE_APART_BYTES_MIN};
pub use self::listed::Listed;
pub use self::meta::{CountMode, Flags, Meta, SetMode};
pub use self::output::{Block, OUTPUT_BYTES_MAX, Output, Reply};
pub use self::refusal::Refusal;
pub use self::request::{CasUnique, Invalidated, Keys, LeaseSet, Request, Shutdown, Store, TagWords};

pub use crate::limits::{
    KEYS_LINE_BYTES_MAX, KEYS_PER_GET_MAX, LINE_BYTES_MAX, NAMES_PER_INVALIDATE_MAX, TAGS_MAX,
};
