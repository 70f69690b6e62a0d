//! Words of a line: separated by one or more spaces, each parsed as a whole.

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while, take_while1};
use nom::combinator::{eof, peek, verify};
use nom::sequence::{preceded, terminated};
use nom::{IResult, Parser};

use crate::limits::KEY_BYTES_MAX;
use crate::protocol::message::Refusal;

pub(super) type Parsed<'a, T> = IResult<&'a [u8], T>;

/// A word that is a number and nothing else.
pub(super) fn number<'a, T>(parse: impl Fn(&'a [u8]) -> Parsed<'a, T>, args: &'a [u8]) -> Parsed<'a, T> {
    terminated(preceded(blank, parse), peek(alt((tag(&b" "[..]), eof)))).parse(args)
}

/// Parses a whole word as a number.
pub(super) fn full<'a, T>(parse: impl Fn(&'a [u8]) -> Parsed<'a, T>, word: &'a [u8]) -> Option<T> {
    number(parse, word).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, number)| number)
}

pub(super) fn key(args: &[u8]) -> Parsed<'_, &[u8]> {
    verify(word, is_key).parse(args)
}

pub(super) fn word(args: &[u8]) -> Parsed<'_, &[u8]> {
    preceded(blank, take_while1(|byte| byte != b' ')).parse(args)
}

pub(super) fn blank(args: &[u8]) -> Parsed<'_, &[u8]> {
    take_while(|byte| byte == b' ').parse(args)
}

pub(super) fn blank_noreply(args: &[u8]) -> Parsed<'_, &[u8]> {
    preceded(blank, terminated(tag(&b"noreply"[..]), preceded(blank, eof))).parse(args)
}

/// protocol.md: 1 to 250 bytes, no space and no control byte.
pub(super) fn is_key(word: &[u8]) -> bool {
    // Without an early exit the compiler can check many bytes at once.
    let has_control = word.iter().fold(false, |found, byte| found | byte.is_ascii_control());
    (1..=KEY_BYTES_MAX).contains(&word.len()) && !has_control
}

pub(super) fn bad_line<E>(_: E) -> Refusal {
    Refusal::BadLine
}
