//! Delivery: what happens to the events of one source, as a state machine without I/O.
//!
//! ```text
//!       ┌───── failure: wait, 50 ms · 2ⁿ up to 5 s ─────┐
//!   ────┴──▶ attach ── resumed ───────────────▶ read ───┘
//!              │ at the end: invalidate the scope ▲
//!              └ gap: invalidate the scope, count ┘
//! ```
//!
//! Events are applied, then the position is saved, then it is acknowledged to the source. So a crash between
//! these repeats events, and never loses one. The scope of a source is everything that its events can name.

mod backoff;
mod instruction;
pub mod letter;
mod repeats;
mod seen;
mod settings;
mod step;
mod storms;
pub mod work;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use self::backoff::Backoff;
use self::instruction::Instruction;
use self::letter::Letter;
use self::repeats::Repeats;
use self::seen::Seen;
pub use self::settings::Settings;
pub use self::step::{Input, Step, Time, Want};
use self::storms::Storms;
use self::work::{Change, Work};
use super::event::{Event, Op};
use super::position::Position;
use super::report::Report;
use super::rule::{Rules, Verdict};
use super::source::{Attached, Batch, Broken};
use super::targets::{Merged, Targets};
use crate::cache::Depth;

/// The state of one source.
#[derive(Debug)]
pub struct Delivery {
    backoff: Backoff,
    /// Positions that are saved when these times have come: until then invalidations are repeated.
    held: VecDeque<(u64, Position)>,
    letters: Letters,
    position: Option<Position>,
    repeats: Repeats,
    /// Counts of the batch at hand.
    report: Report,
    rules: Arc<Rules>,
    seen: Seen,
    settings: Settings,
    state: State,
    storms: Storms,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// Attached, and given up if too much waits to be read.
    Attached,
    /// Attached at the end, and not known to have come below the limit since: giving up would not help.
    AtEnd,
    Unattached,
    Waiting(u64),
}

/// How many letters were written in this minute.
#[derive(Debug, Default)]
struct Letters {
    minute: u64,
    written: u64,
}

impl Delivery {
    /// A source that has not been attached yet, and was applied up to a position.
    pub fn new(settings: Settings, rules: Arc<Rules>, position: Option<Position>) -> Self {
        Delivery {
            backoff: Backoff::default(),
            held: VecDeque::new(),
            letters: Letters::default(),
            position,
            repeats: Repeats::default(),
            report: Report::default(),
            rules,
            seen: Seen::default(),
            state: State::Unattached,
            storms: Storms::new(settings.storm),
            settings,
        }
    }

    /// The next thing that the source is needed for.
    pub fn want(&self) -> Want {
        match self.state {
            State::Attached | State::AtEnd => Want::Read,
            State::Unattached => Want::Attach(self.position.clone()),
            State::Waiting(until) => Want::Wait(until),
        }
    }

    /// When a tick is needed next, in monotonic milliseconds.
    pub fn due(&self) -> Option<u64> {
        let waiting = if let State::Waiting(until) = self.state { Some(until) } else { None };
        let held = self.held.front().map(|(until, _)| *until);
        [waiting, held, self.repeats.first()].into_iter().flatten().min()
    }

    /// Other rules, from the next event on.
    pub fn set_rules(&mut self, rules: Arc<Rules>) {
        self.rules = rules;
    }

    /// Everything that events of this source can name.
    fn scope(&self) -> Targets {
        self.settings.scope(&self.rules)
    }

    /// Reacts to an input with steps that have to be carried out in order.
    pub fn handle(&mut self, input: Input, now: Time) -> Vec<Step> {
        let mut steps = Vec::new();
        match input {
            Input::Attached(attached) => self.attached(attached, now, &mut steps),
            Input::Batch(batch) => self.batch(batch, now, &mut steps),
            Input::Broken(broken, chance) => {
                let longest = match &broken {
                    Broken::Misconfigured(_) => BACKOFF_MISCONFIGURED,
                    Broken::Transient(_) => BACKOFF_TRANSIENT,
                };
                let delay = self.backoff.next(longest, chance);
                self.state = State::Waiting(now.ms + delay.as_millis() as u64);
                steps.push(Step::Failed(broken));
            }
            Input::Tick => {}
        }
        self.tick(now, &mut steps);
        steps
    }

    fn attached(&mut self, attached: Attached, now: Time, steps: &mut Vec<Step>) {
        let (end, why) = match attached {
            Attached::Resumed => {
                self.state = State::Attached;
                return;
            }
            Attached::AtEnd(end) => (end, None),
            Attached::Gap(end, why) => (end, Some(why)),
        };
        let depth = if why.is_some() { self.settings.on_gap } else { Depth::Hard };
        steps.extend(why.map(Step::Gap));
        // The end was read before: an event after it comes, one before it is covered by this.
        steps.push(Step::Apply(Merged::of(self.scope(), depth).into()));
        self.state = State::AtEnd;
        self.held.clear();
        self.reached(end, now, steps);
    }

    fn batch(&mut self, batch: Batch, now: Time, steps: &mut Vec<Step>) {
        if let (Some(behind), Some(most)) = (batch.behind, self.settings.max_backlog) {
            match self.state {
                State::Attached if behind > most => {
                    let why = format!("{behind} wait to be read, more than max-backlog = {most}");
                    return self.give_up(why, steps);
                }
                State::AtEnd if behind <= most => self.state = State::Attached,
                State::Attached | State::AtEnd | State::Unattached | State::Waiting(_) => {}
            }
        }
        self.backoff.reset();
        let mut work = Work::default();
        let mut letters = Vec::new();
        for event in batch.events {
            match event {
                Ok(event) => self.event(event, now, &mut work, &mut letters),
                Err(poison) => {
                    let (payload, subject) = (Some(poison.payload.into()), poison.subject);
                    let letter = Letter { payload, subject, ..self.letter(poison.error, now) };
                    self.doubt(self.scope(), letter, &mut work, &mut letters);
                }
            }
        }
        for step in &mut work.steps {
            if let Change::Invalidate(merged) = step {
                self.report.storms += self.storms.collapse(merged, now.ms);
            }
        }
        self.report.merged += work.merged;
        if !work.is_empty() {
            steps.push(Step::Apply(work));
        }
        steps.push(Step::Report(std::mem::take(&mut self.report)));
        let kept = letters.into_iter().filter(|_| self.letters.admit(now));
        steps.extend(kept.map(|letter| Step::DeadLetter(Box::new(letter))));
        if let Some(position) = batch.position {
            self.reached(position, now, steps);
        }
        steps.extend(batch.proven.map(Step::Attest));
    }

    /// Begins again at the end. What was not read is invalidated at once, and again when the end is known.
    fn give_up(&mut self, why: String, steps: &mut Vec<Step>) {
        steps.push(Step::Gap(why));
        steps.push(Step::Apply(Merged::of(self.scope(), self.settings.on_gap).into()));
        self.held.clear();
        self.position = None;
        self.state = State::Unattached;
    }

    fn event(&mut self, event: Event, now: Time, work: &mut Work, letters: &mut Vec<Letter>) {
        if !self.is_new(&event) {
            self.report.duplicate += 1;
            return;
        }
        if self.settings.takes_instructions
            && event.op == Op::Message
            && event.table.is_none()
            && let Some(instruction) = Instruction::of(&event)
        {
            match instruction.checked() {
                Ok((targets, depth)) => {
                    self.committed(&event);
                    work.invalidations().add_committed(targets, depth, None, event.at);
                }
                Err(why) => {
                    let letter = Letter { event: Some(event), ..self.letter(why, now) };
                    self.doubt(self.scope(), letter, work, letters);
                }
            }
            return;
        }
        let rules = Arc::clone(&self.rules);
        let verdicts: Vec<Verdict> = rules.judge(&self.settings.name, &event).collect();
        if verdicts.is_empty() {
            self.report.unmatched += 1;
        } else if !verdicts.iter().all(|verdict| matches!(verdict, Verdict::Misfit(..))) {
            self.committed(&event);
        }
        for verdict in verdicts {
            match verdict {
                Verdict::Applies(_, effects) => {
                    if let Some(after) = effects.repeat_after {
                        let scope = || rules.scope(&self.settings.name);
                        self.repeats.add(&effects, after, scope, now.ms);
                    }
                    work.add(*effects, event.at);
                }
                Verdict::Misfit(rule, why) => {
                    let (event, name) = (Some(event.clone()), Some(rule.name()));
                    let letter = Letter { event, rule: name, ..self.letter(why, now) };
                    self.doubt(rule.scope(), letter, work, letters);
                }
                Verdict::Truncated(rule) => work.invalidations().add(rule.scope(), Depth::Hard, None),
            }
        }
    }

    /// Whether an event has not come before, as far as it has an identity: that only saves work.
    fn is_new(&mut self, event: &Event) -> bool {
        let id = match &self.settings.id {
            Some(template) => template.render_one(event).ok().flatten(),
            None => event.id.clone(),
        };
        id.is_none_or(|id| self.seen.insert(&id))
    }

    fn committed(&mut self, event: &Event) {
        self.report.applied += 1;
        self.report.committed.extend(event.at);
    }

    /// An event cannot be applied: everything that it may have named is invalidated.
    fn doubt(&mut self, scope: Targets, letter: Letter, work: &mut Work, letters: &mut Vec<Letter>) {
        self.report.poison.push(letter.error.clone());
        work.invalidations().add(scope, Depth::Hard, None);
        letters.push(letter);
    }

    /// A letter without its event.
    fn letter(&self, error: String, now: Time) -> Letter {
        Letter {
            at: now.wall_us,
            error,
            event: None,
            payload: None,
            position: self.position.clone(),
            rule: None,
            source: self.settings.name.clone(),
            subject: None,
        }
    }

    /// Everything up to this position has been applied; it is saved as soon as nothing before it has to be
    /// repeated.
    fn reached(&mut self, position: Position, now: Time, steps: &mut Vec<Step>) {
        self.position = Some(position.clone());
        let until = self.repeats.last().filter(|_| self.settings.resumes).unwrap_or(now.ms);
        self.held.push_back((until, position));
        self.release(now, steps);
    }

    fn tick(&mut self, now: Time, steps: &mut Vec<Step>) {
        steps.extend(self.repeats.take(now.ms).into_iter().map(|merged| Step::Apply(merged.into())));
        self.release(now, steps);
        if matches!(self.state, State::Waiting(until) if until <= now.ms) {
            self.state = State::Unattached;
        }
    }

    fn release(&mut self, now: Time, steps: &mut Vec<Step>) {
        // A repetition that is due now comes first.
        if self.repeats.first().is_some_and(|due| due <= now.ms) {
            return;
        }
        while self.held.front().is_some_and(|(until, _)| *until <= now.ms) {
            let (_, position) = self.held.pop_front().expect("it was there");
            steps.push(Step::Save(position.clone()));
            steps.push(Step::Acknowledge(position));
        }
    }
}

impl Letters {
    /// Whether another letter may be written in this minute.
    fn admit(&mut self, now: Time) -> bool {
        let minute = now.ms / 60_000;
        if self.minute != minute {
            *self = Letters { minute, written: 0 };
        }
        self.written += 1;
        self.written <= LETTERS_PER_MINUTE_MAX
    }
}

const BACKOFF_MISCONFIGURED: Duration = Duration::from_secs(60);
const BACKOFF_TRANSIENT: Duration = Duration::from_secs(5);
/// More show nothing new; all are counted.
const LETTERS_PER_MINUTE_MAX: u64 = 100;

#[cfg(test)]
mod tests;
