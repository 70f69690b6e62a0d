//! The changes between two samples, as figures for people.

use serde_json::{Value, json};

use self::Panel::{Invalidations, Leases, Server, Traffic};
use self::Unit::{Bytes, BytesNow, Events, Things};
use super::sample::Sample;
use super::source::Source;

/// A figure, which is the sum of some statistics.
#[derive(Debug)]
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) panel: Panel,
    pub(super) unit: Unit,
    of: &'static [&'static str],
}

/// The place of a figure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Panel {
    Invalidations,
    Leases,
    Server,
    Traffic,
}

/// The unit of a figure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unit {
    /// Bytes transferred.
    Bytes,
    /// Current bytes.
    BytesNow,
    /// Counted events.
    Events,
    /// The current number of things.
    Things,
}

/// A figure with its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) figure: &'static Figure,
    /// The rate of events between the samples; `None` for current amounts, and if there is just one sample.
    pub(super) per_second: Option<f64>,
    /// Since the server's start or its last reset; or the current amount.
    pub(super) total: u64,
}

/// The lease figures for the keys of one prefix.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) prefix: String,
    /// In the order of [`POLICY_FIGURES`].
    pub(super) readings: Vec<Reading>,
}

/// Everything on the screen.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) version: String,
    pub(super) uptime_seconds: u64,
    /// The time between the samples; 0 if there is just one.
    pub(super) seconds: f64,
    /// The ratio of hits among reads in that time; `None` without reads.
    pub(super) hit_ratio: Option<f64>,
    pub(super) readings: Vec<Reading>,
    pub(super) policies: Vec<Policy>,
    pub(super) sources: Vec<Source>,
}

impl View {
    /// The values of `after`, and the changes since `before`.
    pub(super) fn new(before: Option<&Sample>, after: &Sample) -> View {
        // A restarted server counts from zero.
        let before = before.filter(|before| before.text("pid") == after.text("pid"));
        let samples = Samples { before, after };
        let readings: Vec<_> = FIGURES.iter().filter_map(|figure| samples.read(figure, "")).collect();
        let rate = |name| readings.iter().find(|reading| reading.figure.name == name)?.per_second;
        let reads = rate("hits").zip(rate("misses")).filter(|(hits, misses)| hits + misses > 0.0);
        View {
            hit_ratio: reads.map(|(hits, misses)| hits / (hits + misses)),
            policies: (1..).map_while(|nth| samples.policy(nth)).collect(),
            readings,
            seconds: samples.seconds(),
            sources: Source::all(before, after),
            uptime_seconds: after.number("uptime").unwrap_or(0),
            version: version(after),
        }
    }

    /// The figures of one panel.
    pub(super) fn panel(&self, panel: Panel) -> impl Iterator<Item = &Reading> {
        self.readings.iter().filter(move |reading| reading.figure.panel == panel)
    }

    /// The rate of commands; commands with many keys count by keys.
    pub(super) fn throughput(&self) -> f64 {
        self.readings.first().and_then(|reading| reading.per_second).unwrap_or(0.0)
    }

    /// The JSON form; docs/terminal.md specifies it.
    pub(super) fn json(&self, server: &str) -> Value {
        let policies = self
            .policies
            .iter()
            .map(|policy| json!({"prefix": policy.prefix, "figures": object(&policy.readings)}));
        json!({
            "server": server,
            "version": self.version,
            "uptime_seconds": self.uptime_seconds,
            "seconds": self.seconds,
            "hit_ratio": self.hit_ratio,
            "figures": object(&self.readings),
            "policies": policies.collect::<Vec<_>>(),
            "sources": self.sources.iter().map(Source::json).collect::<Vec<_>>(),
        })
    }
}

/// Two samples of the same process.
struct Samples<'a> {
    before: Option<&'a Sample>,
    after: &'a Sample,
}

impl Samples<'_> {
    fn seconds(&self) -> f64 {
        self.before.map_or(0.0, |before| self.after.at.saturating_sub(before.at).as_secs_f64())
    }

    /// Reads a figure from the statistics that begin with `prefix`; `None` if the server does not report
    /// it.
    fn read(&self, figure: &'static Figure, prefix: &str) -> Option<Reading> {
        let sum = |sample: &Sample| {
            let numbers = figure.of.iter().filter_map(|name| sample.number(&format!("{prefix}{name}")));
            numbers.reduce(u64::saturating_add)
        };
        let total = sum(self.after)?;
        let seconds = self.seconds();
        let since = self.before.and_then(sum).filter(|_| figure.unit.happens() && seconds > 0.0);
        // A count may have been reset in between.
        let per_second = since.map(|since| total.saturating_sub(since) as f64 / seconds);
        Some(Reading { figure, per_second, total })
    }

    fn policy(&self, nth: usize) -> Option<Policy> {
        let prefix = self.after.text(&format!("{nth}:prefix"));
        let readings = || POLICY_FIGURES.iter().filter_map(|figure| self.read(figure, &format!("{nth}:")));
        (!prefix.is_empty()).then(|| Policy { prefix: prefix.to_owned(), readings: readings().collect() })
    }
}

impl Unit {
    /// Whether it counts events rather than current amounts.
    fn happens(self) -> bool {
        match self {
            Unit::Bytes | Unit::Events => true,
            Unit::BytesNow | Unit::Things => false,
        }
    }
}

fn version(sample: &Sample) -> String {
    match sample.text("leasehold_version") {
        "" => format!("memcached {}", sample.text("version")),
        version => format!("leasehold {version}"),
    }
}

fn object(readings: &[Reading]) -> Value {
    let values = readings.iter().map(|reading| {
        let value = match reading.figure.unit {
            Unit::Bytes | Unit::Events => json!({"per_second": reading.per_second, "total": reading.total}),
            Unit::BytesNow | Unit::Things => json!({"now": reading.total}),
        };
        (reading.figure.name.replace(' ', "_"), value)
    });
    Value::Object(values.collect())
}

const fn figure(panel: Panel, name: &'static str, unit: Unit, of: &'static [&'static str]) -> Figure {
    Figure { name, panel, unit, of }
}

/// The first one is the throughput. Figures that a server does not report are left out.
const FIGURES: [Figure; 23] = [
    figure(
        Traffic,
        "commands",
        Events,
        &[
            "cmd_get",
            "cmd_set",
            "cmd_touch",
            "cmd_meta",
            "cmd_flush",
            "cmd_lease_set",
            "delete_hits",
            "delete_misses",
            "incr_hits",
            "incr_misses",
            "decr_hits",
            "decr_misses",
        ],
    ),
    figure(Traffic, "hits", Events, &["get_hits"]),
    figure(Traffic, "misses", Events, &["get_misses"]),
    figure(Traffic, "stores", Events, &["cmd_set", "cmd_lease_set"]),
    figure(Traffic, "deletes", Events, &["delete_hits", "delete_misses"]),
    figure(Traffic, "received", Bytes, &["bytes_read"]),
    figure(Traffic, "sent", Bytes, &["bytes_written"]),
    figure(Leases, "granted", Events, &["lease_granted"]),
    figure(Leases, "coalesced", Events, &["lease_hot_miss"]),
    figure(Leases, "filled", Events, &["lease_filled"]),
    figure(Leases, "implicit fills", Events, &["implicit_fills"]),
    figure(Leases, "stale not served", Events, &["lease_refused_voided", "implicit_refused"]),
    figure(Leases, "copies served", Events, &["stale_served"]),
    figure(Leases, "sets unfenced", Events, &["unfenced_sets"]),
    figure(Invalidations, "of keys", Events, &["voids_key"]),
    figure(Invalidations, "of tags", Events, &["voids_tag"]),
    figure(Invalidations, "of prefixes", Events, &["voids_prefix"]),
    figure(Invalidations, "of everything", Events, &["voids_all"]),
    figure(Server, "items", Things, &["curr_items"]),
    figure(Server, "memory used", BytesNow, &["charged_bytes"]),
    figure(Server, "memory limit", BytesNow, &["limit_maxbytes"]),
    figure(Server, "evictions", Events, &["evictions"]),
    figure(Server, "connections", Things, &["curr_connections"]),
];

/// The figures for the keys of one policy.
const POLICY_FIGURES: [Figure; 5] = [
    figure(Leases, "granted", Events, &["lease_granted"]),
    figure(Leases, "coalesced", Events, &["lease_hot_miss"]),
    figure(Leases, "filled", Events, &["lease_filled", "implicit_fills"]),
    figure(Leases, "stale not served", Events, &["lease_refused_voided", "implicit_refused"]),
    figure(Leases, "invalidations", Events, &["voids_key"]),
];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rate(view: &View, name: &str) -> Option<f64> {
        view.readings.iter().find(|reading| reading.figure.name == name)?.per_second
    }

    fn sample(seconds: u64, stats: &[(&str, &str)]) -> Sample {
        Sample::of(Duration::from_secs(seconds), stats)
    }

    #[test]
    fn rates_are_computed_between_samples() {
        let before =
            sample(10, &[("pid", "1"), ("get_hits", "100"), ("get_misses", "10"), ("curr_items", "5")]);
        let after =
            sample(12, &[("pid", "1"), ("get_hits", "160"), ("get_misses", "30"), ("curr_items", "7")]);
        let view = View::new(Some(&before), &after);
        assert_eq!((rate(&view, "hits"), rate(&view, "misses")), (Some(30.0), Some(10.0)));
        assert_eq!((view.hit_ratio, view.seconds), (Some(0.75), 2.0));
        let items = view.panel(Server).next().unwrap();
        assert_eq!((items.figure.name, items.total, items.per_second), ("items", 7, None));
        // Figures that the server does not report are left out.
        assert_eq!(view.panel(Leases).count(), 0);

        let first = View::new(None, &after);
        assert_eq!((rate(&first, "hits"), first.hit_ratio, first.seconds), (None, None, 0.0));
        assert_eq!(first.readings.len(), view.readings.len());
    }

    #[test]
    fn reset_counts_have_no_huge_rates() {
        let before = sample(1, &[("pid", "1"), ("get_hits", "100")]);
        let reset = View::new(Some(&before), &sample(2, &[("pid", "1"), ("get_hits", "3")]));
        assert_eq!(rate(&reset, "hits"), Some(0.0));
        let restarted = View::new(Some(&before), &sample(2, &[("pid", "2"), ("get_hits", "300")]));
        assert_eq!(rate(&restarted, "hits"), None);
    }

    #[test]
    fn policies_are_read_by_number() {
        let stats = |granted| {
            [("0:ttl_ms", "0"), ("1:prefix", "page:"), ("1:lease_granted", granted), ("2:prefix", "a:")]
        };
        let view = View::new(Some(&sample(0, &stats("1"))), &sample(1, &stats("5")));
        assert_eq!(view.policies.len(), 2);
        assert_eq!(view.policies[0].prefix, "page:");
        assert_eq!(view.policies[0].readings[0].per_second, Some(4.0));
        let json = view.json("here:1");
        assert_eq!(json["policies"][0]["figures"]["granted"], json!({"per_second": 4.0, "total": 5}));
        assert_eq!(json["server"], "here:1");
    }
}
