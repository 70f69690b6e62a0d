//! A handle on a running server for the layers above: its cache, metrics and rules, and whether it is
//! stopping.
//!
//! Connections are not accessible: users of the handle have sessions of their own.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::service::Service;
use crate::cache::Cache;
use crate::clock::{Clock, Now};
use crate::command::{Conversation, Rules};
use crate::events::source::http::{self, Posted};
use crate::metrics::{Counters, Metrics};

/// A handle on a running server.
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

    /// Its clock.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// The settings of an HTTP source of events, and where its requests are sent.
    pub fn event_input(&self, name: &str) -> Option<(http::Settings, mpsc::Sender<Posted>)> {
        self.0.event_inputs.get()?.get(name).cloned()
    }

    /// Its counters.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The rules for all connections.
    pub fn rules(&self) -> Rules {
        self.0.rules
    }

    /// The time by its clock.
    pub fn now(&self) -> Now {
        self.0.now()
    }

    /// Records a wrong password from an address; returns the delay of the answer.
    pub fn wrong_password(&self, address: IpAddr) -> Duration {
        self.0.wrong_password(Some(address.into()), &self.counters(), self.now())
    }

    /// Whether clients are not served yet, because the sources of events are being tried.
    pub fn is_starting(&self) -> bool {
        self.0.event_inputs.get().is_none()
    }

    /// Whether the server is stopping.
    pub fn is_stopping(&self) -> bool {
        self.0.shutdown.is_requested()
    }

    /// Counters for the user of the handle, who may use one thread at a time.
    pub fn counters(&self) -> Arc<Counters> {
        self.0.metrics.beside()
    }

    /// A session for executing commands that is not a client's.
    pub fn conversation(&self) -> Conversation {
        Conversation::internal(&self.0.cache, Arc::clone(&self.0.metrics), self.counters(), self.0.rules)
    }
}
