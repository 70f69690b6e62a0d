//! Progress of a long operation: a log line each second, a sign of life for waiting processes, and a
//! deadline.

use crate::clock::{Clock, Now};

/// The finished part of a long operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Step {
    pub doing: &'static str,
    pub done: u64,
    pub total: u64,
    pub unit: &'static str,
}

/// The deadline has passed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct DeadlinePassed;

/// Watches a long operation.
pub(crate) struct Progress<S> {
    clock: Clock,
    /// In monotonic milliseconds.
    deadline: Option<u64>,
    reporter: Reporter,
    /// Called about once a second, as a sign of life, and when the next call is due.
    sign: S,
    sign_due: u64,
}

/// Decides which line is logged, and when.
struct Reporter {
    doing: &'static str,
    next: u64,
    since: u64,
}

impl<S: FnMut()> Progress<S> {
    /// Starts a long operation, which may last until the deadline (monotonic milliseconds).
    pub(crate) fn new(clock: &Clock, deadline: Option<u64>, sign: S) -> Self {
        let now = clock.now();
        let reporter = Reporter::new(now);
        Progress { clock: clock.clone(), deadline, reporter, sign, sign_due: now.millis }
    }

    /// Logs a step if the last line is a second old; the first step is a sign of life, too.
    pub(crate) fn at(&mut self, step: Step) -> Result<(), DeadlinePassed> {
        let now = self.clock.now();
        if let Some(line) = self.reporter.line(step, now) {
            tracing::info!("{line}");
        }
        if now.millis >= self.sign_due {
            self.sign_due = now.millis + EVERY_MS;
            (self.sign)();
        }
        if self.deadline.is_some_and(|deadline| now.millis > deadline) { Err(DeadlinePassed) } else { Ok(()) }
    }
}

impl Reporter {
    fn new(now: Now) -> Self {
        Reporter { doing: "", next: 0, since: now.millis }
    }

    fn line(&mut self, step: Step, now: Now) -> Option<String> {
        let Step { doing, done, total, unit } = step;
        if doing != self.doing {
            *self = Reporter { doing, next: now.millis + EVERY_MS, since: now.millis };
        }
        if now.millis < self.next {
            return None;
        }
        self.next = now.millis + EVERY_MS;
        let percent = (done * 100).checked_div(total).unwrap_or(100).min(100);
        let rate = done * 1000 / (now.millis - self.since);
        Some(format!("{doing}: {percent} %, {done} of {total} {unit}, {rate} {unit}/s"))
    }
}

const EVERY_MS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;

    #[test]
    fn progress_and_rate_are_logged_once_a_second() {
        let mut reporter = Reporter::new(Now { millis: 5_000, unix: 0 });
        let step = |doing, done| Step { doing, done, total: 4_000, unit: "items" };
        for (millis, doing, done, expected) in [
            (5_000, "saving", 0, None),
            (5_999, "saving", 900, None),
            (6_000, "saving", 1_000, Some("saving: 25 %, 1000 of 4000 items, 1000 items/s")),
            (6_900, "saving", 1_900, None),
            (7_500, "saving", 2_000, Some("saving: 50 %, 2000 of 4000 items, 800 items/s")),
            // Items were added in the meantime.
            (8_500, "saving", 4_200, Some("saving: 100 %, 4200 of 4000 items, 1200 items/s")),
            (9_600, "loading", 9, None),
            (10_600, "loading", 10, Some("loading: 0 %, 10 of 4000 items, 10 items/s")),
        ] {
            let line = reporter.line(step(doing, done), Now { millis, unix: 0 });
            assert_eq!(line.as_deref(), expected, "at {millis}");
        }
        let empty = Step { total: 0, ..step("loading", 0) };
        assert!(reporter.line(empty, Now { millis: 20_000, unix: 0 }).unwrap().contains(" 100 %"));
    }

    #[test]
    fn an_operation_ends_at_its_deadline() {
        let clock = Clock::manual();
        let step = Step { doing: "loading", done: 1, total: 2, unit: "MB" };
        let (mut bounded, mut endless) =
            (Progress::new(&clock, Some(3_000), || ()), Progress::new(&clock, None, || ()));
        clock.advance(Duration::from_millis(3_000));
        assert_eq!((bounded.at(step), endless.at(step)), (Ok(()), Ok(())));
        clock.advance(Duration::from_millis(1));
        assert_eq!((bounded.at(step), endless.at(step)), (Err(DeadlinePassed), Ok(())));
    }

    #[test]
    fn the_sign_of_life_comes_at_once_and_then_each_second() {
        let (clock, signs) = (Clock::manual(), Cell::new(0));
        let mut progress = Progress::new(&clock, None, || signs.set(signs.get() + 1));
        let step = |done| Step { doing: "loading", done, total: 9, unit: "MB" };
        for (advance_ms, expected) in [(0, 1), (0, 1), (999, 1), (1, 2), (500, 2), (5_000, 3)] {
            clock.advance(Duration::from_millis(advance_ms));
            progress.at(step(expected)).unwrap();
            assert_eq!(signs.get(), expected);
        }
    }
}
