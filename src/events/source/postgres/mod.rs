//! PostgreSQL's logical replication as a source.
//!
//! [`Postgres`] reads one slot of the plug-in pgoutput. What is acknowledged to the server is only what
//! [`Source::done`] has reported, so that the slot keeps everything else.

mod changes;
mod connection;
mod failure;
mod heartbeat;
mod link;
pub mod pgoutput;
mod plan;
mod replication;
mod settings;
mod slot;
mod tls;
mod url;
mod values;
mod visibility;

pub use self::settings::Settings;
pub use self::slot::Identity;

use std::io;
use std::time::Duration;

use tokio::time::timeout;

use crate::Clock;
use crate::events::position::Position;
use crate::events::report::Report;
use crate::events::source::{Attached, Batch, Broken, Source};
use changes::{Changes, Gathered};
use connection::{Connection, Purpose};
use failure::Failure;
use heartbeat::Heartbeats;
use plan::{Facts, First, Start};
use replication::{Incoming, Replication};
use url::{Secret, Url};
use visibility::Visibility;

/// A database as a source of events.
pub struct Postgres {
    clock: Clock,
    /// Whether the last stream ended at changes that cannot be decoded.
    is_undecodable: bool,
    settings: Settings,
    stream: Option<Streaming>,
    /// Whether a table belongs into the publication, if that has to be created.
    tables: Box<dyn Fn(&str) -> bool + Send + Sync>,
    /// The warnings that were logged last.
    warned: Vec<String>,
    /// Whether it was logged that a slot is created.
    was_creation_logged: bool,
}

/// The connections and the state of a source that is attached.
struct Streaming {
    changes: Changes,
    /// The failure that comes after the events that were gathered before it.
    failure: Option<Failure>,
    gathered: Gathered,
    heartbeats: Option<Heartbeats>,
    identity: String,
    replication: Replication,
    visibility: Visibility,
}

impl Postgres {
    /// A source that is not attached yet; heartbeats are timed by `clock`.
    pub fn new(settings: Settings, clock: Clock) -> Postgres {
        Postgres {
            clock,
            is_undecodable: false,
            settings,
            stream: None,
            tables: Box::new(|_| false),
            warned: Vec::new(),
            was_creation_logged: false,
        }
    }

    /// Tables that belong into the publication, by their names with schemas: for [`Settings::create`].
    pub fn with_tables(self, tables: impl Fn(&str) -> bool + Send + Sync + 'static) -> Postgres {
        Postgres { tables: Box::new(tables), ..self }
    }

    /// Drops the slot, and with it everything that has not been read.
    ///
    /// # Errors
    /// If it cannot be reached or is in use. A missing slot is no error, but `false`.
    pub async fn forget(&mut self) -> Result<bool, Broken> {
        self.stream = None;
        let slot = &self.settings.slot;
        let mut connection = self.open(Purpose::Queries).await?;
        match within(ANSWER, slot::drop(&mut connection, slot)).await {
            Err(failure) if failure.has_code(UNDEFINED_OBJECT) => Ok(false),
            Err(failure) if failure.has_code(OBJECT_IN_USE) => Err(Broken::Transient(format!(
                "slot {slot} is in use, so it cannot be dropped: stop the program that reads it ({failure})"
            ))),
            dropped => dropped.map(|()| true).map_err(|failure| failure.broken("cannot drop the slot")),
        }
    }

    /// Everything about the server and the slot that an operator should change, without attaching.
    pub async fn inspect(&mut self) -> Vec<String> {
        let facts = match self.open(Purpose::Replication).await {
            Ok(mut connection) => within(ANSWER, slot::facts(&mut connection, &self.settings)).await,
            Err(broken) => return vec![broken.to_string()],
        };
        match facts {
            Ok(facts) => {
                let mut complaints = facts.warnings(&self.settings.slot);
                // A slot in use is as it should be while the server runs.
                if let Err(Broken::Misconfigured(why)) = facts.start(&self.settings, None) {
                    complaints.push(why);
                }
                complaints
            }
            Err(failure) => vec![failure.broken("cannot inspect PostgreSQL").to_string()],
        }
    }

    /// Each table of the publication, with its replica identity: without `REPLICA IDENTITY FULL`, `before`
    /// has at most the columns of the identity.
    ///
    /// # Errors
    /// If the server cannot be asked.
    pub async fn replica_identities(&mut self) -> Result<Vec<Identity>, Broken> {
        let mut connection = self.open(Purpose::Queries).await?;
        let identities = within(ANSWER, slot::identities(&mut connection, &self.settings.publication)).await;
        identities.map_err(|failure| failure.broken("cannot list the tables of the publication"))
    }

    fn url(&self) -> Result<Url, Broken> {
        let mut url = Url::parse(&self.settings.url).map_err(Broken::Misconfigured)?;
        url.password = self.settings.password.clone().map(Secret).or(url.password);
        Ok(url)
    }

    async fn open(&self, purpose: Purpose) -> Result<Connection, Broken> {
        let opened = Connection::open(&self.url()?, purpose).await;
        opened.map_err(|failure| failure.broken("cannot connect to PostgreSQL"))
    }

    async fn facts(&self, connection: &mut Connection, from: Option<&Position>) -> Result<Facts, Failure> {
        let mut facts = slot::facts(connection, &self.settings).await?;
        if from.is_some_and(|from| from.identity != facts.identity(&self.settings.slot)) {
            facts.switches = slot::switches(connection, facts.timeline).await?;
        }
        facts.is_undecodable = self.is_undecodable;
        Ok(facts)
    }

    /// The place to start at, and how the stream is attached there.
    async fn place(
        &mut self,
        connection: &mut Connection,
        facts: &Facts,
        from: Option<&Position>,
    ) -> Result<(u64, Attached), Broken> {
        let (offset, lost) = match facts.start(&self.settings, from)? {
            Start::Resumed(offset) => return Ok((offset, Attached::Resumed)),
            Start::At(offset, lost) => (offset, lost),
            Start::Created { first, lost } => {
                if first.publishes {
                    self.publish(connection, facts).await?;
                }
                (self.create(connection, first).await?, lost)
            }
        };
        let position = Position { identity: facts.identity(&self.settings.slot), offset };
        Ok(match lost {
            None => (offset, Attached::AtEnd(position)),
            Some(why) => (offset, Attached::Gap(position, why)),
        })
    }

    async fn publish(&self, connection: &mut Connection, facts: &Facts) -> Result<(), Broken> {
        let publication = &self.settings.publication;
        let published =
            within(ANSWER, slot::publish(connection, publication, facts.version, &self.tables)).await;
        let tables = published.map_err(|failure| {
            let name = postgres_protocol::escape::escape_identifier(publication);
            failure.broken(&format!(
                "publication {publication} is missing in database {}, and cannot be created for the tables of the \
                 rules: run CREATE PUBLICATION {name} FOR TABLE … as their owner",
                facts.database
            ))
        })?;
        tracing::info!(publication, tables = tables.join(", "), "created the publication");
        Ok(())
    }

    async fn create(&mut self, connection: &mut Connection, first: First) -> Result<u64, Broken> {
        let slot = &self.settings.slot;
        if first.drops {
            let dropped = within(ANSWER, slot::drop(connection, slot)).await;
            dropped.map_err(|failure| failure.broken("cannot drop the former slot"))?;
        }
        // Once, however often it is tried.
        if !std::mem::replace(&mut self.was_creation_logged, true) {
            tracing::info!(slot, "creating a replication slot; this waits for running transactions to end");
        }
        let created = within(CREATION, slot::create(connection, slot)).await;
        created.map_err(|failure| failure.broken("cannot create the slot"))
    }

    /// The longest silence of a server that is asked for a sign of life each second.
    fn silence_max(&self) -> Duration {
        (self.settings.heartbeat * 3 + Duration::from_secs(1)).max(SILENCE)
    }
}

impl Source for Postgres {
    async fn attach(&mut self, from: Option<&Position>) -> Result<Attached, Broken> {
        // The server frees the slot of the former connection as soon as it notices its end.
        self.stream = None;
        let mut connection = self.open(Purpose::Replication).await?;
        let facts = within(ANSWER, self.facts(&mut connection, from)).await;
        let facts = facts.map_err(|failure| failure.broken("cannot inspect PostgreSQL"))?;
        let warnings = facts.warnings(&self.settings.slot);
        // Not again at each attempt.
        if warnings != self.warned {
            warnings.iter().for_each(|warning| tracing::warn!(slot = self.settings.slot, "{warning}"));
            self.warned = warnings;
        }
        // Twice, because a consumer may be busy for a while.
        let tuned = within(ANSWER, slot::tune(&mut connection, &facts, self.silence_max() * 2)).await;
        tuned.map_err(|failure| failure.broken("cannot set wal_sender_timeout"))?;
        let (offset, attached) = self.place(&mut connection, &facts, from).await?;
        let link = within(ANSWER, connection.copy(&slot::start(&self.settings, &facts, offset))).await;
        let link = link.map_err(|failure| failure.broken("cannot start to replicate"))?;
        let (slot, period) = (self.settings.slot.clone(), self.settings.heartbeat);
        let heartbeats = match period.is_zero() {
            true => None,
            false => Some(Heartbeats::start(self.url()?, slot, period, self.clock.clone())),
        };
        let messages = self.settings.messages.clone();
        (self.is_undecodable, self.was_creation_logged) = (false, false);
        self.stream = Some(Streaming {
            changes: Changes::after(offset, facts.database.clone(), messages),
            failure: None,
            gathered: Gathered::default(),
            heartbeats,
            identity: facts.identity(&self.settings.slot),
            replication: Replication::new(link, offset, self.silence_max()),
            visibility: Visibility::start(self.url()?),
        });
        Ok(attached)
    }

    async fn next(&mut self) -> Result<Batch, Broken> {
        let stream = self.stream.as_mut().ok_or_else(not_attached)?;
        let gathered = match stream.gather().await {
            Ok(()) => stream.wait_until_visible().await,
            failed => failed,
        };
        match gathered {
            Ok(()) => Ok(stream.batch(&self.settings.slot)),
            Err(failure) => {
                self.stream = None;
                // The publication does not exist at the place of a change.
                self.is_undecodable = failure.has_code(UNDEFINED_OBJECT);
                Err(failure.broken("the replication ended"))
            }
        }
    }

    async fn done(&mut self, upto: &Position, _report: &Report) -> Result<(), Broken> {
        let stream = self.stream.as_mut().ok_or_else(not_attached)?;
        if upto.identity != stream.identity {
            return Ok(());
        }
        let acknowledged = stream.replication.done(upto.offset).await;
        acknowledged.map_err(|failure| failure.broken("cannot acknowledge to PostgreSQL"))
    }
}

impl Streaming {
    /// Waits until there is something, and takes what has arrived with it. All is kept here if this is
    /// dropped.
    async fn gather(&mut self) -> Result<(), Failure> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        while !self.gathered.is_ready() {
            let incoming = self.replication.next().await?;
            self.take(incoming);
        }
        while !self.gathered.is_full() {
            match self.replication.next_at_once().await {
                Ok(Some(incoming)) => self.take(incoming),
                Ok(None) => break,
                Err(failure) => {
                    self.failure = Some(failure);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Waits until all that was gathered is visible to other sessions, with signs of life to the server.
    async fn wait_until_visible(&mut self) -> Result<(), Failure> {
        if self.gathered.transactions.is_empty() {
            return Ok(());
        }
        loop {
            self.replication.sign_of_life().await?;
            let visible = self.visibility.of(&self.gathered.transactions);
            if let Ok(answered) = timeout(SIGN_OF_LIFE, visible).await {
                answered?;
                break;
            }
        }
        self.gathered.transactions.clear();
        Ok(())
    }

    fn take(&mut self, incoming: Incoming) {
        let gathered = &mut self.gathered;
        match incoming {
            Incoming::Data(lsn, body) => self.changes.take(lsn, &body, gathered),
            Incoming::Cut(length, body) => self.changes.take_beginning(length, &body, gathered),
            Incoming::Reached { end, is_asking } => self.changes.reached(end, is_asking, gathered),
        }
    }

    /// The events up to the last position; all of them if there is none. The others stay for the next batch.
    fn batch(&mut self, slot: &str) -> Batch {
        let gathered = std::mem::take(&mut self.gathered);
        let (mut events, mut position) = (gathered.events, None);
        if let Some((offset, count)) = gathered.resumable {
            self.gathered.events = events.split_off(count);
            position = Some(Position { identity: self.identity.clone(), offset });
        }
        let heartbeats = self.heartbeats.as_ref();
        let returned = |content: &String| heartbeats?.returned(content, slot);
        Batch {
            behind: heartbeats.and_then(|heartbeats| heartbeats.behind(self.replication.received)),
            events,
            position,
            proven: gathered.heartbeats.iter().filter_map(returned).max(),
        }
    }
}

/// A network that swallows everything must not hold up anything for ever.
async fn within<T>(limit: Duration, answer: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", limit.as_secs()));
    timeout(limit, answer).await.unwrap_or_else(|_| Err(late().into()))
}

fn not_attached() -> Broken {
    Broken::Transient("the source is not attached".to_owned())
}

/// The slot, the publication or another object does not exist.
const UNDEFINED_OBJECT: &str = "42704";
/// The slot is in use.
const OBJECT_IN_USE: &str = "55006";
/// A server that receives nothing for some seconds ends the connection.
const SIGN_OF_LIFE: Duration = Duration::from_millis(100);
const SILENCE: Duration = Duration::from_secs(10);
/// More than the server needs for a short query.
const ANSWER: Duration = Duration::from_secs(30);
/// A new slot waits for running transactions.
const CREATION: Duration = Duration::from_secs(600);
