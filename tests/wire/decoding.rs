//! The body of the decoder's fuzz test: bytes decode to the same requests and refusals in pieces of any
//! length.

use leasehold::protocol::{Decoder, Space};

/// Decodes the bytes in one piece, and in pieces of `cut`.
pub fn check(bytes: &[u8], cut: usize) {
    assert_eq!(decoded(bytes, usize::MAX), decoded(bytes, cut.max(1)), "in pieces of {cut}");
}

/// The decoded requests and refusals, up to a fatal one.
fn decoded(mut bytes: &[u8], cut: usize) -> Vec<String> {
    let (mut decoder, mut found) = (Decoder::new(VALUE_BYTES_MAX), Vec::new());
    loop {
        // Looking ahead for prefetching changes nothing, and finds only keys that the cache accepts.
        assert!(decoder.upcoming().all(|next| (1..=250).contains(&next.key.len())));
        while let Some(decoded) = decoder.decode() {
            found.push(format!("{decoded:?}"));
            if decoded.is_err_and(|refusal| refusal.is_fatal()) {
                return found;
            }
        }
        if bytes.is_empty() {
            return found;
        }
        let piece = &bytes[..bytes.len().min(cut)];
        let taken = put(&mut decoder.space(), piece);
        assert!(taken > 0, "a decoder that decodes no more has room");
        bytes = &bytes[taken..];
    }
}

fn put(space: &mut Space, piece: &[u8]) -> usize {
    let taken = piece.len().min(space.remaining_mut());
    space.put_slice(&piece[..taken]);
    taken
}

/// Large enough for values that are received outside the line buffer.
const VALUE_BYTES_MAX: usize = 40_000;
