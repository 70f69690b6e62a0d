//! Packets to requests.
//!
//! Reads are the requests of `gets` and `gats`, so that they have the implicit leases of plain clients.
//! Stores and counts are those of `ms` and `ma`, because their replies carry the CAS unique.

use std::borrow::Cow;

use super::opcode::Verb;
use crate::limits::TOKENS;
use crate::pages::Payload;
use crate::protocol::message::{
    BadPacket, CasUnique, CountMode, Flags, Keys, Meta, Numbers, Refusal, Request, Sasl, SetMode, bit,
};
use crate::protocol::text;

/// A packet whose lengths were checked.
#[derive(Debug)]
pub(super) struct Packet<'a> {
    pub(super) verb: Verb,
    pub(super) unique: u64,
    pub(super) extras: &'a [u8],
    pub(super) key: &'a [u8],
    pub(super) value: Payload<'a>,
}

/// Whether the next step of a login is expected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    Expected,
    Unexpected,
}

impl<'a> Packet<'a> {
    /// The request; the numbers of its flags go into `numbers`.
    pub(super) fn request(self, numbers: &'a mut Numbers, step: &mut Step) -> Result<Request<'a>, Refusal> {
        let Packet { verb, extras, key, .. } = self;
        let (keys, unique) = (Keys::one(key), CasUnique::Show);
        Ok(match verb {
            Verb::Add => self.store(SetMode::Add, numbers),
            Verb::Append => self.store(SetMode::Append, numbers),
            Verb::Decrement => self.count(CountMode::Down, numbers),
            Verb::Delete if self.unique == 0 => Request::Delete { key, held_seconds: 0, noreply: false },
            Verb::Delete => {
                let meta = Letters::new(numbers).expect(self.unique).meta(key);
                Request::MetaDelete(meta)
            }
            Verb::Flush => Request::FlushAll { exptime: expiry(extras), noreply: false },
            Verb::Get | Verb::GetKey => Request::Get { keys, unique },
            Verb::GetAndTouch | Verb::GetAndTouchKey | Verb::Touch => {
                Request::GetAndTouch { exptime: expiry(extras), keys, unique }
            }
            Verb::Increment => self.count(CountMode::Up, numbers),
            Verb::Noop => Request::Noop,
            Verb::Prepend => self.store(SetMode::Prepend, numbers),
            Verb::Quit => Request::Quit,
            Verb::Replace => self.store(SetMode::Replace, numbers),
            Verb::SaslAuth | Verb::SaslStep => Request::Sasl(self.login(step)),
            Verb::SaslMechanisms => Request::Sasl(Sasl::Mechanisms),
            Verb::Set => self.store(SetMode::Set, numbers),
            Verb::Stat => return statistics(key),
            Verb::Verbosity => Request::Verbosity { level: Some(number32(extras)), noreply: false },
            Verb::Version => Request::Version,
        })
    }

    /// `set` and its relatives. As in memcached, each of them except `append` and `prepend` is a `cas` if it
    /// expects a unique.
    fn store(self, mode: SetMode, numbers: &'a mut Numbers) -> Request<'a> {
        let mut letters = Letters::new(numbers);
        if let Some((flags, exptime)) = self.extras.split_at_checked(4) {
            letters.number(b'F', number32(flags).into());
            letters.number(b'T', number32(exptime).into());
        }
        let mode = match (mode, self.unique) {
            (SetMode::Add | SetMode::Replace | SetMode::Set, 1..) => SetMode::Set,
            (mode, _) => mode,
        };
        Request::MetaSet(letters.expect(self.unique).flag(b'c').meta(self.key), mode, self.value)
    }

    /// `incr` and `decr`: the delta, the initial value, and its expiry or the mark for none.
    fn count(&self, mode: CountMode, numbers: &'a mut Numbers) -> Request<'a> {
        let (delta, rest) = self.extras.split_at(8);
        let (initial, exptime) = rest.split_at(8);
        let mut letters = Letters::new(numbers);
        letters.number(b'D', number64(delta));
        if number32(exptime) != NOT_CREATED {
            letters.number(b'J', number64(initial));
            letters.number(b'N', number32(exptime).into());
        }
        Request::MetaCount(letters.expect(self.unique).flag(b'c').flag(b'v').meta(self.key), mode)
    }

    /// A login with PLAIN: in one packet, or in a step after an empty one.
    fn login(self, step: &mut Step) -> Sasl<'a> {
        let is_expected = std::mem::replace(step, Step::Unexpected) == Step::Expected;
        let is_plain = self.key.eq_ignore_ascii_case(b"PLAIN");
        if !is_plain || (self.verb == Verb::SaslStep && !is_expected) {
            return Sasl::Malformed;
        }
        match self.value {
            Payload::Borrowed(b"") if self.verb == Verb::SaslAuth => {
                *step = Step::Expected;
                Sasl::Begin
            }
            Payload::Borrowed(credentials) => plain(credentials).unwrap_or(Sasl::Malformed),
            Payload::Owned(_) => Sasl::Malformed,
        }
    }
}

/// The request of a store whose value is skipped.
pub(super) fn too_large(verb: Verb, key: &[u8]) -> Request<'_> {
    // Before the login, this means a password that is too long.
    let is_set = verb == Verb::Set || verb == Verb::SaslAuth || verb == Verb::SaslStep;
    Request::TooLarge { key: Cow::Borrowed(key), is_set, noreply: false, version: None }
}

/// The flags of a meta command, one after the other.
struct Letters<'a> {
    letters: u64,
    numbers: &'a mut Numbers,
}

impl<'a> Letters<'a> {
    fn new(numbers: &'a mut Numbers) -> Self {
        Letters { letters: 0, numbers }
    }

    fn flag(mut self, letter: u8) -> Self {
        self.letters |= bit(letter);
        self
    }

    fn number(&mut self, letter: u8, number: u64) {
        self.letters |= bit(letter);
        self.numbers.set(letter, number);
    }

    /// The unique that the value must have, unless it is 0. A number that could be a lease's token is none
    /// here.
    fn expect(mut self, unique: u64) -> Self {
        if unique != 0 {
            self.number(b'C', if TOKENS.contains(&unique) { NO_UNIQUE } else { unique });
        }
        self
    }

    fn meta(self, key: &'a [u8]) -> Meta<'a> {
        Meta { key: Cow::Borrowed(key), flags: Flags::new(self.letters, self.numbers, b"") }
    }
}

/// The statistics of a group, which is named as in the text protocol.
fn statistics(group: &[u8]) -> Result<Request<'_>, Refusal> {
    match text::stats(group) {
        Ok(Request::Stats(what)) => Ok(Request::Stats(what)),
        // As in memcached, there are no dumps.
        Ok(_) | Err(_) => Err(Refusal::Packet(BadPacket::Statistics)),
    }
}

/// `[<authorized name>]\0<name>\0<password>`; both names must be the same.
fn plain(credentials: &[u8]) -> Option<Sasl<'_>> {
    let mut parts = credentials.splitn(3, |byte| *byte == 0);
    let (authorized, name, password) = (parts.next()?, parts.next()?, parts.next()?);
    (authorized.is_empty() || authorized == name).then_some(Sasl::Plain { name, password })
}

/// An expiry time; 0 without extras.
fn expiry(extras: &[u8]) -> i64 {
    number32(extras).into()
}

/// A number of four bytes; 0 if it is absent.
fn number32(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

fn number64(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The expiry of a counter that is not to be created.
const NOT_CREATED: u32 = u32::MAX;
/// A unique that no value has: sequence numbers are far smaller.
const NO_UNIQUE: u64 = u64::MAX;
