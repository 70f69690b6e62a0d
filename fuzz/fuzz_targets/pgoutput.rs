//! Hands the fuzzer's bytes to the decoder of pgoutput.

#![no_main]

#[path = "../../tests/wire/pgoutput_laws.rs"]
mod pgoutput_laws;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| pgoutput_laws::check(data));
