//! The cache inside a program: no sockets, no threads, no clock of its own.
//!
//! `cargo run --no-default-features --example embedding`. The first half uses the cache as a program would, with the
//! machine's time. The second half repeats the race that leases are there for, step by step, on a clock that only
//! moves by hand: that is how a test of such a program looks.

use std::time::Duration;

use leasehold::cache::{
    Deletion, Draft, Expiry, Fill, Filled, Implicit, Lookup, Mode, Peer, Policy, Refused, StoreOutcome, Token,
};
use leasehold::{Cache, Clock, Config};

/// A cache, the time, and one party that uses both: a thread, say, or a request.
struct Program<'a> {
    cache: &'a Cache,
    clock: &'a Clock,
    peer: Peer,
}

/// What a reader is to do now.
#[derive(Debug, Eq, PartialEq)]
enum Next {
    /// Ask the database, and bring the value back with the token.
    Load(Token),
    /// Show this.
    Show(String),
    /// Somebody else is loading it: come back.
    Wait,
}

fn main() {
    everyday();
    race();
    unknowing_race();
}

/// Get, set, lease, fill, void.
fn everyday() {
    println!("Every day:");
    let (cache, clock) = (Cache::new(Config::default()), Clock::system());
    let (mut ann, mut bob) = (Program::new(&cache, &clock), Program::new(&cache, &clock));

    ann.set("greeting", "hello");
    println!("  bob reads what ann has set: {:?}", bob.get("greeting"));

    let Next::Load(token) = ann.lease("product:7") else { panic!("nobody has loaded it yet") };
    println!("  ann is to load product:7, and bob is to {:?}", bob.lease("product:7"));
    println!("  ann brings it back: {:?}", ann.fill("product:7", token, "$99"));
    println!("  bob is to {:?}", bob.lease("product:7"));

    bob.void("product:7");
    println!("  bob voids it, and ann reads {:?}", ann.get("product:7"));

    // Whoever leaves frees the leases it holds, so that nobody waits for the dead.
    let Next::Load(_) = ann.lease("product:7") else { panic!("it was voided") };
    ann.leave();
    assert!(matches!(bob.lease("product:7"), Next::Load(_)));
    bob.leave();

    // Expired values go unasked, in bounded steps, whenever the program finds the time.
    while cache.sweep(clock.now()) {}
    println!("  the cache holds {} item\n", cache.counts().items);
}

/// A fill from before a change comes back after it.
fn race() {
    println!("A race, with leases:");
    let (cache, clock) = (Cache::new(Config::default()), Clock::manual());
    let (mut reader, mut writer) = (Program::new(&cache, &clock), Program::new(&cache, &clock));
    let mut database = "$99";

    let Next::Load(token) = reader.lease("product:7") else { panic!("the cache is empty") };
    let seen = database;
    println!("  the reader sees {seen} in the database, and is held up");
    clock.advance(Duration::from_millis(20));
    database = "$79";
    writer.void("product:7");
    println!("  the writer commits {database} and voids the key");
    clock.advance(Duration::from_millis(30));
    let filled = reader.fill("product:7", token, seen);
    println!("  the reader brings {seen}: {filled:?}");
    assert_eq!(filled, Err(Refused::Voided));

    let Next::Load(token) = reader.lease("product:7") else { panic!("nothing was stored") };
    assert_eq!(reader.fill("product:7", token, database), Ok(Filled::Visible));
    println!("  it asks again, and now everybody is to {:?}\n", writer.lease("product:7"));
}

/// The same race, and a reader that knows only get and set.
fn unknowing_race() {
    for implicit in [Implicit::Off, Implicit::On] {
        println!("A race without leases, the fence for plain stores is {implicit:?}:");
        let policy = Policy { implicit, ..Policy::default() };
        let (cache, clock) =
            (Cache::new(Config { policies: policy.into(), ..Config::default() }), Clock::manual());
        let (mut reader, mut writer) = (Program::new(&cache, &clock), Program::new(&cache, &clock));

        assert_eq!(reader.get("product:7"), None);
        writer.void("product:7");
        println!("  the reader misses; the writer commits $79 and voids the key; the reader sets $99:");
        println!("  {:?}, and everybody sees {:?}", reader.set("product:7", "$99"), writer.get("product:7"));
    }
}

impl<'a> Program<'a> {
    fn new(cache: &'a Cache, clock: &'a Clock) -> Self {
        Program { cache, clock, peer: cache.peer() }
    }

    fn get(&mut self, key: &str) -> Option<String> {
        let key = self.cache.key(key.as_bytes()).expect("a short key");
        self.cache.get(&key, &mut self.peer, self.clock.now(), |value| text(value.bytes))
    }

    /// Stores a value for a minute.
    fn set(&mut self, key: &str, value: &str) -> StoreOutcome {
        let now = self.clock.now();
        let draft = Draft { expiry: Expiry::after(MINUTE, now), ..Draft::new(value) };
        let key = self.cache.key(key.as_bytes()).expect("a short key");
        self.cache.store(&key, Mode::Set, draft, &mut self.peer, now)
    }

    fn lease(&mut self, key: &str) -> Next {
        let key = self.cache.key(key.as_bytes()).expect("a short key");
        self.cache.lease(&key, &mut self.peer, self.clock.now(), |leased| match leased {
            Lookup::Busy { .. } | Lookup::Miss => Next::Wait,
            Lookup::Granted { token, .. } => Next::Load(token),
            Lookup::Hit { value, .. } => Next::Show(text(value.bytes)),
        })
    }

    fn fill(&mut self, key: &str, token: Token, value: &str) -> Result<Filled, Refused> {
        let key = self.cache.key(key.as_bytes()).expect("a short key");
        let fill = Fill::Value(Draft::new(value));
        self.cache.fill(&key, token, fill, &mut self.peer, self.clock.now())
    }

    /// To be called after the commit.
    fn void(&mut self, key: &str) {
        let key = self.cache.key(key.as_bytes()).expect("a short key");
        self.cache.delete(&key, Deletion::default(), &mut self.peer, self.clock.now());
    }

    fn leave(mut self) {
        self.cache.leave(&mut self.peer, self.clock.now());
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const MINUTE: Duration = Duration::from_secs(60);
