//! One line of a transcript: plain bytes, and names for numbers that the server chooses.

use std::collections::BTreeMap;

/// Numbers that the server chose, by the names that a transcript gives them.
pub type Names = BTreeMap<String, Vec<u8>>;

pub struct Pattern {
    pieces: Vec<Piece>,
    /// Whether the line is sent with a line end.
    ends: bool,
}

enum Piece {
    /// `{_}`: a word that does not matter.
    Any,
    /// `{name}`: a number above 1, unlike every other that has a name.
    Named(String),
    Text(Vec<u8>),
}

impl Pattern {
    /// `\r`, `\n`, `\0`, `\\` and `\x1f` are bytes, `{ab*3}` is `ababab`, and a `\` at the end leaves out the
    /// line end.
    pub fn parse(line: &str) -> Pattern {
        let (line, ends) = match line.strip_suffix('\\') {
            Some(open) if !open.ends_with('\\') => (open, false),
            Some(_) | None => (line, true),
        };
        let (mut pieces, mut rest) = (Vec::new(), line);
        while let Some(start) = rest.find('{') {
            let end = rest[start..].find('}').map_or(rest.len(), |length| start + length);
            let piece = rest.get(start + 1..end).and_then(braces);
            let (before, after) = match piece {
                Some(_) => (&rest[..start], &rest[end + 1..]),
                None => rest.split_at(start + 1),
            };
            pieces.push(Piece::Text(unescape(before)));
            pieces.extend(piece);
            rest = after;
        }
        pieces.push(Piece::Text(unescape(rest)));
        Pattern { pieces, ends }
    }

    /// The bytes to send.
    ///
    /// # Errors
    /// The name for which no number has been received yet.
    pub fn bytes(&self, names: &Names) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Any => return Err("_".to_owned()),
                Piece::Named(name) => bytes.extend(names.get(name).ok_or_else(|| name.clone())?),
                Piece::Text(text) => bytes.extend(text),
            }
        }
        if self.ends {
            bytes.extend(b"\r\n");
        }
        Ok(bytes)
    }

    /// Its maximum length, with a long number for every name.
    pub fn length(&self) -> usize {
        let of = |piece: &Piece| match piece {
            Piece::Any | Piece::Named(_) => "9223372036854775807".len(),
            Piece::Text(text) => text.len(),
        };
        self.pieces.iter().map(of).sum::<usize>() + "\r\n".len()
    }

    /// Whether a line fits; a new name is bound to the number in its place.
    pub fn matches(&self, line: &[u8], names: &mut Names) -> bool {
        let mut rest = line;
        for piece in &self.pieces {
            let word = &rest[..rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len())];
            let length = match piece {
                Piece::Any => word.len(),
                Piece::Named(name) => match names.get(name) {
                    Some(known) if known == word => word.len(),
                    None if is_fresh(word, names) => {
                        names.insert(name.clone(), word.to_vec());
                        word.len()
                    }
                    Some(_) | None => return false,
                },
                Piece::Text(text) if rest.starts_with(text) => text.len(),
                Piece::Text(_) => return false,
            };
            rest = &rest[length..];
        }
        rest.is_empty()
    }
}

fn is_fresh(word: &[u8], names: &Names) -> bool {
    let number: Option<u64> = str::from_utf8(word).ok().and_then(|word| word.parse().ok());
    number.is_some_and(|number| number > 1) && names.values().all(|known| known != word)
}

fn braces(inside: &str) -> Option<Piece> {
    if inside == "_" {
        return Some(Piece::Any);
    }
    if let Some((text, times)) = inside.rsplit_once('*') {
        return Some(Piece::Text(unescape(text).repeat(times.parse().ok()?)));
    }
    let is_name = !inside.is_empty() && inside.bytes().all(|byte| byte.is_ascii_lowercase());
    is_name.then(|| Piece::Named(inside.to_owned()))
}

fn unescape(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find('\\') {
        bytes.extend(rest[..at].bytes());
        let (byte, length) = match rest.as_bytes().get(at + 1) {
            Some(b'r') => (b'\r', 2),
            Some(b'n') => (b'\n', 2),
            Some(b'0') => (0, 2),
            Some(b'x') => (u8::from_str_radix(&rest[at + 2..at + 4], 16).expect("two hexadecimal digits"), 4),
            Some(_) | None => (b'\\', 2),
        };
        bytes.push(byte);
        rest = &rest[at + length..];
    }
    bytes.extend(rest.bytes());
    bytes
}
