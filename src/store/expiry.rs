//! The expiry of items.

use std::ops::Range;
use std::time::Duration;

use crate::clock::Now;

/// A monotonic second from which on an item is no longer served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Expiry(pub(crate) u32);

impl Expiry {
    /// The item is served until it is invalidated or evicted.
    pub const NEVER: Expiry = Expiry(0);
    /// In the past: an item that is stored with it is not kept.
    pub const PAST: Expiry = Expiry(1);

    /// The expiry after `ttl`, at most one second late and never early.
    pub fn after(ttl: Duration, now: Now) -> Self {
        Expiry(seconds_after(now, ttl))
    }

    /// The meaning of memcached's `exptime` (`doc/protocol.txt`, "Expiration times"): 0 is never, a negative
    /// one is past, up to 30 days is seconds from now, and more is seconds since 1970. A negative one may
    /// have been cut to 32 bits.
    pub fn from_exptime(exptime: i64, now: Now) -> Self {
        match u64::try_from(exptime) {
            Err(_) => Expiry::PAST,
            Ok(0) => Expiry::NEVER,
            Ok(seconds) if seconds <= RELATIVE_SECONDS_MAX => {
                Expiry::after(Duration::from_secs(seconds), now)
            }
            Ok(unix) if unix <= now.unix || NEGATIVE_IN_32_BITS.contains(&unix) => Expiry::PAST,
            Ok(unix) => Expiry::after(Duration::from_secs(unix - now.unix), now),
        }
    }

    /// Milliseconds from `now` to the expiry; 0 if it is past.
    pub fn delay_ms(self, now: Now) -> u64 {
        (u64::from(self.0.saturating_sub(2)) * 1000).saturating_sub(now.millis)
    }

    /// The expiry in seconds since 1970; 0 for never.
    pub fn to_unix(self, now: Now) -> u64 {
        match self {
            Expiry::NEVER => 0,
            Expiry(second) => (now.unix + u64::from(second)).saturating_sub(u64::from(now.seconds())),
        }
    }
}

/// The first whole second that is at least `span` away.
pub(crate) fn seconds_after(now: Now, span: Duration) -> u32 {
    let begun = Duration::from_millis(now.millis % 1000);
    now.seconds().saturating_add(whole_seconds(span.saturating_add(begun)))
}

/// A span in seconds, rounded up.
pub(crate) fn whole_seconds(span: Duration) -> u32 {
    u32::try_from(span.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}

/// 30 days; a greater number is a date.
const RELATIVE_SECONDS_MAX: u64 = 60 * 60 * 24 * 30;

/// Python's pylibmc writes -1 as 4294967295. So a month of the year 2106 cannot be given as a date.
const NEGATIVE_IN_32_BITS: Range<u64> = (1 << 32) - RELATIVE_SECONDS_MAX..1 << 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, MANUAL_UNIX};

    const MONTH: i64 = RELATIVE_SECONDS_MAX as i64;

    fn at(millis: u64) -> Now {
        let clock = Clock::manual();
        clock.advance(Duration::from_millis(millis));
        clock.now()
    }

    #[test]
    fn an_exptime_is_seconds_up_to_a_month_and_a_date_beyond() {
        let now = at(10_000);
        assert_eq!(Expiry::from_exptime(0, now), Expiry::NEVER);
        assert_eq!(Expiry::from_exptime(-1, now), Expiry::PAST);
        assert_eq!(Expiry::from_exptime(5, now), Expiry(17));
        assert_eq!(Expiry::from_exptime(MONTH, now), Expiry(12 + MONTH as u32));
        assert_eq!(Expiry::from_exptime(MONTH + 1, now), Expiry::PAST, "early in 1970");
        assert_eq!(Expiry::from_exptime((MANUAL_UNIX + 70) as i64, now), Expiry(72));
        assert_eq!(Expiry::from_exptime(i64::MAX, now), Expiry(u32::MAX));
        assert_eq!(Expiry(72).to_unix(now), MANUAL_UNIX + 70);
    }

    #[test]
    fn a_negative_exptime_may_come_in_32_bits() {
        let now = at(10_000);
        assert_eq!(Expiry::from_exptime((1 << 32) - 1, now), Expiry::PAST);
        assert_eq!(Expiry::from_exptime((1 << 32) - MONTH, now), Expiry::PAST);
        assert_ne!(Expiry::from_exptime((1 << 32) - MONTH - 1, now), Expiry::PAST, "early in 2106");
        assert_ne!(Expiry::from_exptime(1 << 32, now), Expiry::PAST, "later in 2106");
    }

    #[test]
    fn an_expiry_is_never_early_and_at_most_a_second_late() {
        let expiry = Expiry::after(Duration::from_secs(5), at(10_001));
        assert!(at(15_000).seconds() < expiry.0, "4.999 s");
        assert!(at(16_000).seconds() >= expiry.0, "5.999 s");
        assert_eq!(Expiry::after(Duration::from_millis(1_500), at(10_500)), Expiry(at(12_000).seconds()));
        assert_eq!(Expiry::after(Duration::from_millis(1_501), at(10_500)), Expiry(at(13_000).seconds()));
    }

    #[test]
    fn a_date_that_has_just_come_is_past() {
        let now = at(10_000);
        assert_eq!(Expiry::from_exptime(now.unix as i64, now), Expiry::PAST);
        assert_eq!(Expiry::from_exptime(now.unix as i64 + 1, now), Expiry(now.seconds() + 1));
    }

    #[test]
    fn a_delay_ends_when_the_expiry_comes() {
        let expiry = Expiry::after(Duration::from_secs(5), at(10_000));
        assert_eq!(
            [10_000, 14_999, 15_000, 16_000].map(|millis| expiry.delay_ms(at(millis))),
            [5_000, 1, 0, 0]
        );
        assert_eq!((Expiry::NEVER.delay_ms(at(0)), Expiry::PAST.delay_ms(at(0))), (0, 0));
    }
}
