//! The expiry of items.

use std::ops::Range;
use std::time::Duration;

use crate::clock::Now;
use crate::store::tick::{TICKS_PER_SECOND, Tick};

/// A tick from which on an item is no longer served, or is removed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Expiry(Tick);

impl Expiry {
    /// The item is served until it is invalidated or evicted.
    pub const NEVER: Expiry = Expiry(Tick::from_number(0));
    /// In the past: an item that is stored with it is not kept.
    pub const PAST: Expiry = Expiry(Tick::from_number(1));

    /// The expiry after `ttl`, at most one tick late and never early.
    pub fn after(ttl: Duration, now: Now) -> Self {
        Expiry(Tick::not_before(now.after(ttl)))
    }

    pub(crate) const fn at(tick: Tick) -> Self {
        Expiry(tick)
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
            Ok(unix) if NEGATIVE_IN_32_BITS.contains(&unix) => Expiry::PAST,
            Ok(unix) => Expiry::from_unix(unix, now),
        }
    }

    /// Milliseconds from `now` to the time that an `exptime` stands for, exactly; 0 if it is past, or never.
    pub fn exptime_delay_ms(exptime: i64, now: Now) -> u64 {
        match u64::try_from(exptime) {
            Ok(seconds @ 0..=RELATIVE_SECONDS_MAX) => seconds * 1000,
            Ok(unix) if !NEGATIVE_IN_32_BITS.contains(&unix) => {
                unix.saturating_sub(now.unix).saturating_mul(1000).saturating_sub(now.millis % 1000)
            }
            Ok(_) | Err(_) => 0,
        }
    }

    /// The expiry at a time in seconds since 1970; 0 is never.
    pub(crate) fn from_unix(seconds: u64, now: Now) -> Self {
        Expiry::from_unix_ticks(seconds.saturating_mul(TICKS_PER_SECOND), now)
    }

    /// The expiry at a time in ticks since 1970; 0 is never.
    pub(crate) fn from_unix_ticks(ticks: u64, now: Now) -> Self {
        match ticks.checked_sub(now.unix.saturating_mul(TICKS_PER_SECOND)) {
            _ if ticks == 0 => Expiry::NEVER,
            // Both clocks begin their seconds together.
            Some(left @ 1..) => {
                let expiry = Expiry(Tick::not_before(second_of(now)).plus(left));
                if expiry.is_past(now.tick()) { Expiry::PAST } else { expiry }
            }
            None | Some(0) => Expiry::PAST,
        }
    }

    /// Milliseconds from `now` to the expiry; 0 if it is past.
    pub fn delay_ms(self, now: Now) -> u64 {
        self.0.millis().saturating_sub(now.millis)
    }

    /// Seconds from `now` to the expiry as clients know it, which a tick may have made later; rounded up.
    pub fn seconds_left(self, now: Now) -> u64 {
        self.delay_ms(now).saturating_sub(1000 / TICKS_PER_SECOND).div_ceil(1000)
    }

    /// The expiry in seconds since 1970, without the part of a second; 0 for never.
    pub fn to_unix(self, now: Now) -> u64 {
        self.to_unix_ticks(now) / TICKS_PER_SECOND
    }

    /// The expiry in ticks since 1970; 0 for never.
    pub(crate) fn to_unix_ticks(self, now: Now) -> u64 {
        let begun = u64::from(Tick::not_before(second_of(now)).number());
        match self {
            Expiry::NEVER => 0,
            Expiry(tick) => (now.unix * TICKS_PER_SECOND + u64::from(tick.number())).saturating_sub(begun),
        }
    }

    /// Whether it has come.
    #[inline(always)]
    pub fn is_past(self, tick: Tick) -> bool {
        self != Expiry::NEVER && self.0 <= tick
    }

    /// The earlier one.
    pub(crate) fn first(self, other: Expiry) -> Expiry {
        match (self, other) {
            (Expiry::NEVER, end) | (end, Expiry::NEVER) => end,
            (Expiry(one), Expiry(other)) => Expiry(one.min(other)),
        }
    }

    /// The expiry `span` later; never stays never.
    pub(crate) fn plus(self, span: Duration) -> Expiry {
        match self {
            Expiry::NEVER | Expiry::PAST => self,
            Expiry(tick) => Expiry(tick.after(span)),
        }
    }

    /// The tick at which it comes; that of [`Expiry::NEVER`] is the first of all.
    pub(crate) const fn tick(self) -> Tick {
        self.0
    }
}

/// When the current second began, in monotonic milliseconds.
fn second_of(now: Now) -> u64 {
    now.millis / 1000 * 1000
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

    /// In seconds since the clock was made.
    fn seconds(expiry: Expiry) -> f64 {
        f64::from(expiry.tick().number() - 2) / 16.0
    }

    #[test]
    fn an_exptime_is_seconds_up_to_a_month_and_a_date_beyond() {
        let now = at(10_250);
        assert_eq!(Expiry::from_exptime(0, now), Expiry::NEVER);
        assert_eq!(Expiry::from_exptime(-1, now), Expiry::PAST);
        assert_eq!(seconds(Expiry::from_exptime(5, now)), 15.25);
        assert_eq!(seconds(Expiry::from_exptime(MONTH, now)), 10.25 + MONTH as f64);
        assert_eq!(Expiry::from_exptime(MONTH + 1, now), Expiry::PAST, "early in 1970");
        let date = Expiry::from_exptime((MANUAL_UNIX + 70) as i64, now);
        assert_eq!((seconds(date), date.to_unix(now)), (70.0, MANUAL_UNIX + 70));
        assert_eq!(Expiry::from_exptime(i64::MAX, now).tick().number(), u32::MAX);
    }

    #[test]
    fn a_negative_exptime_may_come_in_32_bits() {
        let now = at(10_000);
        assert_eq!(Expiry::from_exptime((1 << 32) - 1, now), Expiry::PAST);
        assert_eq!(Expiry::from_exptime((1 << 32) - MONTH, now), Expiry::PAST);
        assert_ne!(Expiry::from_exptime((1 << 32) - MONTH - 1, now), Expiry::PAST, "early in 2106");
        assert_ne!(Expiry::from_exptime(1 << 32, now), Expiry::PAST, "later in 2106");
    }

    /// A time of one second ended after up to two, which failed tests of dalli, memcached for Node and
    /// memcache-plus.
    #[test]
    fn a_relative_expiry_is_never_early_and_at_most_a_sixteenth_of_a_second_late() {
        for start in 10_000..12_000 {
            let expiry = Expiry::after(Duration::from_secs(1), at(start));
            assert!(!expiry.is_past(at(start + 999).tick()), "{start}");
            assert!(expiry.is_past(at(start + 1_063).tick()), "{start}");
        }
    }

    #[test]
    fn a_date_comes_at_its_second() {
        for millis in [10_000, 10_001, 10_999] {
            let expiry = Expiry::from_exptime(MANUAL_UNIX as i64 + 12, at(millis));
            assert!(!expiry.is_past(at(11_999).tick()) && expiry.is_past(at(12_000).tick()));
        }
        let now = at(10_500);
        assert_eq!(Expiry::from_exptime(now.unix as i64, now), Expiry::PAST);
    }

    #[test]
    fn a_delay_is_exact() {
        let (now, delay) = (at(10_250), |exptime| Expiry::exptime_delay_ms(exptime, at(10_250)));
        assert_eq!([-1, 0, 5].map(delay), [0, 0, 5_000]);
        assert_eq!([now.unix - 1, now.unix, now.unix + 2].map(|unix| delay(unix as i64)), [0, 0, 1_750]);
        assert_eq!(delay((1 << 32) - 1), 0, "-1 in 32 bits");
    }

    /// `exptime` of a dump was a second late, and each restart added another.
    #[test]
    fn an_expiry_outlives_any_number_of_restarts() {
        for start in 10_000..11_000 {
            let mut expiry = Expiry::after(Duration::from_secs(5), at(start));
            let first = expiry;
            // As in memcached, unless the next tick is in the next second.
            assert_eq!(expiry.to_unix(at(start)), MANUAL_UNIX + if start <= 10_937 { 15 } else { 16 });
            for later in [0, 1, 333, 999] {
                let now = at(start + later);
                expiry = Expiry::from_unix_ticks(expiry.to_unix_ticks(now), now);
            }
            assert_eq!(expiry, first);
        }
        assert_eq!(Expiry::from_unix_ticks(0, at(5)), Expiry::NEVER);
    }

    #[test]
    fn a_delay_ends_when_the_expiry_comes() {
        let expiry = Expiry::after(Duration::from_secs(5), at(10_000));
        let delays = |millis| (expiry.delay_ms(at(millis)), expiry.seconds_left(at(millis)));
        assert_eq!([10_000, 14_999, 15_000].map(delays), [(5_000, 5), (1, 0), (0, 0)]);
        assert_eq!(Expiry::after(Duration::from_secs(5), at(10_001)).seconds_left(at(10_001)), 5);
        assert_eq!((Expiry::NEVER.delay_ms(at(0)), Expiry::PAST.delay_ms(at(0))), (0, 0));
    }

    #[test]
    fn the_first_of_two_ends_counts() {
        let (soon, late) = (Expiry::after(Duration::ZERO, at(0)), Expiry::after(Duration::ZERO, at(1_000)));
        assert_eq!(
            (soon.first(late), Expiry::NEVER.first(late), late.first(Expiry::NEVER)),
            (soon, late, late)
        );
    }
}
