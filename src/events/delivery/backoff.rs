//! How long a source that failed is left alone.

use std::time::Duration;

/// The delays after failures that follow each other: they double, and half of each is by chance, so that many
/// servers do not come back together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The delay after one more failure, at most `longest`; `chance` is from 0 to 1.
    pub(super) fn next(&mut self, longest: Duration, chance: f64) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.failures.min(20)).min(longest);
        self.failures += 1;
        whole / 2 + (whole / 2).mul_f64(chance.clamp(0.0, 1.0))
    }

    /// Forgets the failures.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

const FIRST: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        let longest = Duration::from_secs(5);
        let delays: Vec<u128> = (0..9).map(|_| backoff.next(longest, 1.0).as_millis()).collect();
        assert_eq!(delays, [50, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        backoff.reset();
        assert_eq!(backoff.next(longest, 0.0), Duration::from_millis(25));
    }
}
