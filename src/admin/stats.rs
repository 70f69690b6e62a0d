//! `GET /stats.json` and `/config`: the output of `stats` and its kinds, and the samples, as JSON.
//!
//! Nothing is counted here: the numbers come from the commands.

use serde_json::{Map, Value, json};

use crate::cache::ClassCounts;
use crate::command::execute;
use crate::metrics::{BUCKETS, Met, REQUESTS_PER_SAMPLE, Samples, Standouts, Verb, bucket_end};
use crate::protocol::{Output, Replies, Request, Statistics, base64};
use crate::server::View;
use crate::shown::word;

/// All values that change over time.
pub(super) fn stats(view: &View) -> Value {
    let samples = view.metrics().samples.as_ref();
    json!({
        "classes": classes(view),
        "events": sources(view),
        "keys": samples.filter(|_| view.rules().may_dump).map(|samples| standouts(view, samples)),
        "latency": samples.map(latency),
        "memory": object(&table(view, Statistics::Memory)),
        "mrc": object(&table(view, Statistics::Mrc)),
        "policies": policies(view),
        "ratio": object(&table(view, Statistics::Ratio)),
        "stats": object(&table(view, Statistics::General)),
    })
}

/// The settings and policies. Passwords, tokens and private keys are in files, and only the file names
/// appear here.
pub(super) fn config(view: &View) -> Value {
    let settings_only = |mut policy: Map<String, Value>| {
        let is_counted = |name: &str| crate::metrics::TOLD.iter().any(|count| count.name() == name);
        policy.retain(|name, _| !is_counted(name));
        policy
    };
    let policies: Vec<_> = policies(view).into_iter().map(settings_only).collect();
    json!({
        "leasehold_version": env!("CARGO_PKG_VERSION"),
        "policies": policies,
        "settings": object(&table(view, Statistics::Settings)),
    })
}

/// The output of one kind of `stats`.
pub(super) fn table(view: &View, what: Statistics) -> Vec<(String, String)> {
    let mut output = Output::default();
    let mut request = Request::Stats(what);
    // One call is enough: only lists of connections come in several parts.
    execute(&mut request, view.cache(), &mut view.conversation(), Replies::text(&mut output), view.now());
    String::from_utf8_lossy(&output.take())
        .lines()
        .filter_map(|line| line.strip_prefix("STAT ")?.split_once(' '))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The settings and counts of each policy; the first one is for keys without a policy's prefix.
pub(super) fn policies(view: &View) -> Vec<Map<String, Value>> {
    let mut policies: Vec<Map<String, Value>> = Vec::new();
    for (name, value) in table(view, Statistics::Policies) {
        let Some((nth, name)) = name.split_once(':') else { continue };
        let nth: usize = nth.parse().expect("stats policies numbers them");
        policies.resize(policies.len().max(nth + 1), Map::new());
        let value = if name == "prefix" { Value::String(value) } else { parsed(&value) };
        policies[nth].insert(name.to_owned(), value);
    }
    policies
}

/// The state and the counts of each source of events.
fn sources(view: &View) -> Vec<Value> {
    let mut sources: Vec<(String, Map<String, Value>)> = Vec::new();
    for (name, value) in table(view, Statistics::Events) {
        let Some((source, name)) = name.split_once(':') else { continue };
        if sources.last().is_none_or(|(last, _)| last != source) {
            sources.push((source.to_owned(), Map::from_iter([("name".to_owned(), source.into())])));
        }
        let is_text = ["error", "kind", "position", "state"].contains(&name);
        let value = if is_text { Value::String(value) } else { parsed(&value) };
        sources.last_mut().expect("it was pushed").1.insert(name.to_owned(), value);
    }
    sources.into_iter().map(|(_, source)| Value::Object(source)).collect()
}

/// The fence's parameters and counts, by class of keys.
fn classes(view: &View) -> Vec<Value> {
    let classes = view.cache().classes(view.now()).into_iter();
    let class = |class: ClassCounts| {
        json!({
            "load_time_ms": class.load_time.max_ms,
            "load_times": class.load_time.samples,
            "mode": class.mode,
            "name": word(&class.name),
            "refused": class.refused,
            "sets": class.sets,
        })
    };
    classes.map(class).collect()
}

fn object(table: &[(String, String)]) -> Map<String, Value> {
    table.iter().map(|(name, value)| (name.clone(), parsed(value))).collect()
}

/// A JSON number if the text is one.
fn parsed(value: &str) -> Value {
    let whole = value.parse::<u64>().map(Value::from);
    whole.or_else(|_| value.parse::<f64>().map(Value::from)).unwrap_or_else(|_| value.into())
}

/// The durations of sampled requests, as histograms.
fn latency(samples: &Samples) -> Value {
    let ends: Vec<f64> = (0..BUCKETS).filter_map(bucket_end).map(|end| end.as_secs_f64()).collect();
    let verbs = Verb::ALL.map(|verb| {
        let latency = samples.latencies.of(verb);
        let histogram = json!({ "buckets": latency.buckets, "seconds": latency.sum.as_secs_f64() });
        (verb.name().to_owned(), histogram)
    });
    json!({
        "bucket_ends_seconds": ends,
        "one_request_in": REQUESTS_PER_SAMPLE,
        "verbs": Map::from_iter(verbs),
    })
}

fn standouts(view: &View, samples: &Samples) -> Value {
    let Standouts { hot, large, missing } = samples.standouts(KEYS_MAX, view.now().seconds());
    let met = |(keys, seen): (Vec<Met>, u64)| {
        let keys: Vec<_> =
            keys.iter().map(|met| json!({ "key": base64::json(&met.key), "seen": met.count })).collect();
        json!({ "keys": keys, "seen": seen })
    };
    let large: Vec<_> = large
        .iter()
        .map(|large| json!({ "bytes": large.value_bytes, "key": base64::json(&large.key) }))
        .collect();
    json!({ "hot": met(hot), "large": large, "missing": met(missing) })
}

/// The number of notable keys of each kind.
const KEYS_MAX: usize = 20;
