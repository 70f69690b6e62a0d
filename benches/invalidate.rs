//! The cost of invalidating groups, for the caller and for concurrent readers.
//!
//! `cargo bench --bench invalidate`. No socket; keys have two prefixes, values have one tag.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use leasehold::cache::{Cache, Config, Depth, Draft, Group, Implicit, Mode, Policy, Session, TagList};
use leasehold::{Clock, Now};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("invalidate");
    group.throughput(Throughput::Elements(1));
    for items in [1, 10_000, 1_000_000] {
        invalidations(&mut group, items);
    }
    for names in [0, 1, 10_000] {
        hits(&mut group, names);
    }
    for per_second in [0, 10_000] {
        hits_in_a_storm(&mut group, per_second);
    }
    group.finish();
    criterion.final_summary();
}

type Benches<'c> = BenchmarkGroup<'c, WallTime>;

/// A cache of items that all have [`PREFIX`] and [`TAG`].
struct Fixture {
    cache: Cache,
    now: Now,
    session: Session,
}

impl Fixture {
    fn new(items: usize) -> Self {
        // Without implicit leases every set is stored.
        let policies = Policy { implicit: Implicit::Off, ..Policy::default() }.into();
        let cache = Cache::new(Config { memory_bytes: 1 << 30, policies, ..Config::default() });
        let fixture = Fixture { session: cache.session(), now: Clock::manual().now(), cache };
        (0..items).for_each(|item| fixture.set(item));
        fixture
    }

    fn set(&self, item: usize) {
        let (name, tags) = (name(item), TagList::new([TAG]).expect("it is short"));
        let key = self.cache.key(name.as_bytes()).expect("a legal key");
        let draft = Draft { tags: tags.tags(), ..Draft::new(&[b'v'; 100]) };
        self.cache.store(&key, Mode::Set, draft, &mut self.cache.session(), self.now);
    }

    fn is_hit(&mut self, item: usize) -> bool {
        let name = name(item);
        let key = self.cache.key(name.as_bytes()).expect("a legal key");
        self.cache.get(&key, &mut self.session, self.now, |value| black_box(value.bytes.len())).is_some()
    }
}

fn invalidations(group: &mut Benches, items: usize) {
    let mut fixture = Fixture::new(items);
    for (kind, name) in [("tag", Group::Tag(TAG)), ("prefix", Group::Prefix(PREFIX))] {
        fixture.set(0);
        assert!(fixture.is_hit(0));
        fixture.cache.invalidate([name], Depth::Hard, fixture.now);
        assert!(!fixture.is_hit(0));
        group.bench_function(format!("{kind} over {items}"), |bencher| {
            bencher.iter(|| fixture.cache.invalidate([black_box(name)], Depth::Hard, fixture.now));
        });
    }
}

/// Hits on an item that is older than the invalidations of this many other groups.
fn hits(group: &mut Benches, names: usize) {
    let mut fixture = Fixture::new(1);
    for other in 0..names {
        let other = format!("other:{other}");
        fixture.cache.invalidate([Group::Tag(other.as_bytes())], Depth::Hard, fixture.now);
    }
    assert!(fixture.is_hit(0));
    group.bench_function(format!("hit, {names} groups invalidated since"), |bencher| {
        bencher.iter(|| fixture.is_hit(0));
    });
}

/// Hits while another thread invalidates other groups at this rate.
fn hits_in_a_storm(group: &mut Benches, per_second: u64) {
    let Fixture { cache, now, mut session } = Fixture::new(1);
    let is_done = AtomicBool::new(false);
    let name = name(0);
    let key = cache.key(name.as_bytes()).expect("a legal key");
    let mut is_hit = || cache.get(&key, &mut session, now, |value| black_box(value.bytes.len())).is_some();
    assert!(is_hit());
    thread::scope(|scope| {
        scope.spawn(|| storm(&cache, now, per_second, &is_done));
        group.bench_function(format!("hit, {per_second} invalidations/s"), |bencher| {
            bencher.iter(&mut is_hit)
        });
        is_done.store(true, Ordering::Relaxed);
    });
}

#[expect(clippy::disallowed_methods, reason = "invalidations at a fixed rate")]
fn storm(cache: &Cache, now: Now, per_second: u64, is_done: &AtomicBool) {
    let mut number = 0;
    while !is_done.load(Ordering::Relaxed) {
        for _ in 0..per_second / 1_000 {
            number += 1;
            let other = format!("other:{}", number % 5_000);
            cache.invalidate([Group::Tag(other.as_bytes())], Depth::Hard, now);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn name(item: usize) -> String {
    format!("product:{item}:price")
}

const PREFIX: &[u8] = b"product:";
const TAG: &[u8] = b"products";
