//! Lists of keys and tags, which are read from the bytes that a client sent.

use std::iter;

use crate::protocol::scan;

/// The keys of a request, each of them legal: a single one, or several that are separated by spaces.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Keys<'a> {
    /// Whether the rest is a single key, in which spaces have no meaning.
    is_one: bool,
    rest: &'a [u8],
}

impl<'a> Keys<'a> {
    /// The words in `rest` must have been checked.
    pub(in crate::protocol) fn new(rest: &'a [u8]) -> Self {
        Keys { is_one: false, rest }
    }

    /// A single key, which must have been checked.
    pub(in crate::protocol) fn one(key: &'a [u8]) -> Self {
        Keys { is_one: true, rest: key }
    }

    /// The next key, if it is known to be the last one.
    pub fn only(self) -> Option<&'a [u8]> {
        Some(self.rest).filter(|key| self.is_one && !key.is_empty())
    }

    /// Skips the next key, which the caller knows already; otherwise like [`Iterator::next`].
    ///
    /// # Panics
    /// If the rest is shorter than the key.
    pub fn pass(&mut self, key: &[u8]) {
        let rest = if self.is_one { self.rest } else { self.rest.trim_ascii_start() };
        self.rest = &rest[key.len()..];
    }
}

/// Tags among the words of a line, each of them legal: the words that begin with `mark`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TagWords<'a> {
    mark: &'static [u8],
    words: Keys<'a>,
}

impl<'a> TagWords<'a> {
    /// The words that begin with `mark`. The caller has checked that there are no more than
    /// [`TAGS_MAX`](crate::limits::TAGS_MAX) and that all are legal.
    pub(in crate::protocol) fn new(mark: &'static [u8], words: &'a [u8]) -> Self {
        TagWords { mark, words: Keys::new(words) }
    }
}

impl<'a> Iterator for TagWords<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let mark = self.mark;
        self.words.find_map(|word| word.strip_prefix(mark))
    }
}

impl<'a> Iterator for Keys<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.is_one {
            return Some(std::mem::take(&mut self.rest)).filter(|key| !key.is_empty());
        }
        next_word(&mut self.rest)
    }
}

/// The words of a line, separated by one or more spaces.
pub(in crate::protocol) fn words(mut line: &[u8]) -> impl Iterator<Item = &[u8]> {
    iter::from_fn(move || next_word(&mut line))
}

fn next_word<'a>(line: &mut &'a [u8]) -> Option<&'a [u8]> {
    let start = line.iter().position(|byte| *byte != b' ')?;
    let rest = &line[start..];
    let (word, rest) = rest.split_at(scan::before_space(rest));
    *line = rest;
    Some(word)
}
