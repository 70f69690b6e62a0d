//! What was seen: medians, ratios, and whether they are what we want.

use std::fmt::{self, Display};

use leasehold::bench::{Round, median};
use serde_json::{Value, json};

use crate::peers::Who;
use crate::rows::{Goal, Row, Unit};

/// One round of one server.
pub struct Sample {
    /// Share of one core that the server used, if it was asked anything. Far below 1 it was the generator that was measured.
    pub busy: Option<f64>,
    /// In the row's unit.
    pub figure: f64,
}

/// All rows that were measured.
#[derive(Default)]
pub struct Results(pub Vec<Line>);

/// One of them.
pub struct Line {
    pub row: &'static Row,
    samples: Vec<(Who, Sample)>,
}

impl Sample {
    pub fn new(row: &Row, round: &Round, busy: f64) -> Sample {
        let figure = match row.unit {
            Unit::BytesEach(_) => unreachable!("nothing is asked in such a row"),
            Unit::Keys => round.keys_per_second,
            Unit::MegabytesRead => round.megabytes_read_per_second,
            Unit::P99 => round.latency.p99,
            Unit::Requests => round.requests_per_second,
        };
        Sample { busy: Some(busy), figure }
    }
}

impl Results {
    /// What a row is asked beyond its flags; `None` if that is not known.
    pub fn rate(&self, row: &Row) -> Option<String> {
        if row.unit != Unit::P99 {
            return Some(String::new());
        }
        let get = self.0.iter().find(|line| line.row.name == "get/1")?;
        let peak = get.figure(Who::Memcached)?;
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
        Who::ALL.iter().try_for_each(|who| write!(to, "{:>13}", who.name()))?;
        writeln!(to, "   leasehold is … times")?;
        self.0.iter().try_for_each(|line| writeln!(to, "{line}"))
    }
}

impl Line {
    pub fn new(row: &'static Row) -> Line {
        Line { row, samples: Vec::new() }
    }

    pub fn add(&mut self, who: Who, sample: Sample) {
        self.samples.push((who, sample));
    }

    /// The median.
    pub fn figure(&self, who: Who) -> Option<f64> {
        self.median(who, |sample| Some(sample.figure))
    }

    fn busy(&self, who: Who) -> Option<f64> {
        self.median(who, |sample| sample.busy)
    }

    fn median(&self, who: Who, of: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        let figures = self.samples.iter().filter(|(other, _)| *other == who);
        let mut figures = figures.filter_map(|(_, sample)| of(sample)).peekable();
        figures.peek()?;
        Some(median(figures))
    }

    /// leasehold's figure divided by another's, unless that one answered nothing.
    fn ratio(&self, who: Who) -> Option<f64> {
        let other = self.figure(who).filter(|figure| *figure > 0.0)?;
        Some(self.figure(Who::Leasehold)? / other)
    }

    /// Whether the goal is reached, as far as the peers it speaks of are there.
    fn is_reached(&self) -> Option<bool> {
        let reached = |(who, times): &(Who, f64)| {
            let ratio = self.ratio(*who)?;
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
        let goals: Vec<String> = goals.iter().map(|(who, times)| format!("{times} {}", who.name())).collect();
        goals.join(or)
    }

    fn json(&self) -> Value {
        let peer = |who: &Who| {
            let rounds = self.samples.iter().filter(|(other, _)| other == who);
            let rounds: Vec<f64> = rounds.map(|(_, sample)| sample.figure).collect();
            json!({
                "server": who.name(), "median": self.figure(*who), "rounds": rounds,
                "busy": self.busy(*who), "leasehold_is_times": self.ratio(*who),
            })
        };
        let servers: Vec<Value> =
            Who::ALL.iter().filter(|who| self.figure(**who).is_some()).map(peer).collect();
        json!({
            "row": self.row.name, "unit": self.row.unit.name(), "goal": self.goal(),
            "reached": self.is_reached(), "servers": servers,
        })
    }
}

impl Display for Line {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        write!(to, "{:<14}{:>8}", self.row.name, self.row.unit.name())?;
        for who in Who::ALL {
            let figure = self.figure(who).map_or("-".to_owned(), |figure| format!("{figure:.0}"));
            let busy = self.busy(who).map_or(String::new(), |busy| format!("{:>3.0}%", busy * 100.0));
            write!(to, "{figure:>9}{busy:>4}")?;
        }
        for who in [Who::Memcached, Who::Redis, Who::Limit] {
            if let Some(ratio) = self.ratio(who) {
                write!(to, "  {ratio:.2} {}", who.name())?;
            }
        }
        match self.is_reached() {
            None => Ok(()),
            Some(true) => write!(to, "  (reached: {})", self.goal()),
            Some(false) => write!(to, "  (MISSED: {})", self.goal()),
        }
    }
}
