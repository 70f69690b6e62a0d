//! Inspection of a key shows what readers would find, and changes nothing.

use std::time::Duration;

use leasehold::cache::{
    Cache, Config, Copies, Deletion, Depth, Draft, Expiry, Group, Implicit, InvalidationOf, KeyReport,
    Lookup, Mode, Policy, Session, TagList,
};
use leasehold::clock::Clock;

use crate::support::random::Random;

struct Fixture {
    cache: Cache,
    clock: Clock,
    session: Session,
}

/// The state of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Held {
    Live,
    Nothing,
    Stale,
}

impl Fixture {
    fn new(policy: Policy) -> Self {
        let cache = Cache::with_seed(
            Config { copies: Copies::Always, policies: policy.into(), ..Config::default() },
            [3; 32],
        );
        Fixture { session: cache.session(), cache, clock: Clock::manual() }
    }

    fn look<R>(&self, key: &str, show: impl FnOnce(KeyReport) -> R) -> R {
        self.cache.inspect(&self.cache.key(key.as_bytes()).expect("a legal key"), self.clock.now(), show)
    }

    fn held(&self, key: &str) -> Held {
        self.look(key, |known| match known.value {
            None => Held::Nothing,
            Some((value, _)) if value.is_stale => Held::Stale,
            Some(_) => Held::Live,
        })
    }

    /// The result of a read that asks for a lease.
    fn found(&mut self, key: &str) -> Held {
        let key = self.cache.key(key.as_bytes()).expect("a legal key");
        self.cache.lease(&key, &mut self.session, self.clock.now(), |leased| match leased {
            Lookup::Busy { stale, .. } | Lookup::Granted { stale, .. } => {
                stale.map_or(Held::Nothing, |_| Held::Stale)
            }
            Lookup::Hit { .. } | Lookup::Miss => Held::Live,
        })
    }

    fn set(&mut self, key: &str, value: &[u8], seconds: u64, tag: &str) {
        let now = self.clock.now();
        let expiry =
            if seconds == 0 { Expiry::NEVER } else { Expiry::after(Duration::from_secs(seconds), now) };
        let tags = TagList::new([tag.as_bytes()]).expect("a legal tag");
        let draft = Draft { expiry, tags: tags.tags(), ..Draft::new(value) };
        let key = self.cache.key(key.as_bytes()).expect("a legal key");
        self.cache.store(&key, Mode::Set, draft, &mut self.cache.session(), now);
    }

    fn change_something(&mut self, random: &mut Random) {
        let (key, now) = (KEYS[random.below(3) as usize], self.clock.now());
        let handle = self.cache.key(key.as_bytes()).expect("a legal key");
        let depth = if random.below(2) == 0 { Depth::Hard } else { Depth::Soft };
        match random.below(9) {
            0..4 => {
                let value: &[u8] = if random.below(8) == 0 { b"" } else { b"value" };
                self.set(key, value, random.below(12), "tag");
            }
            4 => _ = self.cache.delete(&handle, &Deletion::default(), &mut self.session, now),
            5 => _ = self.cache.invalidate_key(&handle, depth, &mut self.session, now),
            6 => self.cache.invalidate([Group::Prefix(b"a:")], depth, now),
            7 => self.cache.invalidate([Group::Tag(b"tag")], depth, now),
            _ => self.cache.invalidate_all(None, depth, &mut self.session, now),
        }
    }
}

const KEYS: [&str; 3] = ["a:1", "a:2", "b"];

#[test]
fn what_is_known_is_what_a_reader_finds() {
    let mut seen = [0; 3];
    for stale in [0, 5] {
        // Every set is stored, whatever was missed.
        let implicit = Implicit::Off;
        let policy = Policy { implicit, stale: Duration::from_secs(stale), ..Policy::default() };
        let (mut fixture, mut random) = (Fixture::new(policy), Random(7 + stale));
        for _ in 0..20_000 {
            fixture.change_something(&mut random);
            fixture.clock.advance(Duration::from_millis(random.below(3_000)));
            let key = KEYS[random.below(3) as usize];
            let known = fixture.held(key);
            assert_eq!(fixture.held(key), known, "looking has changed something");
            assert_eq!(fixture.found(key), known);
            seen[known as usize] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count > 1_000), "{seen:?}");
}

#[test]
fn looking_is_no_read() {
    let mut fixture = Fixture::new(Policy::default());
    fixture.set("k", b"value", 5, "tag");
    let before = fixture.cache.counts();
    fixture.look("k", |known| {
        let (value, _) = known.value.unwrap();
        assert_eq!((value.bytes, value.is_fetched, value.tags.count()), (&b"value"[..], false, 1));
    });
    fixture.look("absent", |known| assert_eq!((known.value, known.lease), (None, None)));
    fixture.clock.advance(Duration::from_secs(9));
    assert_eq!(fixture.held("k"), Held::Nothing);
    assert_eq!(fixture.cache.counts(), before, "nothing was met, missed or thrown away");
}

#[test]
fn a_lease_is_shown_until_it_is_invalidated() {
    let mut fixture = Fixture::new(Policy::default());
    fixture.found("a:1");
    let holder = fixture.session.number();
    fixture.look("a:1", |known| {
        let lease = known.lease.expect("it was granted");
        assert_eq!((lease.holder, lease.until, known.waiting), (holder, 10_000, 0));
    });
    fixture.cache.invalidate([Group::Prefix(b"a:")], Depth::Hard, fixture.clock.now());
    fixture.look("a:1", |known| assert_eq!(known.lease, None));
}

#[test]
fn the_newest_invalidation_shows_its_target() {
    let mut fixture = Fixture::new(Policy::default());
    let of = |fixture: &Fixture| {
        fixture.look("a:1", |known| known.invalidation.map(|newest| format!("{:?}", newest.of)))
    };
    assert_eq!(of(&fixture), None);
    fixture.set("a:1", b"value", 0, "tag");
    let now = fixture.clock.now();
    assert_eq!(of(&fixture), Some(format!("{:?}", InvalidationOf::Key)), "a set is one");
    fixture.cache.invalidate([Group::Tag(b"tag")], Depth::Soft, now);
    assert_eq!(of(&fixture), Some(format!("{:?}", InvalidationOf::Group(Group::Tag(b"tag")))));
    fixture.cache.invalidate([Group::Prefix(b"a:")], Depth::Hard, now);
    assert_eq!(of(&fixture), Some(format!("{:?}", InvalidationOf::Group(Group::Prefix(b"a:")))));
    fixture.cache.invalidate_all(None, Depth::Hard, &mut fixture.session, now);
    assert_eq!(of(&fixture), Some(format!("{:?}", InvalidationOf::All)));
    fixture.clock.advance(Duration::from_secs(30));
    fixture.set("other", b"value", 0, "tag");
    let seq = fixture.look("a:1", |known| known.invalidation.unwrap().seq);
    assert!((30..=31).contains(&fixture.cache.age_of(seq, fixture.clock.now()).unwrap()));
}
