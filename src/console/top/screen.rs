//! The view, drawn: on a terminal of at least 80 by 24, or as text.

use std::collections::VecDeque;
use std::fmt::Write;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph, RenderDirection, Row, Sparkline, Table};

use super::source::Source;
use super::view::{Panel, Policy, Reading, Unit, View};

/// The lines on the terminal.
pub(super) struct Screen {
    pub(super) server: String,
    pub(super) view: Option<View>,
    /// The reason why there are no new samples.
    pub(super) trouble: Option<String>,
    pub(super) is_paused: bool,
    pub(super) page: Page,
    /// The number of policies above the first visible one.
    pub(super) scrolled: usize,
    /// Throughput, and hits per thousand reads; the newest first.
    past: VecDeque<(u64, Option<u64>)>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Page {
    Overview,
    Policies,
}

impl Screen {
    pub(super) fn new(server: String) -> Screen {
        Screen {
            server,
            view: None,
            trouble: None,
            is_paused: false,
            page: Page::Overview,
            scrolled: 0,
            past: VecDeque::new(),
        }
    }

    /// Shows a new view, unless paused.
    pub(super) fn show(&mut self, view: View) {
        self.trouble = None;
        if self.is_paused {
            return;
        }
        if view.seconds > 0.0 {
            let ratio = view.hit_ratio.map(|ratio| (ratio * 1000.0) as u64);
            self.past.push_front((view.throughput() as u64, ratio));
            self.past.truncate(PAST_MAX);
        }
        self.view = Some(view);
    }

    pub(super) fn turn(&mut self) {
        self.page = match self.page {
            Page::Overview => Page::Policies,
            Page::Policies => Page::Overview,
        };
    }

    /// Scrolls through the policies.
    pub(super) fn scroll(&mut self, lines: isize) {
        let last = self.view.as_ref().map_or(0, |view| view.policies.len().saturating_sub(1));
        self.scrolled = self.scrolled.saturating_add_signed(lines).min(last);
    }

    pub(super) fn draw(&self, frame: &mut Frame) {
        let rows = [Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)];
        let [title, body, foot] = Layout::vertical(rows).areas(frame.area());
        frame.render_widget(self.title(), title);
        match (&self.view, self.page) {
            (None, _) => {}
            (Some(view), Page::Overview) => self.overview(view, frame, body),
            (Some(view), Page::Policies) => self.policies(view, frame, body),
        }
        let last = match &self.trouble {
            None => Line::from(KEYS).dim(),
            Some(trouble) => Line::from(format!("{trouble}; retrying")).red(),
        };
        frame.render_widget(last, foot);
    }

    fn title(&self) -> Paragraph<'_> {
        let mut line = Line::from(self.server.clone().bold());
        if let Some(view) = &self.view {
            line.push_span(format!("  {}, up {}", view.version, span(view.uptime_seconds)));
        }
        if self.is_paused {
            line.push_span("  paused".yellow());
        }
        Paragraph::new(line)
    }

    fn overview(&self, view: &View, frame: &mut Frame, area: Rect) {
        let sources = match view.sources.len() {
            0 => 0,
            lines => lines.min(SOURCES_MAX) + BORDERS + 1,
        };
        let heights = [10, 8, sources as u16].map(Constraint::Length);
        let [above, middle, sources, below] =
            Layout::vertical(heights.into_iter().chain([Constraint::Min(0)])).areas(area);
        if !sources.is_empty() {
            frame.render_widget(table_of_sources(view, sources.width), sources);
        }
        let halves = |area| -> [Rect; 2] {
            Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(area)
        };
        let ([traffic, leases], [server, invalidations], [rate, ratio]) =
            (halves(above), halves(middle), halves(below));
        let places = [
            (Panel::Traffic, traffic),
            (Panel::Leases, leases),
            (Panel::Server, server),
            (Panel::Invalidations, invalidations),
        ];
        for (panel, place) in places {
            let readings: Vec<_> = view.panel(panel).collect();
            if !readings.is_empty() {
                frame.render_widget(table(panel.title(), &readings, place.width), place);
            }
        }
        let commands = self.past.iter().map(|(throughput, _)| Some(*throughput)).collect();
        frame.render_widget(past(" commands per second ", commands, None), rate);
        let title = match view.hit_ratio.map(|ratio| format!(" hit ratio {:.1} % ", ratio * 100.0)) {
            Some(title) if title.len() + BORDERS <= ratio.width.into() => title,
            Some(_) | None => " hit ratio ".to_owned(),
        };
        frame.render_widget(
            past(&title, self.past.iter().map(|(_, ratio)| *ratio).collect(), Some(1000)),
            ratio,
        );
    }

    fn policies(&self, view: &View, frame: &mut Frame, area: Rect) {
        let Some(first) = view.policies.first() else {
            let block = Block::bordered().title(" policies ");
            return frame.render_widget(Paragraph::new(NO_POLICIES).block(block), area);
        };
        let count = fitting(area.width, first.readings.iter().map(|reading| reading.figure.name));
        let names = || first.readings.iter().take(count).map(|reading| reading.figure.name);
        let head = [Line::from("prefix")].into_iter().chain(names().map(|name| right(name.to_owned())));
        let head = Row::new(head).dim();
        let row = |policy: &Policy| {
            let rates = policy.readings.iter().take(count).map(|reading| right(rate(reading)));
            Row::new([Line::from(policy.prefix.clone())].into_iter().chain(rates))
        };
        let widths = names().map(|name| Constraint::Length(width(name) as u16));
        let widths = [Constraint::Fill(1)].into_iter().chain(widths);
        let rows = view.policies.iter().skip(self.scrolled).map(row);
        let block = Block::bordered().title(" policies, per second ");
        frame.render_widget(Table::new(rows, widths).header(head).block(block), area);
    }
}

impl Panel {
    fn title(self) -> &'static str {
        match self {
            Panel::Leases => "leases",
            Panel::Server => "server",
            Panel::Traffic => "traffic",
            Panel::Invalidations => "invalidations",
        }
    }
}

/// The view as plain text.
pub(super) fn text(server: &str, view: &View) -> String {
    let mut text = format!("{server}  {}, up {}\n", view.version, span(view.uptime_seconds));
    let ratio = view.hit_ratio.map_or("-".to_owned(), |ratio| format!("{:.1} %", ratio * 100.0));
    let mut line = |name: &str, rate: &str, total: &str| {
        writeln!(text, "{name:<28} {rate:>12} {total:>12}").expect("a string takes all");
    };
    line("", "per second", "total");
    line("hit ratio", &ratio, "");
    for panel in [Panel::Traffic, Panel::Leases, Panel::Invalidations, Panel::Server] {
        for reading in view.panel(panel) {
            let name = format!("{} {}", panel.title(), reading.figure.name);
            line(&name, &rate(reading), &total(reading));
        }
    }
    for policy in &view.policies {
        for reading in &policy.readings {
            line(&format!("{} {}", policy.prefix, reading.figure.name), &rate(reading), &total(reading));
        }
    }
    for (nth, source) in view.sources.iter().enumerate() {
        let columns = columns(source, view.seconds);
        if nth == 0 {
            let names = columns.iter().map(|(name, _)| format!(" {name:>NUMBER_WIDTH$}"));
            writeln!(text, "{:<16}{}", "source", names.collect::<String>()).expect("a string takes all");
        }
        let texts: String = columns.iter().map(|(_, text)| format!(" {text:>NUMBER_WIDTH$}")).collect();
        let line = format!("{:<16}{texts} {}", source.name, source.error);
        writeln!(text, "{}", line.trim_end()).expect("a string takes all");
    }
    text
}

/// The number of columns that fit whole beside the first one: a part of a number is another number.
fn fitting<'a>(width_of_table: u16, names: impl Iterator<Item = &'a str>) -> usize {
    let mut left = usize::from(width_of_table).saturating_sub(BORDERS + PREFIX_WIDTH);
    let fits = |name: &&str| match left.checked_sub(1 + width(name)) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    names.take_while(fits).count()
}

fn width(name: &str) -> usize {
    name.len().max(NUMBER_WIDTH)
}

fn right(text: String) -> Line<'static> {
    Line::from(text).right_aligned()
}

/// The columns of sources, after their names; the most important ones first.
fn columns(source: &Source, seconds: f64) -> [(&'static str, String); 9] {
    let behind = |behind: u64| if source.is_in_bytes { bytes(behind as f64) } else { count(behind as f64) };
    let delay = |us: Option<u64>| us.map_or(String::new(), |us| duration(us as f64));
    let rate = source.newly_applied.filter(|_| seconds > 0.0).map(|newly| count(newly as f64 / seconds));
    [
        ("state", source.state.clone()),
        ("mark age", delay(source.watermark_age_ms.map(|ms| ms.saturating_mul(1000)))),
        ("99 % in", delay(source.delay_us_p99)),
        ("behind", source.behind.map_or(String::new(), behind)),
        ("applied/s", rate.unwrap_or_default()),
        ("poison", count(source.poison as f64)),
        ("gaps", count(source.gaps as f64)),
        ("letters", count(source.dead_letters as f64)),
        ("between", count(source.reads_between as f64)),
    ]
}

/// A line for each source; those that are not live come first.
fn table_of_sources(view: &View, width_of_table: u16) -> Table<'static> {
    let names = columns(&Source::default(), 0.0).map(|(name, _)| name);
    let shown = fitting(width_of_table, names.into_iter());
    let row = |source: &Source| {
        let texts = columns(source, view.seconds).into_iter().take(shown).map(|(_, text)| right(text));
        let row = Row::new([Line::from(source.name.clone())].into_iter().chain(texts));
        if source.is_live() { row } else { row.style(Style::new().red()) }
    };
    let head = names.into_iter().take(shown).map(|name| right(name.to_owned()));
    let head = Row::new([Line::from("")].into_iter().chain(head)).dim();
    let widths = names.into_iter().take(shown).map(|name| Constraint::Length(width(name) as u16));
    let widths = [Constraint::Fill(1)].into_iter().chain(widths);
    let title = match view.sources.len() {
        all @ ..=SOURCES_MAX => format!(" sources of events: {all} "),
        all => format!(" sources of events: {SOURCES_MAX} of {all} "),
    };
    Table::new(view.sources.iter().map(row), widths).header(head).block(Block::bordered().title(title))
}

/// A table with as many columns as fit: names may be cut, numbers may not.
fn table<'a>(title: &'a str, readings: &[&Reading], width: u16) -> Table<'a> {
    let numbers = match usize::from(width).saturating_sub(BORDERS) {
        NARROWEST_WITH_TOTAL.. => 2,
        NARROWEST_WITH_RATE.. => 1,
        _ => 0,
    };
    let rows = readings.iter().map(|reading| {
        // What is only there now has no rate.
        let one = if reading.per_second.is_some() { rate(reading) } else { total(reading) };
        let columns = if numbers == 2 { vec![rate(reading), total(reading)] } else { vec![one] };
        let columns = columns.into_iter().take(numbers).map(|number| Line::from(number).right_aligned());
        let row = Row::new([Line::from(reading.figure.name)].into_iter().chain(columns));
        if reading.figure.name == STALE_NOT_SERVED && reading.total > 0 {
            row.style(Style::new().green().bold())
        } else {
            row
        }
    });
    let heads = ["per s", "total"].map(|head| Line::from(head).right_aligned());
    let head = Row::new([Line::from("")].into_iter().chain(heads.into_iter().take(numbers)));
    let number = Constraint::Length(NUMBER_WIDTH as u16);
    let widths = [Constraint::Fill(1)].into_iter().chain(std::iter::repeat_n(number, numbers));
    Table::new(rows, widths).header(head.dim()).block(Block::bordered().title(format!(" {title} ")))
}

fn past(title: &str, values: Vec<Option<u64>>, most: Option<u64>) -> Sparkline<'static> {
    let line = Sparkline::default().data(values).block(Block::bordered().title(title.to_owned())).cyan();
    let line = line.direction(RenderDirection::RightToLeft);
    match most {
        None => line,
        Some(most) => line.max(most),
    }
}

fn rate(reading: &Reading) -> String {
    match reading.per_second {
        None => String::new(),
        Some(rate) if reading.figure.unit == Unit::Bytes => bytes(rate),
        Some(rate) => count(rate),
    }
}

fn total(reading: &Reading) -> String {
    let total = reading.total as f64;
    match reading.figure.unit {
        Unit::Bytes | Unit::BytesNow => bytes(total),
        Unit::Events | Unit::Things => count(total),
    }
}

/// A number with three or four digits.
fn count(number: f64) -> String {
    scaled(number, 1000.0, &["", " k", " M", " G", " T", " P"])
}

fn bytes(number: f64) -> String {
    scaled(number, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB", " PiB"])
}

/// A time of so many microseconds.
fn duration(us: f64) -> String {
    scaled(us, 1000.0, &[" us", " ms", " s"])
}

fn scaled(number: f64, step: f64, units: &[&str]) -> String {
    let (mut number, mut units) = (number, units);
    while let [_, rest @ ..] = units
        && !rest.is_empty()
        && number >= step * 10.0
    {
        (number, units) = (number / step, rest);
    }
    let is_small = number < 10.0 && number.fract() > 0.0;
    let digits = usize::from(is_small);
    format!("{number:.digits$}{}", units.first().unwrap_or(&""))
}

fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        (_, _, _) => format!("{days} d {} h", hours % 24),
    }
}

/// The most important figure.
const STALE_NOT_SERVED: &str = "stale not served";
const KEYS: &str = "q quit  p pause  tab policies  up, down scroll";
const NO_POLICIES: &str = "this server has no policies for prefixes";
/// The longest number, such as 10239 KiB.
const NUMBER_WIDTH: usize = 9;
/// The least room for a name and its numbers.
const NARROWEST_WITH_TOTAL: usize = NARROWEST_WITH_RATE + 1 + NUMBER_WIDTH;
const NARROWEST_WITH_RATE: usize = 8 + 1 + NUMBER_WIDTH;
const PREFIX_WIDTH: usize = 8;
/// More do not fit beside the other panels.
const SOURCES_MAX: usize = 6;
const BORDERS: usize = 2;
/// Wider than most terminals.
const PAST_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::sample::Sample;
    use super::*;

    fn view() -> View {
        let sample = |at, hits: &str, refused: &str| {
            let stats = [
                ("pid", "1"),
                ("uptime", "90061"),
                ("leasehold_version", "0.1.0"),
                ("cmd_get", hits),
                ("get_hits", hits),
                ("get_misses", "50"),
                ("bytes_read", "104857600"),
                ("lease_refused_voided", refused),
                ("voids_key", "3"),
                ("charged_bytes", "33554432"),
                ("limit_maxbytes", "67108864"),
                ("curr_items", "12345"),
                ("1:prefix", "page:"),
                ("1:lease_granted", "3"),
                ("1:lease_hot_miss", "0"),
                ("2:prefix", "user:"),
                ("2:lease_granted", "4"),
            ];
            Sample::of(Duration::from_secs(at), &stats)
        };
        View::new(Some(&sample(0, "1000", "0")), &sample(2, "31000", "7"))
    }

    /// The text on a terminal of this size.
    fn drawn(screen: &Screen, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        for part in expected {
            assert!(text.contains(part), "{part}:\n{text}");
        }
    }

    #[test]
    fn everything_fits_on_a_small_terminal_and_a_large_one() {
        let mut screen = Screen::new("cache-1:11211".to_owned());
        screen.show(view());
        for (width, height) in [(80, 24), (200, 50)] {
            let text = drawn(&screen, width, height);
            check(
                &text,
                &[
                    "cache-1:11211  leasehold 0.1.0, up 1 d 1 h",
                    "traffic",
                    "leases",
                    "server",
                    "invalidations",
                ],
            );
            check(
                &text,
                &["stale not served", "3.5", "15 k", "32 MiB", "64 MiB", "12 k", "100.0 %", "█", "q quit"],
            );
        }
        // Smaller terminals show a part.
        for (width, height) in [(40, 10), (10, 3), (1, 1)] {
            drawn(&screen, width, height);
        }
    }

    /// At 70 columns, 1001 KiB was shown as 001 KiB.
    #[test]
    fn no_number_is_cut_on_a_terminal_of_any_width() {
        let sample = |at, bytes: &str| {
            let stats =
                [("pid", "1"), ("bytes_read", bytes), ("get_hits", bytes), ("1:prefix", "page:user:name:")];
            let policies = [("1:lease_granted", bytes), ("1:lease_hot_miss", bytes), ("1:voids_key", bytes)];
            Sample::of(Duration::from_secs(at), &[&stats[..], &policies].concat())
        };
        let mut screen = Screen::new("here:1".to_owned());
        screen.show(View::new(Some(&sample(0, "0")), &sample(1, "10485239")));
        for page in [Page::Overview, Page::Policies] {
            screen.page = page;
            for width in 1..200 {
                let text = drawn(&screen, width, 24);
                // The first line names the server.
                for line in text.lines().skip(1).filter(|line| !line.contains("hit ratio")) {
                    let line = line.replace("10239 KiB", "").replace("10 M", "");
                    assert!(!line.contains(|c: char| c.is_ascii_digit()), "{width}: {line}");
                }
            }
        }
        check(&drawn(&screen, 70, 24), &["page:us", "granted", "10 M"]);
        screen.page = Page::Overview;
        check(&drawn(&screen, 70, 24), &["10239 KiB", "10 M", "total"]);
    }

    #[test]
    fn policies_have_their_own_page() {
        let mut screen = Screen::new("here:1".to_owned());
        screen.show(view());
        screen.turn();
        check(&drawn(&screen, 80, 24), &["page:", "user:", "granted", "coalesced"]);
        screen.scroll(5);
        let text = drawn(&screen, 80, 24);
        assert!(text.contains("user:") && !text.contains("page:"), "{text}");
        screen.scroll(-9);
        check(&drawn(&screen, 80, 24), &["page:"]);
        screen.show(View::new(None, &Sample::default()));
        check(&drawn(&screen, 80, 24), &["no policies"]);
    }

    #[test]
    fn each_source_of_events_has_a_line() {
        let sample = |at, applied: &str| {
            let stats = [
                ("pid", "1"),
                ("get_hits", "1"),
                ("source app:state", "live"),
                ("source app:applied", applied),
                ("source app:delay_us_p99", "1500"),
                ("source shop:kind", "postgres"),
                ("source shop:state", "down"),
                ("source shop:behind", "1048576"),
                ("source shop:withheld", "1"),
                ("source shop:error", "connection refused"),
            ];
            Sample::of(Duration::from_secs(at), &stats)
        };
        let view = View::new(Some(&sample(0, "0")), &sample(2, "3000"));
        let mut screen = Screen::new("here:1".to_owned());
        screen.show(view.clone());
        let wide = drawn(&screen, 120, 40);
        check(&wide, &["sources of events: 2", "applied/s", "1500 us", "1024 KiB", "withheld", "hit ratio"]);
        assert!(wide.find("shop").unwrap() < wide.find("app ").unwrap(), "{wide}");
        // Columns are left out on a small terminal, and the graphs.
        check(&drawn(&screen, 80, 24), &["shop", "withheld", "1500 us", "app", "live"]);
        assert!(!drawn(&screen, 60, 24).contains("letters"));

        let lines = text("here:1", &view);
        check(&lines, &["\nsource               state  mark age", "connection refused\n", "\napp "]);
    }

    #[test]
    fn no_more_sources_are_shown_than_leave_room() {
        let names: Vec<String> = (0..9).map(|nth| format!("source s{nth}:state")).collect();
        let stats: Vec<_> = names.iter().map(|name| (name.as_str(), "live")).collect();
        let mut screen = Screen::new("here:1".to_owned());
        screen.show(View::new(None, &Sample::of(Duration::ZERO, &stats)));
        let text = drawn(&screen, 120, 50);
        assert!(text.contains("sources of events: 6 of 9") && text.contains("s5") && !text.contains("s6"));
    }

    #[test]
    fn errors_and_pauses_are_shown() {
        let mut screen = Screen::new("here:1".to_owned());
        screen.trouble = Some("no connection".to_owned());
        check(&drawn(&screen, 80, 24), &["no connection; retrying"]);
        screen.show(view());
        assert!(!drawn(&screen, 80, 24).contains("no connection"));
        screen.is_paused = true;
        screen.show(View::new(None, &Sample::default()));
        check(&drawn(&screen, 80, 24), &["paused", "15 k"]);
    }

    #[test]
    fn the_text_has_the_same_figures() {
        let text = text("here:1", &view());
        check(&text, &["here:1  leasehold 0.1.0, up 1 d 1 h\n", "leases stale not served"]);
        check(&text, &["page: granted", "server memory used"]);
        assert!(text.lines().skip(1).all(|line| line.chars().count() <= 54), "{text}");
    }

    #[test]
    fn numbers_are_short() {
        for (number, text) in
            [(0.0, "0"), (0.25, "0.2"), (9.94, "9.9"), (9999.0, "9999"), (10_000.0, "10 k"), (2.5e7, "25 M")]
        {
            assert_eq!(count(number), text);
        }
        assert_eq!(bytes(10.0 * 1024.0), "10 KiB");
        assert_eq!([59, 60, 3600, 90_000].map(span), ["59 s", "1 min", "1 h 0 min", "1 d 1 h"]);
    }
}
