//! The results: medians, ratios, and whether the goals are reached.

use std::fmt::{self, Display};

use leasehold::bench::{Round, median};
use serde_json::{Value, json};

use crate::peers::Kind;
use crate::rows::{Goal, Row, Unit};

/// One round of one server.
pub struct Sample {
    /// The share of one core that the server used, if it received requests. If this is far below 1, the
    /// generator was the bottleneck.
    pub busy: Option<f64>,
    /// The result, in the row's unit.
    pub figure: f64,
}

/// All measured rows.
#[derive(Default)]
pub struct Results(pub Vec<Line>);

/// One measured row.
pub struct Line {
    pub row: &'static Row,
    samples: Vec<(Kind, Sample)>,
}

impl Sample {
    pub fn new(row: &Row, round: &Round, busy: f64) -> Sample {
        let figure = match row.unit {
            Unit::BytesEach(_) => unreachable!("such a row has no requests"),
            Unit::Keys => round.keys_per_second,
            Unit::MegabytesRead => round.megabytes_read_per_second,
            Unit::P99 => round.latency.p99,
            Unit::Requests => round.requests_per_second,
        };
        Sample { busy: Some(busy), figure }
    }
}

impl Results {
    /// The additional flag for the rate of a row; `None` if the rate is not known.
    pub fn rate(&self, row: &Row) -> Option<String> {
        if row.unit != Unit::P99 {
            return Some(String::new());
        }
        let get = self.0.iter().find(|line| line.row.name == "get/1")?;
        let peak = get.figure(Kind::Memcached)?;
        Some(format!("-r {}", (peak * 0.7) as u64))
    }

    pub fn json(&self) -> String {
        let lines: Vec<Value> = self.0.iter().map(Line::json).collect();
        format!("{:#}\n", json!({ "rows": lines }))
    }
}

impl Display for Results {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        write!(to, "{:<14}{:>8}", "medians", "")?;
        Kind::ALL.iter().try_for_each(|kind| write!(to, "{:>13}", kind.name()))?;
        writeln!(to, "   leasehold is … times")?;
        self.0.iter().try_for_each(|line| writeln!(to, "{line}"))
    }
}

impl Line {
    pub fn new(row: &'static Row) -> Line {
        Line { row, samples: Vec::new() }
    }

    pub fn add(&mut self, kind: Kind, sample: Sample) {
        self.samples.push((kind, sample));
    }

    /// The median.
    pub fn figure(&self, kind: Kind) -> Option<f64> {
        self.median(kind, |sample| Some(sample.figure))
    }

    fn busy(&self, kind: Kind) -> Option<f64> {
        self.median(kind, |sample| sample.busy)
    }

    fn median(&self, kind: Kind, of: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        let figures = self.samples.iter().filter(|(other, _)| *other == kind);
        let mut figures = figures.filter_map(|(_, sample)| of(sample)).peekable();
        figures.peek()?;
        Some(median(figures))
    }

    /// leasehold's figure divided by another's, unless that one answered nothing.
    fn ratio(&self, kind: Kind) -> Option<f64> {
        let other = self.figure(kind).filter(|figure| *figure > 0.0)?;
        Some(self.figure(Kind::Leasehold)? / other)
    }

    /// Whether the goal is reached, among the servers that were measured.
    fn is_reached(&self) -> Option<bool> {
        let reached = |(kind, times): &(Kind, f64)| {
            let ratio = self.ratio(*kind)?;
            Some(if self.row.unit.less_is_better() { ratio <= *times } else { ratio >= *times })
        };
        let (Goal::All(goals) | Goal::Any(goals)) = &self.row.goal;
        let mut each = goals.iter().filter_map(reached).peekable();
        each.peek()?;
        Some(match self.row.goal {
            Goal::All(_) => each.all(|reached| reached),
            Goal::Any(_) => each.any(|reached| reached),
        })
    }

    fn goal(&self) -> String {
        let (goals, or) = match &self.row.goal {
            Goal::All(goals) => (goals, " and "),
            Goal::Any(goals) => (goals, " or "),
        };
        let goals: Vec<String> =
            goals.iter().map(|(kind, times)| format!("{times} {}", kind.name())).collect();
        goals.join(or)
    }

    fn json(&self) -> Value {
        let peer = |kind: &Kind| {
            let rounds = self.samples.iter().filter(|(other, _)| other == kind);
            let rounds: Vec<f64> = rounds.map(|(_, sample)| sample.figure).collect();
            json!({
                "server": kind.name(), "median": self.figure(*kind), "rounds": rounds,
                "busy": self.busy(*kind), "leasehold_is_times": self.ratio(*kind),
            })
        };
        let servers: Vec<Value> =
            Kind::ALL.iter().filter(|kind| self.figure(**kind).is_some()).map(peer).collect();
        json!({
            "row": self.row.name, "unit": self.row.unit.name(), "goal": self.goal(),
            "reached": self.is_reached(), "servers": servers,
        })
    }
}

impl Display for Line {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        write!(to, "{:<14}{:>8}", self.row.name, self.row.unit.name())?;
        for kind in Kind::ALL {
            let figure = self.figure(kind).map_or("-".to_owned(), |figure| format!("{figure:.0}"));
            let busy = self.busy(kind).map_or(String::new(), |busy| format!("{:>3.0}%", busy * 100.0));
            write!(to, "{figure:>9}{busy:>4}")?;
        }
        for kind in [Kind::Memcached, Kind::Redis, Kind::Limit] {
            if let Some(ratio) = self.ratio(kind) {
                write!(to, "  {ratio:.2} {}", kind.name())?;
            }
        }
        match self.is_reached() {
            None => Ok(()),
            Some(true) => write!(to, "  (reached: {})", self.goal()),
            Some(false) => write!(to, "  (MISSED: {})", self.goal()),
        }
    }
}
