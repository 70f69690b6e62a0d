//! The times of all commits, and the age of the prices that readers saw.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The commits of each product: the price is the number of changes so far.
pub struct Ledger {
    products: Vec<Mutex<Vec<Instant>>>,
    seen: Mutex<Seen>,
}

/// Reads by the age of what they returned.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub hits: u64,
    pub oldest: Duration,
    pub reads: u64,
    /// Stale reads above each of [`AGES`].
    pub stale: [u64; AGES.len()],
}

/// Milliseconds.
pub const AGES: [u64; 5] = [0, 10, 50, 100, 1_000];

impl Ledger {
    pub fn new(products: usize) -> Ledger {
        Ledger { products: (0..products).map(|_| Mutex::default()).collect(), seen: Mutex::default() }
    }

    /// A change was committed, and its commit was answered.
    pub fn committed(&self, product: usize) {
        self.products[product].lock().expect("nobody panics").push(now());
    }

    /// So many changes were committed, of which the last may not have been answered.
    pub fn committed_up_to(&self, product: usize, price: usize) {
        let mut commits = self.products[product].lock().expect("nobody panics");
        let missing = price.saturating_sub(commits.len());
        commits.extend((0..missing).map(|_| now()));
    }

    /// A read that began at this time has returned a price.
    pub fn read(&self, product: usize, price: usize, began: Instant, is_hit: bool) {
        let next = self.products[product].lock().expect("nobody panics").get(price).copied();
        let age = next.and_then(|next| began.checked_duration_since(next));
        let mut seen = self.seen.lock().expect("nobody panics");
        seen.reads += 1;
        seen.hits += u64::from(is_hit);
        if let Some(age) = age {
            seen.oldest = seen.oldest.max(age);
            for (count, limit) in seen.stale.iter_mut().zip(AGES) {
                *count += u64::from(age > Duration::from_millis(limit));
            }
        }
    }

    pub fn seen(&self) -> Seen {
        self.seen.lock().expect("nobody panics").clone()
    }
}

#[expect(clippy::disallowed_methods, reason = "a measurement")]
pub fn now() -> Instant {
    Instant::now()
}
