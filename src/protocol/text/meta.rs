//! The meta commands: `<verb> <key> [<bytes>] <flag>*`, where a flag is a letter with an optional argument.
//!
//! A [`Meta`] that exists is well-formed: its flags are known, none is repeated, and their numbers are
//! valid. The flags stay in their textual form, because the reply iterates over them in the same order.
//!
//! As in memcached, each verb accepts all flags and ignores those that do not concern it.

use std::borrow::Cow;

use nom::character::complete::{i64 as signed, u32 as unsigned32, u64 as unsigned};

use super::words::{full, is_key, words};
use crate::limits::TAGS_MAX;
use crate::protocol::base64;
use crate::protocol::message::{Refusal, TagWords};

/// A meta command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Meta<'a> {
    /// The key. With flag `b` it was sent in base64 and may be any bytes.
    pub key: Cow<'a, [u8]>,
    /// Everything after the key.
    pub flags: Flags<'a>,
}

/// The flags of one line, each of them legal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Flags<'a> {
    /// A bit for each letter that is present.
    letters: u64,
    words: &'a [u8],
}

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

/// The kind of a flag's argument.
#[derive(Clone, Copy)]
enum Argument {
    /// Anything; the argument is ignored.
    Any,
    /// A CAS unique chosen by the client.
    ChosenUnique,
    /// The amount to count by.
    Delta,
    /// The initial number of a counter.
    Initial,
    /// Client flags.
    Mark,
    /// A tag, the only flag that may be repeated.
    Tag,
    /// Bytes that the reply returns.
    Opaque,
    /// A number that may be negative.
    Signed,
    /// A number.
    Unsigned,
}

impl<'a> Meta<'a> {
    /// A legal key, and flags that are all [`bare`].
    pub(super) fn bare(key: &'a [u8], letters: u64, words: &'a [u8]) -> Self {
        Meta { key: Cow::Borrowed(key), flags: Flags { letters, words } }
    }

    /// A key and its flags, of which there are at most `flags_max`. As in memcached, the first unknown or
    /// repeated flag is refused; without one, the last invalid argument is.
    pub(super) fn new(key: &'a [u8], flags: &'a [u8], flags_max: usize) -> Result<Self, Refusal> {
        if !is_key(key) {
            return Err(Refusal::BadLine);
        }
        let (mut count, mut decoded, mut letters, mut refused) = (0, Cow::Borrowed(key), 0, None);
        let mut tags = 0;
        for word in words(flags) {
            let known = word[0].checked_sub(b'A').and_then(|at| *ARGUMENTS.get(usize::from(at))?);
            let Some(argument) = known.filter(|_| is_tag(word) || letters & bit(word[0]) == 0) else {
                let are_too_many = words(flags).filter(|word| !is_tag(word)).count() > flags_max;
                return Err(match (are_too_many, known) {
                    (true, _) => Refusal::TooManyFlags,
                    (false, Some(_)) => Refusal::DuplicateFlag,
                    (false, None) => Refusal::UnknownFlag,
                });
            };
            letters |= bit(word[0]);
            let mut wrong = argument.refusal(&word[1..]);
            if word[0] == b'b' {
                match base64::decode(key) {
                    Some(key) => decoded = Cow::Owned(key),
                    None => wrong = Some(Refusal::BadBase64),
                }
            }
            refused = graver(refused, wrong);
            *if is_tag(word) { &mut tags } else { &mut count } += 1;
        }
        let refused = match (count > flags_max, tags > TAGS_MAX) {
            (true, _) => Some(Refusal::TooManyFlags),
            (false, true) => Some(Refusal::TooManyTags),
            (false, false) => refused,
        };
        refused.map_or(Ok(Meta { key: decoded, flags: Flags { letters, words: flags } }), Err)
    }
}

impl<'a> Flags<'a> {
    /// Whether a flag is present.
    pub fn has(self, letter: u8) -> bool {
        self.letters & bit(letter) != 0
    }

    /// The number after a letter, if present; it may be negative.
    pub fn signed(self, letter: u8) -> Option<i64> {
        self.argument(letter).map(|argument| full(signed, argument).expect("it was looked at before"))
    }

    /// The number after a letter, if present.
    pub fn unsigned(self, letter: u8) -> Option<u64> {
        self.argument(letter).map(|argument| full(unsigned, argument).expect("it was looked at before"))
    }

    /// The tags of the value.
    pub fn tags(self) -> TagWords<'a> {
        TagWords::new(TAG, if self.has(TAG[0]) { self.words } else { &[] })
    }

    /// The flags in their order: each a letter with its argument.
    pub fn each(self) -> impl Iterator<Item = &'a [u8]> {
        words(self.words)
    }

    /// How `ms` treats the existing value.
    pub(super) fn set_mode(self) -> Result<SetMode, Refusal> {
        match self.argument(b'M').map(<[u8]>::first) {
            Some(Some(b'A')) => Ok(SetMode::Append),
            Some(Some(b'E')) => Ok(SetMode::Add),
            Some(Some(b'P')) => Ok(SetMode::Prepend),
            Some(Some(b'R')) => Ok(SetMode::Replace),
            None | Some(Some(b'S')) => Ok(SetMode::Set),
            Some(_) => Err(Refusal::BadSetMode),
        }
    }

    /// The direction in which `ma` counts.
    pub(super) fn count_mode(self) -> Result<CountMode, Refusal> {
        match self.argument(b'M').map(<[u8]>::first) {
            Some(Some(b'D' | b'-')) => Ok(CountMode::Down),
            None | Some(Some(b'I' | b'+')) => Ok(CountMode::Up),
            Some(_) => Err(Refusal::BadCountMode),
        }
    }

    /// The check for the letter is inlined: most commands ask for several flags that are absent.
    #[inline]
    fn argument(self, letter: u8) -> Option<&'a [u8]> {
        if self.has(letter) { self.find(letter) } else { None }
    }

    #[inline(never)]
    fn find(self, letter: u8) -> Option<&'a [u8]> {
        self.each().find(|word| word[0] == letter).map(|word| &word[1..])
    }
}

/// All flags.
const FLAGS: [(u8, Argument); 28] = [
    (b'C', Argument::Unsigned), // the CAS unique that the value must have, or a token
    (b'D', Argument::Delta),    // ma: by how much
    (b'E', Argument::ChosenUnique), // the CAS unique that the value will have
    (b'F', Argument::Mark),     // ms: client flags
    (TAG[0], Argument::Tag),    // ms: a tag of the value
    (b'I', Argument::Any),      // md: make it stale; ms: fill even a stale copy
    (b'J', Argument::Initial),  // ma: the first number, with N
    (b'L', Argument::Any),      // a proxy's
    (b'M', Argument::Any),      // ms, ma: the mode
    (b'N', Argument::Signed),   // mg: take a lease on a miss; ms, ma: create the value
    (b'O', Argument::Opaque),   // return this in the reply
    (b'P', Argument::Any),      // a proxy's
    (b'R', Argument::Signed),   // mg: take a lease if less time is left
    (b'T', Argument::Signed),   // the expiry time
    (b'V', Argument::Unsigned), // ms, md: the version of the row
    (b'b', Argument::Any),      // the key is base64
    (b'c', Argument::Any),      // return the CAS unique, or the token
    (b'f', Argument::Any),      // return the client flags
    (b'h', Argument::Any),      // return whether it was read before
    (b'k', Argument::Any),      // return the key
    (b'l', Argument::Any),      // return the time since its last use
    (b'q', Argument::Any),      // do not send the expected reply
    (b's', Argument::Any),      // return the length
    (b't', Argument::Any),      // return the time left
    (b'u', Argument::Any),      // do not count it as a use
    (b'v', Argument::Any),      // return the value
    (b'w', Argument::Unsigned), // mg: wait up to this many milliseconds for the value
    (b'x', Argument::Any),      // md: empty the value
];

/// The same, indexed by letter from `A`.
const ARGUMENTS: [Option<Argument>; LETTERS] = {
    let mut arguments = [None; LETTERS];
    let mut nth = 0;
    while nth < FLAGS.len() {
        let (letter, argument) = FLAGS[nth];
        arguments[(letter - b'A') as usize] = Some(argument);
        nth += 1;
    }
    arguments
};

impl Argument {
    /// The refusal of an invalid argument.
    fn refusal(self, argument: &[u8]) -> Option<Refusal> {
        let bad = |is_good: bool, refusal: Refusal| (!is_good).then_some(refusal);
        match self {
            Argument::Any => None,
            Argument::ChosenUnique => match full(unsigned, argument) {
                None => Some(Refusal::BadToken),
                Some(unique) => bad(unique & TOKEN_BIT == 0, Refusal::BadUnique),
            },
            Argument::Delta => bad(full(unsigned, argument).is_some(), Refusal::BadMetaDelta),
            Argument::Initial => bad(full(unsigned, argument).is_some(), Refusal::BadInitial),
            Argument::Mark => bad(full(unsigned32, argument).is_some(), Refusal::BadLine),
            Argument::Opaque => bad(argument.len() < OPAQUE_BYTES_MAX, Refusal::OpaqueTooLong),
            Argument::Signed => bad(full(signed, argument).is_some(), Refusal::BadToken),
            Argument::Tag => bad(is_key(argument), Refusal::BadToken),
            Argument::Unsigned => bad(full(unsigned, argument).is_some(), Refusal::BadToken),
        }
    }
}

/// The later refusal wins, with two exceptions: memcached has no message for an invalid `F`, and it checks
/// the length of an `O` last.
fn graver(former: Option<Refusal>, latter: Option<Refusal>) -> Option<Refusal> {
    let gravity = |refused: Option<Refusal>| match refused {
        None => 0,
        Some(Refusal::OpaqueTooLong) => 1,
        Some(Refusal::BadLine) => 2,
        Some(_) => 3,
    };
    if gravity(latter) < gravity(former) { former } else { latter }
}

/// memcached stops parsing a line at a word that begins otherwise, and does not even read the length of a
/// data block.
pub(super) fn may_begin_flags(text: &[u8]) -> bool {
    words(text).all(|word| matches!(word[0], b'0'..=b'9' | b'A'..=b'z'))
}

/// The bit of a flag that needs no argument and does not change the meaning of the key.
pub(super) fn bare(letter: u8) -> Option<u64> {
    let at = letter.checked_sub(b'A').filter(|_| letter != b'b')?;
    let Some(Some(Argument::Any)) = ARGUMENTS.get(usize::from(at)) else { return None };
    Some(bit(letter))
}

fn is_tag(word: &[u8]) -> bool {
    word.starts_with(TAG)
}

/// Digits have no bit: they are not flags.
fn bit(letter: u8) -> u64 {
    letter.checked_sub(b'A').map_or(0, |at| 1 << at)
}

/// From `A` to `z`.
const LETTERS: usize = (b'z' - b'A' + 1) as usize;
const TAG: &[u8] = b"G";
/// This includes the letter.
const OPAQUE_BYTES_MAX: usize = 32;
/// Distinguishes tokens from all other uniques.
const TOKEN_BIT: u64 = 1 << 62;
