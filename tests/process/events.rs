//! `leasehold events`: rules tried on samples, dead letters applied again, slots that are given up; and
//! `--check-config`, which says where a rule is wrong.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;

use crate::support::http::ask;
use crate::support::postgres::Cluster;
use crate::support::served::{Client, Process, eventually, scratch};

/// A file, removed at the end of the test.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> File {
        let path = scratch(name);
        fs::write(&path, text).expect("it can be written");
        File(path)
    }

    fn path(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leasehold"));
    command.args(arguments).stdin(Stdio::null()).output().expect("the binary starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it is text")
}

const SHOP: &str = r#"
[source.app]
kind = "http"

[[rule]]
name = "products"
type = "product.updated"
keys = ["product:{product_id}"]
soft = true

[[rule]]
table = "public.products"
tags = ["category:{each.category_id}"]
version = "{source.lsn}"
"#;

const SAMPLES: &str = r#"{"type":"product.updated","product_id":7}
{"type":"other"}
{"type":"product.updated"}

{"op":"u","before":{"category_id":1},"after":{"category_id":2},"source":{"schema":"public","table":"products","lsn":9}}
"#;

const EXPECTED: &str = r#"{"effects":[{"keys":["product:7"],"soft":true}],"sample":1}
{"sample":2,"unmatched":true}
"#;

#[test]
fn rules_are_tried_on_samples() {
    let (config, samples) = (File::new("tried-config", SHOP), File::new("tried-samples", SAMPLES));
    let tried = run(&["events", "test-rules", "--config", &config.path(), &samples.path()]);
    let printed = text(&tried.stdout);
    let lines: Vec<&str> = printed.lines().collect();
    assert!(!tried.status.success() && printed.starts_with(EXPECTED), "a sample is wrong: {printed}");
    assert!(lines[2].contains("rule \\\"products\\\": {product_id}: there is no such field"), "{printed}");
    assert_eq!(lines[3], r#"{"effects":[{"tags":["category:1","category:2"],"version":9}],"sample":5}"#);
}

#[test]
fn a_difference_to_the_expected_output_is_a_failure() {
    let (config, samples) = (File::new("golden-config", SHOP), File::new("golden-samples", SAMPLES));
    let path = samples.path();
    let base = ["events", "test-rules", "--config", &config.path(), &path].map(str::to_owned);
    let printed = text(&run(&base.each_ref().map(String::as_str)).stdout);
    for (expected, is_same, why) in [
        (printed.clone(), true, ""),
        (printed.replace("product:7", "product:8"), false, ":1: expected"),
        (printed.lines().next().unwrap().to_owned() + "\n", false, ":2: expected nothing"),
    ] {
        let golden = File::new("golden-expected", &expected);
        let mut arguments: Vec<&str> = base.iter().map(String::as_str).collect();
        let path = golden.path();
        arguments.extend(["--expect", &path]);
        let compared = run(&arguments);
        let error = text(&compared.stderr);
        assert!(compared.status.success() == is_same && error.contains(why), "{error}");
    }
}

#[test]
fn wrong_rules_are_reported_with_file_line_and_column() {
    let base = "[source.app]\nkind = \"http\"\n[[rule]]\nsource = \"app\"\n";
    for (wrong, place, why) in [
        ("keys = [\"p:{row.}\"]\n", ":5:9: ", "expected the name of a field"),
        ("keys = [\"p\"]\nspeed = 1\n", ":6:1: ", "unknown field `speed`"),
        ("keys = [\"p\"]\n[source.db]\nkind = \"postgres\"\n", ":6:1: ", "publication = \"NAME\" is missing"),
        ("keys = [\"p\"]\n[default]\ndepends-on = [\"db\"]\n", ":7:1: ", "add [source.db]"),
    ] {
        let config = File::new("wrong-config", &format!("{base}{wrong}"));
        let checked = run(&["--config", &config.path(), "--check-config"]);
        let error = text(&checked.stderr);
        assert!(!checked.status.success() && error.contains(why), "{error}");
        assert!(error.contains(&format!("{}{place}", config.path())), "{error}");
    }
}

/// While a source was tried, for five seconds, nobody could see why the server was not there.
#[test]
fn the_admin_address_is_open_while_the_sources_are_tried() {
    // It accepts, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = silent.local_addr().expect("it is bound").port();
    let config = File::new(
        "tried-sources",
        &format!(
            "[source.db]\nkind = \"postgres\"\nslot = \"s\"\npublication = \"p\"\n\
             url = \"postgresql://a@127.0.0.1:{port}/b?sslmode=disable\"\n[source.app]\nkind = \"http\"\n\
             [[rule]]\ntable = \"t\"\nkeys = [\"t:{{row.id}}\"]\n"
        ),
    );
    let mut process = Process::start(&format!("-p -1 --admin 127.0.0.1:0 --config {}", config.path()));
    let admin = process.admin();
    let answer = ask(admin, "GET", "/readyz", "", "");
    assert!(answer.status == 503 && answer.body.contains("the server is starting"), "{}", answer.body);
    let sent = ask(admin, "POST", "/events/app", "Content-Type: application/json\r\n", "{}");
    assert!(sent.status == 503 && sent.body.contains("starting: send the events again"), "{}", sent.body);
    ask(admin, "GET", "/healthz", "", "").has(200);
    ask(admin, "GET", "/metrics", "", "").has(200);
    eventually("it serves without the source", || ask(admin, "GET", "/readyz", "", "").status == 200);
    ask(admin, "POST", "/events/app", "Content-Type: application/json\r\n", "{}").has(200);
}

/// A check passed, and the source could never be attached, or its dead letters were lost.
#[test]
fn a_check_looks_for_the_files_and_for_what_has_no_effect() {
    let base = "[source.app]\nkind = \"http\"\n";
    let database = "[source.db]\nkind = \"postgres\"\nslot = \"s\"\npublication = \"p\"\n\
        url = \"postgresql://a@b/c?sslmode=verify-full&sslrootcert=/nonexistent/ca.pem\"\n";
    let letters = "dead-letters = { file = \"/nonexistent/folder/dead.jsonl\" }\n";
    for (text, is_valid, why) in [
        (database.to_owned(), false, ":5:1: [source.db]: url: "),
        (
            format!("{base}{letters}"),
            false,
            ":3:1: [source.app]: dead-letters: there is no folder /nonexistent/folder",
        ),
        (base.to_owned(), true, "warning: FILE:1:1: [source.app]: no rule is for this source"),
    ] {
        let config = File::new("checked-config", &text);
        let checked = run(&["--config", &config.path(), "--check-config"]);
        let error = self::text(&checked.stderr).replace(&config.path(), "FILE");
        assert!(checked.status.success() == is_valid && error.contains(why), "{error}");
        // The rules are also tried where the files of the server are not.
        let samples = File::new("checked-samples", "");
        let source = if text.contains("app") { "app" } else { "db" };
        let tried = ["events", "test-rules", "--config", &config.path(), &samples.path(), "--source", source];
        assert!(run(&tried).status.success());
    }
}

#[test]
fn rules_are_reloaded_as_a_whole_and_sources_are_not() {
    let rule =
        |key: &str| format!("[source.app]\nkind = \"http\"\n[[rule]]\ntype = \"*\"\nkeys = [\"{key}\"]\n");
    let config = File::new("reloaded-config", &rule("first:{id}"));
    let mut process = Process::start(&format!("-p -1 --admin 127.0.0.1:0 --config {}", config.path()));
    let (address, admin) = (process.address(), process.admin());
    let mut client = Client::connect(address);
    // Each time another key: a set after a miss and an invalidation may be refused.
    let mut id = 0;
    let mut is_invalidated = |kind: &str| {
        id += 1;
        client.check(&format!("set {kind}:{id} 0 0 1\r\na"), &["STORED"]);
        let (json, event) = ("Content-Type: application/json\r\n", format!(r#"{{"type": "x", "id": {id}}}"#));
        ask(admin, "POST", "/events/app", json, &event).has(200);
        client.send(format!("get {kind}:{id}\r\n").as_bytes());
        let is_miss = client.line() == "END\r\n";
        if !is_miss {
            client.line();
            client.line();
        }
        is_miss
    };
    assert!(is_invalidated("first") && !is_invalidated("second"));
    fs::write(&config.0, rule("second:{id")).expect("it can be written");
    process.signal(Signal::SIGHUP);
    process.logged("keeping the previous policies");
    assert!(is_invalidated("first"));
    let other = rule("second:{id}") + "[source.other]\nkind = \"http\"\n";
    fs::write(&config.0, other).expect("it can be written");
    process.signal(Signal::SIGHUP);
    process.logged("[source] tables differ from the sources that run");
    process.logged("reloaded policies");
    assert!(is_invalidated("second") && !is_invalidated("first"));
    // The next time it compared the file with itself.
    process.signal(Signal::SIGHUP);
    process.logged("[source] tables differ from the sources that run");
    process.logged("reloaded policies");
    fs::write(&config.0, rule("second:{id}")).expect("it can be written");
    process.signal(Signal::SIGHUP);
    let line = process.logged("SIGHUP");
    assert!(line.contains("reloaded policies"), "it is as what runs: {line}");
}

#[test]
fn dead_letters_are_applied_again_once_the_rule_is_right() {
    let config = File::new("replayed-config", SHOP);
    let letters = File::new(
        "replayed-letters",
        "{\"at\":1,\"error\":\"e\",\"rule\":\"products\",\"source\":\"app\",\"payload\":\"{\\\"type\\\":\\\"product.updated\\\",\\\"product_id\\\":7}\"}\n\
         {\"at\":1,\"error\":\"e\",\"rule\":\"other\",\"source\":\"app\",\"event\":{\"kind\":\"product.updated\",\"data\":{\"product_id\":8}}}\n",
    );
    let mut server = Process::start("-p -1");
    let address = server.address();
    let mut client = Client::connect(address);
    for key in ["product:7", "product:8"] {
        client.check(&format!("set {key} 0 0 1\r\na"), &["STORED"]);
    }
    let (config, letters, address) = (config.path(), letters.path(), address.to_string());
    let base = ["events", "replay", &letters, "--config", &config, "--rule", "products"];
    let dry = run(&[&base[..], &["--dry-run"]].concat());
    assert_eq!(text(&dry.stdout), "app {\"keys\":[\"product:7\"],\"soft\":true}\n");
    client.check("get product:7", &["VALUE product:7 0 1", "a", "END"]);
    assert!(run(&[&base[..], &["--server", &address]].concat()).status.success());
    client.check("get product:7", &["END"]);
    client.check("get product:8", &["VALUE product:8 0 1", "a", "END"]);
}

/// It was logged at each attempt, with the warnings about the server, several times in a second.
#[test]
fn a_slot_that_cannot_be_created_is_announced_once() {
    let Some(cluster) = Cluster::start("max_replication_slots = 1") else { return };
    let mut sql = cluster.database("crowded");
    sql.run("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION leasehold FOR TABLE t");
    sql.run("SELECT pg_create_physical_replication_slot('other')");
    let url = format!("postgresql://postgres@127.0.0.1:{}/crowded?sslmode=disable", cluster.port);
    let config = File::new(
        "crowded-config",
        &format!(
            "[source.db]\nkind = \"postgres\"\nurl = \"{url}\"\nslot = \"crowded\"\npublication = \"leasehold\"\n\
             create = true\n[[rule]]\ntable = \"t\"\nkeys = [\"t:{{row.id}}\"]\n"
        ),
    );
    let mut process = Process::start(&format!("-p -1 --config {}", config.path()));
    let mut client = Client::connect(process.address());
    eventually("it is tried again", || client.stat_of("stats events", "db:reconnects") > 3);
    process.signal(Signal::SIGTERM);
    let log = process.rest_of_log();
    let lines = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!((lines("creating a replication slot"), lines("max_slot_wal_keep_size")), (1, 1), "{log}");
}

#[test]
fn the_slot_of_a_source_is_dropped_when_it_is_forgotten() {
    let Some(cluster) = Cluster::start("") else { return };
    let mut sql = cluster.database("forgotten");
    sql.run("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION leasehold FOR TABLE t");
    sql.run("SELECT pg_create_logical_replication_slot('forgotten', 'pgoutput')");
    let url = format!("postgresql://postgres@127.0.0.1:{}/forgotten?sslmode=disable", cluster.port);
    let config = File::new(
        "forgotten-config",
        &format!(
            "[source.db]\nkind = \"postgres\"\nurl = \"{url}\"\nslot = \"forgotten\"\npublication = \"leasehold\"\n"
        ),
    );
    let forgotten = run(&["events", "forget", "db", "--config", &config.path()]);
    assert!(forgotten.status.success(), "{}", text(&forgotten.stderr));
    assert_eq!(text(&forgotten.stdout), "dropped the slot \"forgotten\"\n");
    eventually("the slot is dropped", || sql.value("SELECT count(*) FROM pg_replication_slots") == "0");
    // It said the same of a slot that was never there, such as one with a slip in its name.
    let again = run(&["events", "forget", "db", "--config", &config.path()]);
    assert!(again.status.success());
    assert_eq!(text(&again.stdout), "there is no slot \"forgotten\": nothing was dropped\n");
    let other = run(&["events", "forget", "app", "--config", &config.path()]);
    assert!(text(&other.stderr).contains("there is no source \"app\": there are db"));
}
