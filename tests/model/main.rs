//! The cache alone, on a clock that only moves by hand: laws, histories and the specification that judges
//! them.

mod cache;
mod forgetful;
mod forgotten_misses;
mod freshness;
mod handover;
mod inspect;
mod lease_model;
mod own_misses;
mod specification;
mod staleness;
mod storm;
#[path = "../support/mod.rs"]
mod support;
