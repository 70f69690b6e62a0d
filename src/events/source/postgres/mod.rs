//! PostgreSQL's logical replication as a source.

pub mod pgoutput;
