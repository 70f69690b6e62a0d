//! Hands the fuzzer's bytes to the decoder: the first says how the others are cut.

#![no_main]

#[path = "../../tests/wire/decoding.rs"]
mod decoding;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((cut, bytes)) = data.split_first() {
        decoding::check(bytes, usize::from(*cut));
    }
});
