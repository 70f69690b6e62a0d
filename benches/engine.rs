//! The storage engine and its lock, through [`Cache`] without misses, with one thread and with two.
//!
//! `cargo bench --bench engine`; one operation with `cargo bench --bench engine -- '^hit/'`. It is compared
//! with a `DashMap<Bytes, Bytes>`, which has no limit and no expiry, and with moka. moka's weight is the
//! bytes of keys and values without its own bookkeeping, so that it holds more items within the same limit. A
//! read copies the value, as a reply would. Throughput is that of all threads together.

mod common;

use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use criterion::measurement::{Measurement, WallTime};
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput};
use dashmap::DashMap;
use leasehold::cache::{
    Cache, Config, Deletion, Draft, Expiry, Implicit, Mode, Policy, Session, StoreOutcome as Stored,
};
use leasehold::{Clock, Now};

use self::common::{VALUE, names};

fn main() {
    let criterion = Criterion::default().sample_size(20).warm_up_time(WARM_UP).measurement_time(MEASURE);
    let mut criterion = criterion.configure_from_args();
    group(&mut criterion, "hit", &[hit::<Leasehold>, hit::<Map>, hit::<Moka>]);
    group(&mut criterion, "miss", &[miss::<Leasehold>, miss::<Map>, miss::<Moka>]);
    group(&mut criterion, "insert with eviction", &[evict::<Leasehold>, evict::<Moka>]);
    group(
        &mut criterion,
        "overwrite in place",
        &[overwrite::<Leasehold>, overwrite::<Map>, overwrite::<Moka>],
    );
    group(&mut criterion, "overwrite that moves", &[moving::<Leasehold>, moving::<Map>, moving::<Moka>]);
    group(&mut criterion, "delete", &[delete::<Leasehold>, delete::<Map>, delete::<Moka>]);
    group(&mut criterion, "expire", &[expire]);
    group(&mut criterion, "mixed", &[mixed::<Leasehold>, mixed::<Map>, mixed::<Moka>]);
    criterion.final_summary();
}

fn group(criterion: &mut Criterion, name: &str, each: &[fn(&mut Group)]) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(1));
    each.iter().for_each(|bench| bench(&mut group));
}

type Group<'c> = BenchmarkGroup<'c, WallTime>;

/// A store to compare.
trait Store: Sync {
    const NAME: &str;
    /// The state of one thread.
    type Handle;

    fn new(memory_bytes: usize) -> Self;
    fn handle(&self) -> Self::Handle;
    /// Replaces the content of `reply` by the value.
    fn get(&self, key: &[u8], handle: &mut Self::Handle, reply: &mut Vec<u8>) -> bool;
    fn set(&self, key: &[u8], value: &[u8], handle: &mut Self::Handle) -> bool;
    fn delete(&self, key: &[u8], handle: &mut Self::Handle) -> bool;
}

struct Leasehold {
    cache: Cache,
    now: Now,
}

impl Store for Leasehold {
    const NAME: &str = "leasehold";
    type Handle = Session;

    fn new(memory_bytes: usize) -> Self {
        let policy = Policy { implicit: Implicit::Off, ..Policy::default() };
        let config = Config { memory_bytes, policies: policy.into(), ..Config::default() };
        Leasehold { cache: Cache::with_seed(config, [7; 32]), now: Clock::manual().now() }
    }

    fn handle(&self) -> Session {
        self.cache.session()
    }

    fn get(&self, key: &[u8], handle: &mut Session, reply: &mut Vec<u8>) -> bool {
        let key = self.cache.key(key).expect("it is legal");
        self.cache.get(&key, handle, self.now, |value| copy(value.bytes, reply)).is_some()
    }

    fn set(&self, key: &[u8], value: &[u8], handle: &mut Session) -> bool {
        let key = self.cache.key(key).expect("it is legal");
        let stored = self.cache.store(&key, Mode::Set, Draft::new(value), handle, self.now);
        matches!(stored, Stored::Stored { .. })
    }

    fn delete(&self, key: &[u8], handle: &mut Session) -> bool {
        let key = self.cache.key(key).expect("it is legal");
        self.cache.delete(&key, &Deletion::default(), handle, self.now).was_live()
    }
}

type Map = DashMap<Bytes, Bytes>;

impl Store for Map {
    const NAME: &str = "DashMap";
    type Handle = ();

    fn new(_: usize) -> Self {
        DashMap::new()
    }

    fn handle(&self) {}

    fn get(&self, key: &[u8], (): &mut (), reply: &mut Vec<u8>) -> bool {
        DashMap::get(self, key).map(|value| copy(&value, reply)).is_some()
    }

    fn set(&self, key: &[u8], value: &[u8], (): &mut ()) -> bool {
        self.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        true
    }

    fn delete(&self, key: &[u8], (): &mut ()) -> bool {
        self.remove(key).is_some()
    }
}

type Moka = moka::sync::Cache<Bytes, Bytes>;

impl Store for Moka {
    const NAME: &str = "moka";
    type Handle = ();

    fn new(memory_bytes: usize) -> Self {
        let weigh = |key: &Bytes, value: &Bytes| (key.len() + value.len()) as u32;
        moka::sync::Cache::builder().weigher(weigh).max_capacity(memory_bytes as u64).build()
    }

    fn handle(&self) {}

    fn get(&self, key: &[u8], (): &mut (), reply: &mut Vec<u8>) -> bool {
        moka::sync::Cache::get(self, key).map(|value| copy(&value, reply)).is_some()
    }

    fn set(&self, key: &[u8], value: &[u8], (): &mut ()) -> bool {
        self.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        true
    }

    fn delete(&self, key: &[u8], (): &mut ()) -> bool {
        self.remove(key).is_some()
    }
}

fn copy(value: &[u8], reply: &mut Vec<u8>) {
    reply.clear();
    reply.extend_from_slice(value);
}

/// A store with a value under each key.
fn filled<S: Store>(memory_bytes: usize, keys: &[Bytes], value: &[u8]) -> S {
    let store = S::new(memory_bytes);
    let mut handle = store.handle();
    keys.iter().for_each(|key| assert!(store.set(key, value, &mut handle)));
    store
}

fn hit<S: Store>(group: &mut Group) {
    let keys = names(KEYS);
    let store: S = filled(MEMORY_BYTES, &keys, VALUE);
    let mut reply = Vec::new();
    assert!(store.get(&keys[7], &mut store.handle(), &mut reply) && reply == VALUE);
    measure(group, &store, |(handle, reply), n| {
        assert!(store.get(&keys[n % KEYS], handle, reply));
    });
}

fn miss<S: Store>(group: &mut Group) {
    let keys = names(2 * KEYS);
    let (present, absent) = keys.split_at(KEYS);
    let store: S = filled(MEMORY_BYTES, present, VALUE);
    let mut reply = Vec::new();
    assert!(store.get(&present[7], &mut store.handle(), &mut reply));
    measure(group, &store, |(handle, reply), n| {
        assert!(!store.get(&absent[n % KEYS], handle, reply));
    });
}

/// Cycles through many more keys than fit, so that each has been evicted when its turn comes again.
fn evict<S: Store>(group: &mut Group) {
    let keys = names(4 * KEYS);
    let store: S = filled(MEMORY_BYTES / 8, &keys, VALUE);
    let mut reply = Vec::new();
    let is_there = |key: &&Bytes| store.get(key, &mut store.handle(), &mut reply);
    assert!(keys.iter().filter(is_there).count() < KEYS, "it respects its limit");
    measure(group, &store, |(handle, _), n| {
        assert!(store.set(&keys[n % keys.len()], VALUE, handle));
    });
}

fn overwrite<S: Store>(group: &mut Group) {
    let keys = names(KEYS);
    let store: S = filled(MEMORY_BYTES, &keys, VALUE);
    let mut reply = Vec::new();
    assert!(store.set(&keys[7], &[1; 100], &mut store.handle()));
    assert!(store.get(&keys[7], &mut store.handle(), &mut reply) && reply == [1; 100]);
    measure(group, &store, |(handle, _), n| {
        assert!(store.set(&keys[n % KEYS], VALUE, handle));
    });
}

/// Each value is longer than the previous one, except in one round of sixteen.
fn moving<S: Store>(group: &mut Group) {
    let keys = names(KEYS);
    let store: S = filled(MEMORY_BYTES, &keys, VALUE);
    let value = |n: usize| &LONG_VALUE[..VALUE.len() + n / KEYS % 16 * 16];
    let mut reply = Vec::new();
    assert!(store.set(&keys[7], value(KEYS), &mut store.handle()));
    assert!(store.get(&keys[7], &mut store.handle(), &mut reply) && reply == value(KEYS));
    measure(group, &store, |(handle, _), n| {
        assert!(store.set(&keys[n % KEYS], value(n), handle));
    });
}

/// Deletes batches from a store filled for each batch, because nothing can be deleted twice.
fn delete<S: Store>(group: &mut Group) {
    let keys = names(BATCH);
    for threads in THREADS {
        group.throughput(Throughput::Elements(BATCH as u64));
        group.bench_function(format!("{}/{threads}", S::NAME), |bencher| {
            bencher.iter_custom(|rounds| {
                let all = (0..rounds).map(|_| {
                    let store: S = filled(MEMORY_BYTES, &keys, VALUE);
                    together(&store, threads, 0..BATCH, |(handle, _), n| {
                        assert!(store.delete(&keys[n], handle));
                    })
                });
                all.sum()
            });
        });
    }
}

/// Items that expire in the same second; the sweep frees their memory.
fn expire(group: &mut Group) {
    let keys = names(BATCH);
    let clock = Clock::manual();
    let filled = || {
        let (store, now) = (Leasehold::new(MEMORY_BYTES), clock.now());
        let mut handle = store.handle();
        for key in &keys {
            let draft = Draft { expiry: Expiry::after(TTL, now), ..Draft::new(VALUE) };
            let key = store.cache.key(key).expect("it is legal");
            store.cache.store(&key, Mode::Set, draft, &mut handle, now);
        }
        assert_eq!(store.cache.counts().items, BATCH as u64);
        store
    };
    let expired = clock.now();
    let expired = Now { millis: expired.millis + TTL.as_millis() as u64, ..expired };
    let sweep = |store: &mut Leasehold| while store.cache.sweep(expired) {};
    let mut first = filled();
    sweep(&mut first);
    assert_eq!(first.cache.counts().items, 0);
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("leasehold/1", |bencher| {
        bencher.iter_batched_ref(filled, sweep, BatchSize::PerIteration);
    });
}

/// Nine gets to one set, over twice as many keys as fit, with a Zipf distribution (0.99).
fn mixed<S: Store>(group: &mut Group) {
    let (keys, ranks) = (names(4 * KEYS), zipf(4 * KEYS));
    let store = S::new(MEMORY_BYTES);
    let value = |rank: u32| &LONG_VALUE[..SIZES[rank as usize % SIZES.len()]];
    let mut handle = store.handle();
    ranks.iter().for_each(|rank| assert!(store.set(&keys[*rank as usize], value(*rank), &mut handle)));
    let (last, mut reply) = (ranks[ranks.len() - 1], Vec::new());
    assert!(store.get(&keys[last as usize], &mut handle, &mut reply) && reply == value(last));
    measure(group, &store, |(handle, reply), n| {
        let rank = ranks[n % ranks.len()];
        let key = &keys[rank as usize];
        if n.is_multiple_of(10) {
            store.set(key, value(rank), handle);
        } else {
            black_box(store.get(key, handle, reply));
        }
    });
}

/// Measures an action with one thread and with two. It receives the number of its call.
fn measure<S: Store>(group: &mut Group, store: &S, act: impl Fn(&mut (S::Handle, Vec<u8>), usize) + Sync) {
    for threads in THREADS {
        let mut done = 0;
        group.bench_function(format!("{}/{threads}", S::NAME), |bencher| {
            bencher.iter_custom(|count| {
                let numbers = done..done + count as usize;
                done = numbers.end;
                together(store, threads, numbers, &act)
            });
        });
    }
}

/// The time from the start of all threads to the end of the last one.
fn together<S: Store>(
    store: &S,
    threads: usize,
    numbers: std::ops::Range<usize>,
    act: impl Fn(&mut (S::Handle, Vec<u8>), usize) + Sync,
) -> Duration {
    let ready = Arc::new(Barrier::new(threads + 1));
    let work = |thread: usize| {
        let mut tools = (store.handle(), Vec::with_capacity(LONG_VALUE.len()));
        ready.wait();
        numbers.clone().skip(thread).step_by(threads).for_each(|n| act(&mut tools, n));
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        ready.wait();
        let start = WallTime.start();
        workers.into_iter().for_each(|worker| worker.join().expect("the right answers"));
        WallTime.end(start)
    })
}

/// A long list of ranks below `keys`; the n-th rank has a frequency proportional to 1 / n^0.99.
fn zipf(keys: usize) -> Vec<u32> {
    let mut sum = 0.0;
    let below: Vec<f64> = (1..=keys)
        .map(|rank| {
            sum += (rank as f64).powf(-0.99);
            sum
        })
        .collect();
    let mut state = 7_u64;
    let mut random = || {
        // xorshift64*, Vigna 2016.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d) as f64 / u64::MAX as f64 * sum
    };
    let mut rank = || {
        let point = random();
        below.partition_point(|part| *part < point).min(keys - 1) as u32
    };
    (0..RANKS).map(|_| rank()).collect()
}

const THREADS: [usize; 2] = [1, 2];
const WARM_UP: Duration = Duration::from_secs(1);
const MEASURE: Duration = Duration::from_secs(2);
const MEMORY_BYTES: usize = 64 << 20;
const KEYS: usize = 100_000;
/// Items that are deleted or expire at once.
const BATCH: usize = 20_000;
const RANKS: usize = 1 << 20;
const TTL: Duration = Duration::from_secs(60);
const LONG_VALUE: &[u8] = &[b'v'; 4096];
/// Value sizes typical of web caches: half of them below 200 bytes, a few of some thousands.
const SIZES: [usize; 13] = [10, 21, 34, 55, 89, 120, 178, 233, 377, 610, 987, 1597, 4096];
