//! The counts of workers, and reports as text and as JSON.

use std::fmt::{self, Display};

use serde::Serialize;

use super::options::Target;
use crate::bench::report::median;

/// Counts of one run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Answered invalidations.
    pub deletes: u64,
    /// Errors that the server answered.
    pub errors: u64,
    /// Hits with correct bytes.
    pub hits: u64,
    pub leased_by_others: u64,
    pub loads: u64,
    pub longest_stale_nanos: u64,
    pub reads: u64,
    pub stale: u64,
    /// Loaded values that were sent to the server.
    pub stores: u64,
    pub stores_refused: u64,
    pub wrong_values: u64,
}

/// The results of one run.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    pub nanos: u64,
    /// By how much pauses were too long on average.
    pub late_nanos: u64,
    /// Refused fills as the server's statistics count them.
    pub refused_by_server: Option<u64>,
    pub tally: Tally,
}

/// All runs, in the order of the servers.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether the test was interrupted: rounds are missing, and the last one may be incomplete.
    pub cut_short: bool,
    /// The reason for missing rounds, if a server could not be measured any more.
    pub failure: Option<String>,
    /// The workload in words.
    pub workload: String,
    /// The first one is the baseline of comparisons.
    pub servers: Vec<ServerReport>,
}

/// One server: sums and medians of its rounds.
#[derive(Debug, Serialize)]
pub struct ServerReport {
    pub server: String,
    /// Of all rounds.
    pub stale_reads: u64,
    pub reads: u64,
    pub stale_per_million: f64,
    pub longest_stale_ms: f64,
    /// The median, like all fields that follow.
    pub hit_ratio: f64,
    /// Relative to the first server's.
    pub hits_relative: Option<f64>,
    pub loads_per_delete: Option<f64>,
    /// Relative to the first server's.
    pub loads_relative: Option<f64>,
    pub rounds: Vec<Round>,
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    pub seconds: f64,
    pub stale_reads: u64,
    pub reads: u64,
    pub stale_per_million: f64,
    /// The longest time between an answered invalidation and a stale read.
    pub longest_stale_ms: f64,
    pub reads_per_second: f64,
    pub hits: u64,
    pub hit_ratio: f64,
    pub loads: u64,
    /// Answered invalidations.
    pub deletes: u64,
    pub loads_per_delete: Option<f64>,
    /// Loaded values that were sent to the server.
    pub stores: u64,
    /// The values of readers and writers that the server refused.
    pub stores_refused: u64,
    /// Refused fills according to the server's statistics, if they count them.
    pub refused_by_server: Option<u64>,
    /// Misses whose lease another reader held.
    pub leased_by_others: u64,
    /// Errors that the server answered.
    pub errors: u64,
    /// Values that were never stored under their key.
    pub wrong_values: u64,
    /// By how much pauses of this program were too long on average.
    pub pauses_late_ms: f64,
}

impl Tally {
    /// Counts a hit that is current, or stale by this many nanoseconds.
    pub fn hit(&mut self, late: Option<u64>) {
        self.hits += 1;
        if let Some(nanos) = late {
            self.stale += 1;
            self.longest_stale_nanos = self.longest_stale_nanos.max(nanos);
        }
    }
}

impl Report {
    /// A report of the rounds of each server; servers without rounds are left out.
    pub fn new(
        workload: String,
        targets: &[Target],
        rounds: Vec<Vec<Round>>,
        cut_short: bool,
        failure: Option<String>,
    ) -> Report {
        let mut servers: Vec<ServerReport> = Vec::new();
        for (target, rounds) in targets.iter().zip(rounds).filter(|(_, rounds)| !rounds.is_empty()) {
            let server = ServerReport::new(target.to_string(), rounds, servers.first());
            servers.push(server);
        }
        Report { cut_short, failure, workload, servers }
    }

    pub fn stale_reads(&self) -> u64 {
        self.servers.iter().map(|server| server.stale_reads).sum()
    }

    /// Wrong values and errors.
    pub fn wrong_answers(&self) -> u64 {
        self.servers.iter().flat_map(|server| &server.rounds).map(Round::wrong_answers).sum()
    }
}

impl ServerReport {
    fn new(server: String, rounds: Vec<Round>, first: Option<&ServerReport>) -> ServerReport {
        let sum = |count: fn(&Round) -> u64| rounds.iter().map(count).sum::<u64>();
        let (stale_reads, reads) = (sum(|round| round.stale_reads), sum(|round| round.reads));
        let hit_ratio = median(rounds.iter().map(|round| round.hit_ratio));
        let loads: Option<Vec<f64>> = rounds.iter().map(|round| round.loads_per_delete).collect();
        let loads_per_delete = loads.map(|loads| median(loads.into_iter()));
        let first_hits = first.map_or(hit_ratio, |first| first.hit_ratio);
        let first_loads = first.map_or(loads_per_delete, |first| first.loads_per_delete);
        ServerReport {
            server,
            stale_reads,
            reads,
            stale_per_million: per_million(stale_reads, reads),
            longest_stale_ms: rounds.iter().map(|round| round.longest_stale_ms).fold(0.0, f64::max),
            hit_ratio,
            hits_relative: ratio(hit_ratio, first_hits),
            loads_per_delete,
            loads_relative: loads_per_delete.zip(first_loads).and_then(|(own, first)| ratio(own, first)),
            rounds,
        }
    }
}

impl Round {
    /// The reported form of a measurement.
    pub fn new(measured: &Measured) -> Round {
        let Measured { nanos, late_nanos, refused_by_server, tally } = *measured;
        let seconds = nanos.max(1) as f64 / 1e9;
        Round {
            seconds,
            stale_reads: tally.stale,
            reads: tally.reads,
            stale_per_million: per_million(tally.stale, tally.reads),
            longest_stale_ms: tally.longest_stale_nanos as f64 / 1e6,
            reads_per_second: tally.reads as f64 / seconds,
            hits: tally.hits,
            hit_ratio: ratio(tally.hits as f64, tally.reads as f64).unwrap_or(0.0),
            loads: tally.loads,
            deletes: tally.deletes,
            loads_per_delete: ratio(tally.loads as f64, tally.deletes as f64),
            stores: tally.stores,
            stores_refused: tally.stores_refused,
            refused_by_server,
            leased_by_others: tally.leased_by_others,
            errors: tally.errors,
            wrong_values: tally.wrong_values,
            pauses_late_ms: late_nanos as f64 / 1e6,
        }
    }

    fn wrong_answers(&self) -> u64 {
        self.errors + self.wrong_values
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
        if self.servers.is_empty() {
            return writeln!(to, "Interrupted before anything was measured.");
        }
        writeln!(to, "{}", self.workload)?;
        match &self.servers[..] {
            [server] => server.rounds.iter().try_for_each(|round| write!(to, "{}\n{round}", server.server)),
            servers => compare(servers, to),
        }
    }
}

fn compare(servers: &[ServerReport], to: &mut fmt::Formatter) -> fmt::Result {
    let rounds = servers.first().map_or(0, |server| server.rounds.len());
    writeln!(
        to,
        "Stale reads of {rounds} rounds together; medians of the others; ratios to the first server."
    )?;
    writeln!(
        to,
        "{:<28}{:>12}{:>14}{:>12}{:>12}{:>10}{:>8}{:>14}{:>8}{:>8}",
        "server",
        "stale reads",
        "of",
        "per million",
        "longest ms",
        "hits",
        "ratio",
        "loads/delete",
        "ratio",
        "errors"
    )?;
    for server in servers {
        let ServerReport { stale_reads, reads, stale_per_million, longest_stale_ms, .. } = server;
        let or_dash = |number: Option<f64>| number.map_or("-".to_owned(), |number| format!("{number:.3}"));
        writeln!(
            to,
            "{:<28}{:>12}{:>14}{stale_per_million:>12.0}{longest_stale_ms:>12.1}{:>8.2} %{:>8}{:>14}{:>8}{:>8}",
            server.server,
            thousands(*stale_reads),
            thousands(*reads),
            server.hit_ratio * 100.0,
            or_dash(server.hits_relative),
            or_dash(server.loads_per_delete),
            or_dash(server.loads_relative),
            server.rounds.iter().map(Round::wrong_answers).sum::<u64>(),
        )?;
    }
    Ok(())
}

impl Display for Round {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        write!(to, "stale reads: {} of {}", thousands(self.stale_reads), thousands(self.reads))?;
        if self.stale_reads > 0 {
            let Round { stale_per_million, longest_stale_ms, .. } = self;
            write!(to, " ({stale_per_million:.0} per million, up to {longest_stale_ms:.1} ms old)")?;
        }
        writeln!(to, "\n{:.2} % hits, {:.0} reads/s", self.hit_ratio * 100.0, self.reads_per_second)?;
        write!(to, "{} loads for {} deletes", thousands(self.loads), thousands(self.deletes))?;
        if let Some(loads) = self.loads_per_delete {
            write!(to, ", {loads:.2} each")?;
        }
        write!(to, "; {} of {} stores refused", thousands(self.stores_refused), thousands(self.stores))?;
        if let Some(refused) = self.refused_by_server {
            write!(to, ", {} by the server's statistics", thousands(refused))?;
        }
        if self.leased_by_others > 0 {
            write!(to, ", {} misses leased by others", thousands(self.leased_by_others))?;
        }
        writeln!(to)?;
        if self.wrong_answers() > 0 {
            writeln!(to, "{} wrong values, {} errors", self.wrong_values, self.errors)?;
        }
        if self.pauses_late_ms > LATE_MS_MAX {
            writeln!(to, "pauses were {:.2} ms too long: this machine is too slow", self.pauses_late_ms)?;
        }
        writeln!(to, "{:.1} s", self.seconds)
    }
}

fn per_million(part: u64, whole: u64) -> f64 {
    ratio(part as f64 * 1e6, whole as f64).unwrap_or(0.0)
}

fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

/// A number with commas.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
    groups.iter().map(|group| String::from_utf8_lossy(group)).collect::<Vec<_>>().join(",")
}

/// Pauses that are longer by more than this distort short loads.
const LATE_MS_MAX: f64 = 0.5;

#[cfg(test)]
mod tests {
    use super::*;

    fn round(stale: u64, hits: u64) -> Round {
        let mut tally = Tally { deletes: 50, loads: 100, reads: 1_203_441, stores: 90, ..Tally::default() };
        (0..hits).for_each(|_| tally.hit(None));
        (0..stale).for_each(|nth| tally.hit(Some(nth * 1_500_000)));
        Round::new(&Measured { nanos: 2_000_000_000, late_nanos: 0, refused_by_server: None, tally })
    }

    #[test]
    fn the_report_begins_with_stale_reads() {
        let current = round(0, 1_000).to_string();
        assert!(
            current.starts_with("stale reads: 0 of 1,203,441\n0.08 % hits, 601720 reads/s\n"),
            "{current}"
        );
        assert!(
            current.contains("100 loads for 50 deletes, 2.00 each; 0 of 90 stores refused\n"),
            "{current}"
        );
        let stale = round(12, 1_000).to_string();
        assert!(
            stale.starts_with("stale reads: 12 of 1,203,441 (10 per million, up to 16.5 ms old)\n"),
            "{stale}"
        );
    }

    #[test]
    fn servers_are_compared_with_the_first() {
        let targets = ["lease://a:1", "b:1"].map(|text| text.parse().unwrap());
        let rounds = vec![vec![round(0, 1_000); 3], vec![round(5, 795), round(0, 900), round(1, 599)]];
        let report = Report::new("words".to_owned(), &targets, rounds, false, None);
        assert_eq!(report.stale_reads(), 6);
        let [first, second] = &report.servers[..] else { panic!("two servers") };
        assert_eq!((first.hits_relative, first.loads_relative), (Some(1.0), Some(1.0)));
        assert!(second.hits_relative.is_some_and(|ratio| (ratio - 0.8).abs() < 1e-9));
        assert_eq!(second.loads_relative, Some(1.0));
        let table = report.to_string();
        assert!(table.contains("\nlease://a:1 ") && table.contains("3,610,323"), "{table}");
    }

    #[test]
    fn nothing_is_divided_by_zero() {
        let tally = Tally::default();
        let empty = Measured { nanos: 0, late_nanos: 0, refused_by_server: Some(0), tally };
        let report =
            Report::new(String::new(), &["a:1".parse().unwrap()], vec![vec![Round::new(&empty)]], true, None);
        assert!(
            report.to_string().contains("0 loads for 0 deletes; 0 of 0 stores refused, 0 by"),
            "{report}"
        );
        assert!(serde_json::to_string(&report).unwrap().contains("\"loads_per_delete\":null"));
        assert_eq!(thousands(1_000), "1,000");
    }
}
