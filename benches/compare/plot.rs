//! The medians as a bar chart, for the documents.

use std::fmt::Write;

use crate::peers::Kind;
use crate::results::{Line, Results};

/// An SVG in which the longest bar of each row has the same length.
pub fn svg(results: &Results) -> String {
    let lines = &results.0;
    let height = TOP + lines.len() * ROW_HEIGHT;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (index, kind) in Kind::ALL.into_iter().enumerate() {
        let x = BARS_FROM + index * 100;
        bar(&mut svg, [x, 8], 10, kind);
        text(&mut svg, [x + 14, 17], kind.name());
    }
    for (index, line) in lines.iter().enumerate() {
        row(&mut svg, TOP + index * ROW_HEIGHT, line);
    }
    svg + "</svg>\n"
}

fn row(svg: &mut String, top: usize, line: &Line) {
    text(svg, [8, top + BAR_HEIGHT], line.row.name);
    text(svg, [8, top + 2 * BAR_HEIGHT + 2], line.row.unit.name());
    if line.row.unit.less_is_better() {
        text(svg, [8, top + 3 * BAR_HEIGHT + 4], "(less is better)");
    }
    let figures = Kind::ALL.into_iter().filter_map(|kind| Some((kind, line.figure(kind)?)));
    let longest = figures.clone().map(|(_, figure)| figure).fold(0.0, f64::max);
    for (index, (kind, figure)) in figures.enumerate() {
        let y = top + index * BAR_HEIGHT;
        let width = (figure / longest * BAR_WIDTH_MAX) as usize;
        bar(svg, [BARS_FROM, y], width.max(1), kind);
        text(svg, [BARS_FROM + width + 4, y + BAR_HEIGHT - 2], &format!("{figure:.0}"));
    }
}

fn bar(svg: &mut String, [x, y]: [usize; 2], width: usize, kind: Kind) {
    let (height, color) = (BAR_HEIGHT - 1, color(kind));
    let _ =
        writeln!(svg, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{color}\"/>");
}

fn text(svg: &mut String, [x, y]: [usize; 2], text: &str) {
    let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\">{text}</text>");
}

fn color(kind: Kind) -> &'static str {
    match kind {
        Kind::Leasehold => "#0b6e4f",
        Kind::Memcached => "#6b9ac4",
        Kind::Redis => "#d1495b",
        Kind::Limit => "#bbbbbb",
    }
}

const WIDTH: usize = 720;
const BARS_FROM: usize = 110;
const BAR_WIDTH_MAX: f64 = 520.0;
const BAR_HEIGHT: usize = 11;
const ROW_HEIGHT: usize = 4 * BAR_HEIGHT + 8;
const TOP: usize = 32;
