//! One line of a transcript of packets: bytes in hexadecimal, quoted text, and names for CAS uniques.

use super::pattern::Names;

pub struct PacketPattern(Vec<Piece>);

enum Piece {
    Bytes(Vec<u8>),
    /// `{name}`: a CAS unique above 0, unlike every other that has a name.
    Named(String),
}

impl PacketPattern {
    /// Words between spaces: an even number of hexadecimal digits, `"text"` without spaces, or `{name}`.
    ///
    /// # Panics
    /// If a word is none of them.
    pub fn parse(line: &str) -> PacketPattern {
        PacketPattern(line.split_whitespace().map(piece).collect())
    }

    /// The bytes to send.
    ///
    /// # Errors
    /// The name for which no number has been received yet.
    pub fn bytes(&self, names: &Names) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        for piece in &self.0 {
            match piece {
                Piece::Bytes(these) => bytes.extend(these),
                Piece::Named(name) => bytes.extend(names.get(name).ok_or_else(|| name.clone())?),
            }
        }
        Ok(bytes)
    }

    pub fn length(&self) -> usize {
        let of = |piece: &Piece| match piece {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Named(_) => UNIQUE_BYTES,
        };
        self.0.iter().map(of).sum()
    }

    /// Whether the received bytes begin with this; a new name is bound to the number in its place.
    pub fn begins(&self, received: &[u8], names: &mut Names) -> bool {
        let mut rest = received;
        for piece in &self.0 {
            let (is_right, length) = match piece {
                Piece::Bytes(bytes) => (rest.starts_with(bytes), bytes.len()),
                Piece::Named(name) => (is_bound(name, rest, names), UNIQUE_BYTES),
            };
            if !is_right {
                return false;
            }
            rest = &rest[length..];
        }
        true
    }
}

/// Whether the name stands for the number at the start of these bytes.
fn is_bound(name: &str, bytes: &[u8], names: &mut Names) -> bool {
    let Some(number) = bytes.get(..UNIQUE_BYTES) else { return false };
    if let Some(known) = names.get(name) {
        return known == number;
    }
    let is_fresh = number != [0; UNIQUE_BYTES] && names.values().all(|known| known != number);
    if is_fresh {
        names.insert(name.to_owned(), number.to_vec());
    }
    is_fresh
}

fn piece(word: &str) -> Piece {
    if let Some(text) = word.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        return Piece::Bytes(text.into());
    }
    if let Some(name) = word.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        return Piece::Named(name.to_owned());
    }
    let digits = |at: usize| {
        let pair = word.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        pair.unwrap_or_else(|| panic!("{word} is neither bytes nor \"text\" nor {{name}}"))
    };
    Piece::Bytes((0..word.len()).step_by(2).map(digits).collect())
}

/// Received bytes as such a line.
pub fn shown(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

const UNIQUE_BYTES: usize = 8;
