//! Hands the fuzzer's bytes to the binary protocol: the first says how the others are cut.

#![no_main]

#[path = "../../tests/wire/packets.rs"]
mod packets;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((cut, bytes)) = data.split_first() {
        packets::check(bytes, usize::from(*cut));
    }
});
