//! Heartbeats: messages that a second connection writes into the log, and that come back through the stream.
//!
//! One that has come back proves that everything committed before it was sent has come, too. The time counts
//! from before it was sent, by the clock of this process. They also let the slot of an idle database follow
//! the log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use postgres_protocol::escape::escape_literal;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::changes::HEARTBEAT;
use super::connection::{Connection, Purpose};
use super::failure::Failure;
use super::url::Url;
use crate::Clock;

/// The task that sends heartbeats, ended with this value.
pub(super) struct Heartbeats {
    sent: Arc<Mutex<Sent>>,
    task: JoinHandle<()>,
}

/// Heartbeats that have not come back.
#[derive(Default)]
struct Sent {
    /// The place of the newest in the log.
    end: Option<u64>,
    /// Number, and monotonic milliseconds from before it was sent; in order.
    pending: VecDeque<(u64, u64)>,
}

/// Sends a heartbeat in each period, on a connection that is opened again after a failure.
struct Sender {
    clock: Clock,
    /// Counts from a random number, so that a heartbeat of a former process proves nothing.
    next: u64,
    period: Duration,
    sent: Arc<Mutex<Sent>>,
    slot: String,
    url: Url,
}

impl Heartbeats {
    /// Starts to send them.
    pub(super) fn start(url: Url, slot: String, period: Duration, clock: Clock) -> Heartbeats {
        let sent = Arc::<Mutex<Sent>>::default();
        let next = getrandom::u64().expect("the system gives random bytes") >> 1;
        let mut sender = Sender { clock, next, period, sent: sent.clone(), slot, url };
        Heartbeats { sent, task: tokio::spawn(async move { sender.run().await }) }
    }

    /// When the heartbeat with this content was sent, in milliseconds of the clock; `None` if it is not one
    /// of these.
    pub(super) fn returned(&self, content: &str, slot: &str) -> Option<u64> {
        let (its_slot, number) = content.rsplit_once(' ')?;
        let number: u64 = number.parse().ok().filter(|_| its_slot == slot)?;
        let pending = &mut self.sent.lock().pending;
        let index = pending.iter().position(|(sent, _)| *sent == number)?;
        pending.drain(..=index).next_back().map(|(_, at)| at)
    }

    /// Bytes of the log between this place and the newest heartbeat.
    pub(super) fn behind(&self, received: u64) -> Option<u64> {
        let sent = self.sent.lock();
        let is_waiting = !sent.pending.is_empty();
        sent.end.map(|end| if is_waiting { end.saturating_sub(received) } else { 0 })
    }
}

impl Drop for Heartbeats {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sender {
    async fn run(&mut self) {
        let mut is_failing = false;
        loop {
            let failure = match Connection::open(&self.url, Purpose::Queries).await {
                Ok(mut connection) => self.beat(&mut connection, &mut is_failing).await,
                Err(failure) => failure,
            };
            if !is_failing {
                let error = failure.broken("heartbeats").to_string();
                tracing::warn!(slot = self.slot, error, "cannot send heartbeats to PostgreSQL; trying again");
                is_failing = true;
            }
            tokio::time::sleep(self.period).await;
        }
    }

    /// Until it fails.
    async fn beat(&mut self, connection: &mut Connection, is_failing: &mut bool) -> Failure {
        let mut ticks = interval(self.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match timeout(self.period.max(ANSWER_WITHIN), self.send(connection)).await {
                Ok(Ok(())) if *is_failing => {
                    tracing::info!(slot = self.slot, "heartbeats reach PostgreSQL again");
                    *is_failing = false;
                }
                Ok(Ok(())) => {}
                Ok(Err(failure)) => return failure,
                Err(_) => return std::io::Error::from(std::io::ErrorKind::TimedOut).into(),
            }
        }
    }

    async fn send(&mut self, connection: &mut Connection) -> Result<(), Failure> {
        let number = self.next;
        self.next += 1;
        {
            let pending = &mut self.sent.lock().pending;
            pending.push_back((number, self.clock.now().millis));
            pending.drain(..pending.len().saturating_sub(PENDING_MAX));
        }
        let content = escape_literal(&format!("{} {number}", self.slot));
        let sql = format!("SELECT pg_logical_emit_message(false, '{HEARTBEAT}', {content})");
        let rows = connection.query(&sql).await?;
        let lsn = rows.first().and_then(|row| super::slot::parse_lsn(row.first()?.as_deref()?));
        self.sent.lock().end = lsn;
        Ok(())
    }
}

/// As long as a heartbeat may take at least, however short the period is.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// More than these wait only behind a stream that is far too late to prove anything.
const PENDING_MAX: usize = 4096;
