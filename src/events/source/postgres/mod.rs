//! PostgreSQL's logical replication as a source.

use std::time::Duration;

use super::{Attached, Batch, Broken, Source};
use crate::clock::Clock;
use crate::events::position::Position;
use crate::events::report::Report;

/// x
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "replaced")]
pub struct Settings {
    pub create: bool,
    pub heartbeat: Duration,
    pub messages: Option<String>,
    pub password: Option<String>,
    pub publication: String,
    pub slot: String,
    pub url: String,
}

/// x
#[derive(Debug)]
pub struct Postgres;

impl Postgres {
    /// x
    pub fn new(_: Settings, _: Clock) -> Self {
        Postgres
    }
    /// x
    pub async fn forget(&mut self) -> Result<(), Broken> {
        Ok(())
    }
}

impl Source for Postgres {
    async fn attach(&mut self, _: Option<&Position>) -> Result<Attached, Broken> {
        Err(Broken::Misconfigured("x".to_owned()))
    }
    async fn next(&mut self) -> Result<Batch, Broken> {
        std::future::pending().await
    }
    async fn done(&mut self, _: &Position, _: &Report) -> Result<(), Broken> {
        Ok(())
    }
}
