//! Faults: servers that are killed, slots that are dropped or lost, other servers, and networks.

use std::time::Duration;

use leasehold::events::source::postgres::{Postgres, Settings};
use leasehold::events::source::{Attached, Broken, Source};
use leasehold::{Clock, events::position::Position};
use serde_json::json;
use tokio::time::timeout;

use super::{Reader, products, settings, shop};
use crate::support::postgres::{Cluster, PATIENCE};
use crate::support::proxy::proxy;

#[tokio::test]
async fn a_killed_server_costs_no_event_and_another_server_is_a_gap() {
    let Some(mut cluster) = Cluster::start("") else { return };
    products(&mut cluster.sql("postgres"));
    let mut reader = Reader::new(settings(&cluster, "postgres"));
    reader.begin().await;
    cluster
        .sql("postgres")
        .run("INSERT INTO products VALUES (1, 'a', 1); INSERT INTO products VALUES (2, 'b', 1)");
    reader.events(2).await;
    reader.done().await;
    // Committed while nobody reads.
    cluster.sql("postgres").run("INSERT INTO products VALUES (3, 'c', 1)");
    cluster.kill();
    let broken = timeout(PATIENCE, async {
        loop {
            match reader.source.next().await {
                Ok(batch) => reader.take(batch),
                Err(broken) => return broken,
            }
        }
    });
    assert!(matches!(broken.await, Ok(Broken::Transient(_))));
    assert!(matches!(reader.source.next().await, Err(Broken::Transient(_))), "it is not attached");
    cluster.run();
    assert_eq!(reader.attach().await, Attached::Resumed);
    cluster.sql("postgres").run("INSERT INTO products VALUES (4, 'd', 1)");
    let keys: Vec<_> = reader.events(2).await.into_iter().map(|event| event.key["id"].clone()).collect();
    assert_eq!(keys, [json!(3), json!(4)]);

    // The same name and the same slot, but another log.
    let shared = Cluster::shared().expect("PostgreSQL is installed");
    products(&mut shared.sql("postgres"));
    let mut other = Reader::new(settings(shared, "postgres"));
    other.position = reader.position.clone();
    assert!(matches!(other.attach().await, Attached::Gap(..)));
}

/// A server that shuts down waits until its readers have acknowledged everything, its last checkpoint
/// included. The source acknowledged only events, and each second, so that the shutdown never ended.
#[tokio::test]
async fn a_shutdown_does_not_wait_for_the_source() {
    shuts_down(Duration::ZERO).await;
}

/// The position after a heartbeat was one byte above the end of the log, for which a server that shuts down
/// waits to be equal.
#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_source_with_heartbeats() {
    shuts_down(Duration::from_millis(100)).await;
}

async fn shuts_down(heartbeat: Duration) {
    let Some(mut cluster) = Cluster::start("") else { return };
    products(&mut cluster.sql("postgres"));
    let mut reader = Reader::new(Settings { heartbeat, ..settings(&cluster, "postgres") });
    reader.begin().await;
    cluster.sql("postgres").run("INSERT INTO products VALUES (1, 'a', 1)");
    reader.events(1).await;
    reader.done().await;
    if !heartbeat.is_zero() {
        reader.until(|reader| reader.proven.len() > 2).await;
        reader.done().await;
    }
    // More in the log, of which nothing is published.
    cluster.sql("postgres").run("CREATE TABLE others ()");
    cluster.stop();
    let ending = async {
        while let Ok(batch) = reader.source.next().await {
            reader.take(batch);
            reader.done().await;
        }
    };
    timeout(PATIENCE, ending).await.expect("the server ends the stream");
    super::until(|| cluster.has_ended()).await;
    cluster.run();
    assert_eq!(reader.attach().await, Attached::Resumed);
}

#[tokio::test]
async fn a_dropped_slot_is_made_anew_and_is_a_gap() {
    let Some((cluster, mut sql)) = shop("dropped") else { return };
    let mut reader = Reader::new(settings(cluster, "dropped"));
    reader.begin().await;
    sql.run("INSERT INTO products VALUES (1, 'a', 1)");
    reader.events(1).await;
    while reader.source.forget().await.is_err() {}
    sql.run("INSERT INTO products VALUES (2, 'lost', 1)");

    let unchanged = Settings { create: false, ..settings(cluster, "dropped") };
    let refused = Postgres::new(unchanged, Clock::system()).attach(reader.position.as_ref()).await;
    assert!(matches!(refused, Err(Broken::Misconfigured(why)) if why.contains("slot dropped is missing")));
    match reader.attach().await {
        Attached::Gap(_, why) => assert_eq!(why, "slot dropped is missing"),
        other => panic!("{other:?}"),
    }
    sql.run("INSERT INTO products VALUES (3, 'c', 1)");
    assert_eq!(reader.events(1).await[0].key["id"], json!(3));
}

/// The source stayed down for good: PostgreSQL looks for a publication as it was at the time of a change.
#[tokio::test]
async fn a_dropped_publication_is_made_anew_and_is_a_gap() {
    let Some((cluster, mut sql)) = shop("unpublished") else { return };
    sql.run("CREATE TABLE keyless (id int)");
    let source = |create| {
        let settings = Settings { create, ..settings(cluster, "unpublished") };
        Postgres::new(settings, Clock::system()).with_tables(|table| table.starts_with("public."))
    };
    let mut reader = Reader::new(settings(cluster, "unpublished"));
    reader.source = source(true);
    reader.begin().await;
    for (dropping, expected) in [
        ("DROP PUBLICATION leasehold; INSERT INTO products VALUES (1)", "publication leasehold is missing"),
        // Somebody creates it again.
        (
            "DROP PUBLICATION leasehold; INSERT INTO products VALUES (1); \
             CREATE PUBLICATION leasehold FOR TABLE products",
            "publication leasehold was missing for a while",
        ),
    ] {
        sql.run("DELETE FROM products");
        reader.events.clear();
        dropping.split("; ").for_each(|statement| drop(sql.run(statement)));
        let why = timeout(PATIENCE, async {
            loop {
                let ended = loop {
                    match reader.source.next().await {
                        Ok(batch) => reader.take(batch),
                        Err(broken) => break broken,
                    }
                };
                assert!(matches!(ended, Broken::Transient(_)), "{ended}");
                match reader.attach().await {
                    Attached::Gap(_, why) => return why,
                    Attached::Resumed => {}
                    other @ Attached::AtEnd(_) => panic!("{other:?}"),
                }
            }
        });
        assert_eq!(why.await.expect("it notices"), expected);
        let tables =
            "SELECT string_agg(tablename, ',') FROM pg_publication_tables WHERE pubname = 'leasehold'";
        assert_eq!(sql.value(tables), "products", "a table without a key could not be changed any more");
        reader.events.clear();
        sql.run("INSERT INTO products VALUES (2, 'b', 1)");
        assert_eq!(reader.events(1).await[0].key["id"], json!(2));
    }
}

#[tokio::test]
async fn a_dropped_publication_is_named_with_the_remedy() {
    let Some((cluster, mut sql)) = shop("unpublished_by_hand") else { return };
    let mut reader = Reader::new(settings(cluster, "unpublished_by_hand"));
    reader.begin().await;
    let by_hand = Settings { create: false, ..settings(cluster, "unpublished_by_hand") };
    reader.source = Postgres::new(by_hand, Clock::system());
    sql.run("DROP PUBLICATION leasehold");
    sql.run("INSERT INTO products VALUES (1, 'a', 1)");
    let remedy = async |reader: &mut Reader| {
        timeout(PATIENCE, async {
            loop {
                match reader.source.attach(reader.position.as_ref()).await {
                    Err(Broken::Misconfigured(why)) => {
                        return why.split_once("run ").expect(&why).1.to_owned();
                    }
                    Ok(Attached::Resumed) => while reader.source.next().await.is_ok() {},
                    // The slot may be in use for a moment.
                    Err(Broken::Transient(_)) => {}
                    Ok(attached) => panic!("{attached:?}"),
                }
            }
        })
        .await
        .expect("it notices")
    };
    assert!(remedy(&mut reader).await.starts_with("CREATE PUBLICATION \"leasehold\" FOR TABLE"));
    sql.run("CREATE PUBLICATION leasehold FOR TABLE products");
    let why = remedy(&mut reader).await;
    let statements = why.strip_suffix(", or set create = true").expect(&why);
    assert_eq!(remedy(&mut reader).await, why, "it is the same until somebody does it");
    statements.split("; ").for_each(|statement| drop(sql.run(statement)));
    assert!(matches!(reader.attach().await, Attached::Gap(..)));
    sql.run("INSERT INTO products VALUES (2, 'b', 1)");
    reader.events(1).await;
}

/// A slot that another program dropped and made again, or read, no longer has what the position needs.
#[tokio::test]
async fn a_slot_that_was_read_by_others_is_a_gap() {
    let Some((cluster, mut sql)) = shop("advanced") else { return };
    let mut reader = Reader::new(settings(cluster, "advanced"));
    reader.begin().await;
    let position = reader.position.clone();
    while reader.source.forget().await.is_err() {}
    sql.run("INSERT INTO products VALUES (1, 'lost', 1)");
    sql.run("SELECT pg_create_logical_replication_slot('advanced', 'pgoutput')");
    reader.position = position;
    match reader.attach().await {
        Attached::Gap(_, why) => assert!(why.contains("read beyond the position"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_lost_slot_is_made_anew_and_is_a_gap() {
    let small = "max_slot_wal_keep_size = 1MB\nmin_wal_size = 32MB\nmax_wal_size = 32MB";
    let Some(cluster) = Cluster::start(small) else { return };
    let mut sql = cluster.sql("postgres");
    products(&mut sql);
    let mut reader = Reader::new(settings(&cluster, "postgres"));
    reader.begin().await;
    let warnings = Postgres::new(settings(&cluster, "postgres"), Clock::system()).inspect().await;
    assert!(warnings.iter().all(|warning| !warning.contains("max_slot_wal_keep_size")), "{warnings:?}");
    // The position is kept, but the source is away.
    let position = reader.position.clone();
    reader.source = Postgres::new(settings(&cluster, "postgres"), Clock::system());
    let status = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'postgres'";
    while sql.value(status) != "lost" {
        sql.run("CREATE TABLE filler AS SELECT repeat('x', 1000) FROM generate_series(1, 5000)");
        sql.run("DROP TABLE filler; SELECT pg_switch_wal(); CHECKPOINT");
    }
    let unchanged = Settings { create: false, ..settings(&cluster, "postgres") };
    let refused = Postgres::new(unchanged, Clock::system()).attach(position.as_ref()).await;
    assert!(matches!(refused, Err(Broken::Misconfigured(why)) if why.contains("pg_drop_replication_slot")));
    match reader.attach().await {
        Attached::Gap(_, why) => assert_eq!(why, "slot postgres is lost"),
        other => panic!("{other:?}"),
    }
    sql.run("INSERT INTO products VALUES (1, 'a', 1)");
    reader.events(1).await;
}

#[tokio::test]
async fn a_server_without_logical_decoding_is_named_with_the_remedy() {
    let Some(cluster) = Cluster::start("wal_level = replica") else { return };
    match Postgres::new(settings(&cluster, "postgres"), Clock::system()).attach(None).await {
        Err(Broken::Misconfigured(why)) => {
            assert!(why.contains("ALTER SYSTEM SET wal_level = 'logical'"), "{why}")
        }
        other => panic!("{other:?}"),
    }
}

/// A promoted server continues the log on a new timeline. A position before the switch is still true there.
#[tokio::test]
async fn a_former_timeline_is_continued_up_to_its_end() {
    let Some(mut cluster) = Cluster::start("") else { return };
    products(&mut cluster.sql("postgres"));
    let mut reader = Reader::new(settings(&cluster, "postgres"));
    reader.begin().await;
    let position = reader.position.clone().expect("attached");
    reader.source = Postgres::new(settings(&cluster, "postgres"), Clock::system());
    cluster.promote();
    cluster.sql("postgres").run("INSERT INTO products VALUES (1, 'a', 1)");
    cluster.sql("postgres").run("CHECKPOINT");
    let switched = cluster.sql("postgres").value("SELECT timeline_id FROM pg_control_checkpoint()");
    assert_eq!(switched, "2");
    assert_eq!(reader.attach().await, Attached::Resumed);
    reader.events(1).await;
    let after = reader.position.clone().expect("it was read");
    assert_ne!(after.identity, position.identity);
    // Written by the old primary after the switch, at a place that the new one has used for something else.
    reader.position = Some(Position { identity: position.identity, offset: after.offset });
    match reader.attach().await {
        Attached::Gap(_, why) => assert!(why.contains("a new primary took over"), "{why}"),
        other => panic!("{other:?}"),
    }
}

/// A network that swallows everything looks like a quiet database. The server, too, has to notice before the
/// slot is free again.
#[tokio::test]
async fn a_half_open_connection_ends() {
    let Some((cluster, mut sql)) = shop("half_open") else { return };
    let (port, flows) = proxy(cluster.port).await;
    let mut settings = settings(cluster, "half_open");
    settings.heartbeat = Duration::from_millis(100);
    settings.url = settings.url.replace(&cluster.port.to_string(), &port.to_string());
    let mut reader = Reader::new(settings);
    reader.begin().await;
    reader.until(|reader| !reader.proven.is_empty()).await;
    flows.send_replace(1);
    sql.run("INSERT INTO products VALUES (1, 'a', 1)");
    let broken = timeout(PATIENCE, async {
        loop {
            match reader.source.next().await {
                Ok(batch) => reader.take(batch),
                Err(broken) => return broken,
            }
        }
    });
    match broken.await.expect("it notices") {
        Broken::Transient(why) => assert!(why.contains("the server has been silent for 1"), "{why}"),
        other @ Broken::Misconfigured(_) => panic!("{other:?}"),
    }
    assert!(reader.events.is_empty());
    assert_eq!(reader.attach().await, Attached::Resumed, "on a new connection");
    reader.events(1).await;
}

/// The event of a commit came before other sessions saw the change: a reader that missed in between loaded
/// the old row, and stored it for good.
#[tokio::test]
async fn an_event_comes_only_once_its_transaction_is_visible() {
    let Some(cluster) = Cluster::start("synchronous_standby_names = ''") else { return };
    products(&mut cluster.sql("postgres"));
    let mut reader = Reader::new(settings(&cluster, "postgres"));
    reader.begin().await;
    let mut sql = cluster.sql("postgres");
    sql.run("INSERT INTO products VALUES (7, 'old', 1)");
    reader.events(1).await;
    sql.run("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    sql.run("SELECT pg_reload_conf()");
    let mut other = cluster.sql("postgres");
    super::until(|| other.value("SHOW synchronous_standby_names") == "nobody").await;
    let mut waiting = cluster.sql("postgres");
    let writer = std::thread::spawn(move || waiting.run("UPDATE products SET name = 'new'"));
    super::until(|| other.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == "1")
        .await;
    let early = timeout(Duration::from_secs(1), reader.source.next()).await;
    let events = early.map_or(0, |batch| batch.expect("it is attached").events.len());
    assert_eq!((events, other.value("SELECT name FROM products").as_str()), (0, "old"));
    sql.run("ALTER SYSTEM RESET synchronous_standby_names");
    sql.run("SELECT pg_reload_conf()");
    writer.join().expect("it does not panic");
    reader.events(1).await;
    assert_eq!(other.value("SELECT name FROM products"), "new");
}
