//! Whether a transaction is visible to others.
//!
//! PostgreSQL sends a commit to its readers as soon as it is in the log, and shows the change to other
//! sessions a moment later; with synchronous replication, only once a standby has confirmed it. A reader that
//! misses in between loads the old row. So an event is applied only when its transaction is part of a new
//! snapshot.

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::connection::{Connection, Purpose};
use super::failure::Failure;
use super::url::Url;

/// The task that asks for snapshots, ended with this value.
pub(super) struct Visibility {
    asked: watch::Sender<u64>,
    answered: watch::Receiver<Answer>,
    /// The question whose answer was not awaited to its end, because the future was dropped.
    open: Option<u64>,
    task: JoinHandle<()>,
}

/// The newest answer.
#[derive(Clone, Debug, Default)]
struct Answer {
    /// The question that it answers.
    number: u64,
    snapshot: Asked,
}

#[derive(Clone, Debug, Default)]
enum Asked {
    /// The server refused to answer.
    #[default]
    InVain,
    Known(Snapshot),
    /// The server gave no sign.
    Silent,
}

/// The transactions that a query sees which begins now.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Snapshot {
    /// Transactions that are running.
    running: HashSet<u32>,
    /// The first transaction that had not begun.
    upper: u32,
}

impl Visibility {
    /// Connects once it is needed.
    pub(super) fn start(url: Url) -> Visibility {
        let (asked, questions) = watch::channel(0);
        let (answers, answered) = watch::channel(Answer::default());
        let task = tokio::spawn(async move { answer(&url, questions, &answers).await });
        Visibility { asked, answered, open: None, task }
    }

    /// Waits until these transactions are visible, or the server cannot be asked: then an event is better
    /// applied early than not at all. Dropping the future loses nothing.
    ///
    /// # Errors
    /// If the server has been silent for long, as one behind a network that swallows everything.
    pub(super) async fn of(&mut self, transactions: &[u32]) -> Result<(), Failure> {
        let mut pause = PAUSE_FIRST;
        loop {
            let number = *self.open.get_or_insert_with(|| {
                self.asked.send_modify(|number| *number += 1);
                *self.asked.borrow()
            });
            let answered = self.answered.wait_for(|answer| answer.number >= number).await;
            let snapshot = answered.ok().map(|answer| answer.snapshot.clone());
            self.open = None;
            match snapshot {
                Some(Asked::Known(snapshot)) if !transactions.iter().all(|xid| snapshot.sees(*xid)) => {}
                None | Some(Asked::InVain | Asked::Known(_)) => return Ok(()),
                Some(Asked::Silent) => {
                    let why = format!("no answer within {} s to a query", SILENCE.as_secs());
                    return Err(io::Error::new(io::ErrorKind::TimedOut, why).into());
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

impl Drop for Visibility {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Snapshot {
    /// `lowest:upper:running,running,…`, of numbers with 64 bits, of which the log has the lower half.
    fn parse(text: &str) -> Option<Snapshot> {
        let mut parts = text.split(':');
        let (_lowest, upper, running) = (parts.next()?, parts.next()?, parts.next()?);
        let low = |number: &str| number.parse::<u64>().ok().map(|number| number as u32);
        let running = running.split(',').filter(|number| !number.is_empty()).map(low);
        Some(Snapshot { running: running.collect::<Option<_>>()?, upper: low(upper)? })
    }

    /// Transaction numbers are compared as on a circle.
    fn sees(&self, xid: u32) -> bool {
        !self.running.contains(&xid) && (xid.wrapping_sub(self.upper) as i32) < 0
    }
}

/// Answers questions until nobody can ask any more.
async fn answer(url: &Url, mut questions: watch::Receiver<u64>, answers: &watch::Sender<Answer>) {
    let mut connection = None;
    while questions.changed().await.is_ok() {
        let number = *questions.borrow_and_update();
        let snapshot = match timeout(SILENCE, snapshot(url, &mut connection)).await {
            Ok(Ok(snapshot)) => Asked::Known(snapshot),
            Ok(Err(failure)) => {
                connection = None;
                let error = failure.to_string();
                tracing::debug!(error, "cannot ask PostgreSQL which transactions are visible");
                Asked::InVain
            }
            Err(_) => {
                connection = None;
                Asked::Silent
            }
        };
        answers.send_replace(Answer { number, snapshot });
    }
}

async fn snapshot(url: &Url, connection: &mut Option<Connection>) -> Result<Snapshot, Failure> {
    let open = match connection {
        Some(open) => open,
        None => connection.insert(Connection::open(url, Purpose::Queries).await?),
    };
    let rows = open.query("SELECT txid_current_snapshot()").await?;
    let text = rows.first().and_then(|row| row.first()?.as_deref());
    let snapshot = text.and_then(Snapshot::parse);
    snapshot.ok_or_else(|| Failure::Protocol("an unexpected snapshot".to_owned()))
}

/// As the silence after which a replication ends.
const SILENCE: Duration = Duration::from_secs(10);
const PAUSE_FIRST: Duration = Duration::from_micros(200);
const PAUSE_MAX: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_sees_what_has_ended_before_it() {
        let snapshot = Snapshot::parse("4294967300:4294967310:4294967300,4294967305").unwrap();
        for (xid, is_seen) in
            [(3, true), (4, false), (5, true), (9, false), (13, true), (14, false), (15, false)]
        {
            assert_eq!(snapshot.sees(xid), is_seen, "{xid}");
        }
        assert!(snapshot.sees(u32::MAX), "before the numbers began again");
        assert_eq!(Snapshot::parse("7:7:"), Some(Snapshot { running: HashSet::new(), upper: 7 }));
        assert_eq!(Snapshot::parse("7:x:"), None);
    }
}
