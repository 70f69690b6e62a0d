//! The cache as an embedding program sees it: memory, expiry and waiting, on a clock that only moves by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use leasehold::cache::{
    Cache, Config, Counting, Deletion, Depth, Draft, Expiry, Fill, Filled, Group, Join, Lookup, Mode,
    NotCounted, OnMiss, Policy, Reading, Refused, Session, Step, StoreOutcome, TagList, Tags, Token,
    WhenFull,
};
use leasehold::clock::Clock;

const SECOND: Duration = Duration::from_secs(1);

/// A cache, a clock, and one party that uses them.
struct Fixture {
    cache: Cache,
    clock: Clock,
    session: Session,
}

impl Fixture {
    fn new(config: Config) -> Self {
        let cache = Cache::with_seed(config, [3; 32]);
        Fixture { session: cache.session(), cache, clock: Clock::manual() }
    }

    fn set(&mut self, key: &str, value: &[u8], ttl: Option<Duration>) -> StoreOutcome {
        let now = self.clock.now();
        let expiry = ttl.map_or(Expiry::NEVER, |ttl| Expiry::after(ttl, now));
        let draft = Draft { expiry, ..Draft::new(value) };
        let key = self.cache.key(key.as_bytes()).expect("a legal key");
        self.cache.store(&key, Mode::Set, draft, &mut self.session, now)
    }

    fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        let key = self.cache.key(key.as_bytes()).expect("a legal key");
        self.cache.get(&key, &mut self.session, self.clock.now(), |value| value.bytes.to_vec())
    }

    fn lease(&mut self, key: &str) -> Option<Token> {
        let key = self.cache.key(key.as_bytes()).expect("a legal key");
        self.cache.lease(&key, &mut self.session, self.clock.now(), |leased| match leased {
            Lookup::Granted { token, .. } => Some(token),
            Lookup::Busy { .. } | Lookup::Hit { .. } | Lookup::Miss => None,
        })
    }

    fn fill(&mut self, key: &str, token: Token) -> Result<Filled, Refused> {
        let draft = Draft::new("filled");
        let key = self.cache.key(key.as_bytes()).expect("a legal key");
        self.cache.fill(&key, token, Fill::Value(draft), &mut self.session, self.clock.now())
    }

    fn bytes(&self) -> u64 {
        self.cache.counts().bytes
    }
}

#[test]
fn a_million_items_that_end_together_go_in_bounded_steps() {
    const ITEMS: u64 = 1_000_000;
    let config = Config { memory_bytes: 1 << 30, ..Config::default() };
    // A step looks through one segment of each shard at most, and no item takes less than 32 bytes.
    let step_max = (config.shards() * config.segment_bytes() / 32) as u64;
    let mut fixture = Fixture::new(config);
    for n in 0..ITEMS {
        fixture.set(&n.to_string(), b"v", Some(60 * SECOND));
    }
    fixture.clock.advance(59 * SECOND);
    assert!(!fixture.cache.sweep(fixture.clock.now()));
    assert_eq!(fixture.cache.counts().items, ITEMS);

    fixture.clock.advance(SECOND);
    let (mut steps, mut before) = (0, 0);
    let mut is_more = true;
    while is_more {
        is_more = fixture.cache.sweep(fixture.clock.now());
        let expired = fixture.cache.counts().expired;
        assert!(expired - before <= step_max, "one step did {}", expired - before);
        (steps, before) = (steps + 1, expired);
    }
    assert!(steps > ITEMS / step_max);
    assert_eq!((fixture.cache.counts().items, fixture.bytes()), (0, 0));
}

#[test]
fn flushed_items_free_their_memory() {
    let mut fixture = Fixture::new(Config::default());
    for n in 0..10_000 {
        fixture.set(&n.to_string(), b"v", None);
    }
    let now = fixture.clock.now();
    fixture.cache.invalidate_all(None, Depth::Hard, &mut fixture.session, now);
    fixture.set("new", b"v", None);
    while fixture.cache.sweep(now) {}
    assert_eq!(fixture.cache.counts().items, 1);
    assert!(fixture.get("new").is_some() && fixture.get("7").is_none());
}

#[test]
fn items_of_an_invalidated_group_free_their_memory_and_are_not_listed() {
    let mut fixture = Fixture::new(Config::default());
    let tags = TagList::new([&b"old"[..]]).expect("it is short");
    for n in 0..10_000 {
        let (name, value) = (format!("{}:{n}", n % 3), vec![1; if n % 1_000 == 0 { 100_000 } else { 10 }]);
        let draft = Draft { tags: if n % 3 == 2 { tags.tags() } else { Tags::NONE }, ..Draft::new(&value) };
        let key = fixture.cache.key(name.as_bytes()).expect("a legal key");
        fixture.cache.store(&key, Mode::Set, draft, &mut fixture.session, fixture.clock.now());
    }
    let listed = |fixture: &Fixture| {
        let (mut from, mut count) = (Some(0), 0);
        while let Some(at) = from {
            from = fixture.cache.list(at, fixture.clock.now(), |_| count += 1);
        }
        count
    };
    let now = fixture.clock.now();
    fixture.cache.invalidate([Group::Tag(b"old")], Depth::Hard, now);
    fixture.cache.invalidate([Group::Prefix(b"1:")], Depth::Soft, now);
    assert_eq!((listed(&fixture), fixture.cache.counts().items), (3_334, 10_000));
    while fixture.cache.sweep(now) {}
    assert_eq!(fixture.cache.counts().items, 6_667, "of which half are stale copies");
    fixture.clock.advance(9 * SECOND);
    while fixture.cache.sweep(fixture.clock.now()) {}
    assert_eq!(fixture.cache.counts().items, 6_667);
    fixture.clock.advance(SECOND);
    while fixture.cache.sweep(fixture.clock.now()) {}
    assert_eq!((listed(&fixture), fixture.cache.counts().items), (3_334, 3_334));
}

/// How many live values are left when as many others were invalidated one way or another, and new ones need
/// their room.
fn live_after(when_full: WhenFull, invalidate: impl Fn(&mut Fixture)) -> usize {
    let policy = Policy { stale: 300 * SECOND, ..Policy::default() };
    let config = Config { memory_bytes: 8 << 20, policies: policy.into(), when_full, ..Config::default() };
    let mut fixture = Fixture::new(config);
    for n in 0..3_000 {
        fixture.set(&format!("live:{n}"), &[1; 1_000], None);
        fixture.set(&format!("old:{n}"), &[1; 1_000], (n % 2 == 0).then_some(30 * SECOND));
    }
    invalidate(&mut fixture);
    while fixture.cache.sweep(fixture.clock.now()) {}
    for n in 0..2_500 {
        let stored = fixture.set(&format!("new:{n}"), &[1; 1_000], None);
        assert_ne!(stored, StoreOutcome::NoRoom, "number {n}");
    }
    (0..3_000).filter(|n| fixture.get(&format!("live:{n}")).is_some()).count()
}

#[test]
fn stale_copies_go_before_anything_that_is_live() {
    let delete = |fixture: &mut Fixture| {
        for n in 0..3_000 {
            let name = format!("old:{n}");
            let key = fixture.cache.key(name.as_bytes()).expect("a legal key");
            let now = fixture.clock.now();
            assert!(fixture.cache.delete(&key, &Deletion::default(), &mut fixture.session, now).was_live());
        }
    };
    let soften = |fixture: &mut Fixture| {
        fixture.cache.invalidate([Group::Prefix(b"old:")], Depth::Soft, fixture.clock.now());
    };
    for when_full in [WhenFull::Evict, WhenFull::Refuse] {
        assert_eq!(
            (live_after(when_full, delete), live_after(when_full, soften)),
            (3_000, 3_000),
            "{when_full:?}"
        );
    }
}

#[test]
fn constant_invalidations_of_groups_do_not_keep_the_sweep_busy() {
    let mut fixture = Fixture::new(Config::default());
    for n in 0..10_000 {
        fixture.set(&format!("a:{n}"), b"v", None);
    }
    let (mut rounds, mut steps) = (0, 0);
    for _ in 0..30 {
        fixture.cache.invalidate([Group::Prefix(b"b:")], Depth::Hard, fixture.clock.now());
        let before = steps;
        while fixture.cache.sweep(fixture.clock.now()) {
            steps += 1;
        }
        rounds += u32::from(steps > before);
        fixture.clock.advance(SECOND);
    }
    assert_eq!(rounds, 3, "one in ten seconds");
}

#[test]
fn the_budget_is_kept_and_what_is_served_is_right() {
    for megabytes in [1, 3, 8] {
        let limit = megabytes << 20;
        let mut fixture = Fixture::new(Config { memory_bytes: limit, ..Config::default() });
        for n in 0..megabytes * 25_000 {
            let (key, value) = ((n % 50_000).to_string(), vec![n as u8; 1 + n % 700]);
            fixture.set(&key, &value, None);
            assert!(fixture.cache.memory_bytes().1 <= limit);
            assert!(fixture.get(&key).is_none_or(|found| found == value));
        }
        let counts = fixture.cache.counts();
        assert!(counts.evictions > 0 && counts.bytes > limit as u64 / 10 * 7, "{megabytes} MiB: {counts:?}");
    }
}

/// `stats items` shows the ages of evictions, and of the items that are next.
#[test]
fn the_ages_of_evicted_items_and_of_the_next_ones_are_known() {
    let config = Config { memory_bytes: 1 << 20, value_bytes_max: 1 << 10, ..Config::default() };
    let mut fixture = Fixture::new(config);
    assert_eq!(fixture.cache.counts().oldest_access, None);
    for n in 0..500 {
        fixture.set(&format!("old:{n:05}"), &[0; 100], (n % 2 == 0).then_some(Duration::from_secs(3600)));
    }
    fixture.clock.advance(Duration::from_secs(100));
    let now = fixture.clock.now();
    assert_eq!(fixture.cache.counts().oldest_access.map(|tick| tick.age_seconds(now)), Some(100));
    let mut more = 0;
    while fixture.cache.counts().evictions < 100 {
        // As large as the old ones: larger ones would be evicted first.
        fixture.set(&format!("new:{more:05}"), &[0; 100], None);
        more += 1;
    }
    let counts = fixture.cache.counts();
    assert!((40..=60).contains(&(counts.evicted_nonzero * 100 / counts.evictions)), "{counts:?}");
    assert_eq!(counts.last_evicted.1, 100);
    fixture.cache.reset_counts();
    let counts = fixture.cache.counts();
    assert_eq!((counts.evicted_nonzero, counts.last_evicted.1), (0, 0));
}

#[test]
fn a_set_at_a_full_cache_works_on_one_segment_whatever_the_memory() {
    for (memory_bytes, segment_bytes) in [(8 << 20, 16 << 10), (32 << 20, 64 << 10), (256 << 20, 64 << 10)] {
        let mut fixture = Fixture::new(Config { memory_bytes, ..Config::default() });
        assert_eq!(fixture.cache.config().segment_bytes(), segment_bytes);
        let mut sizes = (0..).map(|n| 200 + n * 7_919 % 1_800);
        let mut set =
            |n: usize| fixture.set(&format!("{}", n % 1_000_003), &vec![0; sizes.next().unwrap()], None);
        (0..memory_bytes / 500).for_each(|n| _ = set(n));
        for n in 0..2_000 {
            let before = fixture.cache.counts();
            fixture.set(&format!("more{n}"), &[0; 1_000], None);
            let after = fixture.cache.counts();
            assert!(after.copied_bytes - before.copied_bytes <= segment_bytes as u64);
            assert!(after.evictions - before.evictions <= segment_bytes as u64 / 200);
        }
        assert!(fixture.cache.counts().evictions > 0);
    }
}

/// `append`, `prepend`, `replace`, `cas` and `incr` took the old value out before they knew that there was no
/// room for the new one, and it was lost.
#[test]
fn a_change_that_finds_no_room_changes_nothing() {
    let config = Config { memory_bytes: 8 << 20, when_full: WhenFull::Refuse, ..Config::default() };
    let mut fixture = Fixture::new(config);
    fixture.set("victim", &[b'9'; 15], None);
    // Large ones, and small ones for what is left, until all parts of the cache are full.
    for bytes in [1_000, 8] {
        let mut refused = 0;
        for n in 0.. {
            let stored = fixture.set(&format!("{bytes}.{n}"), &vec![0; bytes], None);
            refused = if stored == StoreOutcome::NoRoom { refused + 1 } else { 0 };
            if refused == 200 {
                break;
            }
        }
    }
    let now = fixture.clock.now();
    let key = fixture.cache.key(b"victim").expect("a legal key");
    let unique = fixture.cache.peek(&key, now, |value| value.unique).expect("it is there");
    let token = fixture.lease("absent").expect("nobody else wants it");
    for mode in
        [Mode::Append(Join::default()), Mode::Prepend(Join::default()), Mode::Replace, Mode::Cas(unique)]
    {
        let draft = Draft::new(&[1; 1_000]);
        let stored = fixture.cache.store(&key, mode, draft, &mut fixture.session, now);
        assert_eq!((stored, fixture.get("victim")), (StoreOutcome::NoRoom, Some(vec![b'9'; 15])), "{mode:?}");
        assert_eq!(fixture.cache.peek(&key, now, |value| value.unique), Some(unique));
    }
    let step = Step::Incr(1_000_000_000_000_000_000);
    let counted = fixture.cache.count(&key, &Counting::by(step), &mut fixture.session, now);
    assert_eq!((counted, fixture.get("victim")), (Err(NotCounted::NoRoom), Some(vec![b'9'; 15])));
    assert_eq!(fixture.fill("absent", token), Err(Refused::NoRoom));
    // The old value must not pass for the new one.
    assert_eq!(
        (fixture.set("victim", &[2; 1_000], None), fixture.get("victim")),
        (StoreOutcome::NoRoom, None)
    );
}

#[test]
fn an_item_that_fills_half_the_budget_finds_room_in_all_shards() {
    let mut fixture = Fixture::new(Config { memory_bytes: 8 << 20, ..Config::default() });
    for n in 0..100_000 {
        fixture.set(&n.to_string(), b"v", None);
    }
    fixture.set("big", &vec![1; 4 << 20], None);
    assert!(fixture.get("big").is_some() && fixture.bytes() <= 8 << 20);
}

#[test]
fn an_unfetched_item_is_evicted_before_one_in_use() {
    let mut fixture = Fixture::new(Config { memory_bytes: 8 << 20, ..Config::default() });
    fixture.set("used", b"v", None);
    for n in 0..200_000 {
        assert!(fixture.get("used").is_some(), "after {n}");
        fixture.set(&n.to_string(), &[0; 100], None);
    }
}

#[test]
fn the_fixed_tables_are_small() {
    let bytes = Config::default().fixed_table_bytes();
    // 2.1 MiB of them are the misses of keys, 2.4 the groups, and 2.25 the hold-offs. The last and the tags
    // in use, 1 MiB, are taken when they are needed.
    assert!(bytes <= 13 << 20, "{bytes}");
    // A small cache has smaller ones.
    let bytes = [32, 16, 8].map(|megabytes| {
        Config { memory_bytes: megabytes << 20, ..Config::default() }.fixed_table_bytes() >> 10
    });
    assert!(bytes[0] <= 7_500 && bytes[1] <= 4_600 && bytes[2] <= 4_100, "{bytes:?} KiB");
}

#[test]
fn the_limit_may_be_lowered_to_a_sixteenth_and_raised_to_32_times() {
    let fixture = Fixture::new(Config::default());
    for (megabytes, is_possible) in [(3, false), (4, true), (2048, true), (2049, false)] {
        assert_eq!(fixture.cache.set_memory_bytes(megabytes << 20), is_possible, "{megabytes}");
    }
    assert_eq!(fixture.cache.memory_bytes().0, 2048 << 20);
}

#[test]
fn a_value_that_can_find_no_room_costs_nobody_else_his() {
    let mut fixture = Fixture::new(Config { memory_bytes: 8 << 20, ..Config::default() });
    for n in 0..10_000 {
        fixture.set(&n.to_string(), b"v", None);
    }
    fixture.set("big", b"v", None);
    assert_eq!(fixture.set("big", &vec![0; (4 << 20) + 1], None), StoreOutcome::NoRoom);
    assert!(fixture.get("big").is_none(), "the old value must not pass for the new one");
    assert_eq!((fixture.cache.counts().items, fixture.cache.counts().evictions), (10_000, 0));
}

#[test]
fn reads_and_fills_are_counted_by_size_until_a_reset() {
    let mut fixture = Fixture::new(Config::default());
    assert!(fixture.get("k").is_none() && fixture.lease("j").is_some() && fixture.lease("j").is_none());
    fixture.set("k", &[0; 64], None);
    fixture.set("k", &[0; 65], None);
    assert!(fixture.get("k").is_some() && fixture.lease("k").is_none());
    let counts = fixture.cache.counts();
    assert_eq!((counts.sizes[6].fills, counts.sizes[7].fills, counts.sizes[7].hits), (1, 0, 2));
    // The second lease-get for `j` only learned that another client loads it.
    assert_eq!((counts.hits(), counts.misses, counts.total_items), (2, 2, 2));

    fixture.cache.reset_counts();
    let counts = fixture.cache.counts();
    assert_eq!((counts.hits(), counts.misses, counts.total_items, counts.items), (0, 0, 0, 1));
    assert!(counts.bytes > 0);
}

#[test]
fn the_curve_shows_the_effect_of_more_memory() {
    // Rounds over 40,000 values of 500 bytes: they need about 22 MB.
    let mut fixture = Fixture::new(Config { memory_bytes: 8 << 20, ..Config::default() });
    for n in 0..400_000 {
        let key = format!("key:{}", n % 40_000);
        if fixture.get(&key).is_none() {
            fixture.set(&key, &[0; 500], None);
        }
    }
    let curve = fixture.cache.curve();
    let counts = fixture.cache.counts();
    assert_eq!(counts.hits() + counts.misses, 400_000);
    assert!(curve.lru[..5].iter().all(|ratio| *ratio < 0.1), "{curve:?}");
    assert!(curve.lru[5..].iter().all(|ratio| *ratio > 0.8), "{curve:?}");
    assert!((400..900).contains(&curve.samples), "{curve:?}");
    fixture.cache.reset_counts();
    for n in 0..40_000 {
        fixture.get(&format!("key:{n}"));
    }
    assert!(fixture.cache.curve().lru[5] > 0.95, "what is followed is still known");
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn whoever_waits_is_woken_once_and_may_change_his_mind() {
    let mut fixture = Fixture::new(Config::default());
    let (waiter, quitter) = (fixture.cache.session(), fixture.cache.session());
    let token = fixture.lease("k").expect("nobody else wants it");
    let now = fixture.clock.now();
    let (woken, unwoken) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
    let key = fixture.cache.key(b"k").expect("a legal key");
    assert!(fixture.cache.wait(&key, &waiter, &Waker::from(Arc::clone(&woken)), now));
    assert!(fixture.cache.wait(&key, &quitter, &Waker::from(Arc::clone(&unwoken)), now));
    fixture.cache.stop_waiting(&key, &quitter);

    assert_eq!(fixture.fill("k", token), Ok(Filled::Visible));
    assert_eq!((woken.0.load(Ordering::SeqCst), unwoken.0.load(Ordering::SeqCst)), (1, 0));
    let key = fixture.cache.key(b"k").expect("a legal key");
    assert!(!fixture.cache.wait(&key, &waiter, Waker::noop(), now), "it is there");
}

#[test]
fn leases_are_spaced_where_the_policy_says_so() {
    let policy = Policy { lease_min_interval: 10 * SECOND, lease_window: SECOND, ..Policy::default() };
    let mut fixture = Fixture::new(Config { policies: policy.into(), ..Config::default() });
    assert!(fixture.lease("k").is_some());
    let (key, now) = (b"k", fixture.clock.now());
    let key = fixture.cache.key(key).expect("a legal key");
    fixture.cache.delete(&key, &Deletion::default(), &mut fixture.session, now);
    fixture.clock.advance(Duration::from_millis(9_999));
    assert!(fixture.lease("k").is_none(), "also after an invalidation");
    fixture.clock.advance(Duration::from_millis(1));
    assert!(fixture.lease("k").is_some());
}

#[test]
fn a_token_outlives_its_record() {
    let mut fixture = Fixture::new(Config::default());
    let token = fixture.lease("first").expect("nobody else wants it");
    for n in 0..100_000 {
        fixture.lease(&n.to_string());
    }
    assert_eq!(fixture.fill("first", token), Ok(Filled::Visible));
    assert_eq!(fixture.fill("first", token), Err(Refused::Superseded), "once");
}

#[test]
fn good_fills_are_seldom_refused_for_invalidations_of_other_keys() {
    // design: below 1 in 1,000 at 10,000 invalidations/s and 50 ms from lease to fill, that is, with 500
    // invalidations between.
    const FILLS: usize = 20_000;
    let mut fixture = Fixture::new(Config::default());
    let mut refused = 0;
    for n in 0..FILLS {
        let name = format!("key:{n}");
        let token = fixture.lease(&name).expect("nobody else wants it");
        for other in 0..500 {
            let other = format!("other:{n}:{other}");
            let key = fixture.cache.key(other.as_bytes()).expect("a legal key");
            fixture.cache.delete(&key, &Deletion::default(), &mut fixture.session, fixture.clock.now());
        }
        refused += usize::from(fixture.fill(&name, token).is_err());
    }
    // 500 of 524,288 cells are 1 in 1,049, so 19 are expected; the seed is fixed.
    assert!(refused <= 25, "{refused} of {FILLS}");
}

#[test]
fn good_fills_are_seldom_refused_for_invalidations_of_other_groups() {
    // At 10,000 invalidations/s, too, and 50 ms from lease to fill: 500 of 65,536 numbers have risen. The
    // seed is fixed, and 15 are expected.
    let mut fixture = Fixture::new(Config::default());
    let (mut number, mut refused) = (0, 0);
    let mut storm = |fixture: &Fixture, invalidations: usize| {
        for _ in 0..invalidations {
            number += 1;
            let other = format!("other:{number}");
            fixture.cache.invalidate([Group::Tag(other.as_bytes())], Depth::Hard, fixture.clock.now());
        }
    };
    let fill = |fixture: &mut Fixture, name: &str, invalidations: &mut dyn FnMut(&Fixture)| {
        let (token, tags) = (fixture.lease(name), TagList::new([&b"own"[..]]).expect("it is short"));
        let token = token.expect("nobody else wants it");
        invalidations(fixture);
        let draft = Draft { tags: tags.tags(), ..Draft::new("filled") };
        let key = fixture.cache.key(name.as_bytes()).expect("a legal key");
        fixture.cache.fill(&key, token, Fill::Value(draft), &mut fixture.session, fixture.clock.now())
    };
    for n in 0..2_000 {
        let done = fill(&mut fixture, &format!("key:{n}"), &mut |fixture| storm(fixture, 500));
        refused += usize::from(done == Err(Refused::Invalidated));
    }
    assert!(refused <= 25, "{refused} of 2,000");
}

/// Of 10,000 tokens with the number of a lease, one was genuine by chance, and stored a value.
#[test]
fn a_token_cannot_be_found_by_trying() {
    let mut fixture = Fixture::new(Config::default());
    let (mut forger, mut forged, mut refused) = (fixture.cache.session(), 0, 0);
    let try_all = |fixture: &Fixture, name: &str, token: Token, forger: &mut Session| {
        let key = fixture.cache.key(name.as_bytes()).expect("a legal key");
        let number = token.number() & ((1 << 48) - 1) | 1 << 62;
        let guesses = (0..1 << 14).map(|check: u64| Token::from(number | check << 48));
        let fill = |guess| {
            fixture.cache.fill(&key, guess, Fill::Value(Draft::new("bad")), forger, fixture.clock.now())
        };
        guesses.map(fill).filter(Result::is_ok).count()
    };
    for n in 0..100 {
        let (name, other) = (format!("key:{n}"), format!("other:{n}"));
        let (token, others) = (fixture.lease(&name).expect("free"), fixture.lease(&other).expect("free"));
        forged += try_all(&fixture, &name, token, &mut forger);
        refused += usize::from(fixture.fill(&name, token) == Err(Refused::Invalidated));
        assert_eq!(fixture.fill(&other, others), Ok(Filled::Visible));
    }
    // The seed is fixed, and 0.2 are expected; without the limit, each would be found.
    assert!(forged <= 1 && refused + forged >= 100, "{forged}, {refused}");
    let token = fixture.lease("untouched").expect("free");
    let wrong = Token::from(token.number() ^ 1 << 48);
    let key = fixture.cache.key(b"untouched").expect("a legal key");
    for _ in 0..31 {
        let fill = Fill::Value(Draft::new("bad"));
        let done = fixture.cache.fill(&key, wrong, fill, &mut forger, fixture.clock.now());
        assert_eq!(done, Err(Refused::Unknown));
    }
    assert_eq!(fixture.fill("untouched", token), Ok(Filled::Visible), "mistakes happen");
}

/// Seven lines of `invalidate`, each of 1,000 tags that no value had, emptied the cache.
#[test]
fn a_stream_of_tags_costs_no_value_that_does_not_bear_them() {
    const VALUES: usize = 10_000;
    let mut fixture = Fixture::new(Config::default());
    for n in 0..VALUES {
        let own = format!("own:{n}");
        let tags = TagList::new([own.as_bytes()]).expect("it is short");
        let tags = if n % 2 == 0 { tags.tags() } else { Tags::NONE };
        let draft = Draft { tags, ..Draft::new("v") };
        let name = format!("user:{n}");
        let key = fixture.cache.key(name.as_bytes()).expect("a legal key");
        fixture.cache.store(&key, Mode::Set, draft, &mut fixture.session, fixture.clock.now());
    }
    for n in 0..1_000_000 {
        let other = format!("other:{n}");
        fixture.cache.invalidate([Group::Tag(other.as_bytes())], Depth::Hard, fixture.clock.now());
    }
    let lost: Vec<usize> = (0..VALUES).filter(|n| fixture.get(&format!("user:{n}")).is_none()).collect();
    assert!(lost.len() <= VALUES / 2 / 1_000 && lost.iter().all(|n| n % 2 == 0), "{lost:?}");
}

/// The tag of each value is invalidated, and the value stored again, over and over. The sweep keeps up.
#[test]
fn tags_of_their_own_cost_other_values_nothing_while_the_sweep_keeps_up() {
    const VALUES: usize = 10_000;
    let mut fixture = Fixture::new(Config::default());
    let store = |fixture: &mut Fixture, n: usize| {
        let (name, tag) = (format!("user:{n}"), format!("own:{n}"));
        let tags = TagList::new([tag.as_bytes()]).expect("it is short");
        let draft = Draft { tags: tags.tags(), ..Draft::new("v") };
        let key = fixture.cache.key(name.as_bytes()).expect("a legal key");
        fixture.cache.store(&key, Mode::Set, draft, &mut fixture.session, fixture.clock.now());
    };
    (0..VALUES).for_each(|n| store(&mut fixture, n));
    for n in (0..VALUES / 2).cycle().take(50_000) {
        let tag = format!("own:{n}");
        fixture.cache.invalidate([Group::Tag(tag.as_bytes())], Depth::Hard, fixture.clock.now());
        store(&mut fixture, n);
        // 1,000 a second.
        fixture.clock.advance(Duration::from_millis(1));
        if n % 100 == 0 {
            (0..500).for_each(|_| _ = fixture.cache.sweep(fixture.clock.now()));
        }
    }
    assert_eq!(fixture.cache.groups_remembered().1, 0);
    assert!((0..VALUES).all(|n| fixture.get(&format!("user:{n}")).is_some()));
}

/// A client's date two years ahead was multiplied by the jitter and by the dice, which is more than 64 bits
/// hold: a build with checks ended, and others cut too little.
#[test]
fn jitter_cuts_the_longest_life_too() {
    let policy = Policy { ttl_jitter: 100, ..Policy::default() };
    let mut fixture = Fixture::new(Config { policies: policy.into(), ..Config::default() });
    let (name, longest) = ("key", Duration::from_secs(u32::MAX.into()));
    let lives: Vec<u64> = (0..100)
        .map(|_| {
            fixture.set(name, b"v", Some(longest));
            let (key, now) = (fixture.cache.key(name.as_bytes()).expect("a legal key"), fixture.clock.now());
            fixture
                .cache
                .peek(&key, now, |value| value.expiry.to_unix(now) - now.unix)
                .expect("it was stored")
        })
        .collect();
    // What items can count: eight years of sixteenths of a second.
    let half = u64::from(u32::MAX) / 16 / 2;
    assert!(lives.iter().any(|life| *life < half) && lives.iter().any(|life| *life > half), "{lives:?}");
}

/// meta-memcache drops tokens above 32 bits, so it fills with plain sets. Its readers that lose the lease ask
/// again and again, each time with a miss that no set answers: no load was ever timed, the load time stayed
/// at a second, and in a storm of deletes one read of a hundred was a hit (45 with memcached).
#[test]
fn loads_are_timed_while_other_readers_wait() {
    let mut fixture = Fixture::new(Config::default());
    let cache = &fixture.cache;
    let (mut other, now) = (cache.session(), fixture.clock.now());
    let key = cache.key(b"k").expect("a legal key");
    let reading = Reading::new(OnMiss::MetaLease { window: Some(Duration::from_secs(30)) });
    let samples = || cache.policies().load_time(None).samples;
    for (polls, expected) in [(3, 1), (0, 2), (0, 3)] {
        cache.read(&key, &reading, &mut fixture.session, now, |found| {
            assert!(matches!(found, Lookup::Granted { .. }));
        });
        for _ in 0..polls {
            cache
                .read(&key, &reading, &mut other, now, |found| assert!(matches!(found, Lookup::Busy { .. })));
        }
        cache.store(&key, Mode::Set, Draft::new("v"), &mut fixture.session, now);
        assert_eq!(samples(), expected);
        cache.delete(&key, &Deletion::default(), &mut other, now);
    }
}
