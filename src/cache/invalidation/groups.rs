//! Invalidations of groups: the newest invalidation of every tag and of every prefix, in bounded memory.
//!
//! A group is known by a hash; groups with the same hash share their invalidations. If there are too many
//! groups, the one that was invalidated longest ago is dropped, and the floor rises to its invalidation: a
//! group that is not remembered counts as invalidated then. Nothing is ever forgotten in the unsafe
//! direction.
//!
//! A reader loads one number: the newest invalidation, and whether another is under way. It looks nothing up
//! if none is under way and that one is not newer than the value.
//!
//! Invalidations of single keys and of everything are kept by the shards, under their locks.

use std::collections::VecDeque;

use super::record::{Effect, Invalidation, Invalidations};
use crate::cache::clock::LogicalClock;
use crate::store::item::key::Keys;
use crate::store::item::seq::Seq;
use crate::store::item::tags::Tags;
use crate::sync::{AtomicU64, DashMap, Mutex, Ordering};

/// The invalidations of groups.
pub(crate) struct Groups {
    /// Groups that are not remembered count as invalidated here.
    floor: AtomicU64,
    forgotten: AtomicU64,
    keys: Keys,
    names: DashMap<u64, Remembered>,
    groups_max: usize,
    /// The newest invalidation of any group, and in the lowest bit whether another is under way.
    newest: AtomicU64,
    /// Remembered names in the order in which they came, or came round again. One voider at a time holds it.
    order: Mutex<VecDeque<u64>>,
}

/// A group that is remembered.
struct Remembered {
    /// Invalidations again since it came, or came round again.
    is_repeated: bool,
    invalidations: Invalidations,
}

/// Items that are invalidated together.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Group<'a> {
    /// All keys that begin so. It ends in the [`DELIMITER`].
    Prefix(&'a [u8]),
    /// All items that carry it.
    Tag(&'a [u8]),
}

impl Groups {
    /// Bytes of so many groups at most.
    pub(crate) fn bytes(names: usize) -> usize {
        let places = (names * 8 / 7).next_power_of_two();
        places * (size_of::<(u64, Remembered)>() + 1) + names * size_of::<u64>()
    }

    pub(crate) fn new(groups_max: usize, keys: Keys) -> Self {
        Groups {
            floor: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
            keys,
            names: DashMap::new(),
            groups_max,
            newest: AtomicU64::new(0),
            order: Mutex::new(VecDeque::new()),
        }
    }

    /// Invalidates groups, one after the other.
    pub(crate) fn invalidate<'a>(
        &self,
        names: impl Iterator<Item = Group<'a>>,
        invalidation: Invalidation,
        clock: &LogicalClock,
    ) {
        let mut order = self.order.lock();
        self.newest.fetch_or(PENDING, Ordering::SeqCst);
        for name in names {
            let seq = self.invalidate_one(self.hash(name), invalidation, &mut order, clock);
            self.newest.store(seq.number() << 1 | PENDING, Ordering::SeqCst);
        }
        self.newest.fetch_and(!PENDING, Ordering::SeqCst);
    }

    /// The effect of the invalidations of a key's prefixes and of these tags on a value, by its sequence
    /// number.
    #[inline]
    pub(crate) fn effect(&self, key: &[u8], tags: Tags, as_of: Seq) -> Effect {
        if self.is_unchanged_since(as_of) { Effect::None } else { self.look_up(key, tags, as_of) }
    }

    /// Whether no group was invalidated after a sequence number, nor is about to be.
    #[inline]
    pub(crate) fn is_unchanged_since(&self, as_of: Seq) -> bool {
        let newest = self.newest.load(Ordering::SeqCst);
        newest & PENDING == 0 && newest >> 1 <= as_of.number()
    }

    /// Whether one of them was invalidated after a sequence number.
    pub(crate) fn has_invalidated(&self, key: &[u8], tags: Tags, since: Seq) -> bool {
        self.effect(key, tags, since) != Effect::None
    }

    /// The newest invalidation of any group.
    pub(crate) fn newest(&self) -> Seq {
        Seq::new(self.newest.load(Ordering::SeqCst) >> 1).expect("it was a point")
    }

    /// The newest invalidation of a group, if it is remembered; otherwise the group counts as invalidated at
    /// the floor.
    pub(crate) fn newest_of(&self, name: Group) -> Option<Seq> {
        self.names.get(&self.hash(name)).map(|known| known.invalidations.newest())
    }

    /// Groups that are remembered, and how many were dropped.
    pub(crate) fn counts(&self) -> (usize, u64) {
        (self.names.len(), self.forgotten.load(Ordering::Relaxed))
    }

    #[cold]
    fn look_up(&self, key: &[u8], tags: Tags, as_of: Seq) -> Effect {
        let covers = names(key, tags).map(|name| self.effect_on(self.hash(name), as_of));
        covers.fold(Effect::None, Effect::and)
    }

    fn effect_on(&self, name: u64, as_of: Seq) -> Effect {
        match self.names.get(&name) {
            Some(known) => known.invalidations.effect(as_of),
            // Read after the name was looked for: a name is dropped once the floor has risen.
            None if as_of <= self.floor() => Effect::Hard,
            None => Effect::None,
        }
    }

    fn invalidate_one(
        &self,
        name: u64,
        invalidation: Invalidation,
        order: &mut VecDeque<u64>,
        clock: &LogicalClock,
    ) -> Seq {
        let is_known = self.names.contains_key(&name);
        if !is_known {
            if order.len() == self.groups_max {
                self.drop_oldest(order);
            }
            order.push_back(name);
        }
        let new = || Remembered { is_repeated: false, invalidations: Invalidations::at(self.floor()) };
        let mut known = self.names.entry(name).or_insert_with(new);
        known.is_repeated |= is_known;
        // Taken while the name is locked: who has looked before has an older point.
        let seq = clock.next();
        known.invalidations.add(seq, invalidation);
        seq
    }

    /// Drops a group: the first in order that was not invalidated again since its turn came last.
    fn drop_oldest(&self, order: &mut VecDeque<u64>) {
        while let Some(name) = order.pop_front() {
            let mut known = self.names.get_mut(&name).expect("what stands in the order is known");
            if std::mem::take(&mut known.is_repeated) {
                order.push_back(name);
                continue;
            }
            let newest = known.invalidations.newest();
            drop(known);
            self.floor.fetch_max(newest.number(), Ordering::SeqCst);
            self.names.remove(&name);
            self.forgotten.fetch_add(1, Ordering::Relaxed);
            return;
        }
    }

    pub(crate) fn floor(&self) -> Seq {
        Seq::new(self.floor.load(Ordering::SeqCst)).expect("it was a point")
    }

    fn hash(&self, name: Group) -> u64 {
        match name {
            Group::Prefix(prefix) => self.keys.hash(prefix),
            Group::Tag(tag) => self.keys.hash(tag) ^ TAG,
        }
    }
}

impl<'a> Group<'a> {
    /// A prefix that covers keys: it ends in the [`DELIMITER`], of which it has at most [`PREFIXES_MAX`].
    pub fn prefix(prefix: &'a [u8]) -> Option<Self> {
        (prefixes(prefix).last() == Some(prefix)).then_some(Group::Prefix(prefix))
    }
}

/// The groups by which a key with these tags is invalidated together with others.
pub(crate) fn names<'a>(key: &'a [u8], tags: Tags<'a>) -> impl Iterator<Item = Group<'a>> {
    prefixes(key).map(Group::Prefix).chain(tags.map(Group::Tag))
}

/// The parts of a key that end in the delimiter, shortest first.
fn prefixes(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    memchr::memchr_iter(DELIMITER, key).take(PREFIXES_MAX).map(|at| &key[..=at])
}

const PENDING: u64 = 1;
/// Distinguishes a tag from a prefix of the same name.
const TAG: u64 = 0x9e37_79b9_7f4a_7c15;
/// The end of a prefix.
pub const DELIMITER: u8 = b':';
/// Prefixes of a key that can be invalidated; those beyond, for which it would need more delimiters, cannot.
pub const PREFIXES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::invalidation::record::Depth;
    use crate::clock::Clock;

    const NAMES: usize = 100;

    fn groups() -> (Groups, LogicalClock) {
        (Groups::new(NAMES, Keys::new(7)), LogicalClock::new(7 << 20))
    }

    fn by(depth: Depth) -> Invalidation {
        Invalidation { depth, kept_seconds: 10, now: Clock::manual().now() }
    }

    #[test]
    fn prefixes_end_in_the_delimiter() {
        let of = |key: &'static [u8]| prefixes(key).collect::<Vec<_>>();
        assert_eq!(of(b"product:123:price"), [&b"product:"[..], b"product:123:"]);
        assert_eq!(of(b"plain"), [&b""[..]; 0]);
        assert_eq!(of(&[b':'; 20]).len(), PREFIXES_MAX);
        assert_eq!(Group::prefix(b"product:"), Some(Group::Prefix(b"product:")));
        assert_eq!((Group::prefix(b"product"), Group::prefix(b"")), (None, None));
        assert_eq!((Group::prefix(&[b':'; 16]).is_some(), Group::prefix(&[b':'; 17])), (true, None));
    }

    #[test]
    fn an_invalidation_applies_to_older_values_only() {
        let (groups, clock) = groups();
        let old = clock.next();
        groups.invalidate([Group::Prefix(b"a:")].into_iter(), by(Depth::Hard), &clock);
        assert_eq!(groups.effect(b"a:1", Tags::NONE, old), Effect::Hard);
        assert_eq!(groups.effect(b"a:1", Tags::NONE, clock.next()), Effect::None);
        assert_eq!(groups.effect(b"b:a:1", Tags::NONE, old), Effect::None);
        let tags = crate::store::item::tags::TagList::new([&b"a:"[..]]).unwrap();
        assert_eq!(groups.effect(b"b", tags.tags(), old), Effect::None, "a tag is no prefix");
    }

    #[test]
    fn a_dropped_group_counts_as_invalidated_when_it_was() {
        let (groups, clock) = groups();
        let void = |n: usize| {
            let name = format!("{n}:");
            groups.invalidate([Group::Prefix(name.as_bytes())].into_iter(), by(Depth::Soft), &clock);
        };
        let old = clock.next();
        void(0);
        let between = clock.next();
        (1..NAMES).for_each(void);
        void(0);
        assert_eq!((groups.names.len(), groups.floor()), (NAMES, Seq::ZERO));
        void(NAMES);
        assert_eq!(groups.names.len(), NAMES);
        assert_eq!(groups.effect(b"other:", Tags::NONE, between), Effect::Hard, "the second name went");
        assert_eq!(groups.effect(b"none", Tags::NONE, old), Effect::None, "no name, no floor");
        assert_eq!(groups.effect(b"other:", Tags::NONE, clock.next()), Effect::None);
    }
    /// Invalidates the prefixes `0:`, `1:`, … of these numbers, one after the other.
    fn invalidate_prefixes(groups: &Groups, clock: &LogicalClock, numbers: impl IntoIterator<Item = usize>) {
        for number in numbers {
            let prefix = format!("{number}:");
            groups.invalidate([Group::Prefix(prefix.as_bytes())].into_iter(), by(Depth::Hard), clock);
        }
    }

    /// If the group that is invalidated all the time was the one to go, its newest invalidation would become
    /// the floor, and every group that is not known would count as invalidated just now.
    #[test]
    fn a_group_that_was_invalidated_again_is_not_the_next_to_be_dropped() {
        let (groups, clock) = groups();
        invalidate_prefixes(&groups, &clock, 0..NAMES);
        let stored = clock.next();
        invalidate_prefixes(&groups, &clock, [0, NAMES]);
        assert_eq!(groups.newest_of(Group::Prefix(b"1:")), None, "it was dropped instead");
        assert!(groups.newest_of(Group::Prefix(b"0:")).is_some_and(|newest| newest > stored));
        assert_eq!(groups.effect(b"other:key", Tags::NONE, stored), Effect::None, "the floor stays below");
    }

    #[test]
    fn a_group_that_was_invalidated_again_is_kept_for_one_more_round_only() {
        let (groups, clock) = groups();
        invalidate_prefixes(&groups, &clock, (0..NAMES).chain([0]));
        invalidate_prefixes(&groups, &clock, NAMES..NAMES * 2 - 1);
        assert!(
            groups.newest_of(Group::Prefix(b"0:")).is_some(),
            "all others of the first round are dropped"
        );
        invalidate_prefixes(&groups, &clock, [NAMES * 2]);
        assert_eq!((groups.newest_of(Group::Prefix(b"0:")), groups.counts()), (None, (NAMES, NAMES as u64)));
    }

    #[test]
    fn every_prefix_and_every_tag_of_an_item_counts() {
        let tags = crate::store::item::tags::TagList::new([&b"one"[..], b"two"]).unwrap();
        for name in [Group::Prefix(b"a:"), Group::Prefix(b"a:b:"), Group::Tag(b"one"), Group::Tag(b"two")] {
            let (groups, clock) = groups();
            let old = clock.next();
            groups.invalidate([name].into_iter(), by(Depth::Hard), &clock);
            assert_eq!(groups.effect(b"a:b:c", tags.tags(), old), Effect::Hard, "{name:?}");
        }
    }

    /// Otherwise a soft invalidation would turn what a hard one had removed into a stale copy.
    #[test]
    fn a_dropped_group_that_is_invalidated_again_still_counts_as_invalidated_at_the_floor() {
        let (groups, clock) = groups();
        invalidate_prefixes(&groups, &clock, 0..=NAMES);
        let floor = groups.floor();
        assert!(floor > clock.start() && groups.newest_of(Group::Prefix(b"0:")).is_none());
        assert_eq!(groups.effect(b"0:key", Tags::NONE, floor), Effect::Hard);
        groups.invalidate([Group::Prefix(b"0:")].into_iter(), by(Depth::Soft), &clock);
        assert_eq!(groups.effect(b"0:key", Tags::NONE, floor), Effect::Hard);
    }
}
