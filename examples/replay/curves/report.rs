//! The tables and means of the curves, in Markdown.

use std::fmt::Write;

use crate::curves::{Curves, Point};
use crate::misses::meeting;
use crate::server::Kind;
use crate::table::Figure;

/// All tables and lists, with a blank line between them.
pub fn markdown(all: &[Curves]) -> String {
    let parts = [misses(all), means(all), residents(all), equal_misses(all), weak_points(all)];
    parts.join("\n")
}

/// The misses at equal `-m`; the best server of each row is bold.
fn misses(all: &[Curves]) -> String {
    let mut text = String::from("| trace | MiB | ");
    let _ = writeln!(text, "{} | GDSF | Belady |", Kind::ALL.map(title).join(" | "));
    text += "|---|---|---|---|---|---|---|---|\n";
    for curves in all {
        for (index, megabytes) in curves.megabytes.iter().enumerate() {
            let points = Kind::ALL.map(|kind| curves.point(kind, *megabytes));
            let cells = points.map(|point| point.map(|point| percent(point.miss_percent)));
            let least = points.iter().flatten().map(|point| point.miss_percent).fold(f64::MAX, f64::min);
            let cells = cells.map(|cell| match cell {
                Some(cell) if cell == percent(least) => format!("**{cell}**"),
                Some(cell) => cell,
                None => "–".to_owned(),
            });
            let (name, servers) = (name(curves), cells.join(" | "));
            let (gdsf, belady) = (percent(curves.gdsf[index]), percent(curves.belady[index]));
            let _ = writeln!(text, "| {name} | {megabytes} | {servers} | {gdsf} | {belady} |");
        }
    }
    text
}

/// The geometric means of the misses as a multiple of GDSF's, without points at which everything fits.
fn means(all: &[Curves]) -> String {
    let aside: Vec<&Curves> = all.iter().filter(|curves| curves.is_aside).collect();
    let mut text = String::from("| misses / GDSF's, geometric mean | points |");
    let _ = writeln!(text, " {} |", Kind::ALL.map(title).join(" | "));
    text += "|---|---|---|---|---|---|\n";
    for (what, some) in [("all traces", all.iter().collect()), ("the two set aside", aside)] {
        let points = some.iter().flat_map(|curves| curves.contested()).count();
        let cells = Kind::ALL.map(|kind| {
            let ratios = some.iter().flat_map(|curves| {
                let ratio = move |(index, megabytes): (usize, u32)| {
                    Some(curves.point(kind, megabytes)?.miss_percent / curves.gdsf[index])
                };
                curves.contested().filter_map(ratio)
            });
            geometric_mean(ratios).map_or("–".to_owned(), |mean| format!("{mean:.3}"))
        });
        let _ = writeln!(text, "| {what} | {points} | {} |", cells.join(" | "));
    }
    text
}

/// The resident memory at the start, and at the end, from the least to the most of all traces.
fn residents(all: &[Curves]) -> String {
    let mut text = String::from("| MiB | ");
    let _ = writeln!(text, "{} |", Kind::ALL.map(|kind| format!("{}, resident", title(kind))).join(" | "));
    text += "|---|---|---|---|---|\n";
    let mut row = |what: &str, is_in: &dyn Fn(&Point) -> bool, memory: fn(&Point) -> f64| {
        let cells = Kind::ALL.map(|kind| {
            let points = all.iter().flat_map(|curves| &curves.points);
            let points = points.filter(|point| point.kind == kind && is_in(point));
            let mut residents: Vec<f64> = points.map(memory).collect();
            residents.sort_by(f64::total_cmp);
            match (residents.first(), residents.last()) {
                (Some(least), Some(most)) => format!("{least:.0} to {most:.0}"),
                _ => "–".to_owned(),
            }
        });
        let _ = writeln!(text, "| {what} | {} |", cells.join(" | "));
    };
    for megabytes in all.first().map_or(&[][..], |curves| &curves.megabytes) {
        row(&megabytes.to_string(), &|point| point.megabytes == *megabytes, resident);
    }
    row("any, empty", &|_| true, |point| point.empty);
    text
}

/// The memory that memcached needs for leasehold's misses, as a multiple of leasehold's.
fn equal_misses(all: &[Curves]) -> String {
    let mut text = String::from(
        "| memory of memcached for equal misses, geometric mean | points | by `-m` | resident | \
         resident beyond that of the empty server |\n|---|---|---|---|---|\n",
    );
    let mut row = |what: &str, some: &[&Curves]| {
        let points = some.iter().flat_map(|curves| curves.needs(limit)).count();
        let cells = [limit, resident, filled].map(|memory: fn(&Point) -> f64| {
            bounded_mean(&some.iter().flat_map(|curves| curves.needs(memory)).collect::<Vec<_>>())
        });
        let _ = writeln!(text, "| {what} | {points} | {} |", cells.join(" | "));
    };
    all.iter().for_each(|curves| row(&name(curves), &[curves]));
    row("all traces", &all.iter().collect::<Vec<_>>());
    text
}

/// Where leasehold is not as good as it should be.
fn weak_points(all: &[Curves]) -> String {
    let list = |points: Vec<String>| match points.is_empty() {
        true => "* nowhere\n".to_owned(),
        false => points.concat(),
    };
    let worse_than_gdsf = list(all.iter().flat_map(Curves::worse_than_gdsf).collect());
    let worse_than_memcached = list(all.iter().flat_map(Curves::worse_than_memcached).collect());
    format!(
        "leasehold misses more than {GDSF_RATIO_MAX} times as much as GDSF:\n\n{worse_than_gdsf}\n\
         leasehold misses more than memcached with as much resident memory:\n\n{worse_than_memcached}"
    )
}

impl Curves {
    /// The sizes, with their index, at which not everything fits.
    fn contested(&self) -> impl Iterator<Item = (usize, u32)> {
        let sizes = self.megabytes.iter().copied().enumerate();
        sizes.filter(|(index, _)| self.gdsf[*index] > FITS_RATIO * self.compulsory)
    }

    /// The memory of memcached for leasehold's misses, as a multiple, at each size that holds not everything.
    fn needs(&self, memory: fn(&Point) -> f64) -> Vec<Figure> {
        let theirs = self.curve(Kind::Memcached, memory);
        let need = |(_, megabytes)| {
            let ours = self.point(Kind::Leasehold, megabytes)?;
            let relative: Vec<_> = theirs.iter().map(|(at, misses)| (at / memory(ours), *misses)).collect();
            (!relative.is_empty()).then(|| meeting(&relative, ours.miss_percent))
        };
        self.contested().filter_map(need).collect()
    }

    fn worse_than_gdsf(&self) -> Vec<String> {
        let line = |(index, megabytes): (usize, &u32)| {
            let (ours, gdsf) = (self.point(Kind::Leasehold, *megabytes)?.miss_percent, self.gdsf[index]);
            let (name, ratio) = (name(self), ours / gdsf);
            let line = format!("* {name}, {megabytes} MiB: {ours:.2} %, GDSF {gdsf:.2} % ({ratio:.3})\n");
            (ratio > GDSF_RATIO_MAX).then_some(line)
        };
        self.megabytes.iter().enumerate().filter_map(line).collect()
    }

    fn worse_than_memcached(&self) -> Vec<String> {
        let theirs = self.curve(Kind::Memcached, resident);
        let line = |megabytes: &u32| {
            let Point { miss_percent: ours, resident, .. } = *self.point(Kind::Leasehold, *megabytes)?;
            let (name, theirs) = (name(self), interpolated(&theirs, resident)?);
            let figures = format!("{ours:.2} %, memcached {theirs:.2} % with {resident:.0} MiB");
            (ours > theirs).then(|| format!("* {name}, {megabytes} MiB: {figures}\n"))
        };
        self.megabytes.iter().filter_map(line).collect()
    }
}

pub fn limit(point: &Point) -> f64 {
    point.megabytes.into()
}

pub fn resident(point: &Point) -> f64 {
    point.resident
}

/// Without the program itself and the tables that it fills at its start.
fn filled(point: &Point) -> f64 {
    point.resident - point.empty
}

pub fn title(kind: Kind) -> &'static str {
    match kind {
        Kind::Leasehold => "leasehold",
        Kind::Memcached => "memcached",
        Kind::RedisLru => "Redis LRU",
        Kind::RedisLfu => "Redis LFU",
    }
}

/// The name of the trace, with a star if it was set aside.
pub fn name(curves: &Curves) -> String {
    if curves.is_aside { format!("{}*", curves.trace) } else { curves.trace.clone() }
}

fn percent(value: f64) -> String {
    format!("{value:.1}")
}

/// The geometric mean, in which a bound counts as if it were the figure, and the direction of all bounds.
fn bounded_mean(figures: &[Figure]) -> String {
    let values = figures.iter().map(|figure| {
        let (Figure::Above(value) | Figure::Below(value) | Figure::Is(value)) = *figure;
        value
    });
    let Some(mean) = geometric_mean(values) else { return "–".to_owned() };
    let is_least = figures.iter().any(|figure| matches!(figure, Figure::Above(_)));
    let is_most = figures.iter().any(|figure| matches!(figure, Figure::Below(_)));
    match (is_least, is_most) {
        (false, false) => format!("{mean:.2}"),
        (true, false) => format!("at least {mean:.2}"),
        (false, true) => format!("at most {mean:.2}"),
        (true, true) => format!("about {mean:.2}"),
    }
}

/// `None` for no values.
fn geometric_mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (count, logarithms) =
        values.into_iter().fold((0u32, 0.0), |(count, sum), value| (count + 1, sum + value.ln()));
    (count > 0).then(|| (logarithms / f64::from(count)).exp())
}

/// The misses with this much memory; `None` outside of what was measured.
fn interpolated(curve: &[(f64, f64)], memory: f64) -> Option<f64> {
    let after = curve.iter().position(|(at, _)| *at >= memory)?;
    let ((left, before), (right, behind)) = (curve[after.checked_sub(1)?], curve[after]);
    Some(before + (behind - before) * (memory - left) / (right - left))
}

const GDSF_RATIO_MAX: f64 = 1.03;
/// Everything fits if GDSF misses at most so many times as much as a cache without limit.
const FITS_RATIO: f64 = 1.02;

#[cfg(test)]
mod tests {
    use super::*;

    fn point(kind: Kind, megabytes: u32, miss_percent: f64, resident: f64) -> Point {
        Point { empty: 5.0, kind, megabytes, miss_percent, resident }
    }

    /// Two servers and two sizes; the second is as good as no limit.
    fn curves() -> Curves {
        Curves {
            belady: vec![30.0, 10.0],
            compulsory: 10.0,
            gdsf: vec![40.0, 10.1],
            is_aside: true,
            megabytes: vec![8, 16],
            points: vec![
                point(Kind::Leasehold, 8, 44.0, 10.0),
                point(Kind::Leasehold, 16, 10.0, 20.0),
                point(Kind::Memcached, 8, 48.0, 20.0),
                point(Kind::Memcached, 16, 40.0, 30.0),
            ],
            trace: "made".to_owned(),
        }
    }

    #[test]
    fn the_best_server_of_each_row_is_bold() {
        let table = misses(&[curves()]);
        let rows: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| made* | 8 | **44.0** | 48.0 | – | – | 40.0 | 30.0 |",
                "| made* | 16 | **10.0** | 40.0 | – | – | 10.1 | 10.0 |",
            ]
        );
    }

    #[test]
    fn sizes_at_which_everything_fits_are_in_no_mean() {
        let table = means(&[curves()]);
        assert!(table.ends_with("| the two set aside | 1 | 1.100 | 1.200 | – | – |\n"), "{table}");
    }

    #[test]
    fn memory_for_equal_misses_is_relative_to_what_leasehold_takes() {
        // Half way from 48 % to 40 %: at 12 MiB by `-m`, and at 25 resident.
        assert_eq!(curves().needs(limit), [Figure::Is(1.5)]);
        assert_eq!(curves().needs(resident), [Figure::Is(2.5)]);
        assert_eq!(curves().needs(filled), [Figure::Is(4.0)]);
        assert!(equal_misses(&[curves()]).contains("| all traces | 1 | 1.50 | 2.50 | 4.00 |"));
        let figures = [Figure::Is(1.0), Figure::Above(4.0), Figure::Below(0.25)];
        let means = [1, 2, 3].map(|count| bounded_mean(&figures[..count]));
        assert_eq!(means, ["1.00", "at least 2.00", "about 1.00"]);
        assert_eq!(bounded_mean(&figures[2..]), "at most 0.25");
    }

    #[test]
    fn weak_points_are_listed() {
        let list = weak_points(&[curves()]);
        assert!(list.contains("* made*, 8 MiB: 44.00 %, GDSF 40.00 % (1.100)\n"), "{list}");
        assert!(!list.contains("16 MiB") && list.ends_with("* nowhere\n"), "{list}");
        let worse = Curves { points: vec![point(Kind::Leasehold, 16, 47.0, 25.0)], ..curves() };
        let points = [worse.points, curves().points[2..].to_vec()].concat();
        let list = weak_points(&[Curves { points, ..curves() }]);
        assert!(list.contains("* made*, 16 MiB: 47.00 %, memcached 44.00 % with 25 MiB\n"), "{list}");
    }

    #[test]
    fn geometric_means_are_of_ratios() {
        assert_eq!(geometric_mean([0.5, 2.0]), Some(1.0));
        assert_eq!(geometric_mean([]), None);
    }

    #[test]
    fn nothing_is_interpolated_outside_of_the_curve() {
        let curve = [(10.0, 40.0), (20.0, 20.0)];
        assert_eq!(
            [5.0, 15.0, 20.0, 25.0].map(|at| interpolated(&curve, at)),
            [None, Some(30.0), Some(20.0), None]
        );
    }
}
