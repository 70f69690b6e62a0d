//! The cache without protocol or socket, one thread, a clock that stands still; and one `get` from bytes to bytes.
//!
//! `cargo bench --bench cache`. `DashMap<Bytes, Bytes>` stands in the same groups as a yardstick: it knows neither
//! leases nor expiry nor a byte limit. Keys go round, ten thousand of them where nothing else is said.

use std::hint::black_box;
use std::sync::Arc;

use bytes::{BufMut, Bytes};
use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput};
use dashmap::DashMap;
use leasehold::cache::{
    Cache, Config, Draft, Expiry, Fence, Fill, Filled, Implicit, Leased, Mode, Peer, Policy, Step, Store,
};
use leasehold::command::{Flow, Rules, Session, execute};
use leasehold::metrics::Metrics;
use leasehold::protocol::{Decoder, Output, Space};
use leasehold::{Clock, Now};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("cache");
    group.throughput(Throughput::Elements(1));
    reads(&mut group);
    yardsticks(&mut group);
    stores(&mut group);
    leases(&mut group);
    deletes(&mut group);
    bytes_to_bytes(&mut group);
    batches(&mut group);
    group.finish();
    criterion.final_summary();
}

type Group<'c> = BenchmarkGroup<'c, WallTime>;

/// A cache, one party that uses it, and keys that go round.
struct Bench {
    cache: Cache,
    keys: Vec<Bytes>,
    next: usize,
    now: Now,
    peer: Peer,
}

impl Bench {
    fn new(config: Config, keys: usize) -> Self {
        let cache = Cache::with_seed(config, [7; 32]);
        let peer = cache.peer();
        Bench { cache, keys: names(keys), next: 0, now: Clock::manual().now(), peer }
    }

    /// With a value under every key.
    fn filled(value: &[u8]) -> Self {
        let mut bench = Bench::new(Config::default(), KEYS);
        (0..KEYS).for_each(|_| assert!(bench.set(value)));
        assert_eq!(bench.cache.counts().items, KEYS as u64);
        bench
    }

    fn get(&mut self) -> Option<usize> {
        let key = self.next();
        let key = self.cache.key(&key).expect("it is legal");
        self.cache.get(&key, &mut self.peer, self.now, |value| value.bytes.len())
    }

    fn set(&mut self, value: &[u8]) -> bool {
        let key = self.next();
        let key = self.cache.key(&key).expect("it is legal");
        let stored = self.cache.store(&key, Mode::Set, draft(value), &mut self.peer, self.now);
        stored == Store::Stored { fence: Fence::None }
    }

    fn lease_cycle(&mut self) -> bool {
        let name = self.next();
        let key = self.cache.key(&name).expect("it is legal");
        self.cache.delete(&key, None, &mut self.peer, self.now);
        let token = self.cache.lease(&key, &mut self.peer, self.now, |leased| match leased {
            Leased::Granted { token, .. } => Some(token),
            Leased::Busy { .. } | Leased::Hit(_) => None,
        });
        let fill = Fill::Value(draft(VALUE));
        let token = token.expect("nobody else holds it");
        self.cache.lease_set(&key, token, fill, &mut self.peer, self.now) == Ok(Filled::Visible)
    }

    fn delete(&mut self) -> bool {
        let key = self.next();
        let key = self.cache.key(&key).expect("it is legal");
        self.cache.delete(&key, None, &mut self.peer, self.now)
    }

    fn incr(&mut self) -> Option<u64> {
        let key = self.next();
        let key = self.cache.key(&key).expect("it is legal");
        self.cache.count(&key, Step::Incr(1), &mut self.peer, self.now).and_then(Result::ok)
    }

    fn touch(&mut self) -> bool {
        let key = self.next();
        let key = self.cache.key(&key).expect("it is legal");
        self.cache.touch(&key, Expiry::NEVER, self.now)
    }

    fn next(&mut self) -> Bytes {
        self.next = (self.next + 1) % self.keys.len();
        self.keys[self.next].clone()
    }
}

fn reads(group: &mut Group) {
    let mut bench = Bench::filled(VALUE);
    assert_eq!(bench.get(), Some(VALUE.len()));
    group.bench_function("get hit", |bencher| bencher.iter(|| black_box(bench.get())));
    for (name, implicit) in
        [("get miss, noted", Implicit::On), ("get miss, implicit leases off", Implicit::Off)]
    {
        let policy = Policy { implicit, ..Policy::default() };
        // As many as a connection can note.
        let mut bench = Bench::new(Config { policy, ..Config::default() }, leasehold::cache::NOTES_MAX);
        assert_eq!(bench.get(), None);
        group.bench_function(name, |bencher| bencher.iter(|| black_box(bench.get())));
    }
    assert!(bench.touch());
    group.bench_function("touch", |bencher| bencher.iter(|| black_box(bench.touch())));
}

fn yardsticks(group: &mut Group) {
    let map = DashMap::new();
    let keys = names(KEYS);
    keys.iter().for_each(|key| _ = map.insert(key.clone(), Bytes::from_static(VALUE)));
    let mut keys = keys.iter().cycle();
    let mut get = || map.get(keys.next().expect("they go round")).map(|value| value.len());
    assert_eq!(get(), Some(VALUE.len()));
    group.bench_function("get hit, DashMap", |bencher| bencher.iter(|| black_box(get())));
    let mut set = || {
        let key = Bytes::copy_from_slice(keys.next().expect("they go round"));
        map.insert(key, Bytes::copy_from_slice(VALUE))
    };
    assert!(set().is_some());
    group.bench_function("set over, DashMap", |bencher| bencher.iter(|| black_box(set())));
}

fn stores(group: &mut Group) {
    let mut bench = Bench::filled(VALUE);
    assert!(bench.set(VALUE));
    group.bench_function("set over", |bencher| bencher.iter(|| black_box(bench.set(VALUE))));

    // Many times what fits: whatever comes round again was evicted long ago.
    let mut bench = Bench::new(Config { memory_bytes: 8 << 20, ..Config::default() }, 200_000);
    (0..60_000).for_each(|_| assert!(bench.set(VALUE)));
    assert!(bench.cache.counts().evictions > 0);
    group.bench_function("set with eviction", |bencher| bencher.iter(|| black_box(bench.set(VALUE))));

    let mut bench = Bench::filled(b"1");
    assert_eq!(bench.incr(), Some(2));
    group.bench_function("incr", |bencher| bencher.iter(|| black_box(bench.incr())));
}

fn leases(group: &mut Group) {
    let mut bench = Bench::filled(VALUE);
    assert!(bench.lease_cycle());
    group.bench_function("lease cycle: delete, lease_get, lease_set", |bencher| {
        bencher.iter(|| black_box(bench.lease_cycle()));
    });
}

fn deletes(group: &mut Group) {
    let mut bench = Bench::new(Config::default(), KEYS);
    assert!(!bench.delete());
    group.bench_function("delete absent", |bencher| bencher.iter(|| black_box(bench.delete())));
}

fn bytes_to_bytes(group: &mut Group) {
    let Bench { cache, keys, now, .. } = Bench::filled(VALUE);
    let metrics = Arc::new(Metrics::new(1, 1));
    let mut session = Session::new(&cache, Arc::clone(&metrics), metrics.of_thread(0), Rules::default());
    let (mut decoder, mut output) = (Decoder::new(1 << 20), Output::default());
    let lines: Vec<Vec<u8>> = keys.iter().map(|key| [b"get ", &key[..], b"\r\n"].concat()).collect();
    let mut lines = lines.iter().cycle();
    let mut get = |output: &mut Output| {
        let Space::Buffer(mut space) = decoder.space() else { panic!("no large value is on its way") };
        space.put_slice(lines.next().expect("they go round"));
        let mut request = decoder.decode().expect("a whole line").expect("a legal one");
        execute(&mut request, &cache, &mut session, output, now) == Flow::Next
    };
    assert!(get(&mut output));
    let reply = [b"VALUE ", &keys[0][..], b" 0 100\r\n", VALUE, b"\r\nEND\r\n"].concat();
    assert_eq!(output.take(), reply);
    group.bench_function("get hit, from bytes to bytes", |bencher| {
        bencher.iter(|| {
            assert!(get(&mut output));
            output.sent(output.len());
        });
    });
}

/// What cannot be repeated in place: ten thousand at a time, into or out of a cache that was made for it.
fn batches(group: &mut Group) {
    group.throughput(Throughput::Elements(KEYS as u64));
    group.sample_size(20);
    let empty = || Bench::new(Config::default(), KEYS);
    let insert = |bench: &mut Bench| (0..KEYS).all(|_| bench.set(VALUE));
    let delete = |bench: &mut Bench| (0..KEYS).all(|_| bench.delete());
    assert!(insert(&mut empty()) && delete(&mut Bench::filled(VALUE)));
    group.bench_function("set insert", |bencher| {
        bencher.iter_batched_ref(empty, insert, BatchSize::PerIteration);
    });
    group.bench_function("delete hit", |bencher| {
        bencher.iter_batched_ref(|| Bench::filled(VALUE), delete, BatchSize::PerIteration);
    });
    let keys = names(KEYS);
    let insert = |map: &mut DashMap<Bytes, Bytes>| {
        let set = |key| map.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(VALUE));
        keys.iter().all(|key| set(key).is_none())
    };
    assert!(insert(&mut DashMap::new()));
    group.bench_function("set insert, DashMap", |bencher| {
        bencher.iter_batched_ref(DashMap::new, insert, BatchSize::PerIteration);
    });
}

fn draft(value: &[u8]) -> Draft<'_> {
    Draft::new(value)
}

/// Keys of 24 bytes.
fn names(count: usize) -> Vec<Bytes> {
    (0..count).map(|n| Bytes::from(format!("bench:{n:018}"))).collect()
}

const KEYS: usize = 10_000;
const VALUE: &[u8] = &[b'v'; 100];
