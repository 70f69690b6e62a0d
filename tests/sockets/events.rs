//! Events over HTTP: rules, answers, and bounded staleness, seen by clients of a server.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::http::{AdminServer, ask};
use crate::support::served::{self, Client, scratch};

/// A configuration file, removed at the end of the test.
struct Config(PathBuf);

impl Config {
    fn new(name: &str, text: &str) -> Config {
        let path = scratch(name);
        fs::write(&path, text).expect("it can be written");
        Config(path)
    }

    fn start(&self, flags: &str) -> AdminServer {
        AdminServer::start(&format!("--config {} {flags}", self.0.display()))
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

const SHOP: &str = r#"
[source.app]
kind = "http"
id = "{event_id?}"

[[rule]]
type = "product.updated"
keys = ["product:{product_id}"]
tags = ["category:{category_id?}"]
prefixes = ["product:{product_id}:"]

[[rule]]
table = "public.products"
keys = ["row:{row.id}"]
version = "{source.lsn}"

[[rule]]
type = "article.corrected"
version = "{version}"
set = [{ key = "article:{id}", value = "{article}" }]

[[rule]]
type = "counted"
incr = ["version:{id}"]
"#;

/// The lines that a watcher receives next, from their type on.
fn watched(watcher: &mut Client, count: usize) -> Vec<String> {
    let mut next = || {
        let line = watcher.line();
        line.trim_end().split_once(" type=").expect(&line).1.to_owned()
    };
    (0..count).map(|_| next()).collect()
}

fn sent(server: &AdminServer, body: &Value) -> Value {
    server.post("/events/app", &body.to_string()).has(200).json()
}

#[test]
fn an_event_invalidates_keys_tags_and_prefixes_before_it_is_answered() {
    let config = Config::new("events-rules", SHOP);
    let server = config.start("");
    let mut client = server.client();
    client.check("set product:7 0 0 1\r\na", &["STORED"]);
    client.check("set product:7:price 0 0 1\r\na", &["STORED"]);
    client.check("ms listing 1 Gcategory:17\r\na", &["HD"]);
    client.check("set product:8 0 0 1\r\na", &["STORED"]);
    let event = json!({"type": "product.updated", "product_id": 7, "category_id": 17, "event_id": "a"});
    let report = sent(&server, &event);
    assert_eq!((&report["applied"], &report["events"]), (&json!(1), &json!(1)));
    for key in ["product:7", "product:7:price", "listing"] {
        client.check(&format!("get {key}"), &["END"]);
    }
    client.check("get product:8", &["VALUE product:8 0 1", "a", "END"]);
    assert_eq!(sent(&server, &event)["duplicate"], 1);
    assert_eq!(sent(&server, &json!({"type": "other"}))["unmatched"], 1);
    assert_eq!(client.stat_of("stats events", "app:applied"), 1);
    assert_eq!(client.stat_of("stats events", "app:invalidations"), 3 + 5, "and the scope of the start");
}

/// A late load is what an invalidation by events has to win against.
#[test]
fn a_fill_that_began_before_the_event_is_refused() {
    let config = Config::new("events-fill", SHOP);
    let server = config.start("");
    let mut reader = server.client();
    reader.send(b"lease-get product:7\r\n");
    let granted = reader.line();
    let token = granted.split_whitespace().nth(2).expect(&granted).to_owned();
    assert_eq!((reader.line(), reader.line()), ("\r\n".to_owned(), "END\r\n".to_owned()));
    sent(&server, &json!({"type": "product.updated", "product_id": 7}));
    reader.check(&format!("lease-set product:7 {token} 0 0 3\r\nold"), &["NOT_STORED"]);
}

#[test]
fn a_version_protects_what_is_newer() {
    let config = Config::new("events-version", SHOP);
    let server = config.start("");
    let mut client = server.client();
    let change = |lsn: u64| {
        json!({"op": "u", "before": null, "after": {"id": 7},
            "source": {"schema": "public", "table": "products", "lsn": lsn}})
    };
    client.check("ms row:7 1 V20\r\na", &["HD"]);
    sent(&server, &change(19));
    sent(&server, &change(20));
    client.check("get row:7", &["VALUE row:7 0 1", "a", "END"]);
    sent(&server, &change(21));
    client.check("get row:7", &["END"]);
}

#[test]
fn an_event_can_bring_the_value_and_count_a_version() {
    let config = Config::new("events-set", SHOP);
    let server = config.start("");
    let mut client = server.client();
    let article = |version: u64, title: &str| json!({"type": "article.corrected", "id": 7, "version": version, "article": {"title": title}});
    sent(&server, &json!([article(5, "new"), article(4, "old")]));
    client.check("get article:7", &["VALUE article:7 0 15", r#"{"title":"new"}"#, "END"]);
    client.check("set version:7 0 0 1\r\n9", &["STORED"]);
    sent(&server, &json!({"type": "counted", "id": 7}));
    client.check("get version:7", &["VALUE version:7 0 2", "10", "END"]);
}

#[test]
fn an_event_that_does_not_fit_costs_its_scope_and_is_kept_as_a_dead_letter() {
    let letters = scratch("events-letters");
    let text =
        SHOP.replace("kind = \"http\"", &format!("kind = \"http\"\ndead-letters = {{ file = {letters:?} }}"));
    let config = Config::new("events-poison", &text);
    let server = config.start("");
    let mut client = server.client();
    client.check("set row:7 0 0 1\r\na", &["STORED"]);
    client.check("set page:7 0 0 1\r\na", &["STORED"]);
    let broken =
        json!({"op": "u", "after": {}, "source": {"schema": "public", "table": "products", "lsn": 1}});
    let report = sent(&server, &broken);
    assert!(report["poison"][0].as_str().unwrap().contains("{row.id}"), "{report}");
    client.check("get row:7", &["END"]);
    client.check("get page:7", &["VALUE page:7 0 1", "a", "END"]);
    let letter: Value = serde_json::from_str(fs::read_to_string(&letters).unwrap().trim()).unwrap();
    assert_eq!((&letter["source"], &letter["rule"]), (&json!("app"), &json!("public.products")));
    assert_eq!(client.stat_of("stats events", "app:dead_letters"), 1);
    fs::remove_file(letters).unwrap();
}

#[test]
fn requests_that_are_wrong_apply_nothing() {
    let config = Config::new("events-wrong", SHOP);
    let server = config.start("");
    let mut client = server.client();
    client.check("set product:7 0 0 1\r\na", &["STORED"]);
    let event = r#"{"type":"product.updated","product_id":7}"#;
    for (path, body, status, why) in [
        ("/events/none", event, 404, "kind = \\\"http\\\""),
        ("/events/app", "{", 400, "the body: "),
        ("/events/app", &format!("[{event}, 7]"), 400, "event 2: "),
        ("/events/app", "", 400, "the body: "),
    ] {
        let answer = server.post(path, body);
        assert!(answer.status == status && answer.body.contains(why), "{path} {body}: {}", answer.body);
    }
    let coded = "Content-Type: application/json\r\nContent-Encoding: gzip\r\n";
    let answer = ask(server.admin, "POST", "/events/app", coded, event);
    assert!(answer.status == 415 && answer.body.contains("gzip is not supported"), "{}", answer.body);
    client.check("get product:7", &["VALUE product:7 0 1", "a", "END"]);
    server.post("/admin/invalidate", r#"{"keys":["product:7"]}"#).has(200);
    client.check("get product:7", &["END"]);
}

#[test]
fn values_are_withheld_until_the_sender_says_how_far_it_has_come() {
    let text = "[source.app]\nkind = \"http\"\nthrough = true\n[[rule]]\nsource = \"app\"\nkeys = [\"p:{id}\"]\n\
        [prefix.\"p:\"]\ndepends-on = [\"app\"]\nmax-staleness = 1\n";
    let config = Config::new("events-bound", text);
    let server = config.start("--ready-needs app");
    let mut client = server.client();
    client.check("set p:7 0 0 1\r\na", &["STORED"]);
    let mut is_served = || {
        client.send(b"get p:7\r\n");
        let line = client.line();
        if line.starts_with("VALUE") {
            client.line();
            client.line();
        }
        line != "END\r\n"
    };
    served::eventually("the value is withheld", || !is_served());
    let known = server.get("/stats.json").has(200).json();
    assert_eq!((&known["events"][0]["withheld"], &known["events"][0]["name"]), (&json!(1), &json!("app")));
    let metrics = server.get("/metrics").has(200).body.clone();
    assert!(metrics.contains("leasehold_source_withheld{source=\"app\"} 1\n"), "{metrics}");
    let through = |time: &str| {
        let headers = format!("Content-Type: application/json\r\nLeasehold-Through: {time}\r\n");
        ask(server.admin, "POST", "/events/app", &headers, "[]")
    };
    // A sender with a wrong clock proved more than it could know.
    let answer = through("2199-01-01T00:00:00Z");
    assert!(answer.status == 400 && answer.body.contains("ms in the future"), "{}", answer.body);
    assert!(!is_served());
    // Each time it is served for a second only.
    served::eventually("the value is served again", || {
        through(&jiff::Timestamp::now().to_string()).has(200);
        is_served()
    });
    server.get("/readyz").has(200);
}

#[test]
fn a_server_is_not_ready_without_the_sources_that_it_needs() {
    let config = Config::new("events-ready", SHOP);
    let server = config.start("--ready-needs app");
    let answer = server.get("/readyz");
    assert!(
        answer.status == 503 && answer.body.contains("the source \\\"app\\\" is not live"),
        "{}",
        answer.body
    );
    sent(&server, &json!([]));
    server.get("/readyz").has(200);
}

#[test]
fn a_watcher_sees_what_becomes_of_events() {
    let config = Config::new("events-watched", SHOP);
    let server = config.start("");
    let mut watcher = server.client();
    watcher.check("watch events", &["OK"]);
    let event = |id: u64| json!({"type": "product.updated", "product_id": id, "event_id": id});
    sent(&server, &json!([event(1), event(1), event(2), {"type": "other"}]));
    let expected = [
        "source_state source=app state=live",
        "event_duplicate source=app events=1",
        "event_unmatched source=app events=1",
        "event_applied source=app events=2 names=4",
    ];
    assert_eq!(watched(&mut watcher, 4), expected);

    // What an event contains cannot end a line or a field.
    let long_ago = json!({"op": "u", "after": {"id": "a b\r\nc"}, "ts_ms": 1_000,
        "source": {"schema": "public", "table": "products", "lsn": 1}});
    sent(&server, &long_ago);
    let lines = watched(&mut watcher, 1);
    let rest = lines[0].strip_prefix("event_poison source=app rule=public.products error=").expect(&lines[0]);
    assert!(rest.contains("a%20b") && !rest.contains([' ', '\\']), "{rest}");

    let event = json!({"specversion": "1.0", "id": "x", "source": "shop", "type": "product.updated",
        "time": "2026-01-01T00:00:00Z", "data": {"product_id": 3}});
    sent(&server, &event);
    let lines = watched(&mut watcher, 1);
    let delay =
        lines[0].strip_prefix("event_applied source=app events=1 names=2 delay_us=").expect(&lines[0]);
    assert!(delay.parse::<u64>().expect("a number") > 1_000_000);
}

/// Nobody could say how many readers had an old value although events invalidate: a delay alone does not
/// show whether the value was asked for.
#[test]
fn values_that_were_read_between_commit_and_invalidation_are_counted() {
    let config = Config::new("events-between", SHOP);
    let server = config.start("");
    let mut client = server.client();
    let mut read = |key: &str| {
        client.check(&format!("ms {key} 1 V20\r\na"), &["HD"]);
        client.check(&format!("get {key}"), &[&format!("VALUE {key} 0 1"), "a", "END"]);
    };
    let change = |time: &str, id: u64| {
        json!({"specversion": "1.0", "id": format!("{time} {id}"), "source": "shop", "type": "product.updated",
            "time": time, "data": {"product_id": id}})
    };
    let row = |lsn: u64| {
        json!({"op": "u", "before": null, "after": {"id": 7}, "ts_ms": 1_000,
            "source": {"schema": "public", "table": "products", "lsn": lsn, "ts_ms": 1_000}})
    };
    let counted = || {
        let known = server.get("/stats.json").has(200).json();
        known["events"][0]["reads_between"].as_u64().expect("it is a number")
    };
    (1..4).for_each(|id| read(&format!("product:{id}")));
    sent(&server, &json!([change("2026-01-01T00:00:00Z", 1), change("2026-01-01T00:00:01Z", 2)]));
    assert_eq!(counted(), 2);
    // The read came before the commit.
    sent(&server, &change("2199-01-01T00:00:00Z", 3));
    // There is nothing any more.
    sent(&server, &change("2026-01-01T00:00:00Z", 3));
    assert_eq!(counted(), 2);
    // The value is of this version, and stays.
    read("row:7");
    sent(&server, &row(20));
    assert_eq!(counted(), 2);
    sent(&server, &row(21));
    assert_eq!(counted(), 3);
    // It was stored and never read.
    server.client().check("set product:4 0 0 1\r\na", &["STORED"]);
    sent(&server, &change("2026-01-01T00:00:00Z", 4));
    assert_eq!(counted(), 3);
}

#[test]
fn every_statistic_of_a_source_is_documented() {
    let config = Config::new("events-documented", SHOP);
    let server = config.start("");
    sent(
        &server,
        &json!({"specversion": "1.0", "id": "x", "source": "shop", "type": "counted",
        "time": "2026-01-01T00:00:00Z", "data": {"id": 3}}),
    );
    let known = server.get("/stats.json").has(200).json();
    let document =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/protocol.md")).expect("it is text");
    let section = document.split("### Sources of events").nth(1).expect("it is there");
    let section = section.split("\n#").next().expect("there is a first part");
    let names: Vec<_> = known["events"][0].as_object().expect("it is an object").keys().collect();
    assert!(names.len() > 18, "{names:?}");
    for name in names.into_iter().filter(|name| *name != "name") {
        assert!(section.contains(&format!("`{name}`")), "{name}");
    }
}
