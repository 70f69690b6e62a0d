//! The misses that connections remember of their own: a second line behind the records of keys, which may
//! only refuse, and which must cost nothing once it is full.

use std::time::Duration;

use leasehold::cache::{
    Cache, Config, Copies, Deletion, Draft, Implicit, MISS_LOG_MAX, Mode, Policy, Reason, Session,
    StoreOutcome,
};
use leasehold::clock::Clock;

struct Fixture {
    cache: Cache,
    clock: Clock,
}

impl Fixture {
    /// A server that has been up for longer than a load takes.
    fn new() -> Self {
        let policy = Policy { implicit: Implicit::On, load_time_max: LOAD_TIME, ..Policy::default() };
        let cache = Cache::with_seed(
            Config { copies: Copies::Always, policies: policy.into(), ..Config::default() },
            [5; 32],
        );
        let fixture = Fixture { cache, clock: Clock::manual() };
        fixture.clock.advance(2 * LOAD_TIME);
        fixture
    }

    fn get(&self, name: &str, session: &mut Session) -> Option<String> {
        let key = self.cache.key(name.as_bytes()).expect("a legal key");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("values are text");
        self.cache.get(&key, session, self.clock.now(), |value| text(value.bytes))
    }

    fn misses(&self, name: &str, session: &mut Session) {
        assert_eq!(self.get(name, session), None, "{name}");
    }

    fn set(&self, name: &str, value: &str, session: &mut Session) -> StoreOutcome {
        let key = self.cache.key(name.as_bytes()).expect("a legal key");
        self.cache.store(&key, Mode::Set, Draft::new(value), session, self.clock.now())
    }

    fn delete(&self, name: &str, session: &mut Session) {
        let key = self.cache.key(name.as_bytes()).expect("a legal key");
        self.cache.delete(&key, &Deletion::default(), session, self.clock.now());
    }

    /// A connection that has missed more keys than it remembers, and set none of them.
    fn worker_with_a_full_log(&self) -> Session {
        let mut worker = self.cache.session();
        (0..=MISS_LOG_MAX).for_each(|n| self.misses(&format!("absent:{n}"), &mut worker));
        worker
    }
}

fn is_stored(done: StoreOutcome) -> bool {
    matches!(done, StoreOutcome::Stored { .. })
}

const LOAD_TIME: Duration = Duration::from_secs(1);

/// A worker keeps its connection for days, and a few of the keys that it misses are never set: 1,024 within a
/// minute are enough. Once any of them was forgotten, each key might have been among them, so that what the
/// worker wrote through after a delete was refused.
#[test]
fn a_full_log_refuses_no_write() {
    let fixture = Fixture::new();
    let (mut worker, mut other) = (fixture.worker_with_a_full_log(), fixture.cache.session());
    fixture.delete("user:1", &mut other);
    assert!(is_stored(fixture.set("user:1", "Ann", &mut worker)));
    assert_eq!(fixture.get("user:1", &mut other).as_deref(), Some("Ann"));
}

/// The same worker writes through. Each set might have answered a miss that was forgotten, so that its class
/// of keys went on trusting every set to answer one. One of them took away the miss of a load that was
/// running, and the old value of that load was stored.
#[test]
fn writes_of_a_full_log_teach_that_sets_do_not_all_answer_a_miss() {
    let fixture = Fixture::new();
    let mut reader = fixture.cache.session();
    for n in 0..1_000 {
        let name = format!("user:{n}");
        fixture.misses(&name, &mut reader);
        assert!(is_stored(fixture.set(&name, "Ann", &mut reader)));
    }
    let mut worker = fixture.worker_with_a_full_log();
    assert!(is_stored(fixture.set("user:written", "Bob", &mut worker)));

    // The reader uses a pool: it misses on one connection, and sets on another.
    let mut pool = [fixture.cache.session(), fixture.cache.session()];
    fixture.misses("user:new", &mut pool[0]);
    fixture.delete("user:new", &mut worker);
    fixture.set("user:new", "new", &mut worker);
    fixture.set("user:new", "old", &mut pool[1]);
    assert_ne!(fixture.get("user:new", &mut reader).as_deref(), Some("old"));
}

/// Two workers load the same long list of keys. What the first has forgotten is set as a fill, not as a
/// write: a write would refuse the second one's, and remove the value.
#[test]
fn fills_for_misses_that_were_forgotten_refuse_no_other_fill() {
    let fixture = Fixture::new();
    let mut workers = [fixture.cache.session(), fixture.cache.session()];
    let names: Vec<String> = (0..2 * MISS_LOG_MAX).map(|n| format!("list:{n}")).collect();
    workers.iter_mut().for_each(|worker| names.iter().for_each(|name| fixture.misses(name, worker)));
    for worker in &mut workers {
        assert!(names.iter().all(|name| is_stored(fixture.set(name, "value", worker))));
    }
    assert!(names.iter().all(|name| fixture.get(name, &mut workers[0]).is_some()));
}

/// A sequential program on the only connection sees memcached exactly, however many keys it has missed.
#[test]
fn a_full_log_is_no_sign_of_threads() {
    let fixture = Fixture::new();
    let mut program = fixture.cache.session();
    let names: Vec<String> = (0..2 * MISS_LOG_MAX).map(|n| format!("list:{n}")).collect();
    for _ in 0..3 {
        names.iter().for_each(|name| fixture.misses(name, &mut program));
        names.iter().for_each(|name| fixture.delete(name, &mut program));
        names.iter().rev().for_each(|name| _ = fixture.set(name, "value", &mut program));
        assert!(names.iter().all(|name| fixture.get(name, &mut program).is_some()));
        names.iter().for_each(|name| fixture.delete(name, &mut program));
    }
}

/// Tasks send requests on one connection without waiting for replies. An hour later its address was taken for
/// one whose connections are not shared, so that a miss of one task was held against the set of another.
#[test]
fn a_connection_that_pipelines_stays_a_shared_one() {
    let fixture = Fixture::new();
    let (mut shared, mut writer) = (fixture.cache.session(), fixture.cache.session());
    shared.pipelines(fixture.clock.now());
    for _ in 0..3 {
        fixture.clock.advance(Duration::from_secs(3_000));
        fixture.misses("user:1", &mut shared);
        fixture.delete("user:1", &mut writer);
        assert_eq!(fixture.set("user:1", "old", &mut shared), StoreOutcome::Refused(Reason::Doubt));
    }
}
