//! A running server as layers above see it: what it holds, counts, allows, and whether it serves.
//!
//! Deliberately absent: connections. Whoever looks at a server speaks to its cache as one more party.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::service::Service;
use crate::cache::Cache;
use crate::clock::Now;
use crate::command::{Rules, Session};
use crate::metrics::{Counters, Metrics};

/// A server that is looked at.
#[derive(Clone)]
pub struct View(Arc<Service>);

impl View {
    pub(super) fn new(service: &Arc<Service>) -> View {
        View(Arc::clone(service))
    }

    /// The cache that it serves.
    pub fn cache(&self) -> &Cache {
        &self.0.cache
    }

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// What it allows to everybody.
    pub fn rules(&self) -> Rules {
        self.0.rules
    }

    /// The time by its clock.
    pub fn now(&self) -> Now {
        self.0.now()
    }

    /// Somebody there gave a wrong password: for how long the answer is to wait.
    pub fn wrong_password(&self, address: IpAddr) -> Duration {
        self.0.wrong_password(Some(address.into()), &self.counters(), self.now())
    }

    /// Whether it is about to end.
    pub fn is_stopping(&self) -> bool {
        self.0.shutdown.is_requested()
    }

    /// The counters of whoever looks, one thread at a time.
    pub fn counters(&self) -> Arc<Counters> {
        self.0.metrics.beside()
    }

    /// One more party that is no client, which commands can be executed for.
    pub fn session(&self) -> Session {
        Session::internal(&self.0.cache, Arc::clone(&self.0.metrics), self.counters(), self.0.rules)
    }
}
