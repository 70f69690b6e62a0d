//! Every short history of one key, played against the rule and against variants of it that must store a stale
//! value.
//!
//! Workers miss, read the database at some later time, and set, or never do. Writers commit, and delete some
//! time after that. A set is stale if a newer version was committed and its delete has arrived. No load takes
//! longer than `w`.

use std::collections::HashSet;

use super::*;

#[derive(Clone)]
struct World<const PAIRS: usize> {
    budget: Budget,
    /// The newest version that was committed, and the newest whose delete has arrived.
    committed: u8,
    deleted: u8,
    now: u32,
    /// Versions whose delete has not arrived.
    pending: Vec<u8>,
    record: Record<PAIRS>,
    story: Vec<String>,
    w: u32,
    workers: Vec<Worker>,
}

/// The number of events that may still happen.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
struct Budget {
    commits: u8,
    forgets: u8,
    misses: u8,
    /// Sets of the present version without a miss.
    refreshes: u8,
    ticks: u8,
    /// Writes that set and do not delete.
    writes: u8,
}

#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Worker {
    Idle,
    Loading { since: u32 },
    Loaded { since: u32, version: u8 },
}

/// A variant of the rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Flaw {
    None,
    /// A set takes the newest miss away.
    NewestMiss,
    /// The count of a value is compared with what is left of the doubt.
    LeftOfDoubt,
    /// As many equal sets as there is doubt are enough.
    OneTooFew,
    /// Sets of any value count.
    AnyValue,
    /// Counts survive an invalidation.
    CountsSurvive,
    /// A confirmed value ends the doubt.
    ConfirmedEndsDoubt,
    /// Each refused set lowers the doubt.
    RefusedLowersDoubt,
    /// A record is forgotten, and its key not closed.
    ForgottenOpen,
    /// While a key is closed, its sets take misses away.
    ClosedTakes,
}

struct Case {
    /// Versions come back: every second one has the same bytes.
    aba: bool,
    budget: Budget,
    flaw: Flaw,
    takes: Takes,
    w: u32,
    /// The value that `w` changes to at some time.
    w_later: Option<u32>,
    workers: usize,
}

impl Default for Case {
    fn default() -> Self {
        let budget = Budget { commits: 2, forgets: 0, misses: 3, refreshes: 0, ticks: 3, writes: 0 };
        Case { aba: false, budget, flaw: Flaw::None, takes: Takes::Every, w: 2, w_later: None, workers: 3 }
    }
}

impl<const PAIRS: usize> World<PAIRS> {
    fn new(case: &Case) -> Self {
        World {
            budget: case.budget,
            committed: 0,
            deleted: 0,
            now: 0,
            pending: Vec::new(),
            record: Record::new(Seq::ZERO, at(0)),
            story: Vec::new(),
            w: case.w,
            workers: vec![Worker::Idle; case.workers],
        }
    }

    /// The difference between two worlds: times count from now, and workers are alike.
    fn key(&self) -> impl Eq + std::hash::Hash + use<PAIRS> {
        let since = |time: u32| self.now.wrapping_sub(time);
        let mut workers: Vec<_> = self.workers.clone();
        workers.iter_mut().for_each(|worker| match worker {
            Worker::Idle => {}
            Worker::Loading { since: time } | Worker::Loaded { since: time, .. } => *time = since(*time),
        });
        workers.sort_unstable();
        let record = &self.record;
        let misses: Vec<_> =
            (0..record.used()).map(|pair| (since(record.times[pair]), record.counts[pair])).collect();
        let mut values = record.values;
        values.sort_unstable();
        let closed = record.is_closed.then(|| (since(record.closed_until), record.is_closed_old));
        let counts = (record.taken, record.old, record.old_taken, record.lapsed, record.lapsed_old);
        (
            (self.budget, self.committed, self.deleted, self.pending.clone(), self.w),
            (workers, misses, values, closed, counts),
        )
    }

    fn touch(&self) -> Touch {
        Touch { now: at(self.now), load_time: self.w, max_age: 60 }
    }

    fn with_event(&mut self, what: String) -> &mut Self {
        self.story.push(what);
        self
    }

    fn invalidate(&mut self, flaw: Flaw) {
        self.record.age(self.touch());
        let values = self.record.values;
        self.record.invalidate(Seq::ZERO);
        if flaw == Flaw::CountsSurvive {
            self.record.values = values;
        }
    }

    /// Whether a set of this version is stored.
    fn set(&mut self, version: u8, case: &Case) -> bool {
        let (touch, value) = (self.touch(), u64::from(content(version, case)) + 1);
        self.record.age(touch);
        let was_closed = self.record.is_closed;
        self.record.is_closed &= case.flaw != Flaw::ClosedTakes;
        let judged = self.record.judge(
            case.takes,
            || value << 20,
            |record, value, doubt| confirm(record, value, doubt, case.flaw),
        );
        self.record.is_closed = was_closed;
        let is_stored = matches!(judged.verdict, Verdict::Confirmed | Verdict::Fresh) && !was_closed;
        if is_stored && matches!(judged.answers, Answers::Nothing | Answers::Repeat) {
            self.record.wrote(Seq::ZERO, judged, true);
        }
        is_stored
    }

    fn is_stale(&self, version: u8, case: &Case) -> bool {
        (self.deleted..=self.committed).all(|newer| content(newer, case) != content(version, case))
    }

    /// Adds all worlds that may come next; returns the story of one that stores a stale value.
    fn next(&self, case: &Case, worlds: &mut Vec<World<PAIRS>>) -> Option<String> {
        for (number, worker) in self.workers.iter().enumerate() {
            match *worker {
                Worker::Idle => {}
                Worker::Loading { since } => {
                    let mut world = self.clone();
                    world.with_event(format!("read{number}={}", self.committed));
                    world.workers[number] = Worker::Loaded { since, version: self.committed };
                    worlds.push(world);
                }
                Worker::Loaded { version, .. } => {
                    let mut world = self.clone();
                    world.workers[number] = Worker::Idle;
                    let is_stored = world.set(version, case);
                    world.with_event(format!(
                        "set{number}={version}{}",
                        if is_stored { "" } else { "(refused)" }
                    ));
                    if is_stored && self.is_stale(version, case) {
                        return Some(world.story.join(" "));
                    }
                    worlds.push(world);
                }
            }
            if *worker != Worker::Idle {
                let mut world = self.clone();
                world.with_event(format!("never{number}")).workers[number] = Worker::Idle;
                worlds.push(world);
            }
        }
        self.others(case, worlds);
        None
    }

    fn others(&self, case: &Case, worlds: &mut Vec<World<PAIRS>>) {
        let mut goes = |name: String, act: &dyn Fn(&mut World<PAIRS>)| {
            let mut world = self.clone();
            act(world.with_event(name));
            worlds.push(world);
        };
        let Budget { commits, misses, refreshes, writes, .. } = self.budget;
        let idle = self.workers.iter().position(|worker| *worker == Worker::Idle);
        if let (1.., Some(number)) = (misses, idle) {
            goes(format!("miss{number}"), &|world| {
                world.record.age(world.touch());
                world.record.miss(Reader::Loads, world.touch(), Seq::ZERO);
                world.workers[number] = Worker::Loading { since: world.now };
                world.budget.misses -= 1;
            });
        }
        if commits > 0 {
            goes(format!("commit{}", self.committed + 1), &|world| {
                world.committed += 1;
                world.pending.push(world.committed);
                world.budget.commits -= 1;
            });
        }
        for version in &self.pending {
            goes(format!("delete{version}"), &|world| {
                world.pending.retain(|other| other != version);
                world.deleted = world.deleted.max(*version);
                world.invalidate(case.flaw);
            });
        }
        if writes > 0 {
            goes(format!("write{}", self.committed + 1), &|world| {
                world.set(world.committed + 1, case);
                world.committed += 1;
                world.budget.writes -= 1;
            });
        }
        if refreshes > 0 {
            goes(format!("refresh={}", self.committed), &|world| {
                world.set(world.committed, case);
                world.budget.refreshes -= 1;
            });
        }
        self.time_and_forgetting(case, worlds);
    }

    fn time_and_forgetting(&self, case: &Case, worlds: &mut Vec<World<PAIRS>>) {
        let mut goes = |name: String, act: &dyn Fn(&mut World<PAIRS>)| {
            let mut world = self.clone();
            act(world.with_event(name));
            worlds.push(world);
        };
        let Budget { forgets, ticks, .. } = self.budget;
        let may_take = self.w.min(case.w).min(case.w_later.unwrap_or(case.w));
        let is_in_time = |worker: &Worker| match worker {
            Worker::Idle => true,
            Worker::Loading { since } | Worker::Loaded { since, .. } => self.now + 1 - since <= may_take,
        };
        if ticks > 0 && self.workers.iter().all(is_in_time) {
            goes("tick".to_owned(), &|world| {
                world.now += 1;
                world.budget.ticks -= 1;
            });
        }
        if let Some(w) = case.w_later.filter(|w| *w != self.w) {
            goes(format!("w={w}"), &|world| world.w = w);
        }
        if forgets > 0 {
            goes("forget".to_owned(), &|world| {
                let touch = world.touch();
                let is_old = world.record.has_old();
                world.record = Record::new(Seq::ZERO, touch.now);
                if case.flaw != Flaw::ForgottenOpen {
                    world.record.close((0, 0), is_old, world.now + world.w + 1, touch.now);
                }
                world.budget.forgets -= 1;
            });
        }
    }
}

fn confirm<const PAIRS: usize>(
    record: &mut Record<PAIRS>,
    value: Option<u64>,
    doubt: u16,
    flaw: Flaw,
) -> Verdict {
    match flaw {
        Flaw::OneTooFew => return record.confirm(value, doubt.saturating_sub(1)),
        Flaw::AnyValue => return record.confirm(value.map(|_| 1 << 16), doubt),
        _ => {}
    }
    let before = value.and_then(|value| record.find(value)).map_or(0, |place| excess(record.values[place]));
    let verdict = record.confirm(value, doubt);
    match flaw {
        Flaw::NewestMiss => {
            record.taken = [0; 2];
            if let Some(newest) = record.used().checked_sub(1) {
                record.counts[newest] -= 1;
                record.misses -= 1;
                record.used -= u8::from(record.counts[newest] == 0);
                record.old = record.old.min(record.misses());
            }
        }
        Flaw::LeftOfDoubt if value.is_some() => {
            let place = record.find(value.unwrap()).unwrap();
            record.values[place] = counted(record.values[place], before + 1);
            return if before + 1 > doubt as i16 { Verdict::Fresh } else { Verdict::Doubtful };
        }
        Flaw::ConfirmedEndsDoubt if verdict != Verdict::Doubtful => record.old = 0,
        Flaw::RefusedLowersDoubt if verdict == Verdict::Doubtful => record.old = record.old.saturating_sub(1),
        _ => {}
    }
    verdict
}

fn content(version: u8, case: &Case) -> u8 {
    if case.aba { version % 2 } else { version }
}

fn at(millis: u32) -> Now {
    Now { millis: millis.into(), unix: 0 }
}

/// The first history found that stores a stale value.
fn explore<const PAIRS: usize>(case: &Case) -> Option<String> {
    let (mut seen, mut worlds) = (HashSet::new(), vec![World::<PAIRS>::new(case)]);
    while let Some(world) = worlds.pop() {
        if seen.insert(world.key())
            && let Some(story) = world.next(case, &mut worlds)
        {
            return Some(story);
        }
    }
    assert!(seen.len() > 1_000, "{} histories are none to speak of", seen.len());
    None
}

fn sound(case: Case) {
    assert_eq!(explore::<8>(&case), None);
}

fn unsound(case: Case) {
    assert!(explore::<8>(&case).is_some(), "{:?} is not caught", case.flaw);
}

const SHORT: Budget = Budget { commits: 2, forgets: 0, misses: 3, refreshes: 0, ticks: 1, writes: 0 };

#[test]
fn three_workers_and_two_deletes() {
    sound(Case::default());
}

#[test]
fn four_misses_while_loads_are_short() {
    sound(Case { budget: Budget { misses: 4, ticks: 2, ..SHORT }, w: 1, ..Case::default() });
}

#[test]
fn two_workers_miss_four_times() {
    sound(Case { budget: Budget { misses: 4, ticks: 3, ..SHORT }, workers: 2, ..Case::default() });
}

#[test]
fn three_deletes() {
    sound(Case { budget: Budget { commits: 3, ticks: 2, ..SHORT }, workers: 2, ..Case::default() });
}

#[test]
fn values_that_come_back() {
    sound(Case { aba: true, budget: Budget { ticks: 2, ..SHORT }, ..Case::default() });
}

#[test]
fn a_write_without_a_delete_where_only_repeated_values_answer() {
    let budget = Budget { ticks: 2, writes: 1, ..SHORT };
    sound(Case { budget, takes: Takes::Repeats, workers: 2, ..Case::default() });
}

#[test]
fn a_write_and_a_refresh_where_nothing_answers() {
    let budget = Budget { misses: 2, refreshes: 1, writes: 1, ..SHORT };
    sound(Case { budget, takes: Takes::None, ..Case::default() });
}

#[test]
fn the_load_time_is_lowered() {
    sound(Case { budget: Budget { ticks: 2, ..SHORT }, w_later: Some(1), ..Case::default() });
}

#[test]
fn the_load_time_is_raised() {
    sound(Case { budget: Budget { ticks: 3, ..SHORT }, w: 1, w_later: Some(2), ..Case::default() });
}

#[test]
fn a_record_that_is_forgotten_closes_its_key() {
    sound(Case { budget: Budget { forgets: 1, ticks: 3, ..SHORT }, ..Case::default() });
}

/// With room for two times, four misses at four times have to be joined.
#[test]
fn times_that_are_joined() {
    let budget = Budget { commits: 1, misses: 4, ticks: 3, ..SHORT };
    assert_eq!(explore::<3>(&Case { budget, w: 3, workers: 4, ..Case::default() }), None);
}

#[test]
fn the_newest_miss_must_not_be_taken_away() {
    let budget = Budget { misses: 4, ticks: 3, ..SHORT };
    unsound(Case { budget, flaw: Flaw::NewestMiss, workers: 2, ..Case::default() });
}

#[test]
fn counts_must_not_be_compared_with_what_is_left_of_the_doubt() {
    unsound(Case {
        budget: Budget { misses: 4, ticks: 3, ..SHORT },
        flaw: Flaw::LeftOfDoubt,
        ..Case::default()
    });
}

#[test]
fn other_variants_of_the_rule_let_stale_values_in() {
    let flaws = [Flaw::OneTooFew, Flaw::AnyValue, Flaw::CountsSurvive, Flaw::RefusedLowersDoubt];
    for flaw in flaws {
        unsound(Case { budget: SHORT, flaw, ..Case::default() });
    }
    let budget = Budget { misses: 4, ..SHORT };
    unsound(Case { budget, flaw: Flaw::ConfirmedEndsDoubt, ..Case::default() });
}

#[test]
fn modes_that_trust_too_much_let_stale_values_in() {
    unsound(Case { budget: Budget { writes: 1, ..SHORT }, ..Case::default() });
    let budget = Budget { refreshes: 2, ticks: 0, ..SHORT };
    unsound(Case { budget, takes: Takes::Repeats, workers: 2, ..Case::default() });
}

#[test]
fn a_forgotten_record_must_close_its_key_and_its_sets_must_take_nothing() {
    let budget = Budget { forgets: 1, misses: 2, ..SHORT };
    unsound(Case { budget, flaw: Flaw::ForgottenOpen, ..Case::default() });
    let budget = Budget { forgets: 1, ticks: 3, ..SHORT };
    unsound(Case { budget, flaw: Flaw::ClosedTakes, ..Case::default() });
}
