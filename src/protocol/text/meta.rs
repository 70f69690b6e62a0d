//! The meta commands: `<verb> <key> [<bytes>] <flag>*`, where a flag is a letter with an optional argument.
//!
//! Numbers are parsed here, once. The words stay, because the reply repeats their order.

use std::borrow::Cow;

use nom::character::complete::{i64 as signed, u32 as unsigned32, u64 as unsigned};

use super::words::{full, is_key};
use crate::limits::{TAGS_MAX, TOKEN_BIT};
use crate::protocol::base64;
use crate::protocol::message::{CountMode, Flags, Meta, Numbers, Refusal, SetMode, TAG, bit, words};

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

/// A legal key, and flags that are all bare ([`bare_bit`]).
pub(super) fn bare<'a>(key: &'a [u8], letters: u64, words: &'a [u8]) -> Meta<'a> {
    Meta { key: Cow::Borrowed(key), flags: Flags::new(letters, Numbers::NONE, words) }
}

/// A key and its flags, of which there are at most `flags_max`. As in memcached, the first unknown or
/// repeated flag is refused; without one, the last invalid argument is.
pub(super) fn parse<'a>(
    key: &'a [u8],
    flags: &'a [u8],
    flags_max: usize,
    numbers: &'a mut Numbers,
) -> Result<Meta<'a>, Refusal> {
    if !is_key(key) {
        return Err(Refusal::BadLine);
    }
    *numbers = Numbers::default();
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
        match argument.read(&word[1..]) {
            Ok(None) => {}
            Ok(Some(number)) => numbers.set(word[0], number),
            Err(wrong) => refused = Some(graver(refused, wrong)),
        }
        if word[0] == b'b' {
            match base64::decode(key) {
                Some(key) => decoded = Cow::Owned(key),
                None => refused = Some(Refusal::BadBase64),
            }
        }
        *if is_tag(word) { &mut tags } else { &mut count } += 1;
    }
    let refused = match (count > flags_max, tags > TAGS_MAX) {
        (true, _) => Some(Refusal::TooManyFlags),
        (false, true) => Some(Refusal::TooManyTags),
        (false, false) => refused,
    };
    refused.map_or(Ok(Meta { key: decoded, flags: Flags::new(letters, numbers, flags) }), Err)
}

/// How `ms` treats the existing value.
pub(super) fn set_mode(flags: Flags) -> Result<SetMode, Refusal> {
    match mode(flags) {
        Some(Some(b'A')) => Ok(SetMode::Append),
        Some(Some(b'E')) => Ok(SetMode::Add),
        Some(Some(b'P')) => Ok(SetMode::Prepend),
        Some(Some(b'R')) => Ok(SetMode::Replace),
        None | Some(Some(b'S')) => Ok(SetMode::Set),
        Some(_) => Err(Refusal::BadSetMode),
    }
}

/// The direction in which `ma` counts.
pub(super) fn count_mode(flags: Flags) -> Result<CountMode, Refusal> {
    match mode(flags) {
        Some(Some(b'D' | b'-')) => Ok(CountMode::Down),
        None | Some(Some(b'I' | b'+')) => Ok(CountMode::Up),
        Some(_) => Err(Refusal::BadCountMode),
    }
}

/// The first byte after `M`; `None` without an `M`.
fn mode(flags: Flags<'_>) -> Option<Option<u8>> {
    if !flags.has(b'M') {
        return None;
    }
    flags.each().find(|word| word[0] == b'M').map(|word| word.get(1).copied())
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
    /// The number of an argument that is one; any other argument is only checked.
    fn read(self, argument: &[u8]) -> Result<Option<u64>, Refusal> {
        let number = |refusal| full(unsigned, argument).map(Some).ok_or(refusal);
        let checked = |is_good: bool, refusal| if is_good { Ok(None) } else { Err(refusal) };
        match self {
            Argument::Any => Ok(None),
            Argument::ChosenUnique => match number(Refusal::BadToken)? {
                Some(unique) if unique & TOKEN_BIT != 0 => Err(Refusal::BadUnique),
                unique => Ok(unique),
            },
            Argument::Delta => number(Refusal::BadMetaDelta),
            Argument::Initial => number(Refusal::BadInitial),
            Argument::Mark => {
                full(unsigned32, argument).map(|mark| Some(mark.into())).ok_or(Refusal::BadLine)
            }
            Argument::Opaque => checked(argument.len() < OPAQUE_BYTES_MAX, Refusal::OpaqueTooLong),
            Argument::Signed => {
                full(signed, argument).map(|number| Some(number.cast_unsigned())).ok_or(Refusal::BadToken)
            }
            Argument::Tag => checked(is_key(argument), Refusal::BadToken),
            Argument::Unsigned => number(Refusal::BadToken),
        }
    }
}

/// The later refusal wins, with two exceptions: memcached has no message for an invalid `F`, and it checks
/// the length of an `O` last.
fn graver(former: Option<Refusal>, latter: Refusal) -> Refusal {
    let gravity = |refused: Refusal| match refused {
        Refusal::OpaqueTooLong => 1,
        Refusal::BadLine => 2,
        _ => 3,
    };
    former.filter(|former| gravity(latter) < gravity(*former)).unwrap_or(latter)
}

/// memcached stops parsing a line at a word that begins otherwise, and does not even read the length of a
/// data block.
pub(super) fn may_begin_flags(text: &[u8]) -> bool {
    words(text).all(|word| matches!(word[0], b'0'..=b'9' | b'A'..=b'z'))
}

/// The bit of a flag that needs no argument and does not change the meaning of the key.
pub(super) fn bare_bit(letter: u8) -> Option<u64> {
    let at = letter.checked_sub(b'A').filter(|_| letter != b'b')?;
    let Some(Some(Argument::Any)) = ARGUMENTS.get(usize::from(at)) else { return None };
    Some(bit(letter))
}

fn is_tag(word: &[u8]) -> bool {
    word.starts_with(TAG)
}

/// From `A` to `z`.
const LETTERS: usize = (b'z' - b'A' + 1) as usize;
/// This includes the letter.
const OPAQUE_BYTES_MAX: usize = 32;
