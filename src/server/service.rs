//! The state that all threads of a server share.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Once, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::client_limits::{ClientAddress, ConnectionLimits, WrongPasswords};
use super::heartbeat::Heartbeat;
use super::origins::Origins;
use super::receiving::Receiving;
use super::shutdown::ShutdownRequest;
use super::tls::Tls;
use crate::cache::Cache;
use crate::clock::{Clock, Now};
use crate::command::{Rules, Users};
use crate::events::source::http::{self, Posted};
use crate::metrics::{Count, Counters, Metrics};
use crate::options::Options;
use crate::protocol::Protocols;

/// Requests for sources of events, by the names of these.
pub(super) type Inputs = BTreeMap<String, (http::Settings, mpsc::Sender<Posted>)>;

/// The state that all threads of a server share.
pub(super) struct Service {
    /// When it began.
    pub(super) began: Instant,
    /// Only the first client whose binary protocol is refused is logged.
    pub(super) binary: Once,
    pub(super) cache: Cache,
    pub(super) clients: Mutex<ConnectionLimits>,
    pub(super) clock: Clock,
    /// Where requests with events are sent; set once the sources were tried, which ends the start.
    pub(super) event_inputs: OnceLock<Inputs>,
    /// Notified when a connection has closed.
    pub(super) freed: Notify,
    /// Connections without a complete request for this long are closed.
    pub(super) idle: Option<Duration>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) origins: Origins,
    /// The protocols that clients of a Unix socket may speak.
    pub(super) protocols: Protocols,
    /// Room for large requests.
    pub(super) receiving: Arc<Receiving>,
    /// Whether a connection above the limit is refused; otherwise it waits to be accepted.
    pub(super) refuses_when_full: bool,
    /// After this many requests in a row a connection yields to others.
    pub(super) requests_per_turn: u32,
    /// Checks that all threads make progress.
    pub(super) heartbeat: Heartbeat,
    pub(super) rules: Rules,
    pub(super) shutdown: ShutdownRequest,
    pub(super) tls: Option<Tls>,
    /// The users, if authentication is required.
    pub(super) users: Option<Arc<Mutex<Users>>>,
    pub(super) wrong_passwords: Mutex<WrongPasswords>,
}

impl Service {
    /// A service without TLS and without authentication.
    pub(super) fn new(cache: Cache, clock: Clock, metrics: Metrics, options: &Options) -> Service {
        let metrics = Arc::new(metrics);
        Service {
            began: Instant::now(),
            binary: Once::new(),
            cache,
            clients: Mutex::new(ConnectionLimits::new(options.safety.conn_limit_per_client)),
            clock,
            event_inputs: OnceLock::new(),
            freed: Notify::new(),
            idle: options.idle(),
            receiving: Arc::new(Receiving::new(options.receive_bytes(), Arc::clone(&metrics))),
            metrics,
            origins: Origins::default(),
            protocols: options.protocols(),
            refuses_when_full: options.refuses_when_full(),
            requests_per_turn: options.requests_per_event,
            heartbeat: Heartbeat::default(),
            rules: options.rules(),
            shutdown: ShutdownRequest::default(),
            tls: None,
            users: None,
            wrong_passwords: Mutex::default(),
        }
    }

    pub(super) fn now(&self) -> Now {
        self.clock.now()
    }

    /// Nanoseconds since the service began: half the bytes of an [`Instant`].
    pub(super) fn nanos(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    pub(super) fn at_nanos(&self, nanos: u64) -> Instant {
        self.began + Duration::from_nanos(nanos)
    }

    /// A connection has closed: another one may be accepted.
    pub(super) fn connection_closed(&self) {
        self.metrics.connections.fetch_sub(1, Ordering::Relaxed);
        self.freed.notify_waiters();
    }

    pub(super) fn is_full(&self) -> bool {
        self.metrics.connections.load(Ordering::Relaxed) >= self.metrics.connections_max
    }

    /// # Errors
    /// If TLS is off, or the files are unusable; then the old certificates stay.
    pub(super) fn refresh_certificates(&self) -> io::Result<()> {
        let tls = self.tls.as_ref().ok_or(io::Error::other("TLS is not enabled"))?;
        tls.reload()?;
        if let Some(read) = &self.metrics.certificates_read {
            read.store(self.now().seconds().into(), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Records a wrong password; returns the delay of the answer, which is counted.
    pub(super) fn wrong_password(
        &self,
        client: Option<ClientAddress>,
        counters: &Counters,
        now: Now,
    ) -> Duration {
        let delay = self.wrong_passwords.lock().record(client, now);
        counters.add_many(Count::AuthDelayMs, delay.as_millis() as u64);
        delay
    }
}
