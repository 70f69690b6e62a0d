//! Hands the fuzzer's bytes to the body: the first says how the others are cut.

#![no_main]

#[path = "../../tests/wire/conversation.rs"]
mod conversation;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((cut, bytes)) = data.split_first() {
        conversation::check(bytes, &[usize::from(*cut)]);
    }
});
