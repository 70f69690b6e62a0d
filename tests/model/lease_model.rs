//! Every short history, and long random ones, against the specification in `specification`.
//!
//! A history is played on a key of its own with fresh connections, and every reply is compared. Tokens and
//! CAS uniques are made up by the server: the same one must stand wherever the model says the same, and
//! another wherever it says another.

use std::collections::HashMap;
use std::time::Duration;

use leasehold::cache::{Config, Copies, Implicit, Policies, Policy};
use leasehold::command::{ImplicitReply, Rules};

use crate::specification::{self as model, Act, Depth, Model, Named, PEERS, Setting};
use crate::support::random::Random;
use crate::support::wire::{Connection, Wire};

/// One step of a history.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Act(usize, Act),
    Advance(u64),
    Reconnect(usize),
}

/// A server and its model, side by side.
struct Pair {
    connections: Vec<Connection>,
    model: Model,
    /// Numbers that the server chose, by the sequence number of the model.
    tokens: HashMap<u64, String>,
    uniques: HashMap<u64, String>,
    last_token: Vec<HashMap<String, String>>,
    last_unique: Vec<HashMap<String, String>>,
    values: u64,
    wire: Wire,
}

impl Pair {
    fn new(setting: Setting) -> Self {
        let Setting { implicit, interval_s, reply_not_stored, stale_s } = setting;
        let (lease_min_interval, stale) = (Duration::from_secs(interval_s), Duration::from_secs(stale_s));
        let load_time_max = Duration::from_secs(model::LOAD_S);
        let policy = Policy { implicit, lease_min_interval, load_time_max, stale, ..Policy::default() };
        // All keys are of one class.
        let policies = Policies::new(
            policy.clone(),
            ["h", "p"].map(|prefix| (prefix.as_bytes().into(), policy.clone())),
        );
        let implicit_reply = if reply_not_stored { ImplicitReply::NotStored } else { ImplicitReply::Stored };
        let config = Config { copies: Copies::Always, memory_bytes: 1 << 30, policies, ..Config::default() };
        let mut pair = Pair {
            connections: Vec::new(),
            model: Model::new(setting),
            tokens: HashMap::new(),
            uniques: HashMap::new(),
            last_token: Vec::new(),
            last_unique: Vec::new(),
            values: 0,
            wire: Wire::new(config, Rules { implicit_reply, ..Rules::default() }),
        };
        pair.begin(setting);
        pair
    }

    /// Fresh connections, and a model that knows nothing of former histories.
    fn begin(&mut self, setting: Setting) {
        // What former histories have missed is too old to matter.
        self.wire.clock.advance(Duration::from_secs(2 * model::LOAD_S));
        let Model { began_s, class, now_s, .. } = self.model;
        self.model = Model::new(setting);
        (self.model.began_s, self.model.class) = (began_s + now_s + 2 * model::LOAD_S, class);
        self.connections = (0..PEERS).map(|_| self.wire.connect()).collect();
        self.last_token = vec![HashMap::new(); PEERS];
        self.last_unique = vec![HashMap::new(); PEERS];
        self.tokens.clear();
        self.uniques.clear();
    }

    /// Plays one step on both; the error says how they differ.
    fn play(&mut self, step: Step, key: &str) -> Result<(), String> {
        match step {
            Step::Advance(seconds) => {
                self.wire.clock.advance(Duration::from_secs(seconds));
                self.model.now_s += seconds;
            }
            Step::Reconnect(session) => {
                self.connections[session].close(&self.wire);
                self.connections[session] = self.wire.connect();
                self.model.reconnect(session);
                self.last_token[session].clear();
                self.last_unique[session].clear();
            }
            // Its requests are only read after its reply.
            Step::Act(session, _) if self.model.waits_for(session).is_some() => {}
            Step::Act(session, act) => {
                self.values += 1;
                let text = (10 + self.values % 90).to_string();
                let line = self.line(session, act, key, &text);
                let reply = self.connections[session].talk(&self.wire, line.as_bytes());
                let expected = self.model.act(session, act, key, &text);
                self.agree(session, key, &expected, reply)?;
            }
        }
        (0..PEERS).try_for_each(|session| self.listen(session))
    }

    /// Waiters are woken when the model says so, and not before.
    fn listen(&mut self, session: usize) -> Result<(), String> {
        let Some(key) = self.model.waits_for(session) else { return Ok(()) };
        let expected = self.model.wake(session);
        let reply = self.connections[session].listen(&self.wire);
        self.agree(session, &key, &expected, reply)
    }

    fn line(&self, session: usize, act: Act, key: &str, text: &str) -> String {
        let bytes = text.len();
        // What looks like a token takes the same way as one.
        let token = |of: usize| self.last_token[of].get(key).map_or("4611686018427387904", |token| token);
        let unique = || self.last_unique[session].get(key).map_or("1", |unique| unique);
        match act {
            Act::Add => format!("add {key} 0 0 {bytes}\r\n{text}\r\n"),
            Act::Append => format!("append {key} 0 0 {bytes}\r\n{text}\r\n"),
            Act::Cas => format!("cas {key} 0 0 {bytes} {}\r\n{text}\r\n", unique()),
            Act::Delete => format!("delete {key}\r\n"),
            Act::DeleteAndHold(seconds) => format!("delete {key} {seconds}\r\n"),
            Act::Flush => "flush_all\r\n".to_owned(),
            Act::Gats => format!("gats {} {key}\r\n", model::TTL_S),
            Act::Gets => format!("gets {key}\r\n"),
            Act::Incr => format!("incr {key} 1\r\n"),
            Act::Invalidate(named, depth) => {
                let soft = if depth == Depth::Soft { "soft " } else { "" };
                match named {
                    Named::All => format!("invalidate {soft}all\r\n"),
                    Named::Key => format!("invalidate {soft}key {key}\r\n"),
                    Named::Prefix => format!("invalidate {soft}prefix {}\r\n", model::prefix(key)),
                    Named::Tag => format!("invalidate {soft}tag {}\r\n", model::tag(key)),
                }
            }
            Act::LeaseGet => format!("lease-get {key}\r\n"),
            Act::LeaseGetTwice => format!("lease-get {key} {key}\r\n"),
            Act::LeaseSet(of) => format!("lease-set {key} {} 0 0 {bytes}\r\n{text}\r\n", token(of)),
            Act::LeaseSetTagged(of) => {
                format!("lease-set {key} {} 0 0 {bytes} tag={}\r\n{text}\r\n", token(of), model::tag(key))
            }
            Act::LeaseWait => format!("lease-wait {} {key}\r\n", model::WAIT_S * 1000),
            Act::MetaFill(of) => format!("ms {key} {bytes} C{}\r\n{text}\r\n", token(of)),
            Act::MetaFillStale(of) => format!("ms {key} {bytes} I C{}\r\n{text}\r\n", token(of)),
            Act::MetaCas => format!("ms {key} {bytes} C{}\r\n{text}\r\n", unique()),
            Act::MetaCasStale => format!("ms {key} {bytes} C{} I\r\n{text}\r\n", unique()),
            Act::MetaGet => format!("mg {key} v c\r\n"),
            Act::MetaLease => format!("mg {key} N0 v c\r\n"),
            Act::MetaSet => format!("ms {key} {bytes}\r\n{text}\r\n"),
            Act::MetaDeleteVersion(version) => format!("md {key} V{version}\r\n"),
            Act::MetaFillVersion(of, version) => {
                format!("ms {key} {bytes} V{version} C{}\r\n{text}\r\n", token(of))
            }
            Act::MetaSetVersion(version) => format!("ms {key} {bytes} V{version}\r\n{text}\r\n"),
            Act::MetaSetTagged => format!("ms {key} {bytes} G{}\r\n{text}\r\n", model::tag(key)),
            Act::MetaSoften => format!("md {key} I\r\n"),
            Act::MetaSoftenGranted => format!("md {key} I C{}\r\n", token(session)),
            Act::MetaTombstone => format!("md {key} x I\r\n"),
            Act::Release => format!("lease-set {key} {} 0 -1 0\r\n\r\n", token(session)),
            Act::Replace => format!("replace {key} 0 0 {bytes}\r\n{text}\r\n"),
            Act::Set => format!("set {key} 0 0 {bytes}\r\n{text}\r\n"),
            Act::SetToEnd => format!("set {key} 0 {} {bytes}\r\n{text}\r\n", model::TTL_S),
            Act::Touch => format!("touch {key} {}\r\n", model::TTL_S),
        }
    }

    /// Compares word by word; what the server made up is remembered.
    fn agree(&mut self, session: usize, key: &str, expected: &str, reply: Vec<u8>) -> Result<(), String> {
        let reply = String::from_utf8(reply).expect("all of this is text");
        let differ = || format!("expected {expected:?}, got {reply:?}");
        let (left, right) = (expected.split(' '), reply.split(' '));
        if left.clone().count() != right.clone().count() {
            return Err(differ());
        }
        for (want, got) in left.zip(right) {
            let (want, rest) =
                want.split_once("\r\n").map_or((want, None), |(want, rest)| (want, Some(rest)));
            let meta = want.strip_prefix('c').zip(got.strip_prefix('c'));
            let (want, got) = meta.unwrap_or((want, got));
            let (got, other) = got.split_once("\r\n").map_or((got, None), |(got, rest)| (got, Some(rest)));
            let is_same = if let Some(point) = want.strip_prefix('#') {
                self.last_unique[session].insert(key.to_owned(), got.to_owned());
                is_the_one(&mut self.uniques, point, got)
            } else if let Some(point) = want.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')) {
                self.last_token[session].insert(key.to_owned(), got.to_owned());
                is_the_one(&mut self.tokens, point, got)
            } else {
                want == got
            };
            if !is_same || rest != other {
                return Err(differ());
            }
        }
        Ok(())
    }
}

/// The same for the same point, and another for another.
fn is_the_one(made_up: &mut HashMap<u64, String>, point: &str, got: &str) -> bool {
    let point = point.parse().expect("the model's points are numbers");
    if !made_up.contains_key(&point) && (got.len() < 6 || made_up.values().any(|other| other == got)) {
        return false;
    }
    made_up.entry(point).or_insert_with(|| got.to_owned()) == got
}

/// Plays histories one after the other, each on its own key.
struct Player {
    pair: Pair,
    played: u64,
    setting: Setting,
}

impl Player {
    fn new(setting: Setting) -> Self {
        Player { pair: Pair::new(setting), played: 0, setting }
    }

    #[track_caller]
    fn check(&mut self, history: &[Step]) {
        if let Err(difference) = self.play(history) {
            let history = self.shortest(history);
            let difference = self.play(&history).err().unwrap_or(difference);
            panic!("{:?}\n{history:?}\n{difference}", self.setting);
        }
    }

    fn play(&mut self, history: &[Step]) -> Result<(), String> {
        self.played += 1;
        if self.played.is_multiple_of(20_000) {
            self.pair = Pair::new(self.setting);
        }
        self.pair.begin(self.setting);
        let key = format!("h{}:k", self.played);
        let result = history.iter().try_for_each(|step| self.pair.play(*step, &key));
        // A hold-off that outlived its history would disturb the next ones; only an unfenced set ends it.
        self.pair.connections[0] = self.pair.wire.connect();
        self.pair.connections[0].talk(&self.pair.wire, format!("set {key} 0 -1 0\r\n\r\n").as_bytes());
        result
    }

    /// Leaves steps out as long as the two still differ.
    fn shortest(&mut self, history: &[Step]) -> Vec<Step> {
        let mut best = history.to_vec();
        let mut index = 0;
        while index < best.len() {
            let mut shorter = best.clone();
            shorter.remove(index);
            if self.play(&shorter).is_err() {
                (best, index) = (shorter, 0);
            } else {
                index += 1;
            }
        }
        best
    }

    /// Every history of `length` of these steps; connections are alike, so they first act in the order of
    /// their names.
    fn every(&mut self, steps: &[Step], length: usize) {
        let mut history = Vec::new();
        self.extend(steps, length, 0, &mut history);
    }

    fn extend(&mut self, steps: &[Step], left: usize, known: usize, history: &mut Vec<Step>) {
        if left == 0 {
            return self.check(history);
        }
        for step in steps {
            let (Step::Act(session, _) | Step::Reconnect(session)) = *step else {
                history.push(*step);
                self.extend(steps, left - 1, known, history);
                history.pop();
                continue;
            };
            if session <= known {
                history.push(*step);
                self.extend(steps, left - 1, known.max(session + 1), history);
                history.pop();
            }
        }
    }
}

fn everything() -> Vec<Step> {
    let mut steps: Vec<Step> = [1, 6, 11, 61].map(Step::Advance).to_vec();
    for session in 0..PEERS {
        steps.extend(ACTS.map(|act| Step::Act(session, act)));
        steps.extend(
            [Act::LeaseSet(session), Act::LeaseSet((session + 1) % PEERS)].map(|act| Step::Act(session, act)),
        );
        steps.push(Step::Reconnect(session));
    }
    steps
}

/// Leases and stale copies through meta commands, and the classic steps that meet them.
fn meta() -> Vec<Step> {
    let mut steps = vec![Step::Advance(11)];
    for session in 0..2 {
        let acts = [Act::MetaFill(session), Act::MetaGet, Act::MetaLease, Act::MetaSet, Act::MetaSoften];
        steps.extend(acts.map(|act| Step::Act(session, act)));
    }
    steps.extend([Act::MetaCas, Act::MetaCasStale].map(|act| Step::Act(0, act)));
    steps.extend([Act::MetaSoftenGranted, Act::MetaTombstone].map(|act| Step::Act(1, act)));
    steps.extend([Act::MetaFillStale(0), Act::Gets, Act::LeaseGet].map(|act| Step::Act(0, act)));
    steps.extend([Act::Delete, Act::SetToEnd].map(|act| Step::Act(1, act)));
    steps
}

/// Invalidations of groups, and the states that they meet.
fn names() -> Vec<Step> {
    let mut steps = vec![Step::Advance(6)];
    for session in 0..2 {
        let acts = [Act::Gets, Act::LeaseGet, Act::LeaseSetTagged(session), Act::MetaSetTagged];
        steps.extend(acts.map(|act| Step::Act(session, act)));
    }
    let invalidations = [
        Act::Invalidate(Named::Tag, Depth::Hard),
        Act::Invalidate(Named::Tag, Depth::Soft),
        Act::Invalidate(Named::Prefix, Depth::Hard),
        Act::Invalidate(Named::Prefix, Depth::Soft),
        Act::Invalidate(Named::Key, Depth::Soft),
        Act::Delete,
    ];
    steps.extend(invalidations.map(|act| Step::Act(1, act)));
    steps.push(Step::Act(0, Act::Delete));
    steps
}

/// The same, and everything that changes a value or is seldom.
fn more_names() -> Vec<Step> {
    let acts = [
        Act::Add,
        Act::Append,
        Act::Cas,
        Act::Incr,
        Act::Invalidate(Named::All, Depth::Hard),
        Act::Invalidate(Named::All, Depth::Soft),
        Act::Invalidate(Named::Key, Depth::Hard),
        Act::LeaseWait,
        Act::MetaCas,
        Act::MetaCasStale,
        Act::MetaFillStale(0),
        Act::MetaGet,
        Act::MetaSoften,
        Act::Replace,
        Act::SetToEnd,
        Act::Touch,
    ];
    let more = acts.map(|act| Step::Act(0, act));
    [names(), more.to_vec(), vec![Step::Reconnect(0)]].concat()
}

/// Versions of rows, which come with stores and deletions.
fn versions() -> Vec<Step> {
    let mut steps =
        vec![Step::Advance(11), Step::Advance(61), Step::Act(0, Act::Set), Step::Act(0, Act::Delete)];
    for session in 0..2 {
        let acts =
            [Act::Gets, Act::MetaLease, Act::MetaFillVersion(session, 1), Act::MetaFillVersion(session, 2)];
        steps.extend(acts.map(|act| Step::Act(session, act)));
        let acts = [1, 2].map(|version| [Act::MetaSetVersion(version), Act::MetaDeleteVersion(version)]);
        steps.extend(acts.concat().into_iter().map(|act| Step::Act(session, act)));
    }
    steps
}

/// A dozen steps in which the races lie.
fn core() -> Vec<Step> {
    let mut steps = vec![Step::Advance(11), Step::Reconnect(1), Step::Act(0, Act::DeleteAndHold(5))];
    for session in 0..2 {
        steps.extend(
            [Act::Gets, Act::Set, Act::LeaseGet, Act::LeaseSet(session)].map(|act| Step::Act(session, act)),
        );
    }
    steps.push(Step::Act(1, Act::Delete));
    steps
}

/// The targets of a step.
#[derive(Clone, Copy, PartialEq)]
enum Reach {
    All,
    Key,
    Prefix,
}

fn reach(step: Step) -> Reach {
    match step {
        Step::Advance(_) | Step::Reconnect(_) | Step::Act(_, Act::Flush | Act::Invalidate(Named::All, _)) => {
            Reach::All
        }
        Step::Act(_, Act::Invalidate(Named::Prefix | Named::Tag, _)) => Reach::Prefix,
        Step::Act(..) => Reach::Key,
    }
}

const ACTS: [Act; 18] = [
    Act::Add,
    Act::Append,
    Act::Cas,
    Act::Delete,
    Act::DeleteAndHold(2),
    Act::DeleteAndHold(5),
    Act::Flush,
    Act::Gats,
    Act::Gets,
    Act::Incr,
    Act::LeaseGet,
    Act::LeaseGetTwice,
    Act::LeaseWait,
    Act::Release,
    Act::Replace,
    Act::Set,
    Act::SetToEnd,
    Act::Touch,
];

const ON: Setting = Setting { implicit: Implicit::On, interval_s: 0, reply_not_stored: false, stale_s: 0 };

#[test]
fn every_history_of_four_steps() {
    Player::new(ON).every(&everything(), 4);
}

#[test]
fn every_history_of_six_core_steps() {
    Player::new(ON).every(&core(), 6);
}

#[test]
fn every_history_of_four_meta_steps() {
    for stale_s in [0, 20] {
        Player::new(Setting { stale_s, ..ON }).every(&meta(), 4);
    }
}

#[test]
fn every_history_of_four_steps_with_versions() {
    for stale_s in [0, 20] {
        Player::new(Setting { stale_s, ..ON }).every(&versions(), 4);
    }
}

#[test]
fn every_history_of_five_steps_with_names() {
    Player::new(ON).every(&names(), 5);
}

#[test]
fn every_history_of_four_steps_with_names() {
    for stale_s in [0, 20] {
        Player::new(Setting { stale_s, ..ON }).every(&more_names(), 4);
    }
}

#[test]
fn every_history_of_three_steps_under_every_setting() {
    for implicit in [Implicit::Off, Implicit::Observe, Implicit::On, Implicit::Shared] {
        for (interval_s, reply_not_stored, stale_s) in [(0, false, 0), (15, true, 20)] {
            Player::new(Setting { implicit, interval_s, reply_not_stored, stale_s }).every(&everything(), 3);
        }
    }
}

#[test]
fn every_history_of_five_core_steps_under_every_setting() {
    for implicit in [Implicit::Off, Implicit::Observe, Implicit::Shared] {
        let setting = Setting { implicit, interval_s: 0, reply_not_stored: true, stale_s: 20 };
        Player::new(setting).every(&core(), 5);
    }
}

#[test]
fn long_random_histories_on_many_keys() {
    const KEYS: u64 = 50;
    const SEEDS: u64 = 12;
    const STEPS: u64 = 60_000;
    const IMPLICIT: [Implicit; 4] = [Implicit::Off, Implicit::Observe, Implicit::On, Implicit::Shared];
    for seed in 1..=SEEDS {
        let (implicit, interval_s) = (IMPLICIT[seed as usize % 4], 7 * (seed / 4 % 2));
        let setting =
            Setting { implicit, interval_s, reply_not_stored: seed % 2 == 0, stale_s: 10 * (seed / 2 % 3) };
        let (mut pair, steps) =
            (Pair::new(setting), [everything(), meta(), more_names(), versions()].concat());
        let (mut random, mut history) = (Random(seed), Vec::new());
        for n in 0..STEPS {
            let step = steps[random.below(steps.len() as u64) as usize];
            // Time goes on and connections go more slowly than keys change.
            if reach(step) != Reach::Key && random.below(10) > 0 {
                continue;
            }
            let number = random.below(KEYS);
            let key = format!("p{}:k{number}", number % 7);
            history.push((key.clone(), step));
            if let Err(difference) = pair.play(step, &key) {
                history.retain(|(name, step)| match reach(*step) {
                    Reach::All => true,
                    Reach::Key => *name == key,
                    Reach::Prefix => model::prefix(name) == model::prefix(&key),
                });
                panic!(
                    "{setting:?}, step {n} on {key}: {difference}\n{:?}",
                    &history[history.len().saturating_sub(40)..]
                );
            }
        }
    }
}
