//! Invalidations of groups: the newest invalidation of every tag and of every prefix, in bounded memory.
//!
//! There are two questions, and each has its own answers.
//!
//! * *Was a stored value invalidated?* Only groups that a stored value may belong to are remembered, one by
//!   one ([`names`](names::Names)); so a stream of tags that no value bears ([`TagsInUse`]) costs no value
//!   anything. If there are too many, the one that was invalidated longest ago is dropped. That costs nothing
//!   either if the sweep has looked through everything since; otherwise a *floor* rises, which the group
//!   shares with few others, and what is older counts as invalidated.
//! * *Was a load overtaken?* Its tags come with the set, and may be new. Groups that are not remembered share
//!   the numbers in `recent`, one for thousands of groups: a good fill may be refused, and no stale one is
//!   stored.
//!
//! A reader loads one number: the newest invalidation, and whether another is under way. It looks nothing up
//! if none is under way and that one is not newer than the value.
//!
//! A store holds its tags in use before it asks whether they were invalidated, and an invalidation raises
//! `recent` before it asks whether its tag is in use. So at least one of the two sees the other.
//!
//! Invalidations of single keys and of everything are kept by the shards, under their locks.

mod names;

use std::sync::Arc;

use self::names::{Floors, Names};
use super::record::{Effect, Invalidation};
use crate::cache::clock::LogicalClock;
use crate::limits::PREFIXES_MAX;
use crate::store::item::key::Keys;
use crate::store::item::seq::Seq;
use crate::store::item::tags::Tags;
use crate::store::tags_in_use::{Held, TagsInUse};
use crate::sync::{AtomicU64, Mutex, Ordering};

/// The invalidations of groups.
pub(crate) struct Groups {
    keys: Keys,
    /// The newest invalidation that is remembered by its group, and in the lowest bit whether another is
    /// under way.
    newest: AtomicU64,
    /// The same of all invalidations of groups.
    newest_recent: AtomicU64,
    /// One invalidation at a time holds it.
    order: Mutex<()>,
    prefixes: Names,
    /// For each group and those that share its number, the newest invalidation.
    recent: Floors,
    /// For each shard, the invalidations up to this number have left nothing in it.
    swept: Box<[AtomicU64]>,
    tags: Names,
    tags_in_use: Arc<TagsInUse>,
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
    /// Bytes of so many groups of each kind at most.
    pub(crate) fn bytes(groups: usize) -> usize {
        2 * Names::bytes(groups) + Floors::bytes(RECENT)
    }

    /// Remembers so many groups of each kind.
    pub(crate) fn new(groups_max: usize, shards: usize, keys: Keys, tags_in_use: Arc<TagsInUse>) -> Self {
        Groups {
            keys,
            newest: AtomicU64::new(0),
            newest_recent: AtomicU64::new(0),
            order: Mutex::new(()),
            prefixes: Names::new(groups_max),
            recent: Floors::new(RECENT),
            swept: (0..shards).map(|_| AtomicU64::new(0)).collect(),
            tags: Names::new(groups_max),
            tags_in_use,
        }
    }

    /// Invalidates groups, one after the other.
    pub(crate) fn invalidate<'a>(
        &self,
        groups: impl Iterator<Item = Group<'a>>,
        invalidation: Invalidation,
        clock: &LogicalClock,
    ) {
        let _order = self.order.lock();
        for group in groups {
            let hash = self.hash(group);
            raise(&self.newest_recent, || {
                let seq = clock.next();
                self.recent.raise(hash, seq);
                seq
            });
            if self.may_have_items(group) {
                let drops_freely = |hash, newest| self.drops_freely(group, hash, newest);
                let names = self.names(group);
                raise(&self.newest, || names.invalidate(hash, invalidation, clock, drops_freely));
            }
        }
    }

    /// Holds the tags of a store in use, from before it takes its sequence number until its item does.
    #[inline]
    pub(crate) fn hold<'a>(&'a self, tags: Tags<'a>) -> Held<'a> {
        self.tags_in_use.hold(tags)
    }

    /// The effect of the invalidations of a key's prefixes and of its tags on a stored value, by its sequence
    /// number.
    #[inline]
    pub(crate) fn effect(&self, key: &[u8], tags: Tags, as_of: Seq) -> Effect {
        if self.is_unchanged_since(as_of) { Effect::None } else { self.look_up(key, tags, as_of) }
    }

    /// Whether no group that stored values may belong to was invalidated after a sequence number, nor is
    /// about to be.
    #[inline]
    pub(crate) fn is_unchanged_since(&self, as_of: Seq) -> bool {
        is_at_most(&self.newest, as_of)
    }

    /// The word that changes with each invalidation of a group that stored values may belong to; `None` while
    /// one is under way.
    #[inline]
    pub(crate) fn word(&self) -> Option<u64> {
        Some(self.newest.load(Ordering::SeqCst)).filter(|word| word & PENDING == 0)
    }

    /// Whether no group at all was invalidated after a sequence number, nor is about to be.
    #[inline]
    pub(crate) fn is_quiet_since(&self, since: Seq) -> bool {
        is_at_most(&self.newest_recent, since)
    }

    /// The effect of the invalidations of a key's prefixes and of these tags on what was loaded after a
    /// sequence number. The tags must be [held](Groups::hold).
    pub(crate) fn effect_on_load(&self, key: &[u8], tags: Tags, since: Seq) -> Effect {
        if self.is_quiet_since(since) {
            return Effect::None;
        }
        let effect = |group| {
            let hash = self.hash(group);
            let is_recent = || self.recent.of(hash) > since;
            self.names(group).effect(hash, since).unwrap_or_else(|| {
                // Also the depth of what is not remembered is unknown.
                if is_recent() { Effect::Hard } else { Effect::None }
            })
        };
        groups(key, tags).map(effect).fold(Effect::None, Effect::and)
    }

    /// Whether one of them was invalidated after a load began; see [`Groups::effect_on_load`].
    pub(crate) fn has_overtaken(&self, key: &[u8], tags: Tags, since: Seq) -> bool {
        self.effect_on_load(key, tags, since) != Effect::None
    }

    /// The newest invalidation that is remembered by its group.
    pub(crate) fn newest(&self) -> Seq {
        seq(self.newest.load(Ordering::SeqCst) >> 1)
    }

    /// The newest invalidation of a group, if it is remembered.
    pub(crate) fn newest_of(&self, group: Group) -> Option<Seq> {
        self.names(group).newest_of(self.hash(group))
    }

    /// Values of a group that is not remembered count as invalidated up to this sequence number.
    pub(crate) fn floor_of(&self, group: Group) -> Seq {
        self.names(group).floors.of(self.hash(group))
    }

    /// Groups that are remembered, and how many were dropped at the cost of values.
    pub(crate) fn counts(&self) -> (usize, u64) {
        let (tags, prefixes) = (self.tags.counts(), self.prefixes.counts());
        (tags.0 + prefixes.0, tags.1 + prefixes.1)
    }

    /// Whether groups may soon be dropped at the cost of values, unless the sweep has looked for their items.
    pub(crate) fn is_crowded(&self) -> bool {
        self.tags.is_crowded() || self.prefixes.is_crowded()
    }

    /// Records that the sweep has looked through a shard for all that was invalidated up to a sequence
    /// number.
    pub(crate) fn swept(&self, shard: usize, up_to: Seq) {
        self.swept[shard].store(up_to.number(), Ordering::SeqCst);
    }

    #[cold]
    fn look_up(&self, key: &[u8], tags: Tags, as_of: Seq) -> Effect {
        let effect = |group| self.names(group).effect_or_floor(self.hash(group), as_of);
        groups(key, tags).map(effect).fold(Effect::None, Effect::and)
    }

    /// Whether stored values may belong to a group, or its invalidations are remembered.
    fn may_have_items(&self, group: Group) -> bool {
        match group {
            Group::Prefix(_) => true,
            Group::Tag(tag) => {
                self.tags_in_use.may_contain(self.keys.hash_name(tag)) || self.newest_of(group).is_some()
            }
        }
    }

    /// Whether no stored value is left that this invalidation covers, of a group of this kind.
    fn drops_freely(&self, kind: Group, hash: u64, newest: Seq) -> bool {
        let is_tag = matches!(kind, Group::Tag(_));
        (is_tag && !self.tags_in_use.may_contain(hash ^ TAG))
            || self.swept.iter().all(|swept| swept.load(Ordering::SeqCst) >= newest.number())
    }

    fn names(&self, group: Group) -> &Names {
        match group {
            Group::Prefix(_) => &self.prefixes,
            Group::Tag(_) => &self.tags,
        }
    }

    fn hash(&self, group: Group) -> u64 {
        match group {
            Group::Prefix(prefix) => self.keys.hash_name(prefix),
            Group::Tag(tag) => self.keys.hash_name(tag) ^ TAG,
        }
    }
}

/// Makes a change whose sequence number becomes the newest. Until then, the number shows that one is under
/// way.
fn raise(newest: &AtomicU64, change: impl FnOnce() -> Seq) {
    newest.fetch_or(PENDING, Ordering::SeqCst);
    newest.store(change().number() << 1, Ordering::SeqCst);
}

fn is_at_most(newest: &AtomicU64, number: Seq) -> bool {
    let newest = newest.load(Ordering::SeqCst);
    newest & PENDING == 0 && newest >> 1 <= number.number()
}

fn seq(number: u64) -> Seq {
    Seq::new(number).expect("it was one")
}

impl<'a> Group<'a> {
    /// A prefix that covers keys: it ends in the [`DELIMITER`], of which it has at most [`PREFIXES_MAX`].
    pub fn prefix(prefix: &'a [u8]) -> Option<Self> {
        (prefixes(prefix).last() == Some(prefix)).then_some(Group::Prefix(prefix))
    }
}

/// The groups by which a key with these tags is invalidated together with others.
pub(crate) fn groups<'a>(key: &'a [u8], tags: Tags<'a>) -> impl Iterator<Item = Group<'a>> {
    prefixes(key).map(Group::Prefix).chain(tags.map(Group::Tag))
}

/// The parts of a key that end in the delimiter, shortest first.
fn prefixes(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    memchr::memchr_iter(DELIMITER, key).take(PREFIXES_MAX).map(|at| &key[..=at])
}

const PENDING: u64 = 1;
/// Numbers for loads, over all groups.
#[cfg(not(shuttle))]
const RECENT: usize = 1 << 16;
#[cfg(shuttle)]
const RECENT: usize = 2;
/// Distinguishes a tag from a prefix of the same name.
const TAG: u64 = 0x9e37_79b9_7f4a_7c15;
/// The end of a prefix.
pub const DELIMITER: u8 = b':';

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::invalidation::record::Depth;
    use crate::clock::Clock;
    use crate::store::item::tags::TagList;

    const NAMES: usize = 100;

    fn groups() -> (Groups, LogicalClock) {
        let tags_in_use = Arc::new(TagsInUse::new(1 << 16, Keys::new(7)));
        (Groups::new(NAMES, 2, Keys::new(7), tags_in_use), LogicalClock::new(7 << 20))
    }

    fn by(depth: Depth) -> Invalidation {
        Invalidation { depth, kept: std::time::Duration::from_secs(10), now: Clock::manual().now() }
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
        let tags = TagList::new([&b"a:"[..]]).unwrap();
        assert_eq!(groups.effect(b"b", tags.tags(), old), Effect::None, "a tag is no prefix");
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
        assert!(groups.floor_of(Group::Prefix(b"1:")) < stored, "the floor stays below");
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
        let tags = TagList::new([&b"one"[..], b"two"]).unwrap();
        for name in [Group::Prefix(b"a:"), Group::Prefix(b"a:b:"), Group::Tag(b"one"), Group::Tag(b"two")] {
            let (groups, clock) = groups();
            groups.tags_in_use.add(tags.tags());
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
        let floor = groups.floor_of(Group::Prefix(b"0:"));
        assert!(floor > clock.start() && groups.newest_of(Group::Prefix(b"0:")).is_none());
        assert_eq!(groups.effect(b"0:key", Tags::NONE, floor), Effect::Hard);
        groups.invalidate([Group::Prefix(b"0:")].into_iter(), by(Depth::Soft), &clock);
        assert_eq!(groups.effect(b"0:key", Tags::NONE, floor), Effect::Hard);
    }

    fn invalidate_tag(groups: &Groups, clock: &LogicalClock, name: &str) {
        groups.invalidate([Group::Tag(name.as_bytes())].into_iter(), by(Depth::Hard), clock);
    }

    /// Seven lines of `invalidate tag`, each of 1,000 tags that no value had, emptied the cache.
    #[test]
    fn tags_that_no_value_bears_cost_no_value_anything() {
        let (groups, clock) = groups();
        let list = TagList::new([&b"mine"[..]]).unwrap();
        groups.tags_in_use.add(list.tags());
        let stored = clock.next();
        (0..100 * NAMES).for_each(|n| invalidate_tag(&groups, &clock, &format!("tag {n}")));
        assert_eq!(groups.effect(b"user:1", list.tags(), stored), Effect::None);
        assert!(groups.is_unchanged_since(stored), "no reader has to look");
        assert_eq!(groups.counts(), (0, 0));
        invalidate_tag(&groups, &clock, "mine");
        assert_eq!(groups.effect(b"user:1", list.tags(), stored), Effect::Hard);
    }

    #[test]
    fn a_load_is_overtaken_by_a_tag_that_no_value_has_borne_yet() {
        let (groups, clock) = groups();
        let (list, began) = (TagList::new([&b"new"[..]]).unwrap(), clock.last());
        invalidate_tag(&groups, &clock, "new");
        let _held = groups.hold(list.tags());
        assert!(groups.has_overtaken(b"user:1", list.tags(), began));
        assert!(!groups.has_overtaken(b"user:1", list.tags(), clock.last()));
        assert!(!groups.has_overtaken(b"user:1", Tags::NONE, began));
    }

    /// A group that was invalidated an hour ago, of which nothing is left.
    #[test]
    fn a_group_is_dropped_at_no_cost_once_the_sweep_has_looked_for_its_items() {
        for swept_shards in 0..=2 {
            let (groups, clock) = groups();
            invalidate_prefixes(&groups, &clock, 0..NAMES);
            (0..swept_shards).for_each(|shard| groups.swept(shard, clock.last()));
            let began = clock.start();
            invalidate_prefixes(&groups, &clock, NAMES..2 * NAMES);
            let is_free = swept_shards == 2;
            assert_eq!(groups.counts().1, if is_free { 0 } else { NAMES as u64 });
            assert_eq!(groups.effect(b"0:key", Tags::NONE, began) == Effect::None, is_free);
            assert!(groups.has_overtaken(b"0:key", Tags::NONE, began), "a load may still be running");
        }
    }

    /// The sweep leaves stale copies, which must not become live again.
    #[test]
    fn a_softly_invalidated_group_is_never_dropped_at_no_cost() {
        let (groups, clock) = groups();
        groups.invalidate([Group::Prefix(b"soft:")].into_iter(), by(Depth::Soft), &clock);
        (0..2).for_each(|shard| groups.swept(shard, clock.last()));
        invalidate_prefixes(&groups, &clock, 0..NAMES);
        assert_eq!(groups.effect(b"soft:key", Tags::NONE, clock.start()), Effect::Hard);
    }

    #[test]
    fn a_dropped_tag_costs_few_values_of_other_tags() {
        let (groups, clock) = groups();
        let name = |n: usize| format!("tag {n}");
        let lists: Vec<TagList> =
            (0..20 * NAMES).map(|n| TagList::new([name(n).as_bytes()]).unwrap()).collect();
        lists.iter().for_each(|list| groups.tags_in_use.add(list.tags()));
        let stored = clock.next();
        (0..10 * NAMES).for_each(|n| invalidate_tag(&groups, &clock, &name(n)));
        let is_gone = |list: &&TagList| groups.effect(b"key", list.tags(), stored) == Effect::Hard;
        assert_eq!(lists[..10 * NAMES].iter().filter(is_gone).count(), 10 * NAMES);
        let others = lists[10 * NAMES..].iter().filter(is_gone).count();
        assert!(others < 100, "{others} of 1,000 after 900 were dropped");
    }
}
