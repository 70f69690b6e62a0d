//! The layout of an item in memory: a header, then the key, then the value.
//!
//! | bytes | what |
//! |---|---|
//! | 0..6 | `as_of` |
//! | 6 | length of the key |
//! | 7 | uses (3 bits), fetched, stale, dead, chosen, extra |
//! | 8..12 | place in units of 8 bytes (14 bits), tagged, length of the value (17 bits) |
//! | 12..16 | expiry |
//! | 16..20 | when it was stored |
//! | 20..24 | for eviction: the floor at the last use (6 bits) and whether it returned; when it was last read (25 bits) |
//! | 24..32 | client flags and `removed_at`, only if `extra` is set: if they differ from 0 and the expiry |
//! | 8 more | a CAS unique that the client chose, only if `chosen` is set, which sets `extra`, too |
//! | 2 and more | tags, packed, after the length of them all, only if `tagged` is set |
//!
//! All numbers are little-endian, all times ticks of a sixteenth of a second. An item's place has the size
//! that it needed when it was written; a value that shrinks in place leaves the rest unused. Items begin at
//! multiples of 8. The last read is counted from when the item was stored: exactly for twelve days, then in
//! steps of 16 s.
//!
//! This file does not know where an item is stored: it works on a slice that begins with the header.

use crate::store::expiry::Expiry;
use crate::store::item::meta::Meta;
use crate::store::item::seq::Seq;
use crate::store::item::shape::{
    CHOSEN, CHOSEN_BYTES, EXTRA, EXTRA_BYTES, HEADER_BYTES, Shape, TAGS_LEN_BYTES, UNIT, parts_of, tags_at,
};
use crate::store::item::tags::Tags;
use crate::store::item::uses::{USES_MAX, Uses};
use crate::store::tick::Tick;

/// An item in a segment, or the head of one whose value has memory of its own.
///
/// Readers of several fields are always inlined: most callers use one of them, and the compiler by itself
/// reads all, which was a sixth of a hit (docs/performance.md).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packed<'a>(pub(crate) &'a [u8]);

/// A packed item that can be changed.
pub(crate) struct PackedMut<'a>(pub(crate) &'a mut [u8]);

/// The use of an item, as its header has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Used {
    accessed: Tick,
    is_fetched: bool,
    stamp: u32,
    uses: Uses,
}

fn expiry(word: u32) -> Expiry {
    Expiry::at(Tick::from_number(word))
}

impl<'a> Packed<'a> {
    #[inline(always)]
    pub(crate) fn key(self) -> &'a [u8] {
        &self.0[self.shape().key()]
    }

    #[inline(always)]
    pub(crate) fn value(self) -> &'a [u8] {
        &self.0[self.shape().value()]
    }

    pub(crate) fn value_bytes(self) -> usize {
        (self.word(8) & VALUE_LEN_MASK) as usize
    }

    #[inline(always)]
    pub(crate) fn tags(self) -> Tags<'a> {
        if !self.is_tagged() {
            return Tags::NONE;
        }
        Tags::from_packed(&self.0[self.shape().tags()])
    }

    #[inline(always)]
    pub(crate) fn meta(self) -> Meta {
        let (expiry, is_extra) = (self.expiry(), self.has(EXTRA));
        Meta {
            as_of: self.as_of(),
            chosen: if self.has(CHOSEN) { self.long(CHOSEN_AT) } else { 0 },
            expiry,
            flags: if is_extra { self.extra(24) } else { 0 },
            removed_at: self.removed_at(),
            is_stale: self.has(STALE),
            stored: Tick::from_number(self.word(16)),
        }
    }

    pub(crate) fn as_of(self) -> Seq {
        let [a, b, c, d, e, f, ..] = *self.header();
        Seq::new(u64::from_le_bytes([a, b, c, d, e, f, 0, 0])).expect("six bytes are 48 bits")
    }

    #[inline(always)]
    pub(crate) fn removed_at(self) -> Expiry {
        expiry(if self.has(EXTRA) { self.extra(28) } else { self.word(12) })
    }

    #[inline(always)]
    pub(crate) fn expiry(self) -> Expiry {
        expiry(self.word(12))
    }

    pub(crate) fn accessed(self) -> Tick {
        let passed = self.word(20) >> PASSED_SHIFT;
        let ticks = if passed < PASSED_EXACT { passed } else { (passed - PASSED_EXACT) << PASSED_STEP };
        Tick::from_number(self.word(16).saturating_add(ticks))
    }

    pub(crate) fn is_fetched(self) -> bool {
        self.has(FETCHED)
    }

    pub(crate) fn is_stale(self) -> bool {
        self.has(STALE)
    }

    pub(crate) fn is_dead(self) -> bool {
        self.has(DEAD)
    }

    pub(crate) fn uses(self) -> Uses {
        let returned = self.word(20) >> RETURNED_SHIFT & 1;
        Uses::from_bits(u32::from(self.header()[STATE] & USES) | returned << Uses::RETURNED_BIT)
    }

    /// The floor of eviction at its last use, in [`STAMP_BITS`] bits.
    pub(crate) fn stamp(self) -> u32 {
        self.word(20) & STAMP_MASK
    }

    /// All that is known of its use.
    pub(crate) fn used(self) -> Used {
        Used {
            accessed: self.accessed(),
            is_fetched: self.is_fetched(),
            stamp: self.stamp(),
            uses: self.uses(),
        }
    }

    /// Whether it has the parts that this description needs.
    pub(crate) fn has_room_for(self, meta: &Meta) -> bool {
        parts_of(meta) & !self.header()[STATE] == 0
    }

    /// Bytes from its header to the next item's.
    pub(crate) fn place(self) -> usize {
        (self.word(8) >> PLACE_SHIFT) as usize * UNIT
    }

    /// Bytes of its place if it was written now.
    pub(crate) fn tight(self) -> usize {
        self.shape().place()
    }

    #[inline(always)]
    pub(crate) fn shape(self) -> Shape {
        let (parts, mut tags_len) = (self.header()[STATE] & (EXTRA | CHOSEN), 0);
        if self.is_tagged() {
            let at = tags_at(parts);
            tags_len = u16::from_le_bytes([self.0[at], self.0[at + 1]]).into();
        }
        Shape::of(parts, tags_len, self.header()[KEY_LEN].into(), self.value_bytes())
    }

    fn is_tagged(self) -> bool {
        self.word(8) & TAGGED != 0
    }

    fn has(self, bit: u8) -> bool {
        self.header()[STATE] & bit != 0
    }

    /// The header that every item has. With its length known, no read in it checks for its end.
    fn header(self) -> &'a [u8; HEADER_BYTES] {
        self.0.first_chunk().expect("an item begins with a header")
    }

    fn long(self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().expect("eight bytes"))
    }

    fn word(self, at: usize) -> u32 {
        u32::from_le_bytes(self.header()[at..at + 4].try_into().expect("four bytes"))
    }

    /// A word after the header of an item with [`EXTRA`].
    fn extra(self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().expect("four bytes"))
    }
}

impl<'a> PackedMut<'a> {
    /// The item, to be read only.
    pub(crate) fn into_view(self) -> Packed<'a> {
        Packed(self.0)
    }

    /// Writes a new item into a place of so many bytes.
    #[inline]
    pub(crate) fn write(
        &mut self,
        place: usize,
        shape: Shape,
        meta: &Meta,
        tags: Tags,
        key: &[u8],
        value: &[u8],
    ) {
        self.write_head(place, shape, meta, tags);
        self.0[shape.key()].copy_from_slice(key);
        self.0[shape.value()].copy_from_slice(value);
    }

    /// As [`PackedMut::write`], for a value with memory of its own.
    pub(crate) fn write_large(&mut self, shape: Shape, meta: &Meta, tags: Tags, key: &[u8]) {
        self.write_head(0, shape, meta, tags);
        self.0[shape.key()].copy_from_slice(key);
    }

    /// Replaces the value, the tags and the description in the same place, which must have room.
    #[inline]
    pub(crate) fn rewrite(&mut self, shape: Shape, meta: &Meta, tags: Tags, value: &[u8]) {
        let (place, old) = (self.view().place(), self.shape());
        // The key is moved before anything is written over it.
        if shape.key_at != old.key_at {
            self.0.copy_within(old.key(), shape.key_at);
        }
        self.write_head(place, shape, meta, tags);
        self.0[shape.value()].copy_from_slice(value);
    }

    /// Replaces the description; false if there is no room for it.
    pub(crate) fn set_meta(&mut self, meta: &Meta) -> bool {
        if !self.view().has_room_for(meta) {
            return false;
        }
        self.set_as_of(meta.as_of);
        self.set_word(12, meta.expiry.tick().number());
        let accessed = self.view().accessed();
        self.set_word(16, meta.stored.number());
        self.set_accessed(accessed);
        self.set(STALE, meta.is_stale);
        self.set_parts(meta);
        true
    }

    /// Counts a read, at this floor of eviction.
    #[inline(always)]
    pub(crate) fn read(&mut self, tick: Tick, stamp: u32) {
        let word = self.passed(tick) << PASSED_SHIFT | stamp;
        let header: &mut [u8; HEADER_BYTES] = self.0.first_chunk_mut().expect("an item begins with a header");
        let state = header[STATE] | FETCHED;
        header[STATE] = state + u8::from(state & USES < USES);
        header[20..24].copy_from_slice(&word.to_le_bytes());
    }

    /// Sets the uses, and the floor of eviction at the last of them.
    pub(crate) fn set_uses(&mut self, uses: Uses, stamp: u32) {
        self.0[STATE] = self.0[STATE] & !USES | uses.count() as u8;
        let accessed = self.view().word(20) >> PASSED_SHIFT << PASSED_SHIFT;
        let returned = (uses.bits() >> Uses::RETURNED_BIT) << RETURNED_SHIFT;
        self.set_word(20, accessed | returned | stamp & STAMP_MASK);
    }

    /// Sets all that is known of its use.
    pub(crate) fn set_used(&mut self, used: Used) {
        self.set_uses(used.uses, used.stamp);
        self.set_accessed(used.accessed);
        self.set(FETCHED, used.is_fetched);
    }

    fn set_accessed(&mut self, tick: Tick) {
        let word = self.view().word(20) & ((1 << PASSED_SHIFT) - 1);
        self.set_word(20, word | self.passed(tick) << PASSED_SHIFT);
    }

    /// The time since the item was stored, as its header has it.
    fn passed(&self, tick: Tick) -> u32 {
        let ticks = tick.number().saturating_sub(self.view().word(16));
        if ticks < PASSED_EXACT { ticks } else { PASSED_EXACT | ticks >> PASSED_STEP }
    }

    pub(crate) fn kill(&mut self) {
        self.set(DEAD, true);
    }

    /// Shrinks the place to the size that the item needs.
    pub(crate) fn tighten(&mut self) {
        let tight = self.view().tight();
        self.set_lengths(tight, self.shape());
    }

    /// Writes all that comes before the key.
    #[inline(always)]
    fn write_head(&mut self, place: usize, shape: Shape, meta: &Meta, tags: Tags) {
        self.0[KEY_LEN] = u8::try_from(shape.key().len()).expect("a key has at most 250 bytes");
        self.0[STATE] = shape.parts | if meta.is_stale { STALE } else { 0 };
        self.set_as_of(meta.as_of);
        self.set_lengths(place, shape);
        self.set_word(12, meta.expiry.tick().number());
        self.set_word(16, meta.stored.number());
        self.set_word(20, 0);
        if shape.parts != 0 {
            self.set_parts(meta);
        }
        if shape.tags_len > 0 {
            let at = tags_at(shape.parts);
            self.0[at..at + TAGS_LEN_BYTES].copy_from_slice(&(shape.tags_len as u16).to_le_bytes());
            self.0[shape.tags()].copy_from_slice(tags.packed());
        }
    }

    /// Writes those parts of the description beyond the header that the item has.
    fn set_parts(&mut self, meta: &Meta) {
        if self.view().has(EXTRA) {
            self.set_word(24, meta.flags);
            self.set_word(28, meta.removed_at.tick().number());
        }
        if self.view().has(CHOSEN) {
            self.0[CHOSEN_AT..CHOSEN_AT + CHOSEN_BYTES].copy_from_slice(&meta.chosen.to_le_bytes());
        }
    }

    fn set_lengths(&mut self, place: usize, shape: Shape) {
        let tagged = if shape.tags_len > 0 { TAGGED } else { 0 };
        self.set_word(8, ((place / UNIT) as u32) << PLACE_SHIFT | tagged | shape.value_len as u32);
    }

    fn set_as_of(&mut self, as_of: Seq) {
        self.0[..6].copy_from_slice(&as_of.number().to_le_bytes()[..6]);
    }

    fn set(&mut self, bit: u8, is_set: bool) {
        self.0[STATE] = if is_set { self.0[STATE] | bit } else { self.0[STATE] & !bit };
    }

    fn set_word(&mut self, at: usize, word: u32) {
        self.0[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }

    fn shape(&self) -> Shape {
        self.view().shape()
    }

    pub(crate) fn view(&self) -> Packed<'_> {
        Packed(self.0)
    }
}

const CHOSEN_AT: usize = HEADER_BYTES + EXTRA_BYTES;
/// The largest place that 14 bits can express.
pub(crate) const PLACE_BYTES_MAX: usize = ((1 << 14) - 1) * UNIT;

const KEY_LEN: usize = 6;
const STATE: usize = 7;
const USES: u8 = USES_MAX as u8;
const FETCHED: u8 = 1 << 3;
const STALE: u8 = 1 << 4;
const DEAD: u8 = 1 << 5;
/// An item in the log is no longer than its place, which has 17 bits.
const VALUE_LEN_MASK: u32 = TAGGED - 1;
const TAGGED: u32 = 1 << 17;
const PLACE_SHIFT: u32 = 18;
/// Bits of the floor of eviction that an item notes at its last use.
const STAMP_BITS: u32 = 6;
pub(crate) const STAMP_MASK: u32 = (1 << STAMP_BITS) - 1;
const RETURNED_SHIFT: u32 = STAMP_BITS;
const PASSED_SHIFT: u32 = RETURNED_SHIFT + 1;
/// Ticks from here on are in steps of 2 to the power of `PASSED_STEP`, so that 25 bits are enough for all 32.
const PASSED_EXACT: u32 = 1 << (31 - PASSED_SHIFT);
const PASSED_STEP: u32 = PASSED_SHIFT + 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::item::tags::TagList;

    fn meta(flags: u32, removed_at: u32) -> Meta {
        let (expiry, removed_at, stored) = (expiry(9), expiry(removed_at), Tick::from_number(5));
        let as_of = Seq::new((1 << 48) - 2).unwrap();
        Meta { as_of, chosen: 0, expiry, flags, removed_at, is_stale: false, stored }
    }

    /// Writes an item of 64 bytes under "key".
    fn write(item: &mut PackedMut, value: &[u8]) {
        let shape = Shape::new(&meta(0, 9), Tags::NONE, 3, value.len());
        item.write(64, shape, &meta(0, 9), Tags::NONE, b"key", value);
    }

    #[track_caller]
    fn check(meta: Meta, tags: Tags, key: &[u8], value: &[u8], place: usize) {
        let shape = Shape::new(&meta, tags, key.len(), value.len());
        assert_eq!(shape.place(), place);
        let mut bytes = vec![0xaa; place];
        PackedMut(&mut bytes).write(place, shape, &meta, tags, key, value);
        let item = Packed(&bytes);
        assert_eq!((item.key(), item.value(), item.meta(), item.tags()), (key, value, meta, tags));
        assert_eq!((item.place(), item.tight(), item.uses()), (place, place, Uses::NONE));
        assert!(!item.is_dead() && !item.is_fetched());
    }

    #[test]
    fn a_written_item_is_read_back() {
        let tags = TagList::new([&b"one"[..], b"two"]).unwrap();
        for (tags, more) in [(Tags::NONE, 0), (tags.tags(), 16)] {
            check(meta(0, 9), tags, b"k", b"1234567", 32 + more);
            check(meta(7, 9), tags, b"k", b"123456", 40 + more);
            check(Meta { chosen: u64::MAX, ..meta(0, 9) }, tags, b"k", b"123456", 48 + more);
        }
        check(meta(0, 9), Tags::NONE, b"k", b"", 32);
        check(meta(0, 12), Tags::NONE, &[b'k'; 250], &[1; 99_999], 100_288);
    }

    #[test]
    fn a_smaller_value_keeps_the_place_until_it_is_tightened() {
        let mut bytes = vec![0; 64];
        let mut item = PackedMut(&mut bytes);
        write(&mut item, b"0123456789012345678901234567890123456");
        item.read(Tick::from_number(11), 9);
        let shape = Shape::new(&meta(3, 9), Tags::NONE, 3, 5);
        item.rewrite(shape, &meta(3, 9), Tags::NONE, b"short");
        let view = item.view();
        assert_eq!(
            (view.key(), view.value(), view.place(), view.tight()),
            (&b"key"[..], &b"short"[..], 64, 40)
        );
        assert_eq!((view.uses(), view.stamp(), view.meta()), (Uses::NONE, 0, meta(3, 9)));
        item.tighten();
        assert_eq!(item.view().place(), 40);
    }

    #[test]
    fn a_description_without_extras_has_no_room_for_them() {
        let mut bytes = vec![0; 64];
        let mut item = PackedMut(&mut bytes);
        write(&mut item, b"value");
        assert!(!item.set_meta(&meta(0, 10)) && item.set_meta(&Meta { is_stale: true, ..meta(0, 9) }));
        assert!(item.view().is_stale() && !item.set_meta(&Meta { chosen: 1, ..meta(0, 9) }));
        for _ in 0..9 {
            item.read(Tick::from_number(12), 63);
        }
        let view = item.view();
        assert_eq!(
            (view.uses().count(), view.stamp(), view.accessed()),
            (USES_MAX, 63, Tick::from_number(12))
        );
    }

    #[test]
    fn uses_stamp_and_last_read_do_not_disturb_each_other() {
        let mut bytes = vec![0; 64];
        let mut item = PackedMut(&mut bytes);
        write(&mut item, b"value");
        for (passed, step) in [(0, 1), (7, 1), ((1 << 24) - 1, 1), (1 << 24, 256), (u32::MAX - 5, 256)] {
            let tick = Tick::from_number(5 + passed);
            item.read(tick, 17);
            let uses = item.view().uses();
            let accessed = item.view().accessed();
            assert!(accessed <= tick && tick.since(accessed) < step, "{passed}");
            item.set_uses(uses.returned(), 62);
            let view = item.view();
            assert_eq!((view.uses(), view.stamp(), view.accessed()), (uses.returned(), 62, accessed));
            item.read(tick, 3);
            let view = item.view();
            assert_eq!((view.uses(), view.stamp(), view.accessed()), (uses.more().more(), 3, accessed));
            // A description that was stored later changes neither.
            assert!(item.set_meta(&Meta { stored: tick, ..meta(0, 9) }));
            let view = item.view();
            assert!(view.accessed() >= accessed && view.accessed() <= tick);
            assert_eq!((view.uses(), view.stamp()), (uses.more().more(), 3));
            assert!(item.set_meta(&meta(0, 9)));
        }
    }
}
