//! Hands the fuzzer's bytes to the engine and its oracle, as a history of what is done to both.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| leasehold::cache::check_history(data));
