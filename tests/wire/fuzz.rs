//! The fuzz bodies in `conversation`, `decoding` and `packets`, run with the corpus and with seeded random
//! bytes, some of which follow the grammar. Random packets are in `binary`.
//!
//! `fuzz/` holds the same bodies for a fuzzer guided by coverage.

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::conversation::{VALUE_BYTES_MAX, check};
use super::{decoding, packets};

#[test]
fn the_corpus_keeps_the_rules() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    for entry in fs::read_dir(corpus).expect("it is here") {
        let bytes = fs::read(entry.expect("it can be listed").path()).expect("it can be read");
        for cut in [1, 2, 3, 7, 100, 4096, 16 * 1024] {
            check(&bytes, &[cut]);
            decoding::check(&bytes, cut);
            packets::check(&bytes, cut);
        }
    }
}

proptest! {
    #![proptest_config(seeded())]

    #[test]
    fn random_requests_keep_the_rules(sent in vec(request(), 0..12), cuts in vec(1..40_usize, 1..9)) {
        check(&sent.concat(), &cuts);
        decoding::check(&sent.concat(), cuts[0]);
    }

    #[test]
    fn random_bytes_keep_the_rules(bytes in vec(any::<u8>(), 0..300), cuts in vec(1..9_usize, 1..5)) {
        check(&bytes, &cuts);
        decoding::check(&bytes, cuts[0]);
    }

    #[test]
    fn requests_near_the_limits_keep_the_rules(requests in vec(large(), 1..4), cuts in vec(1..20_000_usize, 1..9)) {
        check(&requests.concat(), &cuts);
        decoding::check(&requests.concat(), cuts[0]);
    }
}

/// The same cases each time, so that a failure repeats.
fn seeded() -> ProptestConfig {
    let rng_seed = RngSeed::Fixed(9);
    ProptestConfig { cases: 1_000, failure_persistence: None, rng_seed, ..ProptestConfig::default() }
}

/// A request that a client may send, or nearly.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let scraps = prop_oneof![Just(b' '), Just(b'\r'), Just(b'\n'), Just(b'a'), Just(0), Just(0x80)];
    prop_oneof![
        4 => line("(get|gets|metaget|lease-get|lease-wait 9) [a-c]( [a-c]){0,3}"),
        2 => line("(gat|gats|incr|decr|verbosity|lease-wait) [a-c0-9-]{1,3}( -?[0-9a]{1,20})?( noreply)?"),
        2 => line("(touch|delete|flush_all) [a-c0-9-]{1,3}( -?[0-9a]{1,3})?( noreply)?"),
        4 => line("(mg|md|ma) [a-c]( [Obcfhklqstuvwx]| [CDEFJNORTw]-?[0-9a]{1,2}| M[AD+x]| I){0,5}"),
        1 => line("(mg|md|ma|me) (YQ==|YQ=|Yg==|AAEC|!) b( [a-zA-Z0-9]{1,3}){0,3}"),
        1 => line("(mg|ma) [a-c]( [a-zA-Z]){16,22}"),
        1 => line("(version|stats|stats settings|stats reset|shutdown|quit|mn|me a|get|set a| get a|)"),
        1 => line("(lru_crawler|stats|slabs|lru) [a-z]{2,9}( [a-z0-9,]{1,3}){0,3}"),
        1 => line("(lru_crawler (metadump|mgdump) (all|1|2)|stats (conns|detail (on|off|dump)|cachedump 1 [0-9]))"),
        1 => line("watch( (fetchers|mutations|evictions|events|rawcmds|f)){0,3}"),
        6 => storing("(set|add|replace|append|prepend) [a-c] [0-9]{1,2} -?[0-9]{1,2}", ""),
        2 => storing("cas [a-c] 0 0", " 5"),
        2 => storing("ms [a-c]", " c s k q T9"),
        2 => storing("ms [a-c]", " MA N0 O1 E5"),
        1 => storing("ms [a-c]", " C5 MR I"),
        1 => storing("ms YQ==", " b k F1 v v"),
        2 => storing("lease-set [a-c] [0-9a]{1,20} 0 -?[0-9]{1,3}", ""),
        1 => vec(any::<u8>(), 0..40),
        1 => vec(scraps, 0..12),
    ]
}

fn storing(pattern: &'static str, tail: &'static str) -> impl Strategy<Value = Vec<u8>> {
    (pattern, any::<bool>(), 0..20_usize, block())
        .prop_map(move |(line, noreply, bytes, block)| store(&line, bytes, tail, noreply, block))
}

fn line(pattern: &'static str) -> impl Strategy<Value = Vec<u8>> {
    (pattern, prop_oneof![9 => Just("\r\n"), 1 => Just("\n")])
        .prop_map(|(text, end)| [text.as_bytes(), end.as_bytes()].concat())
}

/// Now and then a data block of the wrong length; otherwise `None`, for one as long as the line says.
fn block() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![4 => Just(None), 1 => vec(any::<u8>(), 0..20).prop_map(Some)]
}

/// A storage command: its line up to the length, the length, what follows that, and the block.
fn store(line: &str, bytes: usize, tail: &str, noreply: bool, block: Option<Vec<u8>>) -> Vec<u8> {
    let noreply = if noreply { " noreply" } else { "" };
    let block = block.unwrap_or_else(|| vec![b'1'; bytes]);
    [format!("{line} {bytes}{tail}{noreply}\r\n").as_bytes(), &block, b"\r\n"].concat()
}

/// A store, a line of keys or a long line, just below or above a limit.
fn large() -> impl Strategy<Value = Vec<u8>> {
    let near = |limit: usize| limit - 3..limit + 4;
    let set = |bytes: usize| store("set a 0 0", bytes, "", false, None);
    let line = |length: usize| [&b"incr a 1"[..], &vec![b' '; length - 8], b"\r\n"].concat();
    let gets = |length: usize| [&b"get a "[..], &vec![b'k'; length], b"\r\nget a\r\n"].concat();
    prop_oneof![
        near(VALUE_BYTES_MAX).prop_map(set),
        near(16 * 1024 + 1).prop_map(set),
        near(8 * 1024).prop_map(line),
        near(250).prop_map(gets),
    ]
}
