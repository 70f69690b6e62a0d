//! The cache embedded in a program, without sockets, threads or a clock of its own.
//!
//! `cargo run --no-default-features --example embedding`. The first half uses the cache as a program would,
//! with the machine's time. The second half shows the race that leases prevent, step by step on a manual
//! clock, as a test of such a program would.

use std::time::Duration;

use leasehold::cache::{
    Deletion, Draft, Expiry, Fill, Filled, Implicit, Lookup, Mode, Policy, Refused, Session, StoreOutcome,
    Token,
};
use leasehold::{Cache, Clock, Config};

/// A user of the cache, such as a thread or a request.
struct Program<'a> {
    cache: &'a Cache,
    clock: &'a Clock,
    session: Session,
}

/// The next step of a reader.
#[derive(Debug, Eq, PartialEq)]
enum Next {
    /// Load the value from the database, and store it with the token.
    Load(Token),
    /// Use this value.
    Show(String),
    /// Another reader is loading the value: retry later.
    Wait,
}

fn main() {
    basics();
    race();
    plain_race();
}

/// Get, set, lease, fill, delete.
fn basics() {
    println!("Basics:");
    let (cache, clock) = (Cache::new(Config::default()), Clock::system());
    let (mut ann, mut bob) = (Program::new(&cache, &clock), Program::new(&cache, &clock));

    ann.set("greeting", "hello");
    println!("  ann sets a value, and bob reads it: {:?}", bob.get("greeting"));

    let Next::Load(token) = ann.lease("product:7") else { panic!("it is not loaded yet") };
    println!("  ann gets the lease for product:7, and bob must {:?}", bob.lease("product:7"));
    println!("  ann fills it: {:?}", ann.fill("product:7", token, "$99"));
    println!("  bob's next step: {:?}", bob.lease("product:7"));

    bob.delete("product:7");
    println!("  bob deletes it, and ann reads {:?}", ann.get("product:7"));

    // A user that leaves releases its leases, so that others need not wait for them.
    let Next::Load(_) = ann.lease("product:7") else { panic!("it was deleted") };
    ann.leave();
    assert!(matches!(bob.lease("product:7"), Next::Load(_)));
    bob.leave();

    // The program removes expired values in bounded steps, whenever it has time.
    while cache.sweep(clock.now()) {}
    println!("  the cache holds {} item\n", cache.counts().items);
}

/// A value that was read before a change is filled after it.
fn race() {
    println!("A race, with leases:");
    let (cache, clock) = (Cache::new(Config::default()), Clock::manual());
    let (mut reader, mut writer) = (Program::new(&cache, &clock), Program::new(&cache, &clock));
    let mut database = "$99";

    let Next::Load(token) = reader.lease("product:7") else { panic!("the cache is empty") };
    let seen = database;
    println!("  the reader reads {seen} from the database, and is delayed");
    clock.advance(Duration::from_millis(20));
    database = "$79";
    writer.delete("product:7");
    println!("  the writer commits {database} and deletes the key");
    clock.advance(Duration::from_millis(30));
    let filled = reader.fill("product:7", token, seen);
    println!("  the reader fills {seen}: {filled:?}");
    assert_eq!(filled, Err(Refused::Invalidated));

    let Next::Load(token) = reader.lease("product:7") else { panic!("nothing was stored") };
    assert_eq!(reader.fill("product:7", token, database), Ok(Filled::Visible));
    println!("  it loads again, and the next step of every reader is {:?}\n", writer.lease("product:7"));
}

/// The same race with a reader that uses only get and set.
fn plain_race() {
    for implicit in [Implicit::Off, Implicit::On] {
        println!("A race without leases, with implicit leases {implicit:?}:");
        let policy = Policy { implicit, ..Policy::default() };
        let (cache, clock) =
            (Cache::new(Config { policies: policy.into(), ..Config::default() }), Clock::manual());
        let (mut reader, mut writer) = (Program::new(&cache, &clock), Program::new(&cache, &clock));

        assert_eq!(reader.get("product:7"), None);
        writer.delete("product:7");
        println!("  the reader misses; the writer commits $79 and deletes the key; the reader sets $99:");
        println!(
            "  {:?}, and the writer reads {:?}",
            reader.set("product:7", "$99"),
            writer.get("product:7")
        );
    }
}

impl<'a> Program<'a> {
    fn new(cache: &'a Cache, clock: &'a Clock) -> Self {
        Program { cache, clock, session: cache.session() }
    }

    fn get(&mut self, key: &str) -> Option<String> {
        let key = self.cache.key(key.as_bytes()).expect("a short key");
        self.cache.get(&key, &mut self.session, self.clock.now(), |value| text(value.bytes))
    }

    /// Stores a value for a minute.
    fn set(&mut self, key: &str, value: &str) -> StoreOutcome {
        let now = self.clock.now();
        let draft = Draft { expiry: Expiry::after(MINUTE, now), ..Draft::new(value) };
        let key = self.cache.key(key.as_bytes()).expect("a short key");
        self.cache.store(&key, Mode::Set, draft, &mut self.session, now)
    }

    fn lease(&mut self, key: &str) -> Next {
        let key = self.cache.key(key.as_bytes()).expect("a short key");
        self.cache.lease(&key, &mut self.session, self.clock.now(), |leased| match leased {
            Lookup::Busy { .. } | Lookup::Miss => Next::Wait,
            Lookup::Granted { token, .. } => Next::Load(token),
            Lookup::Hit { value, .. } => Next::Show(text(value.bytes)),
        })
    }

    fn fill(&mut self, key: &str, token: Token, value: &str) -> Result<Filled, Refused> {
        let key = self.cache.key(key.as_bytes()).expect("a short key");
        let fill = Fill::Value(Draft::new(value));
        self.cache.fill(&key, token, fill, &mut self.session, self.clock.now())
    }

    /// Call this after the commit.
    fn delete(&mut self, key: &str) {
        let key = self.cache.key(key.as_bytes()).expect("a short key");
        self.cache.delete(&key, &Deletion::default(), &mut self.session, self.clock.now());
    }

    fn leave(mut self) {
        self.cache.leave(&mut self.session, self.clock.now());
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const MINUTE: Duration = Duration::from_secs(60);
