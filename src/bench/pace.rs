//! When a connection's batches are due, in an open loop.
//!
//! A connection that is late sends at once, but what it sends still counts from when it was due: a server that stalls
//! for a second delays all who would have asked in that second, not only the one request that it happened to have.

/// The schedule of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    due: u64,
    every: u64,
}

impl Pace {
    pub fn new(first: u64, every: u64) -> Pace {
        Pace { due: first, every }
    }

    /// When the next batch was due, if it is by now.
    ///
    /// # Errors
    /// If it is not: when it will be.
    pub fn take(&mut self, now: u64) -> Result<u64, u64> {
        let due = self.due;
        if due > now {
            return Err(due);
        }
        self.due += self.every;
        Ok(due)
    }

    /// Batches that are due before `end`, and were not taken.
    pub fn untaken(&self, end: u64) -> u64 {
        end.saturating_sub(self.due).div_ceil(self.every)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tally::{Requests, Tally, Verb};
    use crate::clock::Clock;
    use std::time::Duration;

    /// A server that takes 1 ms for a batch, and once 1 s. One in ten milliseconds is due, for ten seconds.
    #[test]
    fn a_stall_is_seen_by_all_who_would_have_asked() {
        let clock = Clock::manual();
        let mut pace = Pace::new(0, 10_000_000);
        let (mut corrected, mut naive) = (Tally::new(), Tally::new());
        let mut requests = Requests::default();
        requests[Verb::Get as usize] = 1;
        for batch in 0..1_000 {
            let due = loop {
                match pace.take(clock.nanos()) {
                    Err(_) => clock.advance(Duration::from_millis(1)),
                    Ok(due) => break due,
                }
            };
            let sent = clock.nanos();
            clock.advance(Duration::from_millis(if batch == 500 { 1_000 } else { 1 }));
            corrected.answered(&requests, clock.nanos() - due);
            naive.answered(&requests, clock.nanos() - sent);
        }
        let p99 = |tally: &Tally| tally.latencies().value_at_quantile(0.99) / 1_000_000;
        assert_eq!(p99(&naive), 1);
        assert!(p99(&corrected).abs_diff(911) < 5, "{}", p99(&corrected));
        assert_eq!(pace.untaken(clock.nanos()), 0);
        assert_eq!(pace.untaken(clock.nanos() + 1_000_000_000), 100);
    }
}
