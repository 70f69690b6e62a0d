//! Limits of requests, each a fact once: the parser refuses what is above them, the store counts on that.
//!
//! protocol.md documents them. Limits that concern one file only stand there.

use std::ops::Range;

/// The longest line, in bytes before its newline, as in memcached.
pub const LINE_BYTES_MAX: usize = 2 * 1024;
/// The longest line of a command whose value may have many tags.
pub const TAGS_LINE_BYTES_MAX: usize = 8 * 1024;
/// The longest line of a command that takes many keys.
pub const KEYS_LINE_BYTES_MAX: usize = 1024 * 1024;
/// The longest key or tag, in bytes (memcached's `KEY_MAX_LENGTH`).
pub const KEY_BYTES_MAX: usize = 250;
/// The limit on keys in one line.
pub const KEYS_PER_GET_MAX: usize = 100_000;
/// The limit on names of one `invalidate`.
pub const NAMES_PER_INVALIDATE_MAX: usize = 1_000;
/// The limit on tags of one value.
pub const TAGS_MAX: usize = 16;
/// Prefixes of a key that can be invalidated; those beyond, for which it would need more delimiters, cannot.
pub const PREFIXES_MAX: usize = 16;
/// The numbers of tokens have this bit and none above it; a unique that a client chooses may not have it.
pub const TOKEN_BIT: u64 = 1 << 62;
/// All numbers that can be that of a token.
pub const TOKENS: Range<u64> = TOKEN_BIT..TOKEN_BIT << 1;
/// Values of this length or more are received into pages of their own, and sent from there.
pub const VALUE_APART_BYTES_MIN: usize = 16 * 1024 + 1;
