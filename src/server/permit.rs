//! Permits for connections, whose number is limited.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::client_limits::ClientAddress;
use super::service::Service;
use crate::metrics::{ConnectionStats, Event, Reason, Topic};

/// One of the limited number of connections, until this is dropped or the connection is opened.
pub(super) struct Admission {
    /// The client's address; `None` over Unix sockets.
    client: Option<ClientAddress>,
    /// `None` once it is open.
    service: Option<Arc<Service>>,
}

/// One of the limited number of open connections, until this is dropped.
pub(super) struct ConnectionPermit {
    service: Arc<Service>,
    stats: Arc<ConnectionStats>,
}

impl Admission {
    /// A connection that is within the limits, and is counted among those of its client.
    pub(super) fn new(service: &Arc<Service>, client: Option<ClientAddress>) -> Self {
        service.metrics.connections.fetch_add(1, Ordering::Relaxed);
        service.metrics.connections_total.fetch_add(1, Ordering::Relaxed);
        Admission { client, service: Some(Arc::clone(service)) }
    }

    pub(super) fn service(&self) -> &Service {
        self.service.as_ref().expect("it is not open yet")
    }

    /// Opens the connection, which from now on is listed.
    pub(super) fn open(mut self, stats: ConnectionStats) -> ConnectionPermit {
        let service = self.service.take().expect("it is not open yet");
        let permit = ConnectionPermit { service, stats: Arc::new(stats) };
        permit.service.metrics.open.open(Arc::clone(&permit.stats));
        permit.publish(&Event::Opened { connection: &permit.stats });
        permit
    }
}

impl ConnectionPermit {
    pub(super) fn service(&self) -> &Service {
        &self.service
    }

    pub(super) fn stats(&self) -> &ConnectionStats {
        &self.stats
    }

    /// The connection has ended for this reason.
    pub(super) fn close(&self, ended: &io::Result<Closed>) {
        self.publish(&Event::Closed { connection: &self.stats, reason: reason(ended) });
        self.service.metrics.open.close(&self.stats);
        if let Err(error) = ended {
            tracing::debug!(%error, "connection lost");
        }
    }

    /// Publishes an event to clients that watch connections.
    pub(super) fn publish(&self, event: &Event) {
        let watchers = &self.service.metrics.watchers;
        if watchers.topics().has(Topic::Connections) {
            watchers.publish(event);
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if let Some(service) = &self.service {
            free(service, self.client);
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        free(&self.service, ClientAddress::of(&self.stats.address));
    }
}

fn free(service: &Service, client: Option<ClientAddress>) {
    if let Some(client) = client {
        service.clients.lock().release(client);
    }
    service.connection_closed();
}

fn reason(ended: &io::Result<Closed>) -> Reason {
    match ended {
        Err(_) | Ok(Closed::Refused) => Reason::Error,
        Ok(Closed::Idle | Closed::Slow) => Reason::Idle,
        Ok(Closed::Peer) => Reason::Normal,
        Ok(Closed::Stopping) => Reason::Shutdown,
    }
}

/// The reason why a connection is closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Closed {
    /// It was idle for too long in both directions.
    Idle,
    /// The peer closed it, or requested that.
    Peer,
    /// The peer sent bytes that cannot be parsed.
    Refused,
    /// A large request took too long to arrive, or its answer to be read, while others waited for its room.
    Slow,
    /// The server stops.
    Stopping,
}
