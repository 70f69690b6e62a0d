//! One source: the loop between its source, its delivery and its sink.

use std::collections::VecDeque;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::super::config::SourceConfig;
use super::super::dead_letters::DeadLetters;
use super::super::delivery::work::Work;
use super::super::delivery::{Delivery, Input, Step, Time, Want};
use super::super::position::Position;
use super::super::report::Report;
use super::super::rule::Rules;
use super::super::sink::Sink;
use super::super::source::{Broken, Source};
use crate::clock::{self, Clock};
use crate::metrics::{SourceCount, SourceEvent, SourceState, SourceStatus};

/// A source and all that belongs to it.
pub(super) struct Task<K> {
    clock: Clock,
    dead_letters: Option<DeadLetters>,
    delivery: Delivery,
    /// Receives the name once the source was attached or has failed for the first time.
    first: Option<mpsc::Sender<(String, bool)>>,
    name: String,
    /// When the next late events may be logged, in monotonic milliseconds.
    next_slow_line: u64,
    /// How old the newest proof may be before something is wrong; `None` if the source proves nothing.
    proof_within: Option<Duration>,
    /// When the source was attached, or has proven something since, in monotonic milliseconds.
    proven: u64,
    rules: watch::Receiver<Arc<Rules>>,
    sink: K,
    slow: Duration,
    status: Arc<SourceStatus>,
}

impl<K: Sink> Task<K> {
    pub(super) fn new(
        config: &SourceConfig,
        delivery: Delivery,
        sink: K,
        status: Arc<SourceStatus>,
        (rules, first): (watch::Receiver<Arc<Rules>>, mpsc::Sender<(String, bool)>),
        clock: Clock,
    ) -> Self {
        let dead_letters = config.dead_letters.clone();
        let dead_letters = dead_letters.map(|letters| DeadLetters::new(letters.file, letters.max.0));
        Task {
            clock,
            dead_letters,
            delivery,
            first: Some(first),
            name: config.name.clone(),
            next_slow_line: 0,
            proof_within: config.proof_within(),
            proven: 0,
            rules,
            sink,
            slow: config.slow.0,
            status,
        }
    }

    /// Runs until it is dropped.
    pub(super) async fn run(mut self, mut source: impl Source) {
        let mut inputs = VecDeque::new();
        loop {
            let input = match inputs.pop_front() {
                Some(input) => input,
                None => self.next(&mut source).await,
            };
            let is_attached = matches!(input, Input::Attached(_));
            let is_first = is_attached || matches!(input, Input::Broken(..));
            if let Input::Batch(batch) = &input {
                self.status.set_behind(batch.behind);
                let is_read = batch.behind.is_none_or(|behind| behind == 0);
                self.set_state(if is_read && self.is_proven() {
                    SourceState::Live
                } else {
                    SourceState::Behind
                });
            } else if !self.is_proven() && self.status.state() == SourceState::Live {
                self.set_state(SourceState::Behind);
                self.status.set_error(Some("no heartbeat has come back lately".to_owned()));
            }
            let (mut names, mut report) = (0, Report::default());
            for step in self.delivery.handle(input, self.time()) {
                match step {
                    Step::Acknowledge(position) => {
                        if let Err(broken) = acknowledge(&mut source, &position, &report).await {
                            inputs.push_back(Input::Broken(broken, chance()));
                            break;
                        }
                    }
                    Step::Apply(work) => names += self.apply(&work),
                    Step::Report(of_batch) => {
                        self.report(&of_batch, names);
                        report = of_batch;
                    }
                    step => self.carry_out(step),
                }
            }
            if is_attached {
                self.proven = self.clock.now().millis;
                self.set_state(SourceState::Behind);
            }
            if let Some(first) = self.first.take_if(|_| is_first) {
                // It fails only if nobody waits for it any more.
                let _ = first.send((self.name.clone(), is_attached));
            }
        }
    }

    /// The next thing that happens to the source.
    async fn next(&mut self, source: &mut impl Source) -> Input {
        let want = self.delivery.want();
        let due = self.delivery.due().map(|due| due.saturating_sub(self.clock.now().millis));
        let pause = due.map_or(TICK_MAX, |ms| Duration::from_millis(ms).min(TICK_MAX));
        let reading = async {
            match want {
                Want::Attach(from) => match timeout(ATTACH_MAX, source.attach(from.as_ref())).await {
                    Ok(Ok(attached)) => Input::Attached(attached),
                    Ok(Err(broken)) => Input::Broken(broken, chance()),
                    Err(_) => Input::Broken(Broken::Transient("attaching timed out".to_owned()), chance()),
                },
                Want::Read => match timeout(pause, source.next()).await {
                    Ok(Ok(batch)) => Input::Batch(batch),
                    Ok(Err(broken)) => Input::Broken(broken, chance()),
                    Err(_) => Input::Tick,
                },
                Want::Wait(_) => {
                    tokio::time::sleep(pause).await;
                    Input::Tick
                }
            }
        };
        let input = reading.await;
        if self.rules.has_changed().unwrap_or(false) {
            let rules = Arc::clone(&self.rules.borrow_and_update());
            self.delivery.set_rules(rules);
        }
        input
    }

    fn carry_out(&mut self, step: Step) {
        match step {
            Step::Acknowledge(_) | Step::Apply(_) | Step::Report(_) => {
                unreachable!("the loop has dealt with it")
            }
            Step::Attest(proven_ms) => {
                self.proven = self.proven.max(proven_ms);
                self.sink.attest(proven_ms);
            }
            Step::DeadLetter(letter) => {
                tracing::warn!(
                    source = self.name,
                    error = letter.error,
                    rule = letter.rule,
                    "event cannot be applied: its scope was invalidated"
                );
                let (error, rule) = (&letter.error, letter.rule.as_deref());
                self.sink.publish(SourceEvent::Poison { error, rule });
                match self.dead_letters.as_ref().map(|file| file.write(&letter)) {
                    Some(Ok(())) => self.status.add(SourceCount::DeadLetters, 1),
                    Some(Err(error)) => {
                        tracing::error!(source = self.name, %error, "cannot write a dead letter");
                        self.status.add(SourceCount::DeadLettersLost, 1);
                    }
                    None => self.status.add(SourceCount::DeadLettersLost, 1),
                }
            }
            Step::Failed(broken) => {
                self.status.add(SourceCount::Reconnects, 1);
                let error = broken.to_string();
                if self.status.error().is_none_or(|last| last != error) {
                    tracing::warn!(source = self.name, error, "source failed, trying again");
                    self.sink.publish(SourceEvent::State { error: Some(&error), state: SourceState::Down });
                }
                self.status.set_error(Some(error));
                self.set_state(SourceState::Down);
            }
            Step::Gap(why) => {
                self.status.add(SourceCount::Gaps, 1);
                self.sink.publish(SourceEvent::Gap { why: &why });
                tracing::warn!(
                    source = self.name,
                    why,
                    "events were lost: everything that they could name is invalidated"
                );
            }
            Step::Save(position) => self.save(&position),
        }
    }

    /// Returns the number of names that were invalidated.
    fn apply(&mut self, work: &Work) -> u64 {
        let names: u64 = work.steps.iter().map(|change| self.sink.apply(change)).sum();
        self.status.add(SourceCount::Invalidations, names);
        names
    }

    fn save(&mut self, position: &Position) {
        self.sink.save(position);
        self.status.set_position(format!("{} {}", position.identity, position.offset));
    }

    fn report(&mut self, report: &Report, names: u64) {
        for (count, more) in [
            (SourceCount::Applied, report.applied),
            (SourceCount::Duplicate, report.duplicate),
            (SourceCount::Merged, report.merged),
            (SourceCount::Poison, report.poison.len() as u64),
            (SourceCount::Storms, report.storms),
            (SourceCount::Unmatched, report.unmatched),
        ] {
            self.status.add(count, more);
        }
        let now_us = self.time().wall_us;
        let delays = report.committed.iter().map(|at| Duration::from_micros(now_us.saturating_sub(*at)));
        let mut longest = Duration::ZERO;
        for delay in delays {
            self.status.add_delay(delay);
            self.status.add(SourceCount::Slow, u64::from(delay > self.slow));
            longest = longest.max(delay);
        }
        let now_ms = self.clock.now().millis;
        if longest > self.slow && now_ms >= self.next_slow_line {
            self.next_slow_line = now_ms + SLOW_LINE_EVERY_MS;
            tracing::info!(source = self.name, delay = ?longest, events = report.applied, "events were applied late");
        }
        self.publish_batch(report, names, longest);
    }

    fn publish_batch(&self, report: &Report, names: u64, longest: Duration) {
        for (why, events) in
            [(SourceCount::Duplicate, report.duplicate), (SourceCount::Unmatched, report.unmatched)]
        {
            if events > 0 {
                self.sink.publish(SourceEvent::LeftOut { events, why });
            }
        }
        if report.applied > 0 {
            let delay = (!report.committed.is_empty()).then_some(longest);
            self.sink.publish(SourceEvent::Applied { delay, events: report.applied, names });
        }
    }

    fn set_state(&self, state: SourceState) {
        if self.status.state() != state
            && (state == SourceState::Live || self.status.state() == SourceState::Live)
        {
            tracing::info!(source = self.name, "source is {}", state.name());
        }
        if state != SourceState::Down {
            self.status.set_error(None);
            if self.status.state() != state {
                self.sink.publish(SourceEvent::State { error: None, state });
            }
        }
        self.status.set_state(state);
    }

    /// Whether the source has lately proven that nothing is missing, as far as it can.
    fn is_proven(&self) -> bool {
        let age = Duration::from_millis(self.clock.now().millis.saturating_sub(self.proven));
        self.proof_within.is_none_or(|limit| age <= limit)
    }

    fn time(&self) -> Time {
        Time { ms: self.clock.now().millis, wall_us: clock::wall().as_micros() as u64 }
    }
}

async fn acknowledge(source: &mut impl Source, position: &Position, report: &Report) -> Result<(), Broken> {
    let late = |_| Broken::Transient("acknowledging timed out".to_owned());
    timeout(ACKNOWLEDGE_MAX, source.done(position, report)).await.map_err(late)?
}

/// A number from 0 to 1, so that servers that failed together do not come back together.
fn chance() -> f64 {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_or(0.5, |()| f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX))
}

const ACKNOWLEDGE_MAX: Duration = Duration::from_secs(20);
/// A new slot of PostgreSQL waits for running transactions.
const ATTACH_MAX: Duration = Duration::from_secs(660);
const SLOW_LINE_EVERY_MS: u64 = 60_000;
/// New rules are seen after this time at most.
const TICK_MAX: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::runtime::Builder;
    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

    use super::*;
    use crate::events::config::Events;
    use crate::events::delivery::work::Change;
    use crate::events::rule::rules::Rule;
    use crate::events::source::{Attached, Batch};
    use crate::metrics::Event;

    /// Sends what watchers would see.
    struct Watched(UnboundedSender<String>);

    impl Sink for Watched {
        fn apply(&mut self, _: &Change) -> u64 {
            1
        }

        fn attest(&mut self, _: u64) {}

        fn publish(&self, what: SourceEvent<'_>) {
            self.0.send(Event::Source { source: "db", what }.to_string()).expect("the test receives it");
        }

        fn save(&mut self, _: &Position) {}
    }

    /// Brings one batch after a gap, and breaks.
    struct Breaking(Option<Batch>);

    impl Source for Breaking {
        async fn attach(&mut self, _: Option<&Position>) -> Result<Attached, Broken> {
            Ok(Attached::Gap(at(1), "the slot is lost".to_owned()))
        }

        async fn next(&mut self) -> Result<Batch, Broken> {
            self.0.take().ok_or_else(|| Broken::Transient("connection refused".to_owned()))
        }

        async fn done(&mut self, _: &Position, _: &Report) -> Result<(), Broken> {
            Ok(())
        }
    }

    fn at(offset: u64) -> Position {
        Position { identity: "a".to_owned(), offset }
    }

    #[test]
    fn watchers_see_a_gap_a_change_of_state_and_a_failure() {
        let tables = serde_json::from_value(json!({"db": {"kind": "http"}})).expect("it is a table");
        let rules: Vec<Rule> =
            serde_json::from_value(json!([{"source": "db", "keys": ["p:{id}"]}])).expect("it is a rule");
        let Events { rules, sources } = Events::new(&tables, rules.into()).expect("they fit");
        let (sender, mut lines) = unbounded_channel();
        let delivery = Delivery::new(sources[0].settings(), Arc::clone(&rules), None);
        let status = Arc::new(SourceStatus::new("db", "http"));
        let (_rules, rules) = watch::channel(rules);
        let channels = (rules, mpsc::channel().0);
        let task =
            Task::new(&sources[0], delivery, Watched(sender), Arc::clone(&status), channels, Clock::manual());
        let event = serde_json::from_value(json!({"data": {"id": 7}})).expect("it is an event");
        let batch = Batch { events: vec![Ok(event)], position: Some(at(2)), ..Batch::default() };
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let seen = runtime.block_on(async {
            let mut seen = Vec::new();
            let receiving = async {
                while seen.len() < 5 {
                    seen.push(lines.recv().await.expect("the task runs"));
                }
            };
            tokio::select! {
                () = task.run(Breaking(Some(batch))) => unreachable!("it runs until it is dropped"),
                () = receiving => {}
            }
            seen
        });
        let expected = [
            "type=source_gap source=db why=the%20slot%20is%20lost",
            "type=source_state source=db state=behind",
            "type=source_state source=db state=live",
            "type=event_applied source=db events=1 names=1",
            "type=source_state source=db state=down error=connection%20refused",
        ];
        assert_eq!(seen, expected);
        assert_eq!((status.state(), status.count(SourceCount::Gaps)), (SourceState::Down, 1));
    }
}
