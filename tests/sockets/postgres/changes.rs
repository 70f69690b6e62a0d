//! Changes of rows and messages, as events.

use leasehold::events::event::{Op, UNAVAILABLE};
use leasehold::events::source::Source;
use leasehold::events::source::postgres::Settings;
use serde_json::{Value, json};

use super::{Reader, settings, shop};

#[tokio::test]
async fn changes_of_rows_arrive_as_events() {
    let Some((cluster, mut sql)) = shop("changes") else { return };
    let mut reader = Reader::new(settings(cluster, "changes"));
    reader.begin().await;
    sql.run("INSERT INTO products VALUES (7, 'Tea', 79.50)");
    sql.run("UPDATE products SET price_cents = 99 WHERE id = 7");
    sql.run("DELETE FROM products WHERE id = 7");
    let events = reader.events(3).await;

    let ops: Vec<_> = events.iter().map(|event| event.op).collect();
    assert_eq!(ops, [Op::Create, Op::Update, Op::Delete]);
    assert!(events.iter().all(|event| event.table.as_deref() == Some("public.products")));
    assert!(events.iter().all(|event| event.key == json!({"id": 7})));
    assert_eq!(events[0].after, json!({"id": 7, "name": "Tea", "price_cents": 79.5, "notes": null}));
    assert_eq!((&events[0].before, &events[1].before), (&Value::Null, &Value::Null));
    assert_eq!(events[1].after["price_cents"], json!(99));
    assert_eq!((&events[2].before, &events[2].after), (&json!({"id": 7}), &Value::Null));

    let source = &events[0].source;
    assert_eq!([&source["db"], &source["schema"], &source["table"]], ["changes", "public", "products"]);
    let lsns: Vec<_> = events.iter().map(|event| event.source["lsn"].as_u64()).collect();
    assert!(lsns.is_sorted() && lsns[0].is_some());
    assert!(source["commit_lsn"].as_u64() > source["lsn"].as_u64() && source["xid"].as_u64() > Some(0));
    let at: f64 = sql.value("SELECT extract(epoch FROM now())").parse().expect("a number");
    let age = at - events[0].at.expect("committed") as f64 / 1e6;
    assert!((0.0..60.0).contains(&age), "{age} s");
}

#[tokio::test]
async fn a_changed_key_is_in_the_row_before() {
    let Some((cluster, mut sql)) = shop("keys") else { return };
    sql.run("INSERT INTO products VALUES (7, 'Tea', 1)");
    let mut reader = Reader::new(settings(cluster, "keys"));
    reader.begin().await;
    sql.run("UPDATE products SET id = 8 WHERE id = 7");
    let event = reader.events(1).await.remove(0);
    assert_eq!((event.before, event.key), (json!({"id": 7}), json!({"id": 8})));
    assert_eq!((event.op, &event.after["id"]), (Op::Update, &json!(8)));
}

#[tokio::test]
async fn a_full_replica_identity_gives_the_whole_row_before() {
    let Some((cluster, mut sql)) = shop("full") else { return };
    let large = "SELECT string_agg(md5(n::text), '') FROM generate_series(1, 500) n";
    sql.run(&format!(
        "ALTER TABLE products REPLICA IDENTITY FULL; INSERT INTO products VALUES (7, 'Tea', 1, ({large}))"
    ));
    let mut reader = Reader::new(settings(cluster, "full"));
    reader.begin().await;
    sql.run("UPDATE products SET price_cents = 2; DELETE FROM products");
    let events = reader.events(2).await;
    assert_eq!((&events[0].before["price_cents"], &events[0].before["name"]), (&json!(1), &json!("Tea")));
    // The large value did not change, and is sent only in the row before.
    let notes = json!(sql.value(large));
    assert_eq!((&events[0].before["notes"], &events[0].after["notes"]), (&notes, &notes));
    assert_eq!((events[1].op, &events[1].before["price_cents"]), (Op::Delete, &json!(2)));

    let tables = reader.source.replica_identities().await.expect("it answers");
    assert!(tables.len() == 1 && tables[0].is_full && tables[0].table == "public.products", "{tables:?}");
}

#[tokio::test]
async fn a_large_value_that_did_not_change_is_unavailable() {
    let Some((cluster, mut sql)) = shop("toast") else { return };
    let large = "SELECT string_agg(md5(n::text), '') FROM generate_series(1, 500) n";
    sql.run(&format!("INSERT INTO products VALUES (7, 'Tea', 1, ({large}))"));
    let mut reader = Reader::new(settings(cluster, "toast"));
    reader.begin().await;
    sql.run("UPDATE products SET price_cents = 2");
    let event = reader.events(1).await.remove(0);
    assert_eq!((&event.after["notes"], &event.after["price_cents"]), (&json!(UNAVAILABLE), &json!(2)));
}

#[tokio::test]
async fn a_rollback_never_arrives() {
    let Some((cluster, mut sql)) = shop("rollback") else { return };
    let mut reader = Reader::new(settings(cluster, "rollback"));
    reader.begin().await;
    sql.run("BEGIN; INSERT INTO products VALUES (1, 'a', 1); ROLLBACK");
    sql.run("BEGIN; SAVEPOINT s; INSERT INTO products VALUES (2, 'b', 1); ROLLBACK TO s; INSERT INTO products VALUES (3, 'c', 1); COMMIT");
    sql.run("INSERT INTO products VALUES (4, 'd', 1)");
    let keys: Vec<_> = reader.events(2).await.into_iter().map(|event| event.key["id"].clone()).collect();
    assert_eq!(keys, [json!(3), json!(4)]);
}

#[tokio::test]
async fn truncate_is_one_event_for_each_table() {
    let Some((cluster, mut sql)) = shop("truncated") else { return };
    sql.run(
        "CREATE TABLE parts (id int PRIMARY KEY, product int REFERENCES products); \
         ALTER PUBLICATION leasehold ADD TABLE parts",
    );
    let mut reader = Reader::new(settings(cluster, "truncated"));
    reader.begin().await;
    sql.run("TRUNCATE products CASCADE");
    let events = reader.events(2).await;
    let mut tables: Vec<_> = events.iter().map(|event| event.table.as_deref().unwrap_or("")).collect();
    tables.sort_unstable();
    assert_eq!(tables, ["public.parts", "public.products"]);
    assert!(
        events.iter().all(|event| event.op == Op::Truncate && event.key.is_null() && event.after.is_null())
    );
}

#[tokio::test]
async fn an_added_column_is_in_the_next_event() {
    let Some((cluster, mut sql)) = shop("ddl") else { return };
    let mut reader = Reader::new(settings(cluster, "ddl"));
    reader.begin().await;
    sql.run("INSERT INTO products VALUES (1, 'a', 1)");
    sql.run("ALTER TABLE products ADD stock int DEFAULT 5");
    sql.run("INSERT INTO products VALUES (2, 'b', 1)");
    sql.run("ALTER TABLE products RENAME name TO title");
    sql.run("UPDATE products SET title = 'c' WHERE id = 1");
    let events = reader.events(3).await;
    assert_eq!((events[0].after.get("stock"), events[1].after.get("stock")), (None, Some(&json!(5))));
    assert_eq!(events[2].after["title"], json!("c"));
}

#[tokio::test]
async fn messages_of_applications_are_events() {
    let Some((cluster, mut sql)) = shop("messages") else { return };
    let messages = Some("shop".to_owned());
    let mut reader = Reader::new(Settings { messages, ..settings(cluster, "messages") });
    reader.begin().await;
    sql.run(r#"SELECT pg_logical_emit_message(false, 'other', '{}')"#);
    sql.run(
        r#"SELECT pg_logical_emit_message(false, 'shop', '{"type": "product.updated", "product_id": 7}')"#,
    );
    sql.run(r#"BEGIN; SELECT pg_logical_emit_message(true, 'shop', '{"product_id": 8}'); ROLLBACK"#);
    sql.run(r#"BEGIN; SELECT pg_logical_emit_message(true, 'shop', '{"product_id": 9}'); COMMIT"#);
    let events = reader.events(2).await;
    assert_eq!((events[0].op, events[0].kind.as_deref()), (Op::Message, Some("product.updated")));
    assert_eq!((&events[0].data["product_id"], &events[1].data["product_id"]), (&json!(7), &json!(9)));
    assert!(events[1].at.is_some() && events[1].source["xid"].is_u64());

    sql.run("SELECT pg_logical_emit_message(false, 'shop', 'no JSON')");
    reader.until(|reader| !reader.poisoned.is_empty()).await;
    assert!(reader.poisoned[0].starts_with("Some(\"shop\"): not JSON"), "{}", reader.poisoned[0]);
}

#[tokio::test]
async fn a_large_transaction_spans_batches_and_has_one_position() {
    let Some((cluster, mut sql)) = shop("large") else { return };
    let mut reader = Reader::new(settings(cluster, "large"));
    reader.begin().await;
    let before = reader.position.take();
    sql.run("INSERT INTO products SELECT n, 'x', n FROM generate_series(1, 10000) n");
    let (mut batches, mut positions) = (0, 0);
    while reader.events.len() < 10_000 || reader.position.is_none() {
        let batch = reader.source.next().await.expect("the stream goes on");
        assert!(batch.events.len() <= 1_000, "{} events", batch.events.len());
        batches += 1;
        positions += usize::from(batch.position.is_some());
        reader.take(batch);
    }
    assert!(batches >= 10 && positions == 1, "{batches} batches, {positions} positions");
    let keys: Vec<_> = reader.events.iter().map(|event| event.key["id"].as_u64()).collect();
    assert!(keys.iter().copied().eq((1..=10_000).map(Some)));
    assert!(reader.position.map(|after| after.offset) > before.map(|before| before.offset));
}
