//! Messages of pgoutput to events: tables by their number, transactions, and what has been delivered already.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};

use super::pgoutput::{self, Cell, Message, Relation, Tuple};
use super::values;
use crate::events::event::{Event, Op};
use crate::events::source::Poison;

/// The stream from one `START_REPLICATION` to its end.
pub(super) struct Changes {
    database: String,
    /// The prefix of the messages of applications that become events.
    messages: Option<String>,
    /// Everything that ends here or before has been delivered.
    delivered: u64,
    relations: HashMap<u32, Relation>,
    transaction: Option<Transaction>,
}

/// Events on their way into a batch.
#[derive(Default)]
pub(super) struct Gathered {
    /// Approximate size of the messages that they came in.
    pub(super) bytes: usize,
    pub(super) events: Vec<Result<Event, Poison>>,
    /// A position that can be resumed from, and how many of the events are before it.
    pub(super) resumable: Option<(u64, usize)>,
    /// The contents of the heartbeats that came back.
    pub(super) heartbeats: Vec<String>,
    /// The transactions of the events.
    pub(super) transactions: Vec<u32>,
}

/// The transaction whose changes arrive.
struct Transaction {
    /// Microseconds since 1970.
    at: u64,
    /// The beginning of its commit record.
    commit: u64,
    /// Whether it has been delivered already.
    is_known: bool,
    xid: u32,
}

impl Gathered {
    /// Whether there is enough for a batch: something complete, or a large part of a transaction.
    pub(super) fn is_ready(&self) -> bool {
        self.resumable.is_some() || self.is_full()
    }

    pub(super) fn is_full(&self) -> bool {
        self.events.len() >= EVENTS_MAX || self.bytes >= BYTES_MAX
    }
}

impl Changes {
    /// The changes after `position`.
    pub(super) fn after(position: u64, database: String, messages: Option<String>) -> Changes {
        Changes { database, messages, delivered: position, relations: HashMap::default(), transaction: None }
    }

    /// Takes a message that was at `lsn` in the log.
    pub(super) fn take(&mut self, lsn: u64, body: &[u8], gathered: &mut Gathered) {
        gathered.bytes += body.len();
        match pgoutput::decode(body) {
            Ok(message) => self.message(lsn, &message, body, gathered),
            Err(malformed) => self.poison(malformed.to_string(), body, gathered),
        }
    }

    /// Takes the beginning of a message that was too long.
    pub(super) fn take_beginning(&mut self, length: usize, body: &[u8], gathered: &mut Gathered) {
        gathered.bytes += body.len();
        self.poison(format!("a change of {length} bytes is too large"), body, gathered);
    }

    /// The server has sent everything before `end`.
    ///
    /// If it asks, it may be shutting down, and waits until everything is acknowledged.
    pub(super) fn reached(&mut self, end: u64, is_asking: bool, gathered: &mut Gathered) {
        let step = if is_asking { 0 } else { IDLE_BYTES };
        if self.transaction.is_none() && end > self.delivered.saturating_add(step) {
            self.resumable(end, gathered);
        }
    }

    fn message(&mut self, lsn: u64, message: &Message, body: &[u8], gathered: &mut Gathered) {
        match message {
            Message::Begin { at, commit, xid } => {
                // Records do not overlap: a commit that begins before a position also ends before it.
                let is_known = *commit < self.delivered;
                let at = u64::try_from(at.saturating_add(EPOCH_MICROS)).unwrap_or(0);
                self.transaction = Some(Transaction { at, commit: *commit, is_known, xid: *xid });
                gathered.transactions.extend((!is_known).then_some(*xid));
            }
            Message::Commit { end } => {
                let is_known = self.transaction.take().is_some_and(|transaction| transaction.is_known);
                if !is_known {
                    self.resumable(*end, gathered);
                }
            }
            Message::Logical { content, is_transactional, lsn, prefix } => {
                self.logical(*lsn, *is_transactional, (prefix, content), gathered);
            }
            Message::Relation(relation) => {
                self.relations.insert(relation.id, relation.clone());
            }
            Message::Truncate(ids) => {
                ids.iter().for_each(|id| self.change(lsn, *id, Change::Truncate, body, gathered));
            }
            Message::Delete { old, relation } => {
                self.change(lsn, *relation, Change::Delete(old), body, gathered);
            }
            Message::Insert { new, relation } => {
                self.change(lsn, *relation, Change::Insert(new), body, gathered);
            }
            Message::Update { new, old, relation } => {
                self.change(lsn, *relation, Change::Update(old.as_ref(), new), body, gathered);
            }
            Message::Origin | Message::Type => {}
        }
    }

    fn resumable(&mut self, position: u64, gathered: &mut Gathered) {
        if position > self.delivered {
            self.delivered = position;
            gathered.resumable = Some((position, gathered.events.len()));
        }
    }

    /// A message that is not a change of a row.
    fn logical(
        &mut self,
        lsn: u64,
        is_transactional: bool,
        (prefix, content): (&str, &[u8]),
        gathered: &mut Gathered,
    ) {
        // Without a transaction it is delivered at its own place in the log: the position after it is one
        // byte behind its beginning, which no other record shares.
        let is_known = match (&self.transaction, is_transactional) {
            (Some(transaction), true) => transaction.is_known,
            _ => lsn < self.delivered,
        };
        if is_known {
            return;
        }
        if prefix == HEARTBEAT && !is_transactional {
            gathered.heartbeats.push(String::from_utf8_lossy(content).into_owned());
        } else if self.messages.as_deref() == Some(prefix) {
            let event = self.application(lsn, is_transactional, content);
            gathered.events.push(event.map_err(|error| Poison {
                error,
                payload: content.to_vec(),
                subject: Some(prefix.to_owned()),
            }));
        }
        if self.transaction.is_none() && !is_transactional {
            self.resumable(lsn.saturating_add(1), gathered);
        }
    }

    fn application(&self, lsn: u64, is_transactional: bool, content: &[u8]) -> Result<Event, String> {
        let data: Value = serde_json::from_slice(content).map_err(|error| format!("not JSON: {error}"))?;
        let transaction = self.transaction.as_ref().filter(|_| is_transactional);
        let kind = data.get("type").and_then(Value::as_str).map(str::to_owned);
        let mut source = json!({"db": self.database, "lsn": lsn});
        if let Some(transaction) = transaction {
            source["commit_lsn"] = transaction.commit.into();
            source["xid"] = transaction.xid.into();
        }
        Ok(Event { at: transaction.map(|it| it.at), data, kind, source, ..Event::default() })
    }

    fn change(&self, lsn: u64, relation: u32, change: Change, body: &[u8], gathered: &mut Gathered) {
        let Some(transaction) = &self.transaction else {
            return self.poison("a change outside of a transaction".to_owned(), body, gathered);
        };
        if transaction.is_known {
            return;
        }
        let Some(relation) = self.relations.get(&relation) else {
            return self.poison(format!("a change of an unknown table ({relation})"), body, gathered);
        };
        match rows(relation, change) {
            Ok(rows) => gathered.events.push(Ok(self.event(lsn, transaction, relation, rows))),
            Err(error) => self.poison(error, body, gathered),
        }
    }

    fn event(&self, lsn: u64, transaction: &Transaction, relation: &Relation, rows: Rows) -> Event {
        let source = json!({
            "commit_lsn": transaction.commit,
            "db": self.database,
            "lsn": lsn,
            "schema": relation.schema,
            "table": relation.name,
            "xid": transaction.xid,
        });
        Event {
            after: rows.after,
            at: Some(transaction.at),
            before: rows.before,
            data: Value::Null,
            headers: BTreeMap::new(),
            id: None,
            key: rows.key,
            kind: None,
            op: rows.op,
            source,
            table: Some(full_name(relation)),
        }
    }

    /// The message cannot be an event.
    fn poison(&self, error: String, body: &[u8], gathered: &mut Gathered) {
        if self.transaction.as_ref().is_some_and(|transaction| transaction.is_known) {
            return;
        }
        let relation = pgoutput::relation_of(body).and_then(|id| self.relations.get(&id));
        let subject = relation.map(full_name);
        gathered.events.push(Err(Poison { error, payload: body.to_vec(), subject }));
    }
}

/// A change of one table.
enum Change<'a> {
    Delete(&'a Tuple<'a>),
    Insert(&'a Tuple<'a>),
    Truncate,
    Update(Option<&'a Tuple<'a>>, &'a Tuple<'a>),
}

/// A change as JSON.
struct Rows {
    after: Value,
    before: Value,
    key: Value,
    op: Op,
}

fn rows(relation: &Relation, change: Change) -> Result<Rows, String> {
    let (op, old, new) = match change {
        Change::Delete(old) => (Op::Delete, Some(old), None),
        Change::Insert(new) => (Op::Create, None, Some(new)),
        Change::Truncate => (Op::Truncate, None, None),
        Change::Update(old, new) => (Op::Update, old, Some(new)),
    };
    let before = old.map_or(Ok(Value::Null), |old| row(relation, old, None))?;
    let after = new.map_or(Ok(Value::Null), |new| row(relation, new, old))?;
    let key = key(relation, if new.is_some() { &after } else { &before });
    Ok(Rows { after, before, key, op })
}

/// The columns that are in the tuple. Those that did not change and were not sent come from the row `before`.
fn row(relation: &Relation, tuple: &Tuple, before: Option<&Tuple>) -> Result<Value, String> {
    if tuple.cells.len() != relation.columns.len() {
        let (cells, columns) = (tuple.cells.len(), relation.columns.len());
        return Err(format!("a row of {cells} columns in a table of {columns}"));
    }
    let mut row = Map::new();
    for (index, (cell, column)) in tuple.cells.iter().zip(&relation.columns).enumerate() {
        if tuple.is_identity && !column.is_key {
            continue;
        }
        let known = before.filter(|before| !before.is_identity || column.is_key);
        let cell = match (cell, known.and_then(|before| before.cells.get(index))) {
            (Cell::Unchanged, Some(before)) => before,
            _ => cell,
        };
        let value = values::json(*cell, column);
        let value = value.map_err(|_| format!("column {} is not text of UTF-8", column.name))?;
        row.insert(column.name.clone(), value);
    }
    Ok(Value::Object(row))
}

/// The columns of the identity; `null` if the table has none.
fn key(relation: &Relation, row: &Value) -> Value {
    let columns = relation.columns.iter().filter(|column| column.is_key);
    let key: Map<_, _> = columns
        .filter_map(|column| row.get(&column.name).map(|value| (column.name.clone(), value.clone())))
        .collect();
    if key.is_empty() { Value::Null } else { Value::Object(key) }
}

fn full_name(relation: &Relation) -> String {
    format!("{}.{}", relation.schema, relation.name)
}

/// The prefix of the messages by which leasehold proves how far the stream has come.
pub(super) const HEARTBEAT: &str = "leasehold.heartbeat";

/// Between PostgreSQL's epoch, 2000-01-01, and 1970-01-01.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
const EVENTS_MAX: usize = 1_000;
const BYTES_MAX: usize = 1 << 20;
/// While nothing is published, the position follows the log in steps of this size.
const IDLE_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    fn begin(commit: u64) -> Vec<u8> {
        [&b"B"[..], &commit.to_be_bytes(), &1_000_u64.to_be_bytes(), &7_u32.to_be_bytes()].concat()
    }

    fn commit(end: u64) -> Vec<u8> {
        [&b"C\0"[..], &(end - 8).to_be_bytes(), &end.to_be_bytes(), &1_000_u64.to_be_bytes()].concat()
    }

    /// A table with the number 1 and one column, of type int4.
    const RELATION: &[u8] = b"R\0\0\0\x01public\0t\0d\0\x01\x01id\0\0\0\0\x17\xff\xff\xff\xff";
    const INSERT: &[u8] = b"I\0\0\0\x01N\0\x01t\0\0\0\x019";

    fn message(lsn: u64, prefix: &str, content: &str) -> Vec<u8> {
        let length = u32::try_from(content.len()).expect("it is short").to_be_bytes();
        let head = [&b"M\0"[..], &lsn.to_be_bytes(), prefix.as_bytes(), b"\0", &length].concat();
        [&head[..], content.as_bytes()].concat()
    }

    fn is_empty(gathered: &Gathered) -> bool {
        gathered.events.is_empty() && gathered.resumable.is_none() && gathered.heartbeats.is_empty()
    }

    fn after(position: u64) -> (Changes, Gathered) {
        (Changes::after(position, "db".to_owned(), Some("shop".to_owned())), Gathered::default())
    }

    #[test]
    fn a_transaction_before_the_position_is_left_out() {
        let (mut changes, mut gathered) = after(200);
        for (commits, ends) in [(190, 200), (200, 210)] {
            for bytes in [&begin(commits), RELATION, INSERT, b"I\0\0\0\x02N\0\0", &commit(ends)] {
                changes.take(150, bytes, &mut gathered);
            }
        }
        let events: Vec<_> = gathered.events.iter().map(Result::is_ok).collect();
        assert_eq!((events, gathered.resumable), (vec![true, false], Some((210, 2))));
        let Ok(event) = &gathered.events[0] else { panic!("it is an event") };
        assert_eq!((event.at, &event.key), (Some(946_684_800_001_000), &json!({"id": 9})));
        assert!(gathered.events[1].as_ref().is_err_and(|poison| poison.error.contains("unknown table (2)")));
    }

    /// The position after a commit is where the next record begins, and that may be a message.
    #[test]
    fn a_message_directly_after_a_commit_is_delivered_once() {
        let (mut changes, mut gathered) = after(200);
        changes.take(192, &message(192, "shop", "{}"), &mut gathered);
        assert!(is_empty(&gathered), "it is before the position");
        changes.take(200, &message(200, "shop", "{}"), &mut gathered);
        assert_eq!((gathered.events.len(), gathered.resumable), (1, Some((201, 1))));
        let (mut changes, mut gathered) = after(201);
        changes.take(200, &message(200, "shop", "{}"), &mut gathered);
        assert!(is_empty(&gathered), "it was delivered");
    }

    #[test]
    fn a_change_that_is_too_large_is_poison_of_its_table() {
        let (mut changes, mut gathered) = after(200);
        changes.take(210, &begin(220), &mut gathered);
        changes.take(210, RELATION, &mut gathered);
        changes.take_beginning(1 << 30, &INSERT[..7], &mut gathered);
        let Err(poison) = &gathered.events[0] else { panic!("it is poison") };
        assert_eq!(poison.subject.as_deref(), Some("public.t"));
        assert!(poison.error.contains("1073741824 bytes"), "{}", poison.error);
    }

    #[test]
    fn the_position_of_an_idle_log_waits_for_open_transactions() {
        let (mut changes, mut gathered) = after(200);
        changes.reached(IDLE_BYTES, false, &mut gathered);
        assert!(is_empty(&gathered), "it is near");
        changes.reached(208, true, &mut gathered);
        assert_eq!(std::mem::take(&mut gathered).resumable, Some((208, 0)));
        changes.take(210, &begin(220), &mut gathered);
        changes.reached(10 * IDLE_BYTES, true, &mut gathered);
        assert!(is_empty(&gathered), "the transaction is not complete");
        changes.take(210, &commit(230), &mut gathered);
        changes.reached(10 * IDLE_BYTES, true, &mut gathered);
        assert_eq!(gathered.resumable, Some((10 * IDLE_BYTES, 0)));
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 1_000, failure_persistence: None, rng_seed: RngSeed::Fixed(9), ..ProptestConfig::default()
        })]

        /// Whatever the server sends, in any order and damaged: no panic, and positions only grow.
        #[test]
        fn any_messages_keep_the_order(
            sent in prop::collection::vec((0..8_usize, 0..400_u64, any::<prop::sample::Index>(), any::<Option<u8>>()), 0..40)
        ) {
            let (mut changes, mut last) = (after(100).0, 100);
            for (kind, lsn, at, damage) in sent {
                let mut bytes = match kind {
                    0 => begin(lsn),
                    1 => commit(lsn + 8),
                    2 => RELATION.to_vec(),
                    3 => INSERT.to_vec(),
                    4 => message(lsn, "shop", "{}"),
                    5 => message(lsn, HEARTBEAT, "cache 7"),
                    6 => b"T\0\0\0\x01\0\0\0\0\x01".to_vec(),
                    _ => b"U\0\0\0\x01K\0\x01t\0\0\0\x018N\0\x01u".to_vec(),
                };
                let index = at.index(bytes.len());
                bytes[index] = damage.unwrap_or(bytes[index]);
                let mut gathered = Gathered::default();
                changes.take(lsn, &bytes, &mut gathered);
                if let Some((position, events)) = gathered.resumable {
                    prop_assert!(position > last && events <= gathered.events.len());
                    last = position;
                }
            }
        }
    }
}
