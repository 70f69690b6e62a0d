//! Measurements, one at a time:
//! `cargo test --release --test sockets postgres::measure -- --ignored --nocapture --test-threads 1`.

use std::time::Duration;

use leasehold::Clock;
use leasehold::clock::wall;
use leasehold::events::report::Report;
use leasehold::events::source::Source;

use super::{Reader, settings, shop};

#[tokio::test]
#[ignore = "a measurement"]
async fn commit_to_event_at_a_thousand_changes_a_second() {
    let Some((cluster, mut sql)) = shop("latency") else { return };
    sql.run("INSERT INTO products SELECT n, 'x', n FROM generate_series(0, 999) n");
    let mut reader = Reader::new(settings(cluster, "latency"));
    reader.begin().await;
    let writer = std::thread::spawn(move || {
        let clock = Clock::system();
        let start = clock.elapsed();
        for change in 0..CHANGES {
            let due = start + Duration::from_millis(change);
            while let Some(ahead) = due.checked_sub(clock.elapsed()).filter(|ahead| !ahead.is_zero()) {
                std::thread::park_timeout(ahead);
            }
            sql.run(&format!("UPDATE products SET price_cents = {change} WHERE id = {}", change % 1000));
        }
        clock.elapsed() - start
    });
    let mut micros = Vec::new();
    while micros.len() < CHANGES as usize {
        let batch = reader.source.next().await.expect("the stream goes on");
        let now = wall().as_micros() as u64;
        micros.extend(
            batch.events.iter().flatten().map(|event| now.saturating_sub(event.at.expect("committed"))),
        );
        if let Some(position) = &batch.position {
            reader.source.done(position, &Report::default()).await.expect("it is sent");
        }
    }
    micros.sort_unstable();
    let percentile = |share: f64| micros[(micros.len() as f64 * share) as usize] as f64 / 1000.0;
    let took = writer.join().expect("it wrote all");
    println!(
        "{CHANGES} changes in {took:.1?}: p50 {} ms, p99 {} ms, p99.9 {} ms, max {} ms",
        percentile(0.5),
        percentile(0.99),
        percentile(0.999),
        percentile(0.999_99)
    );
}

#[tokio::test]
#[ignore = "a measurement"]
async fn a_backlog_of_100_000_events() {
    let Some((cluster, mut sql)) = shop("backlog") else { return };
    let mut reader = Reader::new(settings(cluster, "backlog"));
    reader.begin().await;
    let position = reader.position.clone().expect("attached");
    reader.source =
        leasehold::events::source::postgres::Postgres::new(settings(cluster, "backlog"), Clock::system());
    sql.run(
        "DO $$ BEGIN FOR i IN 0..999 LOOP INSERT INTO products SELECT i * 100 + n, 'Tea', 79.5, repeat('x', 100) \
         FROM generate_series(1, 100) n; COMMIT; END LOOP; END $$",
    );
    let clock = Clock::system();
    reader.position = Some(position);
    reader.attach().await;
    let (mut events, start, mut first) = (0, clock.elapsed(), None);
    while events < 100_000 {
        let batch = reader.source.next().await.expect("the stream goes on");
        events += batch.events.len();
        first.get_or_insert(clock.elapsed());
    }
    let (took, decoding) = (clock.elapsed() - start, clock.elapsed() - first.expect("there was one"));
    println!(
        "{events} events in {took:.2?}, of which {decoding:.2?} since the first: {:.0} events/s",
        events as f64 / decoding.as_secs_f64()
    );
}

const CHANGES: u64 = 10_000;
