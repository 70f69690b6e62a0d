//! The meta commands: a key, and flags of one letter, some of them with a number.
//!
//! A [`Meta`] that exists is well-formed: its flags are known, none is repeated, and their numbers are
//! valid. As in memcached, each command accepts all flags and ignores those that do not concern it.

use std::borrow::Cow;

use super::keys::{TagWords, words};

/// A meta command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Meta<'a> {
    /// The key. With flag `b` it was sent in base64 and may be any bytes.
    pub key: Cow<'a, [u8]>,
    /// All flags after the key.
    pub flags: Flags<'a>,
}

/// The flags of one command, each of them legal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Flags<'a> {
    /// A bit for each letter that is present.
    letters: u64,
    numbers: &'a Numbers,
    /// The flags as they were sent: tags are read from them, and a text reply repeats their order.
    words: &'a [u8],
}

/// The numbers after the flags of one command. They stay in the decoder, so that a request that borrows them
/// is small.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Numbers([u64; NUMBERED.len()]);

/// How `ms` treats the existing value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SetMode {
    /// `ME`: stores only if there is no value.
    Add,
    /// `MA`: appends to the value.
    Append,
    /// `MP`: prepends to the value.
    Prepend,
    /// `MR`: stores only if there is a value.
    Replace,
    /// `MS`, or no mode: always stores.
    Set,
}

/// The direction in which `ma` counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CountMode {
    /// `MD` or `M-`
    Down,
    /// `MI` or `M+`, or no mode
    Up,
}

impl<'a> Flags<'a> {
    /// The decoder has checked all of it: `numbers` has those of all letters that need one.
    pub(in crate::protocol) fn new(letters: u64, numbers: &'a Numbers, words: &'a [u8]) -> Self {
        Flags { letters, numbers, words }
    }

    /// Whether a flag is present.
    #[inline]
    pub fn has(self, letter: u8) -> bool {
        self.letters & bit(letter) != 0
    }

    /// The number after a letter, if present; it may be negative.
    #[inline]
    pub fn signed(self, letter: u8) -> Option<i64> {
        self.unsigned(letter).map(u64::cast_signed)
    }

    /// The number after a letter, if present.
    #[inline]
    pub fn unsigned(self, letter: u8) -> Option<u64> {
        self.has(letter).then(|| self.numbers.0[slot(letter)])
    }

    /// The tags of the value.
    pub fn tags(self) -> TagWords<'a> {
        TagWords::new(TAG, if self.has(TAG[0]) { self.words } else { &[] })
    }

    /// The flags in their order: each a letter with its argument.
    pub fn each(self) -> impl Iterator<Item = &'a [u8]> {
        words(self.words)
    }
}

impl Numbers {
    /// No numbers, for flags that need none.
    pub(in crate::protocol) const NONE: &Numbers = &Numbers([0; NUMBERED.len()]);

    /// Keeps the number after a letter, in two's complement.
    pub(in crate::protocol) fn set(&mut self, letter: u8, number: u64) {
        self.0[slot(letter)] = number;
    }
}

/// The bit of a letter. Digits have none: they are not flags.
#[inline]
pub(in crate::protocol) fn bit(letter: u8) -> u64 {
    letter.checked_sub(b'A').map_or(0, |at| 1 << at)
}

/// Most letters are known when this is compiled.
#[inline]
fn slot(letter: u8) -> usize {
    NUMBERED.iter().position(|numbered| *numbered == letter).expect("this flag has a number")
}

/// The flag that is a tag.
pub(in crate::protocol) const TAG: &[u8] = b"G";
/// The flags with a number.
const NUMBERED: [u8; 10] = *b"CDEFJNRTVw";
