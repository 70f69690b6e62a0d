//! The misses of one key, and the judgment of its sets: may the value be older than the key's newest
//! invalidation?
//!
//! If `n` loads that began before an invalidation may still be running, at most `n` of the sets that follow
//! can bring an old value. A value is fresh if more sets have brought it than such loads can (Hall's
//! condition). Connections play no part. A load is expected to take the load time of its key's policy at
//! most; a later set is refused if the key was invalidated after its miss.
//!
//! Times are milliseconds that wrap around. A record that was not touched for [`IDLE_SECONDS`] has no young
//! misses.

#[cfg(test)]
mod histories;
mod times;

use crate::cache::fence::judgment::{Answers, Judged, Reader, Takes, Verdict};
use crate::clock::Now;
use crate::store::item::seq::Seq;

/// The misses of one key, in 136 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<const PAIRS: usize = 8> {
    /// Invalidations up to this sequence number are accounted for.
    marked: Seq,
    /// The last sequence number before the first miss since all were answered.
    since: Seq,
    /// When the key was missed, oldest first. Joined misses have the time of the newest of them.
    times: [u32; PAIRS],
    /// How many misses each time stands for.
    counts: [u16; PAIRS],
    /// The sum of `counts`, and how many times there are.
    misses: u16,
    used: u8,
    /// The values of sets since the newest invalidation: 48 bits of the hash, then 16 bits, with a sign, for
    /// the excess: how many more sets have brought the value than old loads can. 0 for none.
    values: [u64; VALUES],
    /// How many of the oldest misses are answered if every set answers one, and if only a set that repeats a
    /// value does.
    taken: [u16; 2],
    /// How many of the oldest misses are older than the newest invalidation.
    old: u16,
    /// `taken` at the newest invalidation.
    old_taken: [u16; 2],
    /// The number of unanswered misses whose readers load the value, rather than wait for another one's load.
    loads: u16,
    /// Unanswered misses older than the load time, and how many of them are older than the newest
    /// invalidation.
    lapsed: u16,
    lapsed_old: u16,
    /// When the newest of them lapsed, in monotonic seconds.
    lapsed_second: u32,
    /// The end of the time in which sets are refused because misses of this key were forgotten.
    closed_until: u32,
    /// When the key was missed for the load that is being timed.
    sampled: u32,
    /// The monotonic second of the last touch.
    touched: u32,
    /// The class of the key, as of its last set.
    pub(crate) class: u8,
    is_closed: bool,
    /// Whether the key was invalidated since the first of the misses that were forgotten.
    is_closed_old: bool,
    /// Whether it copies a cell. The cell keeps what was copied, also after this record is forgotten.
    pub(crate) is_copy: bool,
    is_sampling: bool,
}

/// The time of a request, and the limits that its key is under.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Touch {
    pub(crate) now: Now,
    /// The longest time that a load takes, in milliseconds.
    pub(crate) load_time: u32,
    /// For how many seconds lapsed misses count one by one. After that they count as one.
    pub(crate) max_age: u32,
}

impl<const PAIRS: usize> Record<PAIRS> {
    /// A record without misses. Invalidations up to `marked` are accounted for.
    pub(crate) fn new(marked: Seq, now: Now) -> Self {
        Record {
            marked,
            since: marked,
            times: [0; PAIRS],
            counts: [0; PAIRS],
            misses: 0,
            used: 0,
            values: [0; VALUES],
            taken: [0; 2],
            old: 0,
            old_taken: [0; 2],
            lapsed: 0,
            lapsed_old: 0,
            loads: 0,
            lapsed_second: 0,
            closed_until: 0,
            sampled: 0,
            touched: now.seconds(),
            class: 0,
            is_closed: false,
            is_closed_old: false,
            is_copy: false,
            is_sampling: false,
        }
    }

    /// Removes the misses that are older than the load time. This comes first, whatever follows.
    pub(crate) fn age(&mut self, touch: Touch) {
        let (now, second) = (tick(touch.now), touch.now.seconds());
        let was_idle = second.saturating_sub(self.touched) > IDLE_SECONDS;
        self.touched = self.touched.max(second);
        self.is_closed &= !was_idle && ahead(self.closed_until, now) > 0;
        self.is_sampling &= !was_idle;
        let lapsing = |time: u32| was_idle || ahead(now, time) > touch.load_time as i32;
        let pairs = self.times[..self.used()].iter().take_while(|time| lapsing(**time)).count();
        if pairs > 0 {
            self.drop_oldest(pairs, second);
        }
        if self.lapsed > 1 && second.saturating_sub(self.lapsed_second) > touch.max_age {
            self.lapsed_old = self.lapsed_old.min(1);
            self.lapsed = 1;
        }
    }

    /// Accounts for an invalidation of the key: all misses up to now are older. `marked` is a sequence number
    /// after it.
    pub(crate) fn invalidate(&mut self, marked: Seq) {
        self.marked = self.marked.max(marked);
        self.old = self.misses();
        self.old_taken = self.taken;
        self.lapsed_old = self.lapsed;
        self.is_closed_old = true;
        self.values = [0; VALUES];
    }

    /// Accounts for invalidations up to `last` if there was none since `marked`.
    pub(crate) fn catch_up(&mut self, last: Seq) {
        self.marked = self.marked.max(last);
    }

    /// Adds a miss; `last` is the last sequence number before it. If this cuts off the sample of a load,
    /// returns how long that was timed, in milliseconds.
    ///
    /// A load is timed if no other is running. Readers that wait for it miss the key as often as they ask:
    /// each such miss counts as a load that may bring a value, but not as a load that is running.
    pub(crate) fn miss(&mut self, reader: Reader, touch: Touch, last: Seq) -> Option<u32> {
        if self.unanswered() == 0 && !self.is_closed {
            self.since = last;
        }
        let now = self.push(tick(touch.now));
        let cut = self.is_sampling.then(|| ahead(now, self.sampled).max(0) as u32);
        self.loads = self.loads.saturating_add(u16::from(reader == Reader::Loads));
        self.is_sampling = reader == Reader::Loads && self.loads == 1;
        self.sampled = now;
        cut
    }

    /// Closes the key until `closed_until`, because misses of it were forgotten: sets are refused if the key
    /// was invalidated before that, as `is_old` says, or since. After that the misses in `lapsed` can still
    /// be answered; `old` of them are older than an invalidation.
    pub(crate) fn close(&mut self, (lapsed, old): (u16, u16), is_old: bool, closed_until: u32, now: Now) {
        (self.lapsed, self.lapsed_old) = (lapsed, old.min(lapsed));
        self.is_closed_old = is_old;
        self.lapsed_second = now.seconds();
        self.since = Seq::ZERO;
        self.closed_until = closed_until;
        self.is_closed = ahead(closed_until, tick(now)) > 0;
    }

    /// Judges a set, and counts it. `value` returns the hash of its value, and is called only where that is
    /// needed.
    pub(crate) fn set(&mut self, takes: Takes, value: impl FnOnce() -> u64) -> Judged {
        self.judge(takes, value, Record::confirm)
    }

    fn judge(
        &mut self,
        takes: Takes,
        value: impl FnOnce() -> u64,
        confirm: impl FnOnce(&mut Self, Option<u64>, u16) -> Verdict,
    ) -> Judged {
        if self.is_closed && !self.is_closed_old {
            // No load is old, whichever miss it answers.
            return Judged { answers: Answers::Late, value: None, verdict: Verdict::Fresh };
        }
        if self.is_closed {
            // It may answer a forgotten miss. So it answers no known one, and its value is not counted.
            return Judged { answers: Answers::Late, value: None, verdict: Verdict::Closed };
        }
        let misses = self.misses();
        let may_doubt = self.old > self.old_taken[EVERY];
        let value = (takes != Takes::Every || may_doubt).then(|| counted(value() | 1 << 16, 0));
        let repeats = value.is_some_and(|value| self.find(value).is_some()) && self.taken[REPEATS] >= misses;
        let answers = match () {
            () if self.taken[EVERY] < misses => Answers::Miss,
            () if self.lapsed > 0 => Answers::Late,
            () if repeats => Answers::Repeat,
            () => Answers::Nothing,
        };
        let mut verdict = confirm(self, value, self.doubt(takes));
        if answers == Answers::Late && verdict != Verdict::Doubtful && !self.take_lapsed() {
            verdict = Verdict::Late;
        }
        Judged { answers, value, verdict }
    }

    /// Accounts for a set that was stored as a write, and so invalidates the key as of `as_of`. If it answers
    /// no miss, it is certainly a write, and its own value is fresh. Otherwise only the connection's misses
    /// show that it is one, and other sets must not be refused for that. `is_quiet`: all invalidations of
    /// groups are accounted for, so that none of a tag of this key is missing.
    pub(crate) fn wrote(&mut self, as_of: Seq, judged: Judged, is_quiet: bool) {
        if matches!(judged.answers, Answers::Miss | Answers::Late) && is_quiet {
            self.marked = self.marked.max(as_of);
            return;
        }
        self.invalidate(as_of);
        self.values[0] = judged.value.map_or(0, |value| counted(value, 1));
    }

    /// Counts a fill with a valid token, which certainly answers a miss.
    pub(crate) fn fill(&mut self) {
        let misses = self.misses();
        if self.taken[EVERY] >= misses && self.lapsed > 0 {
            self.take_lapsed();
        }
        self.taken = self.taken.map(|taken| misses.min(taken + 1));
        self.loads = self.loads.saturating_sub(1);
        self.finish();
    }

    /// Ends the sample of the load that a set ends: returns how long it was timed, in milliseconds.
    pub(crate) fn end_sample(&mut self, now: Now) -> Option<u32> {
        std::mem::take(&mut self.is_sampling).then(|| ahead(tick(now), self.sampled).max(0) as u32)
    }

    /// Counts a set. If its value was not needed, no old load can bring one before the next invalidation.
    fn confirm(&mut self, value: Option<u64>, doubt: u16) -> Verdict {
        let misses = self.misses();
        let is_known = value.is_some_and(|value| self.find(value).is_some());
        let excess = value.map_or(1, |value| self.count(value, doubt));
        // The oldest miss first: those that stay are never older than the loads that are running.
        self.taken[EVERY] = misses.min(self.taken[EVERY] + 1);
        self.loads = self.loads.saturating_sub(1);
        if is_known {
            self.taken[REPEATS] = misses.min(self.taken[REPEATS] + 1);
        }
        self.finish();
        match excess {
            ..1 => Verdict::Doubtful,
            1.. if doubt > 0 => Verdict::Confirmed,
            1.. => Verdict::Fresh,
        }
    }

    /// Ends the doubt once all misses are answered: then no load is running that began before the newest
    /// invalidation.
    fn finish(&mut self) {
        let misses = self.misses();
        for (taken, old_taken) in self.taken.iter().zip(&mut self.old_taken) {
            if *taken >= misses {
                *old_taken = self.old;
            }
        }
    }

    /// The excess of a value after one set more: how many more sets have brought it than old loads can.
    fn count(&mut self, value: u64, doubt: u16) -> i16 {
        let found = self.find(value);
        let before = found.map_or(i16::MIN, |place| excess(self.values[place]));
        let now = before.saturating_add(1).max(1 - doubt as i16);
        // A free place, or that of the value with the least excess.
        let least = |place: &usize| match self.values[*place] {
            0 => (false, 0),
            value => (true, excess(value)),
        };
        let place = found.or_else(|| (0..VALUES).min_by_key(least)).expect("there are places");
        self.values[place] = counted(value, now);
        now
    }

    /// The greatest number of loads that began before the newest invalidation and have not brought their
    /// value yet.
    fn doubt(&self, takes: Takes) -> u16 {
        let (taken, old_taken) = self.answered(takes);
        self.old.saturating_sub(old_taken).min(self.misses().saturating_sub(taken))
    }

    /// How many misses are answered in this mode now, and were at the newest invalidation.
    fn answered(&self, takes: Takes) -> (u16, u16) {
        match takes {
            Takes::Every => (self.taken[EVERY], self.old_taken[EVERY]),
            Takes::Repeats => (self.taken[REPEATS], self.old_taken[REPEATS]),
            Takes::None => (0, 0),
        }
    }

    /// Takes the oldest lapsed miss away; returns false if the key was invalidated after it.
    fn take_lapsed(&mut self) -> bool {
        let is_old = self.lapsed_old > 0;
        self.lapsed -= 1;
        self.lapsed_old -= u16::from(is_old);
        !is_old
    }

    fn find(&self, value: u64) -> Option<usize> {
        self.values.iter().position(|known| counted(*known, 0) == value)
    }

    fn used(&self) -> usize {
        self.used.into()
    }

    /// The number of misses younger than the load time.
    pub(crate) fn misses(&self) -> u16 {
        self.misses
    }

    /// The number of these and of the lapsed misses that no set has answered, if every set answers one.
    pub(crate) fn unanswered(&self) -> u16 {
        (self.misses() - self.taken[EVERY]).saturating_add(self.lapsed)
    }

    /// Whether any miss is older than the newest invalidation.
    pub(crate) fn has_old(&self) -> bool {
        self.old > 0 || self.lapsed_old > 0
    }

    /// Whether all misses are answered in this mode.
    pub(crate) fn is_answered(&self, takes: Takes) -> bool {
        let (taken, _) = self.answered(takes);
        self.lapsed == 0 && !self.is_closed && taken >= self.misses()
    }

    /// Whether the record only repeats a cell.
    pub(crate) fn is_mere_copy(&self) -> bool {
        self.is_copy && self.misses() == 0 && self.lapsed == 0
    }

    /// The time from which on only the lapsed misses matter, in wrapping milliseconds.
    pub(crate) fn ends(&self, load_time: u32) -> u32 {
        let newest = self.used().checked_sub(1).map(|newest| self.times[newest].wrapping_add(load_time + 1));
        match newest {
            Some(ends) if !self.is_closed || ahead(ends, self.closed_until) > 0 => ends,
            Some(_) | None => self.closed_until,
        }
    }

    pub(crate) fn marked(&self) -> Seq {
        self.marked
    }

    pub(crate) fn since(&self) -> Seq {
        self.since
    }
}

/// A time in milliseconds that wrap around.
pub(crate) fn tick(now: Now) -> u32 {
    now.millis as u32
}

/// How many milliseconds one time is after another.
fn ahead(later: u32, earlier: u32) -> i32 {
    later.wrapping_sub(earlier) as i32
}

fn excess(value: u64) -> i16 {
    value as u16 as i16
}

fn counted(value: u64, excess: i16) -> u64 {
    value & !EXCESS | u64::from(excess as u16)
}

/// The number of distinct values remembered since an invalidation.
const VALUES: usize = 4;
/// The most misses that are counted within one load time.
const MISSES_MAX: u16 = 30_000;
/// The most lapsed misses that are counted.
const LAPSED_MAX: u16 = 256;
/// A time longer than any load takes.
const IDLE_SECONDS: u32 = 7_200;
const EVERY: usize = 0;
const REPEATS: usize = 1;
/// The bits of a counted value that hold its excess; the hash above them is never 0.
const EXCESS: u64 = 0xffff;
