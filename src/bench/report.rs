//! Reports as text and as JSON.

use std::fmt::{self, Display};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::run::Measured;
use super::server::Server;
use super::tally::{Outcome, Tally, Verb};

/// All runs, in the order of the servers.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether the measurement was interrupted: rounds are missing, and the last one may be incomplete.
    pub cut_short: bool,
    /// The reason for missing rounds, if a server could not be measured any more.
    pub failure: Option<String>,
    /// The first one is the baseline of comparisons.
    pub servers: Vec<ServerReport>,
}

/// One server: each round, and the medians.
#[derive(Debug, Serialize)]
pub struct ServerReport {
    pub server: String,
    pub requests_per_second: f64,
    /// The median throughput, relative to the first server's.
    pub ratio: f64,
    pub rounds: Vec<Round>,
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    /// The measured time.
    pub seconds: f64,
    /// The number of answered requests.
    pub requests: u64,
    /// Within the measured time.
    pub requests_per_second: f64,
    /// Values, leases and misses: a get of 50 keys counts 50 times.
    pub keys_per_second: f64,
    /// All bytes that the server sent.
    pub megabytes_read_per_second: f64,
    /// All bytes sent to the server.
    pub megabytes_written_per_second: f64,
    /// The latency of all requests together.
    pub latency: Latency,
    /// A report for each command that was sent.
    pub verbs: Vec<VerbReport>,
    /// The outcomes of commands, or of their keys.
    pub outcomes: Vec<Count>,
    /// The share of refused lease fills, if there were fills.
    pub fills_refused: Option<f64>,
    /// Replies that no server should give.
    pub errors: u64,
    /// Batches that were due and never sent.
    pub unsent_batches: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct VerbReport {
    pub verb: &'static str,
    pub requests: u64,
    pub latency: Latency,
}

#[derive(Clone, Debug, Serialize)]
pub struct Count {
    pub outcome: &'static str,
    pub count: u64,
}

/// In microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Report {
    /// A report of the rounds of each server; servers without rounds are left out.
    pub fn new(
        servers: &[Server],
        rounds: Vec<Vec<Round>>,
        cut_short: bool,
        failure: Option<String>,
    ) -> Report {
        let mut reports: Vec<ServerReport> = Vec::new();
        for (server, rounds) in servers.iter().zip(rounds).filter(|(_, rounds)| !rounds.is_empty()) {
            let requests_per_second = median(rounds.iter().map(|round| round.requests_per_second));
            let first = reports.first().map_or(requests_per_second, |first| first.requests_per_second);
            let ratio = requests_per_second / first;
            reports.push(ServerReport { server: server.to_string(), requests_per_second, ratio, rounds });
        }
        Report { cut_short, failure, servers: reports }
    }

    /// Replies that no server should give.
    pub fn errors(&self) -> u64 {
        self.servers.iter().flat_map(|server| &server.rounds).map(|round| round.errors).sum()
    }
}

impl Round {
    /// The reported form of a measurement.
    pub fn new(measured: &Measured) -> Round {
        let (tally, seconds) = (&measured.tally, measured.nanos.max(1) as f64 / 1e9);
        let count = |outcome: Outcome| Count { outcome: outcome.name(), count: tally.of(outcome) };
        let verb = |verb: Verb| VerbReport {
            verb: verb.name(),
            requests: tally.requests(verb),
            latency: Latency::new(tally.latency(verb)),
        };
        let requests = Verb::ALL.map(|verb| tally.requests(verb)).iter().sum();
        let outcomes = Outcome::ALL.map(count);
        Round {
            seconds,
            requests,
            requests_per_second: requests as f64 / seconds,
            keys_per_second: outcomes.iter().map(|count| count.count).sum::<u64>() as f64 / seconds,
            megabytes_read_per_second: tally.bytes_read as f64 / seconds / 1e6,
            megabytes_written_per_second: tally.bytes_written as f64 / seconds / 1e6,
            latency: Latency::new(&tally.latencies()),
            verbs: Verb::ALL.map(verb).into_iter().filter(|verb| verb.requests > 0).collect(),
            outcomes: outcomes.into_iter().filter(|count| count.count > 0).collect(),
            fills_refused: fills_refused(tally),
            errors: tally.errors(),
            unsent_batches: tally.unsent,
        }
    }
}

fn fills_refused(tally: &Tally) -> Option<f64> {
    let (filled, refused) = (tally.of(Outcome::Filled), tally.of(Outcome::RefusedFill));
    (filled + refused > 0).then(|| refused as f64 / (filled + refused) as f64)
}

impl Latency {
    fn new(nanos: &Histogram<u64>) -> Latency {
        let micros = |nanos: u64| nanos as f64 / 1e3;
        let quantile = |quantile: f64| micros(nanos.value_at_quantile(quantile));
        Latency {
            mean: nanos.mean() / 1e3,
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: micros(nanos.max()),
        }
    }
}

impl Display for Report {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        if self.cut_short && !self.servers.is_empty() {
            writeln!(to, "Interrupted: rounds are missing, and the last one is incomplete.")?;
        }
        if self.failure.is_some() {
            writeln!(to, "Ended by a failure: rounds are missing.")?;
        }
        match &self.servers[..] {
            [] => writeln!(to, "Interrupted before anything was measured."),
            [server] => server.rounds.iter().try_for_each(|round| write!(to, "{}\n{round}", server.server)),
            servers => compare(servers, to),
        }
    }
}

fn compare(servers: &[ServerReport], to: &mut fmt::Formatter) -> fmt::Result {
    let rounds = servers.first().map_or(0, |server| server.rounds.len());
    writeln!(to, "Medians of {rounds} rounds; the slowest and the fastest; latencies in microseconds.")?;
    writeln!(
        to,
        "{:<24}{:>12}{:>7}{:>12}{:>12}{:>9}{:>9}{:>9}{:>8}",
        "server", "per second", "ratio", "slowest", "fastest", "p50", "p99", "p99.9", "errors"
    )?;
    for server in servers {
        let of = |figure: fn(&Round) -> f64| median(server.rounds.iter().map(figure));
        let speeds = || server.rounds.iter().map(|round| round.requests_per_second);
        writeln!(
            to,
            "{:<24}{:>12.0}{:>7.2}{:>12.0}{:>12.0}{:>9.0}{:>9.0}{:>9.0}{:>8}",
            server.server,
            server.requests_per_second,
            server.ratio,
            speeds().fold(f64::INFINITY, f64::min),
            speeds().fold(0.0, f64::max),
            of(|round| round.latency.p50),
            of(|round| round.latency.p99),
            of(|round| round.latency.p999),
            server.rounds.iter().map(|round| round.errors).sum::<u64>(),
        )?;
    }
    Ok(())
}

impl Display for Round {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        writeln!(
            to,
            "{:<12}{:>12}{:>12}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}",
            "", "requests", "per second", "mean", "p50", "p90", "p99", "p99.9", "max"
        )?;
        for verb in &self.verbs {
            self.line(to, verb.verb, verb.requests, &verb.latency)?;
        }
        if self.verbs.len() > 1 {
            self.line(to, "all", self.requests, &self.latency)?;
        }
        let counts: Vec<String> =
            self.outcomes.iter().map(|count| format!("{} {}", count.count, count.outcome)).collect();
        writeln!(to, "{}", counts.join(", "))?;
        if let Some(share) = self.fills_refused {
            writeln!(to, "{:.4} % of the fills refused", share * 100.0)?;
        }
        if self.unsent_batches > 0 {
            writeln!(to, "{} batches were due and never sent: the server is too slow", self.unsent_batches)?;
        }
        writeln!(
            to,
            "{:.1} s, {:.1} MB/s read, {:.1} MB/s written; latencies in microseconds",
            self.seconds, self.megabytes_read_per_second, self.megabytes_written_per_second
        )
    }
}

impl Round {
    fn line(&self, to: &mut fmt::Formatter, name: &str, requests: u64, latency: &Latency) -> fmt::Result {
        let Latency { mean, p50, p90, p99, p999, max } = latency;
        let per_second = requests as f64 / self.seconds;
        writeln!(
            to,
            "{name:<12}{requests:>12}{per_second:>12.0}{mean:>9.0}{p50:>9.0}{p90:>9.0}{p99:>9.0}{p999:>9.0}{max:>9.0}"
        )
    }
}

/// For an even number of values, this is the upper one.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
