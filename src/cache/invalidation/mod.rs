//! What was invalidated, and when: single keys, groups (tags and prefixes), rows by their versions, and keys that must not
//! be filled yet.

pub(crate) mod cells;
pub(crate) mod groups;
pub(crate) mod holdoffs;
pub(crate) mod record;
pub(crate) mod versions;
