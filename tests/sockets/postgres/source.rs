//! Positions, heartbeats, and what an operator sees.

use std::time::Duration;

use leasehold::Clock;
use leasehold::events::position::Position;
use leasehold::events::source::postgres::{Identity, Postgres, Settings};
use leasehold::events::source::{Attached, Broken, Source};
use serde_json::json;

use super::{Reader, settings, shop};

#[tokio::test]
async fn a_position_resumes_without_loss_and_without_repetition() {
    let Some((cluster, mut sql)) = shop("resume") else { return };
    let mut reader = Reader::new(settings(cluster, "resume"));
    reader.begin().await;
    sql.run("INSERT INTO products VALUES (1, 'a', 1)");
    reader.events(1).await;
    // Saved, but not acknowledged: the server sends it again, and it is left out.
    sql.run("INSERT INTO products VALUES (2, 'b', 1)");
    assert_eq!(reader.attach().await, Attached::Resumed);
    sql.run("INSERT INTO products VALUES (3, 'c', 1)");
    let keys: Vec<_> = reader.events(2).await.into_iter().map(|event| event.key["id"].clone()).collect();
    assert_eq!(keys, [json!(2), json!(3)]);
}

#[tokio::test]
async fn what_is_done_moves_the_slot_and_nothing_else_does() {
    let Some((cluster, mut sql)) = shop("done") else { return };
    let mut reader = Reader::new(settings(cluster, "done"));
    reader.begin().await;
    let confirmed = "SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots WHERE slot_name = 'done'";
    let first: u64 = sql.value(confirmed).parse().expect("a number");
    sql.run("INSERT INTO products VALUES (1, 'a', 1)");
    reader.events(1).await;
    assert_eq!(sql.value(confirmed).parse(), Ok(first));
    reader.done().await;
    let position = reader.position.as_ref().expect("it was read").offset;
    super::until(|| sql.value(confirmed).parse() == Ok(position)).await;
}

#[tokio::test]
async fn a_slot_without_a_saved_position_starts_at_the_end() {
    let Some((cluster, mut sql)) = shop("end") else { return };
    let mut reader = Reader::new(settings(cluster, "end"));
    reader.begin().await;
    sql.run("INSERT INTO products SELECT n, repeat('x', 1000), n FROM generate_series(1, 20000) n");
    let log_end: u64 = sql.value("SELECT pg_current_wal_flush_lsn() - '0/0'").parse().expect("a number");
    reader.position = None;
    reader.begin().await;
    let start = reader.position.as_ref().expect("it is at the end").offset;
    assert!(start.abs_diff(log_end) < 16 << 20, "{start} instead of {log_end}");
    sql.run("INSERT INTO products VALUES (0, 'last', 1)");
    // The large transaction is in the log shortly before the end at most once, and what follows always is.
    reader.until(|reader| reader.events.iter().any(|event| event.key["id"] == json!(0))).await;
}

#[tokio::test]
async fn a_position_of_another_log_is_a_gap() {
    let Some((cluster, _sql)) = shop("identity") else { return };
    let mut reader = Reader::new(settings(cluster, "identity"));
    reader.begin().await;
    let position = reader.position.clone().expect("attached");
    let [system, timeline, rest] = position.identity.splitn(3, '/').collect::<Vec<_>>()[..] else {
        panic!("{}", position.identity)
    };
    assert_eq!(rest, "identity/identity");
    for (identity, offset, reason) in [
        (format!("1{system}/{timeline}/{rest}"), position.offset, "another log"),
        (format!("{system}/7/{rest}"), position.offset, "another log"),
        (format!("{system}/{timeline}/other/identity"), position.offset, "another log"),
        (position.identity.clone(), position.offset + (1 << 40), "beyond the end"),
        (position.identity.clone(), position.offset - 8, "read beyond the position"),
    ] {
        reader.position = Some(Position { identity, offset });
        match reader.attach().await {
            Attached::Gap(at, why) => {
                assert!(why.contains(reason), "{why}");
                assert!(at.identity == position.identity && at.offset >= position.offset);
            }
            other => panic!("{reason}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_heartbeat_proves_the_way_and_moves_the_slot_of_an_idle_database() {
    let Some((cluster, mut sql)) = shop("heartbeat") else { return };
    let clock = Clock::manual();
    let heartbeat = Duration::from_millis(20);
    let settings = Settings { heartbeat, ..settings(cluster, "heartbeat") };
    let mut reader = Reader::with_clock(settings, clock.clone());
    reader.begin().await;
    let first = reader.position.clone().expect("attached");
    clock.advance(Duration::from_secs(5));
    reader.until(|reader| reader.proven.contains(&5_000)).await;
    assert!(reader.events.is_empty(), "a heartbeat is no event");
    assert!(reader.position.as_ref().is_some_and(|position| position.offset > first.offset));

    clock.advance(Duration::from_secs(1));
    sql.run("INSERT INTO products VALUES (1, 'a', 1)");
    clock.advance(Duration::from_secs(1));
    reader.until(|reader| reader.proven.contains(&7_000)).await;
    assert_eq!(reader.events.len(), 1, "whatever was committed before the proof is there");
    assert!(reader.proven.is_sorted());

    reader.done().await;
    let position = reader.position.as_ref().expect("it was read").offset;
    let confirmed =
        "SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots WHERE slot_name = 'heartbeat'";
    // The place after a heartbeat is a byte above the end of the log, which is all that is confirmed.
    let is_there = |confirmed: String| confirmed.parse().is_ok_and(|place: u64| place + 1 >= position);
    super::until(|| is_there(sql.value(confirmed))).await;
}

#[tokio::test]
async fn heartbeats_come_back_after_their_connection_was_lost() {
    let Some((cluster, mut sql)) = shop("beats_again") else { return };
    let clock = Clock::manual();
    let heartbeat = Duration::from_millis(20);
    let settings = Settings { heartbeat, ..settings(cluster, "beats_again") };
    let mut reader = Reader::with_clock(settings, clock.clone());
    reader.begin().await;
    reader.until(|reader| !reader.proven.is_empty()).await;
    let ended = sql.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'beats_again' \
         AND application_name = 'leasehold' AND backend_type = 'client backend'",
    );
    assert_eq!(ended.len(), 1);
    clock.advance(Duration::from_secs(1));
    reader.until(|reader| reader.proven.contains(&1_000)).await;
}

#[tokio::test]
async fn the_position_of_an_idle_database_follows_the_log_without_heartbeats() {
    let Some((cluster, mut sql)) = shop("idle") else { return };
    let mut reader = Reader::new(settings(cluster, "idle"));
    reader.begin().await;
    let first = reader.position.clone().expect("attached").offset;
    sql.run("CREATE TABLE others AS SELECT n, repeat('x', 1000) FROM generate_series(1, 3000) n");
    reader.until(|reader| reader.position.as_ref().is_some_and(|it| it.offset > first + (2 << 20))).await;
    assert!(reader.events.is_empty());
    reader.done().await;
    assert_eq!(reader.attach().await, Attached::Resumed);
}

#[tokio::test]
async fn hosts_are_tried_in_order_and_may_be_unix_sockets() {
    let Some((cluster, _sql)) = shop("hosts") else { return };
    let free =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port").port();
    let (port, sockets) = (cluster.port, cluster.sockets());
    for url in [
        format!("postgresql://postgres@127.0.0.1:{free},127.0.0.1:{port}/hosts?target_session_attrs=primary"),
        format!("postgresql://postgres@/hosts?host={sockets}&port={port}"),
    ] {
        let settings = Settings { url, ..settings(cluster, "hosts") };
        let mut source = Postgres::new(settings, Clock::system());
        let columns = vec!["id".to_owned()];
        let expected = Identity { columns, is_full: false, table: "public.products".to_owned() };
        assert_eq!(source.replica_identities().await, Ok(vec![expected]));
    }
}

#[tokio::test]
async fn a_slot_in_use_is_named_with_its_holder() {
    let Some((cluster, _sql)) = shop("held") else { return };
    let mut reader = Reader::new(settings(cluster, "held"));
    reader.begin().await;
    let mut other = Postgres::new(settings(cluster, "held"), Clock::system());
    match other.attach(None).await {
        Err(Broken::Transient(why)) => {
            assert!(
                why.contains("slot held is in use by process") && why.contains("leasehold at 127.0.0.1"),
                "{why}"
            );
        }
        attached => panic!("{attached:?}"),
    }
    let complaints = other.inspect().await;
    assert!(complaints.iter().all(|complaint| !complaint.contains("in use")), "{complaints:?}");
    match other.forget().await {
        Err(Broken::Transient(why)) => assert!(why.contains("stop the program that reads it"), "{why}"),
        forgotten => panic!("{forgotten:?}"),
    }
}

#[tokio::test]
async fn forget_drops_the_slot() {
    let Some((cluster, mut sql)) = shop("forget") else { return };
    let mut reader = Reader::new(settings(cluster, "forget"));
    reader.begin().await;
    // The server may take a moment to notice that the connection is closed.
    while reader.source.forget().await != Ok(true) {}
    assert_eq!(sql.value("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'forget'"), "0");
    assert_eq!(reader.source.forget().await, Ok(false), "it is dropped already");
}

#[tokio::test]
async fn a_dropped_future_loses_nothing() {
    let Some((cluster, mut sql)) = shop("cancelled") else { return };
    let mut reader = Reader::new(settings(cluster, "cancelled"));
    reader.begin().await;
    sql.run("INSERT INTO products SELECT n, repeat('x', 300), n FROM generate_series(1, 5000) n");
    // Polled once and dropped, most of the time in the middle of a message.
    while reader.events.len() < 5_000 {
        tokio::select! {
            biased;
            batch = reader.source.next() => reader.take(batch.expect("the stream goes on")),
            () = tokio::task::yield_now() => {}
        }
    }
    let keys: Vec<_> = reader.events.iter().map(|event| event.key["id"].as_u64()).collect();
    assert!(keys.into_iter().eq((1..=5_000).map(Some)));
}

#[tokio::test]
async fn complaints_name_the_remedy() {
    let Some((cluster, mut sql)) = shop("complaints") else { return };
    let base = settings(cluster, "complaints");
    let complaints = Postgres::new(base.clone(), Clock::system()).inspect().await;
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(complaints[0].starts_with("max_slot_wal_keep_size is not limited"), "{complaints:?}");
    sql.run("ALTER PUBLICATION leasehold SET (publish = 'insert')");
    let complaints = Postgres::new(base.clone(), Clock::system()).inspect().await;
    assert!(complaints[1].contains("ALTER PUBLICATION"), "{complaints:?}");

    sql.run("CREATE ROLE mere LOGIN");
    let physical = "SELECT pg_create_physical_replication_slot('complaints_physical')";
    sql.run(physical);
    let url = |user: &str, database: &str| {
        format!("postgresql://{user}@127.0.0.1:{}/{database}?sslmode=disable", cluster.port)
    };
    for (settings, remedy) in [
        (
            Settings { publication: "none".to_owned(), ..base.clone() },
            "CREATE PUBLICATION \"none\" FOR TABLE",
        ),
        (
            Settings { create: false, ..base.clone() },
            "pg_create_logical_replication_slot('complaints', 'pgoutput')",
        ),
        (Settings { slot: "complaints_physical".to_owned(), ..base.clone() }, "choose another name"),
        (Settings { url: url("nobody", "complaints"), ..base.clone() }, "role \"nobody\" does not exist"),
        (Settings { url: url("postgres", "nowhere"), ..base.clone() }, "database \"nowhere\" does not exist"),
        (
            Settings { url: url("mere", "complaints"), ..base.clone() },
            "must be superuser or replication role",
        ),
        (Settings { url: "postgresql://h".to_owned(), ..base.clone() }, "no user in the URL"),
        (Settings { slot: "Capitals".to_owned(), ..base.clone() }, "replication slot name \"Capitals\""),
    ] {
        match Postgres::new(settings, Clock::system()).attach(None).await {
            Err(Broken::Misconfigured(why)) => assert!(why.contains(remedy), "{remedy}: {why}"),
            other => panic!("{remedy}: {other:?}"),
        }
    }
    sql.run("SELECT pg_drop_replication_slot('complaints_physical')");
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_may_come_back() {
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port").port();
    let settings = Settings {
        create: true,
        heartbeat: Duration::ZERO,
        messages: None,
        password: None,
        publication: "leasehold".to_owned(),
        slot: "absent".to_owned(),
        url: format!("postgresql://u:hunter2@127.0.0.1:{port}/d"),
    };
    match Postgres::new(settings, Clock::system()).attach(None).await {
        Err(Broken::Transient(why)) => {
            assert!(why.contains(&format!("127.0.0.1:{port}")) && !why.contains("hunter2"), "{why}");
        }
        other => panic!("{other:?}"),
    }
}
