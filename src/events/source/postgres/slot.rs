//! The slot and the server around it: facts, and the decision where the stream continues.

use std::time::Duration;

use postgres_protocol::escape::{escape_identifier, escape_literal};

use super::connection::{Connection, Row};
use super::failure::Failure;
use super::plan::{Facts, Slot};
use super::settings::Settings;

/// Reads everything that the decision needs, on a connection for replication.
pub(super) async fn facts(connection: &mut Connection, settings: &Settings) -> Result<Facts, Failure> {
    let identity = single(connection.query("IDENTIFY_SYSTEM").await?)?;
    let [system, timeline, end, database] = texts(identity)?;
    let publication = escape_literal(&settings.publication);
    let sql = format!(
        "SELECT current_setting('server_version_num'), current_setting('wal_level'), \
         coalesce(current_setting('max_slot_wal_keep_size', true), ''), \
         coalesce((SELECT (pubinsert AND pubupdate AND pubdelete AND pubtruncate)::text \
         FROM pg_publication WHERE pubname = {publication}), '')"
    );
    let [version, wal_level, keep, publishes_all] = texts(single(connection.query(&sql).await?)?)?;
    let version = version.parse().map_err(|_| unexpected())?;
    let slot = match connection.query(&slot_query(&settings.slot, version)).await?.pop() {
        Some(row) => Some(slot(row)?),
        None => None,
    };
    Ok(Facts {
        database,
        end: parse_lsn(&end).ok_or_else(unexpected)?,
        has_publication: !publishes_all.is_empty(),
        is_undecodable: false,
        keep,
        publishes_all: publishes_all == "true",
        slot,
        switches: Vec::new(),
        system,
        timeline: timeline.parse().map_err(|_| unexpected())?,
        version,
        wal_level,
    })
}

/// Lets the server give up a silent connection after this time, so that the slot is free again.
pub(super) async fn tune(
    connection: &mut Connection,
    facts: &Facts,
    silence: Duration,
) -> Result<(), Failure> {
    if facts.version < 120_000 {
        // Only its configuration can say it.
        return Ok(());
    }
    let sql = format!("SET wal_sender_timeout = '{}ms'", silence.as_millis());
    connection.query(&sql).await.map(std::mem::drop)
}

/// Where the timelines before this one ended.
pub(super) async fn switches(connection: &mut Connection, timeline: u32) -> Result<Vec<(u32, u64)>, Failure> {
    if timeline <= 1 {
        return Ok(Vec::new());
    }
    let row = single(connection.query(&format!("TIMELINE_HISTORY {timeline}")).await?)?;
    let [_name, content] = texts(row)?;
    let switch = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.parse().ok()?, parse_lsn(words.next()?)?))
    };
    Ok(content.lines().filter_map(switch).collect())
}

/// Creates the slot, and returns the place from which it has everything.
pub(super) async fn create(connection: &mut Connection, slot: &str) -> Result<u64, Failure> {
    let name = escape_identifier(slot);
    let sql = format!("CREATE_REPLICATION_SLOT {name} LOGICAL pgoutput NOEXPORT_SNAPSHOT");
    let row = single(connection.query(&sql).await?)?;
    row.get(1).and_then(|lsn| parse_lsn(lsn.as_deref()?)).ok_or_else(unexpected)
}

pub(super) async fn drop(connection: &mut Connection, slot: &str) -> Result<(), Failure> {
    let name = escape_literal(slot);
    connection.query(&format!("SELECT pg_drop_replication_slot({name})")).await.map(std::mem::drop)
}

/// Creates the publication with those of the tables that are named, and returns them.
///
/// Tables whose rows have no identity are left out: once published, they could not be changed any more.
pub(super) async fn publish(
    connection: &mut Connection,
    publication: &str,
    version: u32,
    is_named: &(dyn Fn(&str) -> bool + Send + Sync),
) -> Result<Vec<String>, Failure> {
    let has_roots = version >= 130_000;
    let kinds = if has_roots { "'r', 'p'" } else { "'r'" };
    let sql = format!(
        "SELECT n.nspname || '.' || c.relname, quote_ident(n.nspname) || '.' || quote_ident(c.relname) \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ({kinds}) AND c.relpersistence = 'p' \
         AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' \
         AND (c.relreplident = 'f' OR EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid \
         AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END)) \
         ORDER BY 1"
    );
    let (mut tables, mut quoted) = (Vec::new(), Vec::new());
    for row in connection.query(&sql).await? {
        let [table, identifier] = texts(row)?;
        if is_named(&table) {
            tables.push(table);
            quoted.push(identifier);
        }
    }
    if tables.is_empty() {
        return Err(Failure::Unusable("no rule names a table with a primary key".to_owned()));
    }
    // The rules name partitioned tables as a whole.
    let as_roots = if has_roots { " WITH (publish_via_partition_root = true)" } else { "" };
    let (publication, quoted) = (escape_identifier(publication), quoted.join(", "));
    let sql = format!("CREATE PUBLICATION {publication} FOR TABLE {quoted}{as_roots}");
    connection.query(&sql).await?;
    Ok(tables)
}

/// The command that begins to replicate.
pub(super) fn start(settings: &Settings, facts: &Facts, from: u64) -> String {
    let (slot, publication) =
        (escape_identifier(&settings.slot), escape_literal(&escape_identifier(&settings.publication)));
    let messages = if facts.has_messages() { ", messages 'true'" } else { "" };
    let (high, low) = (from >> 32, from & 0xffff_ffff);
    format!(
        "START_REPLICATION SLOT {slot} LOGICAL {high:X}/{low:X} \
         (proto_version '1', publication_names {publication}{messages})"
    )
}

/// The replica identity of a table: the columns that come with the row before a change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The columns of its index; none if it has no such index.
    pub columns: Vec<String>,
    /// Whether it is the whole row (`REPLICA IDENTITY FULL`).
    pub is_full: bool,
    /// The table, with its schema.
    pub table: String,
}

/// Each table of the publication, with its replica identity.
pub(super) async fn identities(
    connection: &mut Connection,
    publication: &str,
) -> Result<Vec<Identity>, Failure> {
    let publication = escape_literal(publication);
    let sql = format!(
        "SELECT p.schemaname || '.' || p.tablename, (c.relreplident = 'f')::text, \
         coalesce((SELECT string_agg(a.attname, E'\\n') FROM pg_index i \
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) WHERE i.indrelid = c.oid \
         AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END), '') \
         FROM pg_publication_tables p \
         JOIN pg_namespace n ON n.nspname = p.schemaname \
         JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename \
         WHERE p.pubname = {publication} ORDER BY 1"
    );
    let rows = connection.query(&sql).await?;
    let identity = |row| {
        texts(row).map(|[table, is_full, columns]| Identity {
            columns: columns.lines().map(str::to_owned).collect(),
            is_full: is_full == "true",
            table,
        })
    };
    rows.into_iter().map(identity).collect()
}

/// `0/16B3748`, as a number.
pub(super) fn parse_lsn(text: &str) -> Option<u64> {
    let (high, low) = text.trim().split_once('/')?;
    let part = |digits| u32::from_str_radix(digits, 16).ok().map(u64::from);
    Some(part(high)? << 32 | part(low)?)
}

fn slot_query(slot: &str, version: u32) -> String {
    let name = escape_literal(slot);
    let status = if version >= 130_000 { "s.wal_status" } else { "''" };
    format!(
        "SELECT coalesce(s.plugin, ''), coalesce(s.database, ''), coalesce(s.active_pid::text, ''), \
         coalesce({status}, ''), coalesce(s.confirmed_flush_lsn::text, '0/0'), \
         coalesce(a.application_name || coalesce(' at ' || host(a.client_addr), ''), '') \
         FROM pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid \
         WHERE s.slot_name = {name}"
    )
}

fn slot(row: Row) -> Result<Slot, Failure> {
    let [plugin, database, pid, status, confirmed, holder] = texts(row)?;
    let holder = (!pid.is_empty()).then(|| format!("process {pid}, {holder}"));
    let confirmed = parse_lsn(&confirmed).ok_or_else(unexpected)?;
    Ok(Slot { confirmed, database, holder, plugin, status })
}

fn single(mut rows: Vec<Row>) -> Result<Row, Failure> {
    rows.pop().ok_or_else(unexpected)
}

/// The columns of a row, none of which is null.
fn texts<const N: usize>(row: Row) -> Result<[String; N], Failure> {
    let texts: Option<Vec<_>> = row.into_iter().collect();
    texts.and_then(|texts| texts.try_into().ok()).ok_or_else(unexpected)
}

fn unexpected() -> Failure {
    Failure::Protocol("an unexpected answer to a query".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_the_log_are_two_hexadecimal_numbers() {
        assert_eq!(parse_lsn("0/16B3748"), Some(0x16b_3748));
        assert_eq!(parse_lsn("1A/0"), Some(0x1a << 32));
        assert_eq!([parse_lsn("7"), parse_lsn("x/1"), parse_lsn("1/100000000")], [None; 3]);
    }
}
