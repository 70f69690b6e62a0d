//! Memory of invalidations: of single keys, of groups (tags and prefixes), of rows by their versions, and
//! hold-offs of keys that must not be filled yet.

pub(crate) mod cells;
pub(crate) mod groups;
pub(crate) mod holdoffs;
pub(crate) mod record;
pub(crate) mod versions;
