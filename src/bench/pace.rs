//! The times at which a connection's batches are due in an open loop.
//!
//! A late connection sends at once, but latency still counts from the due time. If a server stalls for a
//! second, this shows the delay of all requests of that second, not only of the one in flight.

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

    /// When the next batch was due, if that time has come.
    ///
    /// # Errors
    /// The time when it will be due, otherwise.
    pub fn take(&mut self, now: u64) -> Result<u64, u64> {
        let due = self.due;
        if due > now {
            return Err(due);
        }
        self.due += self.every;
        Ok(due)
    }

    /// The number of batches due before `end` that were not taken.
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

    /// A server takes 1 ms for each batch, and once 1 s. A batch is due every ten milliseconds, for ten
    /// seconds.
    #[test]
    fn a_stall_delays_every_request_that_was_due() {
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
