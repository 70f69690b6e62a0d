//! Requests and replies as bytes, without a socket: transcripts, corpora and random bytes.

mod binary;
mod command;
mod conversation;
mod decoding;
mod fuzz;
mod listings;
mod packets;
mod pgoutput;
mod pgoutput_laws;
mod rules;
#[path = "../support/mod.rs"]
mod support;
mod transcripts;
