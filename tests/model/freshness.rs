//! Bounded staleness: values are withheld while the source that they depend on is late.

use std::time::Duration;

use leasehold::cache::{
    Copies, Draft, Fill, Lookup, Mode, OnMiss, Policies, Policy, Reading, Session, StoreOutcome, WhileLost,
};
use leasehold::{Cache, Clock, Config};

struct Fixture {
    cache: Cache,
    clock: Clock,
    session: Session,
}

impl Fixture {
    fn new(while_lost: WhileLost) -> Fixture {
        let policy = Policy {
            depends_on: vec!["db".to_owned(), "bus".to_owned()],
            max_staleness: Duration::from_secs(5),
            while_lost,
            ..Policy::default()
        };
        let policies = Policies::new(Policy::default(), [(b"p:"[..].into(), policy)]);
        let cache =
            Cache::with_seed(Config { copies: Copies::Always, policies, ..Config::default() }, [7; 32]);
        Fixture { session: cache.session(), cache, clock: Clock::manual() }
    }

    fn pass(&self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
    }

    /// Both sources attest that all up to so many milliseconds ago was applied.
    fn attest(&self, age_ms: u64) {
        for source in ["db", "bus"] {
            self.cache.attest(source, self.clock.now().millis - age_ms);
        }
    }

    fn set(&mut self, key: &str) {
        self.store(key, Mode::Set);
    }

    fn store(&mut self, key: &str, mode: Mode) -> bool {
        let key = self.cache.key(key.as_bytes()).expect("a legal key");
        let stored = self.cache.store(&key, mode, Draft::new("v"), &mut self.session, self.clock.now());
        matches!(stored, StoreOutcome::Stored { .. })
    }

    fn is_served(&mut self, key: &str) -> bool {
        let key = self.cache.key(key.as_bytes()).expect("a legal key");
        self.cache.get(&key, &mut self.session, self.clock.now(), |_| ()).is_some()
    }
}

#[test]
fn old_values_are_withheld_while_a_source_is_late_and_served_once_it_has_caught_up() {
    let mut fixture = Fixture::new(WhileLost::Withhold);
    fixture.pass(100_000);
    fixture.attest(0);
    fixture.set("p:old");
    fixture.set("other");
    fixture.pass(4_999);
    assert!(fixture.is_served("p:old"));
    fixture.pass(2);
    fixture.set("p:young");
    assert!(!fixture.is_served("p:old") && fixture.is_served("p:young") && fixture.is_served("other"));
    let attestation = fixture.cache.attestation("db", fixture.clock.now());
    assert_eq!((attestation.age_ms, attestation.is_withheld), (Some(5_001), true));
    assert_eq!(attestation.withheld_misses, 1);
    fixture.attest(0);
    assert!(fixture.is_served("p:old"), "nothing was removed");
    assert!(!fixture.cache.attestation("db", fixture.clock.now()).is_withheld);
}

#[test]
fn a_value_is_never_served_when_it_is_older_than_the_bound_and_the_source_is_lost() {
    let mut fixture = Fixture::new(WhileLost::Withhold);
    fixture.pass(100_000);
    fixture.attest(0);
    fixture.pass(60_000);
    // Whatever part of a second the clocks stand at.
    for start in 0..20 {
        fixture.pass(50);
        fixture.set("p:k");
        for _ in 0..100 {
            fixture.pass(50);
            if !fixture.is_served("p:k") {
                break;
            }
        }
        let age = fixture.clock.now().millis - (160_000 + start);
        assert!(age > 0);
        fixture.pass(5_000 - 50);
        assert!(!fixture.is_served("p:k"));
    }
}

#[test]
fn each_source_that_a_policy_depends_on_has_to_attest() {
    let mut fixture = Fixture::new(WhileLost::Withhold);
    fixture.pass(100_000);
    fixture.set("p:k");
    fixture.pass(6_000);
    fixture.cache.attest("db", fixture.clock.now().millis);
    assert!(!fixture.is_served("p:k"), "the bus has attested nothing");
    fixture.cache.attest("bus", fixture.clock.now().millis - 5_000);
    assert!(fixture.is_served("p:k"));
    fixture.cache.attest("bus", 0);
    assert!(fixture.is_served("p:k"), "attested times do not go back");
    fixture.pass(1);
    assert!(!fixture.is_served("p:k"));
}

#[test]
fn commands_that_use_a_withheld_value_find_none() {
    let mut fixture = Fixture::new(WhileLost::Withhold);
    fixture.pass(100_000);
    fixture.set("p:k");
    fixture.pass(10_000);
    assert!(!fixture.store("p:k", Mode::Replace), "replace");
    assert!(fixture.store("p:k", Mode::Add), "a client that fills by add can");
    assert!(fixture.is_served("p:k"), "and its value is young");
}

#[test]
fn a_withheld_value_can_be_filled_under_a_lease() {
    for (while_lost, has_copy) in [(WhileLost::Withhold, false), (WhileLost::Soft, true)] {
        let Fixture { cache, clock, mut session } = Fixture::new(while_lost);
        clock.advance(Duration::from_secs(100));
        let key = cache.key(b"p:k").unwrap();
        cache.store(&key, Mode::Set, Draft::new("old"), &mut session, clock.now());
        clock.advance(Duration::from_secs(10));
        let reading = Reading::new(OnMiss::Lease { since: cache.last_seq() });
        let (token, copy) = cache.read(&key, &reading, &mut session, clock.now(), |found| match found {
            Lookup::Granted { token, stale } => (token, stale.is_some()),
            _ => panic!("a lease was expected"),
        });
        assert_eq!(copy, has_copy, "{while_lost:?}");
        let filled = cache.fill(&key, token, Fill::Value(Draft::new("new")), &mut session, clock.now());
        assert!(filled.is_ok(), "{filled:?}");
        let value = cache.get(&key, &mut session, clock.now(), |value| value.bytes.to_vec());
        assert_eq!(value.as_deref(), Some(&b"new"[..]));
    }
}

#[test]
fn a_policy_may_serve_all_the_same() {
    let mut fixture = Fixture::new(WhileLost::Serve);
    fixture.pass(100_000);
    fixture.set("p:k");
    fixture.pass(100_000);
    assert!(fixture.is_served("p:k"));
}

#[test]
fn new_policies_know_what_was_attested_before() {
    let mut fixture = Fixture::new(WhileLost::Withhold);
    fixture.pass(100_000);
    fixture.set("p:k");
    fixture.pass(10_000);
    fixture.attest(100);
    fixture.cache.set_policies((*fixture.cache.policies()).clone());
    assert!(fixture.is_served("p:k"));
}
