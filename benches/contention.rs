//! The cost of contention: many threads use one cache at once, most of them the same few keys.
//!
//! `cargo bench --bench contention`. No socket. One table is of gets of a single key; another of a single key
//! with one set to nine gets; the last of keys by a Zipf distribution with exponent 1.2, with as many sets. A
//! thread that finds a lock taken spins for a while and then sleeps, which the system counts as a voluntary
//! switch.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;

use leasehold::Clock;
use leasehold::cache::{Cache, Config, Draft, Mode};
use nix::sys::resource::{UsageWho, getrusage};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Zipf};

/// Requests of threads: one set among so many, and the keys of each thread.
struct Load {
    name: &'static str,
    requests_per_set: usize,
    keys: fn(u64) -> Vec<String>,
}

const LOADS: [Load; 3] = [
    Load { name: "gets of one hot key", requests_per_set: usize::MAX, keys: one_key },
    Load { name: "one hot key, one set to nine gets", requests_per_set: 10, keys: one_key },
    Load { name: "a million keys, Zipf 1.2, one set to nine gets", requests_per_set: 10, keys: zipf },
];

fn main() {
    let is_given = |flag: &str| std::env::args().any(|argument| argument == flag);
    // Like criterion, this is only a test without cargo's flag --bench.
    let is_bench = is_given("--bench") && !is_given("--test");
    let requests = if is_bench { 16_000_000 } else { 16_000 };
    for Load { name, requests_per_set, keys } in LOADS {
        let cache = Cache::new(Config { memory_bytes: 1 << 30, ..Config::default() });
        println!("{name}\nthreads   requests/s   sleeps for a lock, per million requests");
        let keys: Vec<Vec<String>> = (0..16).map(keys).collect();
        for threads in [1, 2, 4, 16] {
            // A round to fill the cache and to warm up.
            ask(&cache, &keys[..threads], 10, requests / 10);
            let (clock, slept) = (Clock::system(), sleeps());
            ask(&cache, &keys[..threads], requests_per_set, requests);
            let seconds = clock.elapsed().as_secs_f64();
            let asleep = (sleeps() - slept) as f64 * 1e6 / requests as f64;
            println!("{threads:7} {:12.0} {asleep:12.1}", requests as f64 / seconds);
        }
    }
}

/// Makes this many requests in total; each thread has its own list of keys. The clock is read now and then,
/// as a server reads it once for requests that came together.
fn ask(cache: &Cache, threads: &[Vec<String>], requests_per_set: usize, requests: usize) {
    let (start, clock) = (Barrier::new(threads.len()), Clock::system());
    thread::scope(|scope| {
        for keys in threads {
            let (start, clock) = (&start, &clock);
            scope.spawn(move || {
                let (mut session, mut now) = (cache.session(), clock.now());
                start.wait();
                for (nth, name) in keys.iter().cycle().take(requests / threads.len()).enumerate() {
                    if nth % REQUESTS_AT_ONCE == 0 {
                        now = clock.now();
                    }
                    let key = cache.key(name.as_bytes()).expect("a legal key");
                    if nth % requests_per_set == requests_per_set - 1 {
                        cache.store(&key, Mode::Set, Draft::new(&[b'v'; 100]), &mut session, now);
                    } else {
                        black_box(cache.get(&key, &mut session, now, |value| value.bytes.len()));
                    }
                }
            });
        }
    });
}

/// The keys that a thread requests, repeatedly.
fn zipf(seed: u64) -> Vec<String> {
    let zipf = Zipf::new(KEYS, EXPONENT).expect("a valid distribution");
    let mut random = SmallRng::seed_from_u64(seed);
    (0..DRAWN).map(|_| format!("{:024}", zipf.sample(&mut random))).collect()
}

fn one_key(_: u64) -> Vec<String> {
    vec![format!("{:024}", 1)]
}

fn sleeps() -> i64 {
    getrusage(UsageWho::RUSAGE_SELF).expect("a process can read its own usage").voluntary_context_switches()
}

const DRAWN: usize = 1 << 16;
const EXPONENT: f64 = 1.2;
const KEYS: f64 = 1e6;
const REQUESTS_AT_ONCE: usize = 64;
