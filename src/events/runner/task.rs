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
use crate::metrics::{SourceCount, SourceState, SourceStatus};

/// A source and all that belongs to it.
pub(super) struct Task<K> {
    clock: Clock,
    dead_letters: Option<DeadLetters>,
    delivery: Delivery,
    /// Receives the name once the source was attached or has failed for the first time.
    first: Option<mpsc::Sender<(String, bool)>>,
    name: String,
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
                self.set_state(if is_read { SourceState::Live } else { SourceState::Behind });
            }
            let mut report = Report::default();
            for step in self.delivery.handle(input, self.time()) {
                match step {
                    Step::Acknowledge(position) => {
                        if let Err(broken) = acknowledge(&mut source, &position, &report).await {
                            inputs.push_back(Input::Broken(broken, chance()));
                            break;
                        }
                    }
                    Step::Report(of_batch) => {
                        self.report(&of_batch);
                        report = of_batch;
                    }
                    step => self.carry_out(step),
                }
            }
            if is_attached {
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
            Step::Acknowledge(_) | Step::Report(_) => unreachable!("the loop has dealt with it"),
            Step::Apply(work) => self.apply(&work),
            Step::Attest(proven_ms) => self.sink.attest(proven_ms),
            Step::DeadLetter(letter) => {
                tracing::warn!(
                    source = self.name,
                    error = letter.error,
                    rule = letter.rule,
                    "event cannot be applied: its scope was invalidated"
                );
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
                if self.status.error().is_none_or(|last| last != broken.to_string()) {
                    tracing::warn!(source = self.name, error = %broken, "source failed, trying again");
                }
                self.status.set_error(Some(broken.to_string()));
                self.set_state(SourceState::Down);
            }
            Step::Gap(why) => {
                self.status.add(SourceCount::Gaps, 1);
                tracing::warn!(
                    source = self.name,
                    why,
                    "events were lost: everything that they could name is invalidated"
                );
            }
            Step::Save(position) => self.save(&position),
        }
    }

    fn apply(&mut self, work: &Work) {
        let names: u64 = work.steps.iter().map(|change| self.sink.apply(change)).sum();
        self.status.add(SourceCount::Invalidations, names);
    }

    fn save(&mut self, position: &Position) {
        self.sink.save(position);
        self.status.set_position(format!("{} {}", position.identity, position.offset));
    }

    fn report(&self, report: &Report) {
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
        if longest > self.slow {
            tracing::info!(source = self.name, delay = ?longest, events = report.applied, "events were applied late");
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
        }
        self.status.set_state(state);
    }

    fn time(&self) -> Time {
        Time { ms: self.clock.now().millis, wall_us: clock::wall().as_micros() as u64 }
    }
}

async fn acknowledge(source: &mut impl Source, position: &Position, report: &Report) -> Result<(), Broken> {
    let late = |_| Broken::Transient("acknowledging timed out".to_owned());
    timeout(ATTACH_MAX, source.done(position, report)).await.map_err(late)?
}

/// A number from 0 to 1, so that servers that failed together do not come back together.
fn chance() -> f64 {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_or(0.5, |()| f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX))
}

const ATTACH_MAX: Duration = Duration::from_secs(20);
/// New rules are seen after this time at most.
const TICK_MAX: Duration = Duration::from_millis(200);
