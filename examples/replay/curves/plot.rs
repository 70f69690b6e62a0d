//! The curves as one SVG with a panel for each trace, for the documents.

use std::fmt::Write;

use crate::curves::Curves;
use crate::curves::report::{name, resident, title};
use crate::server::Kind;

/// A line of a panel: its points are memory in MiB and misses in percent.
struct Series {
    points: Vec<(f64, f64)>,
    style: Style,
}

#[derive(Clone, Copy)]
struct Style {
    color: &'static str,
    /// Simulated policies are dashed, and servers have dots where they were measured.
    is_dashed: bool,
    title: &'static str,
}

/// The area of a panel within its axes, and the ranges of both.
struct Panel {
    left: f64,
    top: f64,
    /// From and to, as the logarithm to base 2 of MiB.
    octaves: (f64, f64),
    /// From and to, in percent.
    percents: (f64, f64),
    /// Between two lines of the grid.
    step: f64,
}

pub fn svg(all: &[Curves]) -> String {
    let rows = all.len().div_ceil(COLUMNS);
    let (width, height) = (COLUMNS as f64 * CELL_WIDTH + 10.0, HEAD + rows as f64 * CELL_HEIGHT + 10.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    legend(&mut svg);
    for (index, curves) in all.iter().enumerate() {
        let (column, row) = (index % COLUMNS, index / COLUMNS);
        let (left, top) = (column as f64 * CELL_WIDTH + MARGIN, HEAD + row as f64 * CELL_HEIGHT + TITLE);
        let series = series(curves);
        let panel = Panel::new(left, top, curves, &series);
        panel.draw_axes(&mut svg, &name(curves));
        series.iter().for_each(|series| panel.draw(&mut svg, series));
    }
    svg + "</svg>\n"
}

/// Servers by their resident memory, and policies by that of the simulation. The last one is on top.
fn series(curves: &Curves) -> Vec<Series> {
    let simulated = |percents: &[f64]| -> Vec<(f64, f64)> {
        curves.megabytes.iter().map(|megabytes| f64::from(*megabytes)).zip(percents.iter().copied()).collect()
    };
    let mut series = vec![
        Series { points: simulated(&curves.belady), style: BELADY },
        Series { points: simulated(&curves.gdsf), style: GDSF },
    ];
    let servers = Kind::ALL.into_iter().rev();
    series.extend(servers.map(|kind| Series { points: curves.curve(kind, resident), style: style(kind) }));
    series
}

fn legend(svg: &mut String) {
    let styles = Kind::ALL.map(style).into_iter().chain([GDSF, BELADY]);
    for (index, style) in styles.enumerate() {
        let x = MARGIN + index as f64 * 115.0;
        line(svg, &[(x, 16.0), (x + 24.0, 16.0)], style);
        text(svg, (x + 29.0, 20.0), "start", style.title);
    }
    let axes = "misses in percent, by resident memory in MiB (GDSF and Belady: memory of the simulation)";
    text(svg, (MARGIN, 38.0), "start", axes);
}

impl Panel {
    fn new(left: f64, top: f64, curves: &Curves, series: &[Series]) -> Panel {
        let largest = curves.megabytes.last().copied().unwrap_or(1);
        let octaves = (f64::from(curves.megabytes[0]).log2(), f64::from(2 * largest).log2());
        let visible = series
            .iter()
            .flat_map(|series| &series.points)
            .filter(|point| (octaves.0..=octaves.1).contains(&point.0.log2()));
        let (least, most) =
            visible.fold((f64::MAX, 0.0f64), |(least, most), point| (least.min(point.1), most.max(point.1)));
        let step = STEPS.into_iter().find(|step| (most - least) / step <= GRID_LINES_MAX).unwrap_or(100.0);
        let percents = ((least / step).floor() * step, (most / step).ceil() * step);
        Panel { left, top, octaves, percents, step }
    }

    fn x(&self, megabytes: f64) -> f64 {
        self.left + (megabytes.log2() - self.octaves.0) / (self.octaves.1 - self.octaves.0) * PANEL_WIDTH
    }

    fn y(&self, percent: f64) -> f64 {
        let (from, to) = self.percents;
        self.top + (to - percent) / (to - from).max(f64::MIN_POSITIVE) * PANEL_HEIGHT
    }

    fn draw_axes(&self, svg: &mut String, title: &str) {
        let (right, bottom) = (self.left + PANEL_WIDTH, self.top + PANEL_HEIGHT);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" font-weight=\"bold\">{title}</text>",
            self.left,
            self.top - 8.0
        );
        let mut percent = self.percents.0;
        while percent <= self.percents.1 {
            let y = self.y(percent);
            line(svg, &[(self.left, y), (right, y)], GRID);
            text(svg, (self.left - 4.0, y + 4.0), "end", &percent.to_string());
            percent += self.step;
        }
        for octave in self.octaves.0 as u32..=self.octaves.1 as u32 {
            let megabytes = 1u32 << octave;
            let x = self.x(megabytes.into());
            line(svg, &[(x, self.top), (x, bottom)], GRID);
            text(svg, (x, bottom + 14.0), "middle", &megabytes.to_string());
        }
    }

    /// Points with more memory than the axis has are left out.
    fn draw(&self, svg: &mut String, series: &Series) {
        let visible =
            series.points.iter().filter(|point| (self.octaves.0..=self.octaves.1).contains(&point.0.log2()));
        let places: Vec<_> = visible.map(|(memory, percent)| (self.x(*memory), self.y(*percent))).collect();
        line(svg, &places, series.style);
        if !series.style.is_dashed {
            for (x, y) in places {
                let color = series.style.color;
                let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{color}\"/>");
            }
        }
    }
}

fn line(svg: &mut String, places: &[(f64, f64)], style: Style) {
    if places.is_empty() {
        return;
    }
    let places: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let dashes = if style.is_dashed { " stroke-dasharray=\"5 3\"" } else { "" };
    let width = if style.title.is_empty() { 0.5 } else { 1.8 };
    let (places, color) = (places.join(" "), style.color);
    let _ = writeln!(
        svg,
        "<polyline points=\"{places}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"{width}\"{dashes}/>"
    );
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
}

fn style(kind: Kind) -> Style {
    let color = match kind {
        Kind::Leasehold => "#0b6e4f",
        Kind::Memcached => "#6b9ac4",
        Kind::RedisLru => "#eaa221",
        Kind::RedisLfu => "#d1495b",
    };
    Style { color, is_dashed: false, title: title(kind) }
}

const GDSF: Style = Style { color: "#444444", is_dashed: true, title: "GDSF" };
const BELADY: Style = Style { color: "#aaaaaa", is_dashed: true, title: "Belady" };
const GRID: Style = Style { color: "#dddddd", is_dashed: false, title: "" };

const COLUMNS: usize = 3;
const CELL_WIDTH: f64 = 250.0;
const CELL_HEIGHT: f64 = 195.0;
const HEAD: f64 = 50.0;
const MARGIN: f64 = 35.0;
const TITLE: f64 = 22.0;
const PANEL_WIDTH: f64 = 205.0;
const PANEL_HEIGHT: f64 = 140.0;
const GRID_LINES_MAX: f64 = 6.0;
/// The distances of the lines of the grid, in percent.
const STEPS: [f64; 6] = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curves::Point;

    fn curves() -> Curves {
        let point = |kind, megabytes: u32, miss_percent| Point {
            empty: 0.0,
            kind,
            megabytes,
            miss_percent,
            resident: f64::from(megabytes),
        };
        Curves {
            belady: vec![12.0, 11.0],
            compulsory: 10.0,
            gdsf: vec![20.0, 15.0],
            is_aside: false,
            megabytes: vec![8, 16],
            points: vec![
                point(Kind::Leasehold, 8, 21.0),
                point(Kind::Leasehold, 16, 16.0),
                point(Kind::Memcached, 16, 24.0),
                point(Kind::Memcached, 64, 3.0),
            ],
            trace: "made".to_owned(),
        }
    }

    #[test]
    fn axes_enclose_all_visible_points() {
        let curves = curves();
        let panel = Panel::new(0.0, 0.0, &curves, &series(&curves));
        assert_eq!((panel.octaves, panel.percents, panel.step), ((3.0, 5.0), (10.0, 25.0), 5.0));
        assert_eq!((panel.x(8.0), panel.x(32.0)), (0.0, PANEL_WIDTH));
        assert_eq!((panel.y(25.0), panel.y(10.0)), (0.0, PANEL_HEIGHT));
    }

    #[test]
    fn each_visible_point_of_a_server_has_a_dot() {
        let svg = svg(&[curves(), curves()]);
        assert_eq!(svg.matches("<circle").count(), 6);
        assert_eq!(svg.matches(">made</text>").count(), 2);
        assert!(!svg.contains("NaN") && svg.ends_with("</svg>\n"));
    }
}
