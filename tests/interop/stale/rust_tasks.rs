//! The storm with Rust clients: `stale <name> <address> <seconds> <reads>`. Each reader and writer is a task.

use std::env;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use async_memcached::{AsciiProtocol, Error, Status};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

const KEYS: usize = 20;
const READERS: u64 = 8;
const WRITERS: u64 = 2;
const DELETES_PER_SECOND: u64 = 400;

/// The versions of one key.
#[derive(Default)]
struct Row {
    committed: AtomicU64,
    /// The newest version whose delete was answered.
    answered: AtomicU64,
}

#[derive(Default)]
struct Storm {
    rows: [Row; KEYS],
    are_readers_done: AtomicBool,
    reads: AtomicU64,
    hits: AtomicU64,
    stale: AtomicU64,
    loads: AtomicU64,
    deletes: AtomicU64,
}

/// The operations of a client that the storm uses.
trait Cache: Send + 'static {
    fn get(&mut self, key: &str) -> impl Future<Output = Option<u64>> + Send;
    fn set(&mut self, key: &str, version: u64) -> impl Future<Output = ()> + Send;
    fn delete(&mut self, key: &str) -> impl Future<Output = ()> + Send;
}

/// As many threads as tasks, since the crate `memcache` blocks the thread that calls it.
#[tokio::main(worker_threads = 10)]
async fn main() {
    let [name, address, seconds, reads] =
        env::args().skip(1).collect::<Vec<_>>().try_into().expect("4 arguments");
    let seconds = Duration::from_secs_f64(seconds.parse().expect("seconds"));
    let reads = reads.parse().expect("a number of reads");
    match &*name {
        // Its default is the binary protocol.
        "memcache" | "memcache-text" => {
            let choice = if name == "memcache" { "" } else { "&protocol=ascii" };
            let url = format!("memcache://{address}?timeout=60{choice}");
            let pool = memcache::Client::with_pool_size(url, (READERS + WRITERS) as u32).expect("a server");
            run(seconds, reads, async || pool.clone()).await;
        }
        "async-memcached" => {
            let address = format!("tcp://{address}");
            let connect = async || async_memcached::Client::new(&address).await.expect("a server");
            run(seconds, reads, connect).await;
        }
        "leasehold" => {
            let client = leasehold::client::Client::of(&[&address]).expect("an address");
            run(seconds, reads, async || client.clone()).await;
        }
        _ => panic!("unknown client {name}"),
    }
}

async fn run<C: Cache>(seconds: Duration, reads: u64, client: impl AsyncFn() -> C) {
    let storm = Arc::new(Storm::default());
    let end = Instant::now() + seconds;
    let (mut readers, mut writers) = (JoinSet::new(), JoinSet::new());
    for _ in 0..READERS {
        let (storm, cache) = (storm.clone(), client().await);
        readers.spawn(async move { storm.read(cache, end, reads / READERS).await });
    }
    for _ in 0..WRITERS {
        let (storm, cache) = (storm.clone(), client().await);
        writers.spawn(async move { storm.write(cache).await });
    }
    readers.join_all().await;
    storm.are_readers_done.store(true, SeqCst);
    writers.join_all().await;
    let Storm { reads, hits, stale, loads, deletes, .. } = &*storm;
    println!("reads={reads:?} hits={hits:?} stale={stale:?} loads={loads:?} deletes={deletes:?}");
}

impl Storm {
    async fn read(&self, mut cache: impl Cache, end: Instant, reads: u64) {
        for _ in 0..reads {
            if Instant::now() >= end {
                return;
            }
            let number = between(0, KEYS as u64 - 1) as usize;
            let (row, key) = (&self.rows[number], format!("product:{number}"));
            let newest = row.answered.load(SeqCst);
            let found = cache.get(&key).await;
            self.reads.fetch_add(1, SeqCst);
            if let Some(version) = found {
                self.hits.fetch_add(1, SeqCst);
                self.stale.fetch_add(u64::from(version < newest), SeqCst);
            } else {
                self.loads.fetch_add(1, SeqCst);
                let load = between(1_000, 10_000);
                let moment = between(0, load);
                sleep(Duration::from_micros(moment)).await;
                let version = row.committed.load(SeqCst);
                sleep(Duration::from_micros(load - moment)).await;
                cache.set(&key, version).await;
            }
            sleep(Duration::from_micros(between(0, 1_000))).await;
        }
    }

    async fn write(&self, mut cache: impl Cache) {
        let mut ticks = interval(Duration::from_secs(WRITERS) / DELETES_PER_SECOND as u32);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.are_readers_done.load(SeqCst) {
            ticks.tick().await;
            let number = between(0, KEYS as u64 - 1) as usize;
            let row = &self.rows[number];
            let version = row.committed.fetch_add(1, SeqCst) + 1;
            cache.delete(&format!("product:{number}")).await;
            row.answered.fetch_max(version, SeqCst);
            self.deletes.fetch_add(1, SeqCst);
        }
    }
}

impl Cache for memcache::Client {
    async fn get(&mut self, key: &str) -> Option<u64> {
        memcache::Client::get(self, key).expect("an answer")
    }

    async fn set(&mut self, key: &str, version: u64) {
        memcache::Client::set(self, key, version, 0).expect("an answer");
    }

    async fn delete(&mut self, key: &str) {
        memcache::Client::delete(self, key).expect("an answer");
    }
}

impl Cache for async_memcached::Client {
    async fn get(&mut self, key: &str) -> Option<u64> {
        let found = AsciiProtocol::get(self, key).await.expect("an answer")?;
        Some(parsed(&found.data.expect("get returns data")))
    }

    async fn set(&mut self, key: &str, version: u64) {
        AsciiProtocol::set(self, key, version, None, None).await.expect("an answer");
    }

    async fn delete(&mut self, key: &str) {
        match AsciiProtocol::delete(self, key).await {
            Ok(()) | Err(Error::Protocol(Status::NotFound)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// leasehold's own client, with its plain operations.
impl Cache for leasehold::client::Client {
    async fn get(&mut self, key: &str) -> Option<u64> {
        leasehold::client::Client::get(self, key).await.expect("an answer").map(|value| parsed(&value))
    }

    async fn set(&mut self, key: &str, version: u64) {
        leasehold::client::Client::set(self, key, version.to_string(), Duration::ZERO)
            .await
            .expect("an answer");
    }

    async fn delete(&mut self, key: &str) {
        leasehold::client::Client::delete(self, key).await.expect("an answer");
    }
}

fn parsed(bytes: &[u8]) -> u64 {
    str::from_utf8(bytes).expect("digits").parse().expect("a version")
}

/// Returns a random number from `least` to `most`.
fn between(least: u64, most: u64) -> u64 {
    least + RandomState::new().hash_one(()) % (most - least + 1)
}
