//! The misses of one key, and whether a set may bring a value that is older than the key's newest
//! invalidation.
//!
//! If `n` loads that began before an invalidation may still be running, at most `n` of the sets that follow
//! can bring an old value. So as soon as more sets have brought one value than old loads can have brought,
//! that value is fresh (Hall's condition). Nothing is known of connections. A load is expected to take no
//! longer than the load time of its key's policy, `w` below; a set that comes later is refused if the key was
//! invalidated after its miss.
//!
//! Times are milliseconds that wrap around: a record that was not touched for [`IDLE_SECONDS`] holds no young
//! ones.

use super::judgment::{Answers, Judged, Reader, Takes, Verdict};
use crate::clock::Now;
use crate::store::seq::Seq;

#[cfg(test)]
#[path = "histories.rs"]
mod histories;

/// All that is remembered of one key: 136 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<const PAIRS: usize = 8> {
    /// The newest invalidation that is accounted for. Older ones do not concern the misses here.
    marked: Seq,
    /// The last sequence number before the first miss since all were answered.
    since: Seq,
    /// When the key was missed, oldest first; misses that had to be joined count from the newest of them.
    times: [u32; PAIRS],
    /// How many misses each time stands for.
    counts: [u16; PAIRS],
    /// All of them, and how many places they take.
    misses: u16,
    used: u8,
    /// Values that came since the newest invalidation: 48 bits of their hash, then how many more sets brought
    /// it than old loads can have brought, as 16 bits with a sign. 0 where there is none.
    values: [u64; VALUES],
    /// How many of the oldest misses are answered, if every set answers one, or only those that repeat a
    /// value.
    taken: [u16; 2],
    /// How many of the oldest misses are older than the newest invalidation.
    old: u16,
    /// `taken` as of then.
    old_taken: [u16; 2],
    /// Misses older than the load time that no set answered, and how many of them are older than the newest
    /// invalidation.
    lapsed: u16,
    lapsed_old: u16,
    /// Unanswered misses of readers that are expected to load, rather than to wait for another one's load.
    loads: u16,
    /// When the newest of them lapsed, in monotonic seconds.
    lapsed_second: u32,
    /// Until when nothing is stored because misses of this key were forgotten.
    closed_until: u32,
    /// When the miss came whose load is being timed.
    sampled: u32,
    /// The monotonic second of the last touch.
    touched: u32,
    /// The class of the key, as of its last set.
    pub(crate) class: u8,
    is_closed: bool,
    /// Whether the key was invalidated since the first of the misses that were forgotten.
    is_closed_old: bool,
    /// Whether it was made of what a cell says: the cell goes on saying that when this record is forgotten.
    pub(crate) is_recalled: bool,
    is_sampling: bool,
}

/// The time of a request, and the limits that its key is under.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Touch {
    pub(crate) now: Now,
    /// How long a load takes at most, in milliseconds.
    pub(crate) load_time: u32,
    /// For how long lapsed misses count one by one, in seconds; after that they count as one.
    pub(crate) max_age: u32,
}

impl<const PAIRS: usize> Record<PAIRS> {
    /// No misses, of a key whose invalidations up to `marked` are accounted for.
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
            is_recalled: false,
            is_sampling: false,
        }
    }

    /// Lets misses lapse that are older than the load time. Comes first, whatever is done.
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

    fn drop_oldest(&mut self, pairs: usize, second: u32) {
        for pair in 0..pairs {
            self.lapse(self.counts[pair], second);
        }
        self.times.copy_within(pairs.., 0);
        self.counts.copy_within(pairs.., 0);
        self.used -= pairs as u8;
        self.loads = self.loads.min(self.misses() - self.taken[EVERY]);
    }

    /// So many of the oldest misses, which are alike, are older than the load time.
    fn lapse(&mut self, count: u16, second: u32) {
        let unanswered = count - count.min(self.taken[EVERY]);
        if unanswered > 0 {
            self.lapsed = self.lapsed.saturating_add(unanswered).min(LAPSED_MAX);
            self.lapsed_second = second;
            if self.old > 0 {
                self.lapsed_old = self.lapsed_old.saturating_add(unanswered).min(self.lapsed);
            }
        }
        self.misses -= count;
        self.old = self.old.saturating_sub(count);
        for taken in self.taken.iter_mut().chain(&mut self.old_taken) {
            *taken = taken.saturating_sub(count);
        }
    }

    /// The key was invalidated, and is so as of this sequence number: all misses up to here are older than
    /// that.
    pub(crate) fn invalidate(&mut self, marked: Seq) {
        self.marked = self.marked.max(marked);
        self.old = self.misses();
        self.old_taken = self.taken;
        self.lapsed_old = self.lapsed;
        self.is_closed_old = true;
        self.values = [0; VALUES];
    }

    /// Nothing was invalidated since the sequence number up to which invalidations are accounted for, up to
    /// this one.
    pub(crate) fn catch_up(&mut self, last: Seq) {
        self.marked = self.marked.max(last);
    }

    /// A miss; `last` is the last sequence number before it. Returns for how long a load was timed that this
    /// miss cuts off.
    ///
    /// A load is timed if no other is running. Readers that wait for it miss the key as often as they ask, so
    /// their misses count as loads that may bring a value, but not as loads that are running.
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

    /// Misses were forgotten, and so many loads may still bring a value, some of them one that was
    /// invalidated.
    ///
    /// Until then nothing is stored if the key was invalidated: before they were forgotten, as `is_old` says,
    /// or since.
    pub(crate) fn forgotten(&mut self, (lapsed, old): (u16, u16), is_old: bool, closed_until: u32, now: Now) {
        (self.lapsed, self.lapsed_old) = (lapsed, old.min(lapsed));
        self.is_closed_old = is_old;
        self.lapsed_second = now.seconds();
        self.since = Seq::ZERO;
        self.closed_until = closed_until;
        self.is_closed = ahead(closed_until, tick(now)) > 0;
    }

    /// A set whose value has this hash, which is only asked for where it matters.
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
            // It answers one of the misses that are known, or of those that were forgotten, and no load is
            // old.
            return Judged { answers: Answers::Late, value: None, verdict: Verdict::Fresh };
        }
        if self.is_closed {
            // It may answer a miss that was forgotten: it answers none of those that are known, and confirms
            // nothing.
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

    /// A set was stored that invalidates the key as of this sequence number. If it answered no miss, it is a
    /// write for certain, and its own value stands. Otherwise only its connection says so, which must not
    /// cost other sets anything. `is_quiet`: no group was invalidated that is not accounted for, which may be
    /// one of the key's tags.
    pub(crate) fn wrote(&mut self, as_of: Seq, judged: Judged, is_quiet: bool) {
        if matches!(judged.answers, Answers::Miss | Answers::Late) && is_quiet {
            self.marked = self.marked.max(as_of);
            return;
        }
        self.invalidate(as_of);
        self.values[0] = judged.value.map_or(0, |value| counted(value, 1));
    }

    /// A fill whose token was valid, so that it answers a miss without doubt.
    pub(crate) fn fill(&mut self) {
        let misses = self.misses();
        if self.taken[EVERY] >= misses && self.lapsed > 0 {
            self.take_lapsed();
        }
        self.taken = self.taken.map(|taken| misses.min(taken + 1));
        self.loads = self.loads.saturating_sub(1);
        self.finish();
    }

    /// For how long the load was timed that this set ends.
    pub(crate) fn end_sample(&mut self, now: Now) -> Option<u32> {
        std::mem::take(&mut self.is_sampling).then(|| ahead(tick(now), self.sampled).max(0) as u32)
    }

    /// Counts the set. Of a value that is not asked for no old load can bring one before the next
    /// invalidation.
    fn confirm(&mut self, value: Option<u64>, doubt: u16) -> Verdict {
        let misses = self.misses();
        let is_known = value.is_some_and(|value| self.find(value).is_some());
        let excess = value.map_or(1, |value| self.count(value, doubt));
        // The oldest first: what stays is never older than the loads that are running.
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

    /// Once all misses are answered, no load is running that is older than the newest invalidation.
    fn finish(&mut self) {
        let misses = self.misses();
        for (taken, old_taken) in self.taken.iter().zip(&mut self.old_taken) {
            if *taken >= misses {
                *old_taken = self.old;
            }
        }
    }

    /// How many more sets brought this value than old loads can have brought, with this one.
    fn count(&mut self, value: u64, doubt: u16) -> i16 {
        let found = self.find(value);
        let before = found.map_or(i16::MIN, |place| excess(self.values[place]));
        let now = before.saturating_add(1).max(1 - doubt as i16);
        // A place that is free, or that of the value with the least claim.
        let least = |place: &usize| match self.values[*place] {
            0 => (false, 0),
            value => (true, excess(value)),
        };
        let place = found.or_else(|| (0..VALUES).min_by_key(least)).expect("there are places");
        self.values[place] = counted(value, now);
        now
    }

    /// How many loads at most began before the newest invalidation and still have to bring their value.
    fn doubt(&self, takes: Takes) -> u16 {
        let (taken, old_taken) = self.taken(takes);
        self.old.saturating_sub(old_taken).min(self.misses().saturating_sub(taken))
    }

    /// How many misses are answered if sets answer them in this way, and how many were at the newest
    /// invalidation.
    fn taken(&self, takes: Takes) -> (u16, u16) {
        match takes {
            Takes::Every => (self.taken[EVERY], self.old_taken[EVERY]),
            Takes::Repeats => (self.taken[REPEATS], self.old_taken[REPEATS]),
            Takes::None => (0, 0),
        }
    }

    /// Takes the oldest lapsed miss away; false if the key was invalidated after it.
    fn take_lapsed(&mut self) -> bool {
        let is_old = self.lapsed_old > 0;
        self.lapsed -= 1;
        self.lapsed_old -= u16::from(is_old);
        !is_old
    }

    /// Adds a miss, and returns its time: not before the one before it, as threads read the clock before they
    /// get here.
    fn push(&mut self, now: u32) -> u32 {
        let used = self.used();
        let newest = used.checked_sub(1).map(|newest| self.times[newest]);
        let now = newest.filter(|newest| ahead(now, *newest) <= 0).unwrap_or(now);
        if self.misses == MISSES_MAX {
            // So many loads at a time are none: the newest stands for all that follow.
            self.times[used - 1] = now;
            return now;
        }
        self.misses += 1;
        if newest == Some(now) && self.old < self.misses - 1 {
            self.counts[used - 1] += 1;
            return now;
        }
        let place = if used == PAIRS { self.join() } else { used };
        (self.times[place], self.counts[place]) = (now, 1);
        self.used = place as u8 + 1;
        now
    }

    /// Joins the two neighbors that are closest in time, both older or both newer than the newest
    /// invalidation.
    fn join(&mut self) -> usize {
        let border = self.border();
        let gap = |pair: &usize| ahead(self.times[pair + 1], self.times[*pair]);
        let pair =
            (0..PAIRS - 1).filter(|pair| pair + 1 != border).min_by_key(gap).expect("more than two pairs");
        self.counts[pair + 1] += self.counts[pair];
        self.times[pair..].rotate_left(1);
        self.counts[pair..].rotate_left(1);
        PAIRS - 1
    }

    /// The place of the first miss that is not older than the newest invalidation.
    fn border(&self) -> usize {
        let mut older = self.old;
        let is_older = |count: &&u16| {
            let is_older = older > 0;
            older = older.saturating_sub(**count);
            is_older
        };
        self.counts[..self.used()].iter().take_while(is_older).count()
    }

    fn find(&self, value: u64) -> Option<usize> {
        self.values.iter().position(|known| counted(*known, 0) == value)
    }

    fn used(&self) -> usize {
        self.used.into()
    }

    /// Misses that are younger than the load time.
    pub(crate) fn misses(&self) -> u16 {
        self.misses
    }

    /// Those of them, and of the lapsed ones, that no set has answered.
    pub(crate) fn unanswered(&self) -> u16 {
        (self.misses() - self.taken[EVERY]).saturating_add(self.lapsed)
    }

    /// Whether any miss is older than the newest invalidation.
    pub(crate) fn has_old(&self) -> bool {
        self.old > 0 || self.lapsed_old > 0
    }

    /// Whether all misses are answered, if sets answer them in this way.
    pub(crate) fn is_answered(&self, takes: Takes) -> bool {
        let (taken, _) = self.taken(takes);
        self.lapsed == 0 && !self.is_closed && taken >= self.misses()
    }

    /// Whether nothing is known but what a cell says.
    pub(crate) fn is_blank(&self) -> bool {
        self.is_recalled && self.misses() == 0 && self.lapsed == 0
    }

    /// When nothing of this matters any more but lapsed misses, in wrapping milliseconds.
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

/// Milliseconds that wrap around.
pub(crate) fn tick(now: Now) -> u32 {
    now.millis as u32
}

/// By how many milliseconds one time is ahead of another.
fn ahead(later: u32, earlier: u32) -> i32 {
    later.wrapping_sub(earlier) as i32
}

fn excess(value: u64) -> i16 {
    value as u16 as i16
}

fn counted(value: u64, excess: i16) -> u64 {
    value & !EXCESS | u64::from(excess as u16)
}

/// Distinct values remembered since an invalidation.
const VALUES: usize = 4;
/// Misses within one load time that are counted.
const MISSES_MAX: u16 = 30_000;
/// Lapsed ones that are counted.
const LAPSED_MAX: u16 = 256;
/// Longer than any load time.
const IDLE_SECONDS: u32 = 7_200;
const EVERY: usize = 0;
const REPEATS: usize = 1;
/// The bits of a counted value that hold its excess; the hash above them is never 0.
const EXCESS: u64 = 0xffff;
