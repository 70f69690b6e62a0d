//! The examples in docs/admin.md and docs/operating.md are the server's answers, and operating.md, the
//! dashboard and the alerts name only metrics that the server exports.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use serde_json::Value;

use crate::support::http::{self, AdminServer, Answer};
use crate::support::served;
use crate::support::served::Client;

#[test]
fn the_server_answers_as_documented() {
    for (path, at_least) in [("docs/admin.md", 5), ("docs/operating.md", 3)] {
        let text = document(path);
        let examples: Vec<&str> =
            text.split("```http\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        assert!(examples.len() >= at_least, "{path} has only {} examples", examples.len());
        let server = AdminServer::start("");
        let mut client = server.client();
        examples.into_iter().for_each(|example| play(&server, &mut client, example));
    }
}

/// Sends the requests of an example, and compares the answers.
fn play(server: &AdminServer, client: &mut Client, example: &str) {
    let mut lines = example.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(request) = line.strip_prefix("memcached> ") {
            client.send(format!("{request}\r\n").as_bytes());
        } else if let Some(expected) = line.strip_prefix("memcached<") {
            let (line, expected) = (client.line(), expected.trim_start());
            assert!(fits_text(expected, line.trim_end()), "{line:?} instead of {expected}");
        } else {
            let request = line.strip_prefix("> ").unwrap_or_else(|| panic!("what is {line}?"));
            let mut expected = String::new();
            while let Some(line) = lines.next_if(|line| line.starts_with('<')) {
                expected.push_str(line.trim_start_matches('<'));
                expected.push('\n');
            }
            check(request, &ask(server, request), &expected);
        }
    }
}

fn ask(server: &AdminServer, request: &str) -> Answer {
    match request.split_once(' ') {
        Some(("GET", path)) => server.get(path),
        Some(("POST", rest)) => {
            let (path, body) = rest.split_once(' ').expect("a path and a body");
            server.post(path, body)
        }
        _ => panic!("what is {request}?"),
    }
}

#[track_caller]
fn check(request: &str, answer: &Answer, expected: &str) {
    let (status, body) = expected.trim_start().split_at(3);
    assert_eq!(answer.status.to_string(), status, "{request}: {}", answer.body);
    match serde_json::from_str::<Value>(body) {
        Ok(expected) => {
            assert!(fits(&expected, &answer.json()), "{request}\n{body}\nbut it is\n{}", answer.body)
        }
        Err(_) => {
            for line in body.lines().map(str::trim).filter(|line| !line.is_empty()) {
                assert!(
                    answer.body.lines().any(|actual| fits_text(line, actual)),
                    "{request}: no line {line}"
                );
            }
        }
    }
}

/// Numbers stand for any number, and `…` for anything.
fn fits(expected: &Value, actual: &Value) -> bool {
    match (expected, actual) {
        (Value::String(expected), _) if expected == "…" => true,
        (Value::String(expected), Value::String(actual)) => fits_text(expected, actual),
        (Value::Number(_), Value::Number(_)) => true,
        (Value::Array(expected), Value::Array(actual)) => {
            expected.len() == actual.len()
                && expected.iter().zip(actual).all(|(expected, actual)| fits(expected, actual))
        }
        (Value::Object(expected), Value::Object(actual)) => {
            expected.len() == actual.len()
                && expected
                    .iter()
                    .all(|(name, value)| actual.get(name).is_some_and(|actual| fits(value, actual)))
        }
        _ => expected == actual,
    }
}

fn fits_text(expected: &str, actual: &str) -> bool {
    match expected.strip_suffix('…') {
        None => expected == actual,
        Some(beginning) => actual.starts_with(beginning),
    }
}

/// A page of /metrics: its families with their kinds, and its samples.
struct Metrics {
    kinds: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
}

impl Metrics {
    /// Reads a page. Each sample must follow the HELP and TYPE lines of its family, and no sample may come
    /// twice.
    fn read(page: &str) -> Metrics {
        let mut metrics = Metrics { kinds: BTreeMap::new(), samples: BTreeMap::new() };
        let (mut helped, mut family) = (String::new(), String::new());
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a name and a help text");
                assert!(!help.is_empty() && !metrics.kinds.contains_key(name), "{name} comes twice");
                helped = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a name and a type");
                assert!(name == helped && ["counter", "gauge", "histogram"].contains(&kind), "{line}");
                metrics.kinds.insert(name.to_owned(), kind.to_owned());
                family = name.to_owned();
            } else {
                metrics.sample(line, &family);
            }
        }
        metrics
    }

    fn sample(&mut self, line: &str, family: &str) {
        let (series, value) = line.rsplit_once(' ').expect("a series and a value");
        let name = name_of(series);
        let ending =
            name.strip_prefix(family).unwrap_or_else(|| panic!("{line} follows the TYPE of {family}"));
        let is_histogram = self.kinds[family] == "histogram";
        assert!(
            if is_histogram { ["_bucket", "_count", "_sum"].contains(&ending) } else { ending.is_empty() },
            "{line}"
        );
        let value = value.parse().unwrap_or_else(|_| panic!("{line} has no number"));
        assert_eq!(self.samples.insert(series.to_owned(), value), None, "{series} comes twice");
    }

    /// The metric names that a query may use.
    fn names(&self) -> BTreeSet<&str> {
        self.samples.keys().map(|series| name_of(series)).collect()
    }
}

/// The name of a series, without its labels.
fn name_of(series: &str) -> &str {
    series.split_once('{').map_or(series, |(name, _)| name)
}

/// The metrics of a server that has a policy and a source of events, and has answered a few requests.
static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let path = served::scratch("documents.toml");
    let text = "[prefix.\"page:\\\"\"]\nttl = 5\n[source.app]\nkind = \"http\"\nthrough = true\n";
    fs::write(&path, text).expect("it can be written");
    let server = AdminServer::start(&format!("--config {}", path.display()));
    fs::remove_file(path).expect("it was written");
    let mut client = server.client();
    client.check("lease-get page:\"1", &[]);
    client.check("set page:\"1 0 0 1\r\nv", &[]);
    client.check("mn", &[]);
    while client.line() != "MN\r\n" {}
    let headers = "Content-Type: application/json\r\nLeasehold-Through: 2026-01-01T00:00:00Z\r\n";
    http::ask(server.admin, "POST", "/events/app", headers, "[]").has(200);
    Metrics::read(&server.get("/metrics").has(200).body)
});

#[test]
fn metrics_follow_the_conventions_of_prometheus() {
    let metrics = &*METRICS;
    let of = |series: &str| *metrics.samples.get(series).unwrap_or_else(|| panic!("there is no {series}"));
    assert_eq!(of("memcached_up"), 1.0);
    assert_eq!(of("leasehold_leases_granted_total"), 1.0);
    assert_eq!(of(r#"leasehold_policy_events_total{policy="page:\"",event="lease_granted"}"#), 1.0);
    assert_eq!(of(r#"memcached_commands_total{command="get",status="miss"}"#), 1.0);
    for (name, kind) in &metrics.kinds {
        // The memcached exporter has the same exception.
        let is_odd = name == "memcached_uptime_seconds";
        assert_eq!(name.ends_with("_total") || is_odd, kind == "counter", "{name} is a {kind}");
    }
}

#[test]
fn buckets_are_cumulative() {
    let metrics = &*METRICS;
    let ends =
        |name: &str| name.split("le=\"").nth(1).unwrap().split('"').next().unwrap().parse::<f64>().unwrap();
    let mut buckets: Vec<(f64, f64)> = metrics
        .samples
        .iter()
        .filter(|(series, _)| series.starts_with("leasehold_command_duration_seconds_bucket{command=\"get\""))
        .map(|(series, count)| (ends(series), *count))
        .collect();
    buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
    assert!(buckets.len() > 20 && buckets.last().unwrap().0.is_infinite());
    assert!(buckets.is_sorted_by_key(|(_, count)| *count));
    let count = metrics.samples["leasehold_command_duration_seconds_count{command=\"get\"}"];
    assert_eq!(buckets.last().unwrap().1, count);
}

#[test]
fn all_names_of_the_memcached_exporter_exist() {
    let metrics = &*METRICS;
    let names = metrics.names();
    for name in "up uptime_seconds time_seconds version process_user_cpu_seconds_total process_system_cpu_seconds_total \
        read_bytes_total written_bytes_total current_connections max_connections connections_total \
        connections_rejected_total connections_yielded_total connections_listener_disabled_total current_bytes limit_bytes \
        commands_total current_items items_total items_evicted_total items_reclaimed_total item_too_large_total \
        item_no_memory_total malloced_bytes accepting_connections"
        .split_whitespace()
    {
        assert!(names.contains(format!("memcached_{name}").as_str()), "memcached_{name}");
    }
}

#[test]
fn every_metric_is_documented() {
    let (metrics, text) = (&*METRICS, document("docs/operating.md"));
    for family in metrics.kinds.keys() {
        assert!(text.contains(&format!("`{family}`")), "operating.md does not explain {family}");
    }
    all_named_metrics_exist(
        "docs/operating.md",
        &text.replace('`', " "),
        &metrics.kinds.keys().map(String::as_str).collect(),
    );
}

#[test]
fn dashboard_and_alerts_name_metrics_that_exist() {
    let metrics = &*METRICS;
    let dashboard = document("docs/grafana.json");
    let parsed: Value = serde_json::from_str(&dashboard).expect("the dashboard is JSON");
    let panels = parsed["panels"].as_array().expect("it has panels");
    let asks = |panel: &&Value| panel["targets"].as_array().is_some_and(|targets| !targets.is_empty());
    assert!(panels.iter().filter(asks).count() > 15);
    for (path, text) in [("docs/grafana.json", dashboard), ("docs/alerts.yml", document("docs/alerts.yml"))] {
        all_named_metrics_exist(path, &text, &metrics.names());
    }
}

/// Checks that each word that looks like one of our metrics is exported.
#[track_caller]
fn all_named_metrics_exist(path: &str, text: &str, names: &BTreeSet<&str>) {
    let is_part = |c: char| c == '_' || c.is_ascii_alphanumeric();
    let words: Vec<&str> = text
        .split(|c: char| !is_part(c))
        .filter(|word| word.starts_with("memcached_") || word.starts_with("leasehold_"))
        .collect();
    assert!(words.len() > 10, "{path} names metrics");
    for word in words {
        assert!(names.contains(word), "{path} names {word}, which is not exported");
    }
}

fn document(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("a document is text")
}
