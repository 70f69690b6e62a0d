//! A real PostgreSQL as a source of events. Without one, these tests print that they are skipped.

mod changes;
mod faults;
mod measure;
mod secured;
mod source;

use std::time::Duration;

use leasehold::Clock;
use leasehold::events::event::Event;
use leasehold::events::position::Position;
use leasehold::events::report::Report;
use leasehold::events::source::postgres::{Postgres, Settings};
use leasehold::events::source::{Attached, Batch, Broken, Source};
use tokio::time::timeout;

use crate::support::postgres::{Cluster, PATIENCE, Sql};

/// Between two attempts to attach.
const RETRY: Duration = Duration::from_millis(20);

/// A source, and what it has delivered.
pub struct Reader {
    pub events: Vec<Event>,
    pub poisoned: Vec<String>,
    pub position: Option<Position>,
    pub proven: Vec<u64>,
    pub source: Postgres,
}

impl Reader {
    pub fn new(settings: Settings) -> Reader {
        Reader::with_clock(settings, Clock::system())
    }

    pub fn with_clock(settings: Settings, clock: Clock) -> Reader {
        let source = Postgres::new(settings, clock);
        Reader { events: Vec::new(), poisoned: Vec::new(), position: None, proven: Vec::new(), source }
    }

    /// Attaches after the position that was read last, and again as long as only time helps.
    pub async fn attach(&mut self) -> Attached {
        let attached = timeout(PATIENCE, async {
            loop {
                match self.source.attach(self.position.as_ref()).await {
                    Ok(attached) => return attached,
                    Err(Broken::Transient(_)) => tokio::time::sleep(RETRY).await,
                    Err(Broken::Misconfigured(why)) => panic!("{why}"),
                }
            }
        });
        let attached = attached.await.expect("it attaches in time");
        if let Attached::AtEnd(position) | Attached::Gap(position, _) = &attached {
            self.position = Some(position.clone());
        }
        attached
    }

    /// Attaches to a new slot.
    pub async fn begin(&mut self) {
        assert!(matches!(self.attach().await, Attached::AtEnd(_)), "there is no position");
    }

    /// Reads until the condition holds.
    pub async fn until(&mut self, is_enough: impl Fn(&Reader) -> bool) {
        let reading = async {
            while !is_enough(self) {
                let batch = self.source.next().await.expect("the stream goes on");
                self.take(batch);
            }
        };
        timeout(PATIENCE, reading).await.expect("the events come in time");
    }

    /// Reads until there are so many events, and returns them.
    pub async fn events(&mut self, count: usize) -> Vec<Event> {
        self.until(|reader| reader.events.len() >= count).await;
        std::mem::take(&mut self.events)
    }

    /// Reports that everything is applied and saved.
    pub async fn done(&mut self) {
        let position = self.position.clone().expect("something was read");
        self.source.done(&position, &Report::default()).await.expect("it is sent");
    }

    pub fn take(&mut self, batch: Batch) {
        for event in batch.events {
            match event {
                Ok(event) => self.events.push(event),
                Err(poison) => self.poisoned.push(format!("{:?}: {}", poison.subject, poison.error)),
            }
        }
        self.position = batch.position.or(self.position.take());
        self.proven.extend(batch.proven);
    }
}

/// A database of the shared server, with a table of products in the publication `leasehold`.
pub fn shop(name: &str) -> Option<(&'static Cluster, Sql)> {
    let cluster = Cluster::shared()?;
    let mut sql = cluster.database(name);
    products(&mut sql);
    Some((cluster, sql))
}

pub fn products(sql: &mut Sql) {
    sql.run(
        "CREATE TABLE products (id int PRIMARY KEY, name text, price_cents numeric(10,2), notes text); \
         CREATE PUBLICATION leasehold FOR TABLE products",
    );
}

/// Reads the slot with the database's name.
pub fn settings(cluster: &Cluster, database: &str) -> Settings {
    Settings {
        create: true,
        heartbeat: Duration::ZERO,
        messages: None,
        password: None,
        publication: "leasehold".to_owned(),
        slot: database.to_owned(),
        url: format!("postgresql://postgres@127.0.0.1:{}/{database}?sslmode=disable", cluster.port),
    }
}

/// Waits until something holds that no event announces.
pub async fn until(mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("it holds in time");
}
