//! The time until a hot key is cached again after its last delete, with clients that delete a key whose `set`
//! failed.
//!
//! A thousand gets per second, and 50 ms to fill each miss. After one delete the first fill is stored. After
//! a burst of deletes every fill under way is refused. If the server reports this, each client deletes the
//! key, which invalidates the fills of others, and these are refused in turn. `--implicit-reply stored`, the
//! default, prevents this.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use leasehold::Clock;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::common::client::Client;
use super::common::target::Target;

/// The state shared by the readers and the measurement.
struct Shared {
    clock: Clock,
    /// When the value was first read again, in monotonic milliseconds; 0 if not yet.
    first_hit_ms: AtomicU64,
    is_done: AtomicBool,
    /// Rises with the last delete of a burst. Hits requested before it do not count.
    round: AtomicU64,
}

/// Measures and prints the time, for both replies to a refused `set`.
pub async fn run() {
    println!("Time until a hot key is cached again (1,000 gets/s, 50 ms to fill, failed sets are deleted):");
    for reply in ["stored", "not-stored"] {
        let target = Target::leasehold(&format!("--implicit-reply {reply}"));
        let shared = Arc::new(Shared::new());
        let mut readers = Vec::new();
        for _ in 0..READERS {
            readers.push(start_reader(target.address, &shared).await);
        }
        let mut writer = Client::connect(target.address).await;
        let one = shared.time_to_recover(&mut writer, 1).await;
        let burst = shared.time_to_recover(&mut writer, BURST).await;
        println!(
            "  --implicit-reply {reply:<10}  one delete: {}, {BURST} in a row: {}",
            shown(one),
            shown(burst)
        );
        shared.is_done.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.await.expect("readers do not panic");
        }
        target.stop();
    }
}

impl Shared {
    fn new() -> Shared {
        Shared {
            clock: Clock::system(),
            first_hit_ms: AtomicU64::new(0),
            is_done: AtomicBool::new(false),
            round: AtomicU64::new(0),
        }
    }

    fn now_ms(&self) -> u64 {
        self.clock.now().millis
    }

    fn hit(&self, requested_in: u64) {
        if requested_in == self.round.load(Ordering::Relaxed) {
            // It fails if another reader was first.
            let (now_ms, order) = (self.now_ms(), Ordering::Relaxed);
            _ = self.first_hit_ms.compare_exchange(0, now_ms, order, order);
        }
    }

    /// Deletes the key this many times, two deletes per fill time; then waits for the first hit, up to a
    /// limit.
    async fn time_to_recover(&self, writer: &mut Client, deletes: u32) -> Option<u64> {
        let began_ms = self.now_ms();
        while writer.get(KEY).await.is_none() {
            if self.now_ms() >= began_ms + PATIENCE_MS {
                return None;
            }
            sleep(FILL).await;
        }
        for _ in 1..deletes {
            writer.delete(KEY).await;
            sleep(FILL / 2).await;
        }
        writer.delete(KEY).await;
        let deleted_ms = self.now_ms();
        self.round.fetch_add(1, Ordering::Relaxed);
        self.first_hit_ms.store(0, Ordering::Relaxed);
        while self.now_ms() < deleted_ms + PATIENCE_MS {
            match self.first_hit_ms.load(Ordering::Relaxed) {
                0 => sleep(POLL_EVERY).await,
                hit_ms => return Some(hit_ms - deleted_ms),
            }
        }
        None
    }
}

/// Starts a reader, which reads at a fixed rate until the end.
async fn start_reader(address: SocketAddr, shared: &Arc<Shared>) -> JoinHandle<()> {
    let (mut cache, shared) = (Client::connect(address).await, Arc::clone(shared));
    // Readers start at different times.
    sleep(READ_EVERY / READERS).await;
    tokio::spawn(async move {
        let mut pace = interval(READ_EVERY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !shared.is_done.load(Ordering::Relaxed) {
            pace.tick().await;
            read(&mut cache, &shared).await;
        }
    })
}

async fn read(cache: &mut Client, shared: &Shared) {
    let round = shared.round.load(Ordering::Relaxed);
    if cache.get(KEY).await.is_some() {
        return shared.hit(round);
    }
    sleep(FILL).await;
    if !cache.set(KEY, "$79").await {
        cache.delete(KEY).await;
    }
}

fn shown(millis: Option<u64>) -> String {
    millis.map_or(format!("not within {PATIENCE_MS} ms"), |millis| format!("{millis} ms"))
}

const KEY: &str = "hot";
const FILL: Duration = Duration::from_millis(50);
/// Together they make a thousand gets per second.
const READERS: u32 = 100;
const READ_EVERY: Duration = Duration::from_millis(100);
const BURST: u32 = 5;
const POLL_EVERY: Duration = Duration::from_millis(1);
const PATIENCE_MS: u64 = 2_000;
