//! A place in the text of a rule, for the parsers of templates and conditions.

use std::fmt;

/// The text of a template or condition, and how far it has been read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

/// A template or condition that cannot be parsed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Malformed {
    /// The character at which it goes wrong, counted from 1.
    pub column: usize,
    /// The reason, and what was expected.
    pub why: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "column {}: {}", self.column, self.why)
    }
}

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Cursor { text, at: 0 }
    }

    pub(super) fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn skip_spaces(&mut self) {
        self.take_while(char::is_whitespace);
    }

    /// Reads this text, if it comes next.
    pub(super) fn take(&mut self, expected: &str) -> bool {
        let is_next = self.rest().starts_with(expected);
        if is_next {
            self.at += expected.len();
        }
        is_next
    }

    /// Reads this text, after spaces.
    pub(super) fn expect(&mut self, expected: &str) -> Result<(), Malformed> {
        self.skip_spaces();
        if self.take(expected) { Ok(()) } else { Err(self.error(format!("expected {expected:?}"))) }
    }

    pub(super) fn take_while(&mut self, is_part: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// Reads a word: letters, digits, `_`, `-` and `$`, of any alphabet.
    pub(super) fn word(&mut self) -> Option<&'t str> {
        let word = self.take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '$'));
        (!word.is_empty()).then_some(word)
    }

    /// Reads this word, after spaces, if the next word is this one as a whole.
    pub(super) fn take_word(&mut self, expected: &str) -> bool {
        let mut ahead = *self;
        ahead.skip_spaces();
        let is_next = ahead.word() == Some(expected);
        if is_next {
            *self = ahead;
        }
        is_next
    }

    pub(super) fn error(&self, why: impl Into<String>) -> Malformed {
        Malformed { column: self.text[..self.at].chars().count() + 1, why: why.into() }
    }
}
