//! The printed table: each line appears when it is measured, with its target.

use std::cmp::Ordering;

use crate::server::Kind;

/// A measured value, or a bound if it is outside the tried range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Figure {
    Above(f64),
    Below(f64),
    Is(f64),
}

#[derive(Clone, Copy)]
pub enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// No target: printed for information.
    None,
}

/// The figures of one line, by server. Servers that are missing were not measured.
pub type Figures = Vec<(Kind, Figure)>;

pub fn print_head() {
    let [leasehold, memcached, lru, lfu] = Kind::ALL.map(Kind::name);
    let what = "what";
    println!(
        "{what:<WHAT$}{:>TARGET$}{leasehold:>CELL$}{:VERDICT$}{memcached:>CELL$}{lru:>CELL$}{lfu:>CELL$}",
        "target", ""
    );
}

pub fn print(what: &str, decimals: usize, target: Target, figures: &Figures) {
    let [leasehold, memcached, lru, lfu] = Kind::ALL.map(|kind| {
        let figure = figures.iter().find(|(of, _)| *of == kind);
        figure.map_or("–".to_owned(), |(_, figure)| figure.text(decimals))
    });
    let ours = figures.iter().find(|(of, _)| *of == Kind::Leasehold);
    let verdict = ours.map_or("", |(_, figure)| target.verdict(*figure));
    let target = target.text(decimals);
    println!(
        "{what:<WHAT$}{target:>TARGET$}{leasehold:>CELL$}{verdict:<VERDICT$}{memcached:>CELL$}{lru:>CELL$}{lfu:>CELL$}"
    );
}

/// The median of each server's rounds.
pub fn medians(rounds: Vec<(Kind, Vec<f64>)>) -> Figures {
    rounds.into_iter().map(|(kind, values)| (kind, Figure::Is(median(values)))).collect()
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

impl Figure {
    fn text(self, decimals: usize) -> String {
        match self {
            Figure::Above(value) => format!("> {value:.decimals$}"),
            Figure::Below(value) => format!("< {value:.decimals$}"),
            Figure::Is(value) => format!("{value:.decimals$}"),
        }
    }

    /// Compares the figure with a limit; `None` if a bound does not decide it.
    fn compare(self, limit: f64) -> Option<Ordering> {
        match self {
            Figure::Above(value) if value >= limit => Some(Ordering::Greater),
            Figure::Below(value) if value <= limit => Some(Ordering::Less),
            Figure::Above(_) | Figure::Below(_) => None,
            Figure::Is(value) => value.partial_cmp(&limit),
        }
    }
}

impl Target {
    /// Whether the target is met by the unrounded figure.
    fn verdict(self, figure: Figure) -> &'static str {
        let is_met = match self {
            Target::AtLeast(limit) => figure.compare(limit).is_some_and(Ordering::is_ge),
            Target::AtMost(limit) => figure.compare(limit).is_some_and(Ordering::is_le),
            Target::None => return "",
        };
        if is_met { "  met" } else { "  MISSED" }
    }

    fn text(self, decimals: usize) -> String {
        match self {
            Target::AtLeast(limit) => format!(">= {limit:.decimals$}"),
            Target::AtMost(limit) => format!("<= {limit:.decimals$}"),
            Target::None => String::new(),
        }
    }
}

const WHAT: usize = 58;
const TARGET: usize = 10;
const CELL: usize = 11;
const VERDICT: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undecided_target_counts_as_missed() {
        for (target, figure, is_met) in [
            (Target::AtMost(50.0), Figure::Is(50.0), true),
            (Target::AtMost(50.0), Figure::Is(50.04), false),
            (Target::AtMost(5.0), Figure::Above(20.0), false),
            (Target::AtMost(5.0), Figure::Below(4.0), true),
            (Target::AtLeast(1.3), Figure::Above(2.5), true),
            (Target::AtLeast(1.3), Figure::Above(1.2), false),
            (Target::AtLeast(1.3), Figure::Below(0.7), false),
        ] {
            assert_eq!(target.verdict(figure) == "  met", is_met, "{figure:?}");
        }
    }
}
