//! `GET /metrics`: Prometheus' text format 0.0.4.
//!
//! The format is written by hand, since each number is just a line. Nothing is registered; numbers are
//! read at each request.

use std::collections::HashMap;
use std::fmt::{self, Display, Write};

use serde_json::Value;

use super::families::{Family, Kind, LEASEHOLD, MEMCACHED};
use super::stats;
use crate::cache::ClassCounts;
use crate::metrics::{
    BUCKETS, Latency, Samples, SourceCount, SourceState, SourceStatus, TOLD, Verb, bucket_end,
};
use crate::protocol::Statistics;
use crate::server::View;
use crate::shown::word;

/// All metrics of a server.
pub(super) fn metrics(view: &View) -> String {
    let kinds = [Statistics::General, Statistics::Memory, Statistics::Mrc];
    let known: HashMap<String, String> =
        kinds.into_iter().flat_map(|kind| stats::table(view, kind)).collect();
    let mut page = Page::default();
    page.begin("memcached_up", "gauge", "Whether the server could be reached: always 1.");
    page.sample("memcached_up", "", 1);
    page.begin("memcached_version", "gauge", "The memcached version that the server emulates.");
    page.sample("memcached_version", &label("version", &known["version"]), 1);
    MEMCACHED.iter().chain(LEASEHOLD).for_each(|family| page.family(family, &known));
    page.begin("leasehold_build_info", "gauge", "The version of the server.");
    page.sample("leasehold_build_info", &label("version", &known["leasehold_version"]), 1);
    page.begin("leasehold_keys_held_off", "gauge", "Keys that may not be filled yet.");
    page.sample("leasehold_keys_held_off", "", view.cache().held_off(view.now()));
    page.curve(&known);
    page.policies(view);
    page.classes(view);
    page.sources(view);
    if let Some(samples) = &view.metrics().samples {
        page.latencies(samples);
    }
    page.0
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn begin(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        match labels {
            "" => self.line(format_args!("{name} {value}")),
            labels => self.line(format_args!("{name}{{{labels}}} {value}")),
        }
    }

    fn family(&mut self, family: &Family, known: &HashMap<String, String>) {
        let Family { help, kind, name, samples } = *family;
        self.begin(name, kind.name(), help);
        for (labels, source) in samples {
            self.sample(name, labels, value(source, known));
        }
    }

    /// The estimated hit ratio for other cache sizes.
    fn curve(&mut self, known: &HashMap<String, String>) {
        const NAME: &str = "leasehold_hit_ratio_estimate";
        self.begin(
            NAME,
            "gauge",
            "The share of reads that would be hits with the memory multiplied by factor.",
        );
        for factor in crate::cache::FACTORS {
            self.sample(NAME, &label("factor", &factor.to_string()), &known[&format!("mrc:{factor}")]);
        }
    }

    /// Lease counts by policy, limited to the first few policies.
    fn policies(&mut self, view: &View) {
        const NAME: &str = "leasehold_policy_events_total";
        self.begin(NAME, "counter", "Lease events for the keys of a policy with a prefix.");
        for policy in stats::policies(view).iter().skip(1).take(POLICIES_MAX) {
            let prefix = label("policy", policy["prefix"].as_str().unwrap_or_default());
            for event in TOLD.map(|count| count.name()) {
                let value = policy.get(event).and_then(Value::as_u64).unwrap_or_default();
                self.sample(NAME, &format!("{prefix},{}", label("event", event)), value);
            }
        }
    }

    /// The fence's counts and parameters, by class of keys.
    fn classes(&mut self, view: &View) {
        let classes = view.cache().classes(view.now());
        let named = |class: &ClassCounts| label("class", &word(&class.name));
        self.begin(
            "leasehold_class_sets_total",
            "counter",
            "Plain sets that the fence stored or refused, by class of keys.",
        );
        for class in &classes {
            let labels = named(class);
            let stored = class.sets.saturating_sub(class.refused);
            self.sample("leasehold_class_sets_total", &format!("{labels},result=\"stored\""), stored);
            self.sample("leasehold_class_sets_total", &format!("{labels},result=\"refused\""), class.refused);
        }
        const MODE: &str = "leasehold_class_mode";
        self.begin(MODE, "gauge", "How sets of a class are matched with misses: 1 for the current mode.");
        classes.iter().for_each(|class| {
            self.sample(MODE, &format!("{},{}", named(class), label("mode", class.mode)), 1);
        });
        const TIME: &str = "leasehold_load_time_seconds";
        self.begin(TIME, "gauge", "The assumed longest load time, by class of keys.");
        classes.iter().for_each(|class| {
            self.sample(TIME, &named(class), f64::from(class.load_time.max_ms) / 1000.0);
        });
    }

    /// The sources of events.
    fn sources(&mut self, view: &View) {
        let sources = view.metrics().sources.all();
        let named = |source: &SourceStatus| label("source", &source.name);
        let attestation = |source: &SourceStatus| view.cache().attestation(&source.name, view.now());
        const STATE: &str = "leasehold_source_state";
        self.begin(STATE, "gauge", "The state of a source of events: 1 for the current one.");
        for source in &sources {
            for state in SourceState::ALL {
                let labels = format!("{},{}", named(source), label("state", state.name()));
                self.sample(STATE, &labels, u8::from(source.state() == state));
            }
        }
        const AGE: &str = "leasehold_source_watermark_age_seconds";
        self.begin(AGE, "gauge", "Everything that was committed longer ago has been applied.");
        for source in &sources {
            if let Some(age) = attestation(source).age_ms {
                self.sample(AGE, &named(source), age as f64 / 1000.0);
            }
        }
        const BEHIND: &str = "leasehold_source_behind";
        self.begin(BEHIND, "gauge", "Changes or bytes of log that wait to be read.");
        for source in &sources {
            if let Some(behind) = source.behind() {
                self.sample(BEHIND, &named(source), behind);
            }
        }
        const WITHHELD: &str = "leasehold_source_withheld";
        self.begin(WITHHELD, "gauge", "Whether values are withheld because the source is late.");
        sources.iter().for_each(|source| {
            self.sample(WITHHELD, &named(source), u8::from(attestation(source).is_withheld));
        });
        const MISSES: &str = "leasehold_source_withheld_misses_total";
        self.begin(MISSES, "counter", "Reads that missed because the value was withheld.");
        sources
            .iter()
            .for_each(|source| self.sample(MISSES, &named(source), attestation(source).withheld_misses));
        const EVENTS: &str = "leasehold_source_events_total";
        self.begin(EVENTS, "counter", "What became of events and of the connection to their source.");
        for source in &sources {
            for count in SourceCount::ALL {
                let labels = format!("{},{}", named(source), label("kind", count.name()));
                self.sample(EVENTS, &labels, source.count(count));
            }
        }
        const DELAY: &str = "leasehold_source_delay_seconds";
        self.begin(DELAY, "histogram", "The time from a commit until the event was applied.");
        sources.iter().for_each(|source| self.histogram(DELAY, &named(source), &source.delays()));
    }

    fn latencies(&mut self, samples: &Samples) {
        const NAME: &str = "leasehold_command_duration_seconds";
        self.begin(NAME, "histogram", "Durations of requests without the network; one in 64 is sampled.");
        for verb in Verb::ALL {
            self.histogram(NAME, &label("command", verb.name()), &samples.latencies.of(verb));
        }
    }

    fn histogram(&mut self, name: &str, labels: &str, latency: &Latency) {
        let mut count = 0;
        for nth in 0..BUCKETS {
            count += latency.buckets[nth];
            let end = bucket_end(nth).map_or("+Inf".to_owned(), |end| end.as_secs_f64().to_string());
            self.sample(&format!("{name}_bucket"), &format!("{labels},{}", label("le", &end)), count);
        }
        self.sample(&format!("{name}_sum"), labels, latency.sum.as_secs_f64());
        self.sample(&format!("{name}_count"), labels, count);
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("a string takes everything");
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        }
    }
}

/// A statistic, or one minus others: `a-b-c`. Threads keep counting meanwhile, so that a difference may be
/// negative for a moment.
fn value(source: &str, known: &HashMap<String, String>) -> String {
    let of = |name: &str| known.get(name).expect("stats has all statistics of the table").as_str();
    let mut parts = source.split('-').map(of);
    let first = parts.next().expect("there is one");
    let number = |text: &str| text.parse::<u64>().expect("counts are numbers");
    match parts.map(number).reduce(|sum, more| sum + more) {
        None => first.to_owned(),
        Some(rest) => number(first).saturating_sub(rest).to_string(),
    }
}

/// A label with its value, in which quotes, backslashes and line ends are escaped.
fn label(name: &str, value: &str) -> String {
    format!("{name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// The content type.
pub(super) const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The limit on reported policies; `stats policies` and `/stats.json` report all of them.
const POLICIES_MAX: usize = 100;
