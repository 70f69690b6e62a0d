//! Rules: which names an event invalidates.

pub mod condition;
mod cursor;
pub(super) mod filter;
mod path;
pub mod template;

pub use self::cursor::Malformed;
