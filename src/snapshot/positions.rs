//! Positions of sources of events in a snapshot.

use std::io::Read;

use super::error::LoadError;
use crate::cache::{Cache, SourcePosition};

pub(super) fn write(piece: &mut Vec<u8>, source: &str, position: &SourcePosition) {
    piece.push(POSITION);
    for text in [source, &position.identity] {
        // A cut text is another identity, so that the position is not resumed from.
        let text = &text.as_bytes()[..text.len().min(u16::MAX.into())];
        piece.extend((text.len() as u16).to_le_bytes());
        piece.extend(text);
    }
    piece.extend(position.offset.to_le_bytes());
}

/// Reads a position after its kind.
pub(super) fn read(file: &mut impl Read, cache: &Cache) -> Result<(), LoadError> {
    let mut text = || {
        let mut length = [0; 2];
        file.read_exact(&mut length)?;
        let mut bytes = vec![0; u16::from_le_bytes(length).into()];
        file.read_exact(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| LoadError::Damaged)
    };
    let (source, identity) = (text()?, text()?);
    let mut offset = [0; 8];
    file.read_exact(&mut offset)?;
    cache.set_position(&source, SourcePosition { identity, offset: u64::from_le_bytes(offset) });
    Ok(())
}

/// The kind of this entry; see `format.rs`.
pub(super) const POSITION: u8 = 8;
