//! PostgreSQL's logical replication as a source.
