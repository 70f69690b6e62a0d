//! Events on one core: decoded, matched with rules, merged, and applied to a cache.
//!
//! `cargo bench --bench events`; the unit is one event.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use leasehold::cache::{Depth, Group, Session};
use leasehold::events::delivery::work::Change;
use leasehold::events::delivery::{Delivery, Input, Settings, Step, Time};
use leasehold::events::format::{Format, Headers};
use leasehold::events::position::Position;
use leasehold::events::rule::Rules;
use leasehold::events::source::{Attached, Batch};
use leasehold::{Cache, Clock, Config};

/// A source whose events are applied to a cache.
struct Stream {
    cache: Cache,
    clock: Clock,
    delivery: Delivery,
    offset: u64,
    session: Session,
}

impl Stream {
    fn new() -> Stream {
        let rules: Rules = serde_json::from_str(
            r#"[{"table": "public.products", "keys": ["product:{row.id}", "product:{row.id}:price"],
                 "tags": ["category:{row.category_id}"]},
                {"type": "product.updated", "keys": ["product:{product_id}"]}]"#,
        )
        .expect("the rules are right");
        let settings = Settings {
            covers: None,
            id: None,
            max_backlog: None,
            name: "db".to_owned(),
            on_gap: Depth::Hard,
            resumes: true,
            storm: 2_000,
            takes_instructions: false,
        };
        let cache = Cache::new(Config::default());
        let mut delivery = Delivery::new(settings, Arc::new(rules), None);
        delivery.handle(Input::Attached(Attached::Resumed), Time { ms: 0, wall_us: 0 });
        Stream { session: cache.internal_session(), cache, clock: Clock::system(), delivery, offset: 0 }
    }

    /// Decodes and applies a batch; returns the number of names that were invalidated.
    fn apply(&mut self, format: Format, bodies: &[String]) -> usize {
        self.offset += 1;
        let events = bodies.iter().map(|body| {
            Ok(format.decode(body.as_bytes(), Headers::new()).expect("it is an event").expect("it announces"))
        });
        let position = Some(Position { identity: "log".to_owned(), offset: self.offset });
        let batch = Batch { behind: None, events: events.collect(), position, proven: None };
        let now = self.clock.now();
        let mut names = 0;
        for step in self.delivery.handle(Input::Batch(batch), Time { ms: now.millis, wall_us: 0 }) {
            let Step::Apply(work) = step else { continue };
            for change in &work.steps {
                let Change::Invalidate(merged) = change else { continue };
                for (key, target) in &merged.keys {
                    let key = self.cache.key(key.as_bytes()).expect("the names were checked");
                    self.cache.invalidate_key(&key, target.depth, &mut self.session, now);
                }
                let tags: Vec<Group> = merged.tags.keys().map(|tag| Group::Tag(tag.as_bytes())).collect();
                self.cache.invalidate(tags, Depth::Hard, now);
                names += merged.names();
            }
        }
        names
    }
}

/// An envelope of some 1,100 bytes, as Debezium's connector for PostgreSQL writes it.
fn debezium(id: u64) -> String {
    let row = |price: u64| {
        format!(
            r#"{{"id":{id},"name":"Darjeeling First Flush, {id} g","price_cents":{price},"category_id":{},"stock":17,"#,
            id % 50
        ) + r#""description":"A light and flowery tea from the slopes of the Himalayas, picked in March.","updated_at":"2026-11-28T19:30:00Z"}"#
    };
    format!(
        r#"{{"before":{},"after":{},"source":{{"version":"3.3.1.Final","connector":"postgresql","name":"shop","ts_ms":1795894288133,"#,
        row(9_900),
        row(7_900)
    ) + r#""snapshot":"false","db":"shop","sequence":"[\"24023119\",\"24023128\"]","ts_us":1795894288133000,"ts_ns":1795894288133000000,"#
        + r#""schema":"public","table":"products","txId":571,"lsn":24023128,"xmin":null},"transaction":null,"op":"u","#
        + r#""ts_ms":1795894288200,"ts_us":1795894288200000,"ts_ns":1795894288200000000}"#
}

fn with_schema(envelope: &str) -> String {
    let field = r#"{"type":"string","optional":true,"field":"description","default":null,"doc":"a column"},"#;
    format!(
        r#"{{"schema":{{"type":"struct","fields":[{}]}},"payload":{envelope}}}"#,
        field.repeat(20).trim_end_matches(',')
    )
}

fn plain(id: u64) -> String {
    format!(
        r#"{{"id":"0190f0aa-{id:08}","type":"product.updated","product_id":{id},"category_id":17,"version":42,"actor":"import"}}"#
    )
}

fn events(criterion: &mut Criterion) {
    let envelopes: Vec<String> = (0..1_000).map(debezium).collect();
    let rows = [
        ("plain JSON", Format::Json, (0..1_000).map(plain).collect::<Vec<_>>()),
        ("Debezium", Format::Debezium, envelopes.clone()),
        ("Debezium with schema", Format::Debezium, envelopes.iter().map(|body| with_schema(body)).collect()),
    ];
    let mut group = criterion.benchmark_group("events");
    group.throughput(Throughput::Elements(1_000));
    for (name, format, bodies) in rows {
        let mut stream = Stream::new();
        group.bench_function(name, |bencher| bencher.iter(|| black_box(stream.apply(format, &bodies))));
    }
    group.finish();
}

criterion_group!(benches, events);
criterion_main!(benches);
