//! Random histories of a database, a stream of its changes that fails in every way, and clients that load and
//! store: no read is staler than the bound, and once the stream has caught up nothing is stale.

use std::sync::Arc;
use std::time::Duration;

use leasehold::cache::{
    Copies, Depth, Draft, Fill, Group, Lookup, Mode, OnMiss, Policies, Policy, Reading, Session, Token,
};
use leasehold::events::delivery::work::{Change, Work};
use leasehold::events::delivery::{Delivery, Input, Settings, Step, Time, Want};
use leasehold::events::event::{Event, Op};
use leasehold::events::position::Position;
use leasehold::events::rule::Rules;
use leasehold::events::source::{Attached, Batch, Broken};
use leasehold::{Cache, Clock, Config};

use crate::support::random::Random;

/// A mistake that the model has to notice.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mistake {
    /// A time is attested before the events up to it are applied.
    AttestFirst,
    /// After a gap the scope is not invalidated.
    IgnoreGap,
    /// An event is acknowledged that was not applied.
    LoseEvents,
    None,
    /// The policy does not depend on the source.
    NoBound,
}

/// A change of one row.
#[derive(Clone, Copy)]
struct Commit {
    at_ms: u64,
    row: usize,
}

/// A load of a row that a client has begun.
struct Load {
    began_ms: u64,
    client: usize,
    row: usize,
    /// A client with leases has one.
    token: Option<Token>,
    version: u64,
}

struct World {
    cache: Cache,
    clients: Vec<Session>,
    clock: Clock,
    delivery: Delivery,
    /// The log up to here can no longer be read.
    forgotten: usize,
    is_reachable: bool,
    loads: Vec<Load>,
    log: Vec<Commit>,
    mistake: Mistake,
    random: Random,
    /// How far the source has read, if it is attached.
    read: Option<usize>,
    sink: Session,
}

impl World {
    fn new(seed: u64, mistake: Mistake) -> World {
        let policy = Policy {
            depends_on: if mistake == Mistake::NoBound { Vec::new() } else { vec!["db".to_owned()] },
            max_staleness: Duration::from_millis(BOUND_MS),
            ..Policy::default()
        };
        let config = Config { copies: Copies::Always, policies: Policies::from(policy), ..Config::default() };
        let cache = Cache::with_seed(config, [seed as u8; 32]);
        let rules: Rules =
            serde_json::from_str(r#"[{"table": "t", "keys": ["row:{row.id}"]}]"#).expect("it is right");
        let settings = Settings {
            covers: None,
            id: None,
            max_backlog: Some(40),
            name: "db".to_owned(),
            on_gap: Depth::Hard,
            resumes: true,
            storm: 1_000,
            takes_instructions: false,
        };
        let clock = Clock::manual();
        clock.advance(Duration::from_secs(100));
        World {
            clients: (0..3).map(|_| cache.session()).collect(),
            clock,
            delivery: Delivery::new(settings, Arc::new(rules), None),
            forgotten: 0,
            is_reachable: true,
            loads: Vec::new(),
            log: Vec::new(),
            mistake,
            random: Random(seed + 1),
            read: None,
            sink: cache.internal_session(),
            cache,
        }
    }

    fn now_ms(&self) -> u64 {
        self.clock.now().millis
    }

    fn version(&self, row: usize) -> u64 {
        self.log.iter().filter(|commit| commit.row == row).count() as u64
    }

    fn step(&mut self) -> Result<(), String> {
        match self.random.below(20) {
            0..=2 => {
                let row = self.random.below(ROWS as u64) as usize;
                self.log.push(Commit { at_ms: self.now_ms(), row });
            }
            3..=5 => {
                let ms = [1, 20, 150, 600][self.random.below(4) as usize];
                self.clock.advance(Duration::from_millis(ms));
                self.expire_loads();
            }
            6..=9 => self.read_one()?,
            10..=12 => self.finish_load(),
            13 => self.is_reachable = self.random.below(3) > 0,
            14 if self.random.below(6) == 0 => self.forgotten = self.log.len(),
            _ => self.stream(),
        }
        Ok(())
    }

    /// Lets the stream take one step.
    fn stream(&mut self) {
        let input = match self.delivery.want() {
            Want::Wait(_) => Input::Tick,
            _ if !self.is_reachable => {
                self.read = None;
                Input::Broken(Broken::Transient("unreachable".to_owned()), 0.5)
            }
            Want::Attach(from) => Input::Attached(self.attach(from)),
            Want::Read => Input::Batch(self.next()),
        };
        let now = Time { ms: self.now_ms(), wall_us: self.now_ms() * 1000 };
        for step in self.delivery.handle(input, now) {
            match step {
                Step::Apply(work) if self.mistake != Mistake::LoseEvents || self.random.below(8) > 0 => {
                    self.apply(&work);
                }
                Step::Attest(proven) => self.cache.attest("db", proven),
                Step::Gap(_) if self.mistake == Mistake::IgnoreGap => return,
                _ => {}
            }
        }
    }

    fn attach(&mut self, from: Option<Position>) -> Attached {
        let end = Position { identity: "log".to_owned(), offset: self.log.len() as u64 };
        let (read, attached) = match from {
            None => (self.log.len(), Attached::AtEnd(end)),
            Some(at) if (at.offset as usize) < self.forgotten => {
                (self.log.len(), Attached::Gap(end, "the log was removed".to_owned()))
            }
            // Some events come a second time.
            Some(at) => {
                let again = self.random.below(3).min(at.offset.saturating_sub(self.forgotten as u64));
                ((at.offset - again) as usize, Attached::Resumed)
            }
        };
        self.read = Some(read);
        attached
    }

    fn next(&mut self) -> Batch {
        let from = self.read.expect("it is attached");
        let many = self.random.below(6) as usize;
        let upto = (from + many).min(self.log.len());
        let event = |commit: &Commit| {
            let after = serde_json::json!({ "id": commit.row });
            Ok(Event { after, op: Op::Update, table: Some("t".to_owned()), ..Event::default() })
        };
        let events = self.log[from..upto].iter().map(event).collect();
        self.read = Some(upto);
        // What follows was committed later.
        let proven = self.log.get(upto).map_or(self.now_ms(), |next| next.at_ms.saturating_sub(1));
        if self.mistake == Mistake::AttestFirst {
            self.cache.attest("db", self.now_ms());
        }
        let position = Some(Position { identity: "log".to_owned(), offset: upto as u64 });
        Batch { behind: Some((self.log.len() - upto) as u64), events, position, proven: Some(proven) }
    }

    fn apply(&mut self, work: &Work) {
        let now = self.clock.now();
        for change in &work.steps {
            let Change::Invalidate(merged) = change else { panic!("{change:?}") };
            for (key, target) in &merged.keys {
                let key = self.cache.key(key.as_bytes()).expect("a legal key");
                self.cache.invalidate_key(&key, target.depth, &mut self.sink, now);
            }
            let prefixes: Vec<Group> =
                merged.prefixes.keys().map(|name| Group::Prefix(name.as_bytes())).collect();
            self.cache.invalidate(prefixes, Depth::Hard, now);
        }
    }

    /// A client reads a row, and begins to load it if it is not cached.
    fn read_one(&mut self) -> Result<(), String> {
        let (client, row) = (self.random.below(3) as usize, self.random.below(ROWS as u64) as usize);
        let name = format!("row:{row}");
        let key = self.cache.key(name.as_bytes()).expect("a legal key");
        let takes_lease = client == 0;
        let on_miss = match takes_lease {
            true => OnMiss::Lease { since: self.cache.last_seq() },
            false => OnMiss::Report,
        };
        let session = &mut self.clients[client];
        let found =
            self.cache.read(&key, &Reading::new(on_miss), session, self.clock.now(), |found| match found {
                Lookup::Hit { value, .. } => {
                    Ok(String::from_utf8_lossy(value.bytes).parse::<u64>().expect("a number"))
                }
                Lookup::Granted { token, .. } => Err(Some(token)),
                Lookup::Busy { .. } | Lookup::Miss => Err(None),
            });
        match found {
            Ok(version) => self.check(row, version),
            Err(None) if takes_lease => Ok(()),
            Err(token) => {
                let (began_ms, version) = (self.now_ms(), self.version(row));
                self.loads.push(Load { began_ms, client, row, token, version });
                Ok(())
            }
        }
    }

    /// The version that was read must have been the newest one not too long ago.
    fn check(&self, row: usize, version: u64) -> Result<(), String> {
        let next = self.log.iter().filter(|commit| commit.row == row).nth(version as usize);
        let age = next.map_or(0, |next| self.now_ms() - next.at_ms);
        if age > BOUND_MS + 1_000 + LOAD_MS {
            return Err(format!("row {row} is {age} ms old"));
        }
        Ok(())
    }

    fn finish_load(&mut self) {
        if self.loads.is_empty() {
            return;
        }
        let Load { client, row, token, version, .. } =
            self.loads.swap_remove(self.random.below(self.loads.len() as u64) as usize);
        let (name, text, now) = (format!("row:{row}"), version.to_string(), self.clock.now());
        let key = self.cache.key(name.as_bytes()).expect("a legal key");
        let session = &mut self.clients[client];
        match token {
            Some(token) => {
                let _ = self.cache.fill(&key, token, Fill::Value(Draft::new(&text)), session, now);
            }
            None => {
                self.cache.store(&key, Mode::Set, Draft::new(&text), session, now);
            }
        }
    }

    /// Loads take a limited time: their clients give up.
    fn expire_loads(&mut self) {
        let now = self.now_ms();
        self.loads.retain(|load| load.began_ms + LOAD_MS > now);
    }

    /// Lets the stream catch up, and checks that every value is the newest.
    fn settle(&mut self) -> Result<(), String> {
        self.is_reachable = true;
        self.clock.advance(Duration::from_millis(LOAD_MS));
        self.expire_loads();
        for _ in 0..2_000 {
            if self.read == Some(self.log.len()) && self.delivery.want() == Want::Read {
                break;
            }
            self.clock.advance(Duration::from_millis(10));
            self.stream();
        }
        self.stream();
        for row in 0..ROWS {
            let name = format!("row:{row}");
            let key = self.cache.key(name.as_bytes()).expect("a legal key");
            let held = self.cache.peek(&key, self.clock.now(), |value| value.bytes.to_vec());
            if held.is_some_and(|held| held != self.version(row).to_string().as_bytes()) {
                return Err(format!("row {row} is stale after the stream has caught up"));
            }
        }
        Ok(())
    }
}

fn play(seed: u64, mistake: Mistake) -> Result<(), String> {
    let mut world = World::new(seed, mistake);
    for _ in 0..400 {
        world.step()?;
    }
    world.settle()
}

#[test]
fn no_read_is_staler_than_the_bound_and_nothing_is_stale_after_catching_up() {
    for seed in 0..HISTORIES {
        play(seed, Mistake::None).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}

#[test]
fn planted_mistakes_are_noticed() {
    for mistake in [Mistake::AttestFirst, Mistake::IgnoreGap, Mistake::LoseEvents, Mistake::NoBound] {
        let noticed = (0..HISTORIES).any(|seed| play(seed, mistake).is_err());
        assert!(noticed, "{mistake:?}");
    }
}

const ROWS: usize = 3;
const BOUND_MS: u64 = 2_000;
/// The longest load of a client.
const LOAD_MS: u64 = 300;
const HISTORIES: u64 = 1_000;
