//! The fence for sets without a token: remembers misses, and judges sets.
//!
//! The rules are in `cache/fence/`. Here they meet the key's invalidations, hold-offs, policy and connection.

use super::{At, Shard};
use crate::cache::fence::miss_log::Taken;
use crate::cache::fence::{Answers, Entry, Forgotten, Judged, LoadTimes, Reader, Touch, Verdict};
use crate::cache::policy::Implicit;
use crate::cache::session::Session;
use crate::cache::snapshot::Guard;
use crate::cache::write::{Draft, Fence, Reason};
use crate::store::item::key::{Key, Keys};
use crate::store::item::seq::Seq;
use crate::store::item::tags::Tags;

/// The judgment of a set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ruling {
    /// Whether it answers no miss: then it is a write, and invalidates values that were read before it.
    pub(super) is_write: bool,
    /// Whether an old load may have brought its value, were it not for other sets that brought the same.
    pub(super) is_confirmed: bool,
    pub(super) refused: Option<Reason>,
}

impl Ruling {
    /// The outcome for a set that was stored.
    pub(super) fn fence(self) -> Fence {
        match self {
            Ruling { refused: Some(_), .. } => Fence::Observed,
            Ruling { is_write: true, .. } => Fence::None,
            Ruling { is_confirmed: true, .. } => Fence::Confirmed,
            Ruling { .. } => Fence::Passed,
        }
    }
}

/// A set that is judged.
struct Set<'a> {
    as_of: Seq,
    class: u8,
    /// The newest invalidation of its key or of everything.
    newest: Seq,
    draft: &'a Draft<'a>,
    is_held_off: bool,
    key: &'a Key<'a>,
}

/// The judgment of the record of a key about a set.
#[derive(Clone, Copy)]
struct Finding {
    /// Whether any load of the key may be running.
    has_misses: bool,
    judged: Judged,
    /// The last sequence number before the first miss that may not be answered.
    since: Seq,
}

impl Shard {
    /// Remembers a miss, whose client may load the value and set it.
    pub(super) fn remember_miss(&mut self, key: &Key, reader: Reader, session: &mut Session, at: &At) {
        if at.policy.implicit == Implicit::Off {
            return;
        }
        let is_held_off = self.holdoffs.until(key.hash, at.now).is_some();
        let last = at.clock.last();
        let open_seconds = session.misses.add(key.hash, last, is_held_off, at.age());
        let (newest, touch) = (self.newest_invalidation_of(key.hash), at.touch());
        let (mut entry, pushed) = self.fence.find_or_make(key.hash, last, touch);
        let record = &mut *entry.record;
        record.age(touch);
        let was_answered = record.unanswered() == 0;
        let is_unchanged = at.groups.is_quiet_since(record.marked());
        if at.is_invalidated(key.bytes, newest, record.marked())
            // Any newer invalidation of a group may be one of its tags. If no load is running, that refuses
            // none.
            || (was_answered && !is_unchanged)
        {
            record.invalidate(last);
        } else if is_unchanged {
            record.catch_up(last);
        }
        let cut = record.miss(reader, touch, last);
        if is_held_off {
            record.invalidate(last);
        }
        entry.settle(false, touch);
        if let Some(ms) = cut {
            at.add_sample(ms, false);
        }
        if let Some(ms) = pushed {
            at.overall().add(ms, false);
        }
        if let Some(seconds) = open_seconds
            && (was_answered || u64::from(seconds) * 1000 <= u64::from(touch.load_time))
        {
            session.origin.shares(at.now);
        }
    }

    /// Accounts for a fill with a valid token, which answers a miss of its key.
    pub(super) fn answered(&mut self, key: &Key, at: &At) {
        if at.policy.implicit == Implicit::Off {
            return;
        }
        let touch = at.touch();
        let Some(mut entry) = self.fence.find(key.hash, touch) else { return };
        entry.record.age(touch);
        entry.record.fill();
        let takes = at.classes.takes(entry.record.class, at.now);
        let is_answered = entry.record.is_answered(takes);
        entry.settle(is_answered, touch);
        if let Some(ms) = entry.record.end_sample(at.now) {
            at.add_sample(ms, true);
        }
    }

    /// Judges a set, and takes away the misses that it may answer.
    pub(super) fn judge(
        &mut self,
        key: &Key,
        as_of: Seq,
        draft: &Draft,
        session: &mut Session,
        at: &At,
    ) -> Ruling {
        if at.policy.implicit == Implicit::Off {
            return Ruling { is_write: true, is_confirmed: false, refused: None };
        }
        let newest = self.newest_invalidation_of(key.hash);
        let is_held_off = self.holdoffs.until(key.hash, at.now).is_some();
        let taken = session.misses.take(key.hash, at.age());
        let own_miss = taken.map(|taken| taken.miss);
        let is_own_miss_invalidated = own_miss.is_some_and(|miss| {
            miss.is_invalidated(newest) || at.groups.has_overtaken(key.bytes, draft.tags, miss.seq())
        });
        let class = at.classes.of(key.bytes, at.prefix());
        let set = Set { as_of, class, newest, draft, is_held_off, key };
        let mut entry = self.fence.find(key.hash, at.touch());
        let finding = entry.as_mut().map(|entry| ask(entry, &set, &self.engine.keys, at));
        let since = finding.map_or(as_of, |finding| finding.since);
        let may_be_sole = at.is_sole(since, own_miss.map(|miss| miss.seq()), newest, session);
        let answers = finding.map_or(Answers::Nothing, |finding| finding.judged.answers);
        // If the connection may have forgotten its miss of this key, it is no evidence, as if it were shared.
        let is_known = own_miss.is_some() || !session.misses.has_forgotten(at.age());
        session.is_shared |= may_be_sole && shows_threads(taken, is_known, answers);
        let is_sole = may_be_sole && !session.is_shared && !taken.is_some_and(|taken| taken.overlaps);
        let is_shared = session.is_shared || session.origin.is_shared(at.now);
        let is_exclusive = at.policy.implicit != Implicit::Shared && !is_shared;
        let counts_own_misses = is_known && (is_sole || is_exclusive);

        if own_miss.is_none() || answers != Answers::Nothing {
            at.classes.judged(class, answers, at.now);
        }
        let answers_none = matches!(answers, Answers::Nothing | Answers::Repeat);
        let is_write = if counts_own_misses { own_miss.is_none() } else { answers_none };
        let has_misses = !is_sole && finding.is_some_and(|finding| finding.has_misses);
        let refused = match finding.map(|finding| finding.judged.verdict) {
            _ if is_held_off && (!is_write || has_misses) => Some(Reason::HeldOff),
            _ if is_sole => None,
            _ if counts_own_misses && is_own_miss_invalidated => Some(Reason::OwnMiss),
            Some(Verdict::Closed) => Some(Reason::Closed),
            Some(Verdict::Doubtful) => Some(Reason::Doubt),
            Some(Verdict::Late) => Some(Reason::Late),
            Some(Verdict::Confirmed | Verdict::Fresh) | None => None,
        };
        if let Some((entry, finding)) = entry.zip(finding) {
            at.classes.count(class, refused.is_some(), key.bytes, at.prefix());
            if is_write && refused.is_none() {
                let is_quiet = at.groups.is_quiet_since(entry.record.marked());
                entry.record.wrote(as_of, finding.judged, is_quiet);
            }
        }
        let is_confirmed = finding.is_some_and(|finding| finding.judged.verdict == Verdict::Confirmed);
        Ruling { is_write, is_confirmed, refused }
    }

    /// Passes every miss that a set may still answer, for the next process.
    pub(super) fn misses(&self, at: &At, show: &mut impl FnMut(Guard)) {
        let is_old =
            |hash, marked| self.newest_invalidation_of(hash) > marked || !at.groups.is_quiet_since(marked);
        self.fence.each(
            at.now,
            |Forgotten { closed_until, hash, marked, lapsed, lapsed_old, is_cell, .. }| {
                // A load that a set has answered in one mode may still be running in another.
                let (lapsed, lapsed_old) = match is_old(hash, marked) {
                    true => (lapsed.max(1), lapsed.max(1)),
                    false => (lapsed, lapsed_old),
                };
                match is_cell {
                    true => show(Guard::CellMissed { hash, until: closed_until }),
                    false => show(Guard::Missed { hash, until: closed_until, lapsed, lapsed_old }),
                }
            },
        );
    }

    /// Takes over misses from the process before: their keys are closed for as long as a load may take.
    pub(super) fn restore_misses(&mut self, guard: Guard, at: &At) {
        match guard {
            Guard::AllMissed { until } => self.fence.close_all(until, at.now),
            Guard::CellMissed { hash, until } => self.fence.close_cell(hash, until, at.now),
            Guard::Missed { hash, until: closed_until, lapsed, lapsed_old } => {
                let marked = at.clock.last();
                let known =
                    Forgotten { closed_until, hash, marked, lapsed, lapsed_old, ..Forgotten::default() };
                self.fence.restore(known, at.touch());
            }
            Guard::AllHeldOff { .. }
            | Guard::CellHeldOff { .. }
            | Guard::HeldOff { .. }
            | Guard::Version { .. } => {}
        }
    }
}

/// Whether a set shows that threads share a connection that might be a sequential program's: its load crossed
/// another one, or more sets came than the connection's own misses explain.
fn shows_threads(taken: Option<Taken>, is_known: bool, answers: Answers) -> bool {
    taken.map_or(is_known && answers == Answers::Miss, |taken| taken.is_overtaken)
}

/// Has the record of a key judge a set.
fn ask(entry: &mut Entry, set: &Set, keys: &Keys, at: &At) -> Finding {
    let (&Set { as_of, class, draft, key, .. }, touch) = (set, at.touch());
    let record = &mut *entry.record;
    record.age(touch);
    let is_tag_invalidated = || at.groups.has_overtaken(&[], draft.tags, record.marked());
    if at.is_invalidated(key.bytes, set.newest, record.marked()) || is_tag_invalidated() || set.is_held_off {
        record.invalidate(as_of);
    }
    record.class = class;
    let takes = at.classes.takes(class, at.now);
    let (has_misses, since) = (!record.is_answered(takes), record.since());
    let judged = record.set(takes, || keys.hash_value(key.hash, draft.flags, &draft.value));
    let is_answered = record.is_answered(takes);
    let sample = record.end_sample(at.now);
    entry.settle(is_answered, touch);
    if let Some(ms) = sample {
        at.add_sample(ms, true);
    }
    Finding { has_misses, judged, since }
}

impl At<'_> {
    fn touch(&self) -> Touch {
        let max_age = self.policy.lease_max_age.as_secs() as u32;
        Touch { now: self.now, load_time: self.load_time_ms(), max_age }
    }

    /// The longest time that a load of the key takes, in milliseconds: set by the operator, or learned.
    pub(crate) fn load_time_ms(&self) -> u32 {
        self.governed.load_time_ms(self.policies)
    }

    fn is_invalidated(&self, key: &[u8], newest: Seq, marked: Seq) -> bool {
        newest > marked || self.groups.has_overtaken(key, Tags::NONE, marked)
    }

    /// Whether the session is a sequential program on the only connection: nothing shows that threads share
    /// it, and no other has invalidated anything since one of these: the first miss that may not be answered,
    /// its own miss, or its own newest invalidation of the key.
    fn is_sole(&self, since: Seq, own_miss: Option<Seq>, newest: Seq, session: &Session) -> bool {
        if self.policy.implicit == Implicit::Shared || session.is_shared {
            return false;
        }
        let Some(foreign) = self.sessions.foreign_if_sole() else { return false };
        let is_since = |start: Seq| foreign <= start && self.groups.is_quiet_since(start);
        // Invalidations of groups belong to no session: there must be none since a miss.
        let is_own = || newest > foreign && self.groups.is_quiet_since(own_miss.unwrap_or(since).min(since));
        is_since(since) || own_miss.is_some_and(is_since) || is_own()
    }

    fn add_sample(&self, ms: u32, is_ended: bool) {
        self.governed.learned.add(ms, is_ended);
        if self.governed.prefix.is_some() {
            self.overall().add(ms, is_ended);
        }
    }

    /// The load times of all keys together.
    fn overall(&self) -> &LoadTimes {
        &self.policies.general_governed().learned
    }

    fn prefix(&self) -> Option<&[u8]> {
        self.governed.prefix.as_deref()
    }
}
