//! How soon a hot key is back after its last delete, with clients that delete whatever `set` failed to store.
//!
//! A thousand gets a second, and each miss takes 50 ms to fill. One delete is easy: nobody was filling, so the first
//! fill stays. After a burst of them every fill on its way is refused. If the clients hear of that, each deletes the
//! key, and so voids the fills of others, which are refused in their turn: `--implicit-reply stored`, the default,
//! is there to spare them that.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use leasehold::Clock;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::common::client::Client;
use super::common::target::Target;

/// What the readers and whoever measures share.
struct Crowd {
    clock: Clock,
    /// When the value was first read again, in monotonic milliseconds; 0 if not yet.
    first_hit_ms: AtomicU64,
    is_over: AtomicBool,
    /// Rises with every last delete. A hit that was asked for before it tells nothing.
    round: AtomicU64,
}

/// Prints how long it took, for both answers to a refused `set`.
pub async fn tell() {
    println!("A hot key is back after so long (1,000 gets/s, 50 ms to fill, failed sets are deleted):");
    for reply in ["stored", "not-stored"] {
        let target = Target::leasehold(&format!("--implicit-reply {reply}"));
        let crowd = Arc::new(Crowd::new());
        let mut readers = Vec::new();
        for _ in 0..READERS {
            readers.push(gather(target.address, &crowd).await);
        }
        let mut writer = Client::connect(target.address).await;
        let one = crowd.time_to_recover(&mut writer, 1).await;
        let burst = crowd.time_to_recover(&mut writer, BURST).await;
        println!(
            "  --implicit-reply {reply:<10}  one delete: {}, {BURST} in a row: {}",
            told(one),
            told(burst)
        );
        crowd.is_over.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.await.expect("readers do not panic");
        }
        target.stop();
    }
}

impl Crowd {
    fn new() -> Crowd {
        Crowd {
            clock: Clock::system(),
            first_hit_ms: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            round: AtomicU64::new(0),
        }
    }

    fn now_ms(&self) -> u64 {
        self.clock.now().millis
    }

    fn hit(&self, asked_in: u64) {
        if asked_in == self.round.load(Ordering::Relaxed) {
            // An error says that somebody was first.
            let (now_ms, order) = (self.now_ms(), Ordering::Relaxed);
            _ = self.first_hit_ms.compare_exchange(0, now_ms, order, order);
        }
    }

    /// Deletes the key so often, one delete every half fill; then waits for the first hit, but not for ever.
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
                0 => sleep(GLANCE).await,
                hit_ms => return Some(hit_ms - deleted_ms),
            }
        }
        None
    }
}

/// One reader more, which asks at its own pace until it is over.
async fn gather(address: SocketAddr, crowd: &Arc<Crowd>) -> JoinHandle<()> {
    let (mut cache, crowd) = (Client::connect(address).await, Arc::clone(crowd));
    // So that they do not all ask in the same moment.
    sleep(READ_EVERY / READERS).await;
    tokio::spawn(async move {
        let mut pace = interval(READ_EVERY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !crowd.is_over.load(Ordering::Relaxed) {
            pace.tick().await;
            read(&mut cache, &crowd).await;
        }
    })
}

async fn read(cache: &mut Client, crowd: &Crowd) {
    let round = crowd.round.load(Ordering::Relaxed);
    if cache.get(KEY).await.is_some() {
        return crowd.hit(round);
    }
    sleep(FILL).await;
    if !cache.set(KEY, "$79").await {
        cache.delete(KEY).await;
    }
}

fn told(millis: Option<u64>) -> String {
    millis.map_or(format!("not within {PATIENCE_MS} ms"), |millis| format!("{millis} ms"))
}

const KEY: &str = "hot";
const FILL: Duration = Duration::from_millis(50);
/// Together they ask a thousand times a second.
const READERS: u32 = 100;
const READ_EVERY: Duration = Duration::from_millis(100);
const BURST: u32 = 5;
const GLANCE: Duration = Duration::from_millis(1);
const PATIENCE_MS: u64 = 2_000;
