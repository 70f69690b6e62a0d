//! Servers and clients over real sockets, in this process or beside it.

mod admin;
mod admin_documents;
mod binary;
mod client;
mod client_faults;
mod client_invalidate;
mod events;
mod fresh;
mod large_values;
mod postgres;
mod safety;
mod server;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod watch;
