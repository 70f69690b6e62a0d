//! Keys of any bytes, which only base64 can carry, never break the line of a listing.

use leasehold::cache::Config;
use leasehold::command::Rules;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::support::wire::{Connection, Wire};

proptest! {
    #![proptest_config(seeded())]

    /// `stats cachedump` and `stats detail dump` wrote keys as they are: one with line ends forged lines.
    #[test]
    fn a_key_is_one_word_in_every_listing(key in key()) {
        let name = base64(&key);
        let wire = Wire::new(Config::default(), Rules { may_dump: true, may_watch: true, ..Rules::default() });
        let (mut client, mut watcher) = (wire.connect(), wire.connect());
        lines(&mut client, &wire, "stats detail on", &["OK"]);
        lines(&mut watcher, &wire, "watch fetchers mutations deletions leases voids", &["OK"]);
        lines(&mut client, &wire, &format!("mg {name} b k v"), &["EN"]);
        lines(&mut client, &wire, &format!("ms {name} 1 b\r\nx"), &["HD"]);
        lines(&mut client, &wire, &format!("mg {name} b k v"), &["VA 1 k", "x"]);
        lines(&mut client, &wire, &format!("me {name} b"), &["ME "]);
        lines(&mut client, &wire, "stats cachedump 1 0", &["ITEM ", "END"]);
        lines(&mut client, &wire, "lru_crawler metadump all", &["OK", "key=", "END"]);
        lines(&mut client, &wire, "lru_crawler mgdump all", &["OK", "mg ", "EN"]);
        lines(&mut client, &wire, "stats detail dump", &["PREFIX ", "END"]);
        for listing in ["stats", "stats conns", "stats leases", "stats policies", "stats settings"] {
            let all = split(&client.talk(&wire, format!("{listing}\r\n").as_bytes()));
            prop_assert!(all[..all.len() - 1].iter().all(|line| line.starts_with("STAT ")), "{all:?}");
        }
        lines(&mut client, &wire, &format!("md {name} b"), &["HD"]);
        let events = split(&watcher.listen(&wire));
        prop_assert!(events.len() >= 4 && events.iter().all(|line| line.starts_with("ts=")), "{events:?}");
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let quartet = |three: &[u8]| {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | usize::from(*three.get(at).unwrap_or(&0)));
        let digit =
            |at: usize| if at > three.len() { '=' } else { DIGITS[bits >> (18 - 6 * at) & 63].into() };
        [0, 1, 2, 3].map(digit)
    };
    bytes.chunks(3).flat_map(quartet).collect()
}

/// Sends a line, and checks how each line of the answer begins.
#[track_caller]
fn lines(client: &mut Connection, wire: &Wire, sent: &str, expected: &[&str]) {
    let answer = split(&client.talk(wire, format!("{sent}\r\n").as_bytes()));
    let fits = answer.len() == expected.len();
    let fits = fits && answer.iter().zip(expected).all(|(line, start)| line.starts_with(start));
    assert!(fits, "{sent:?}: {answer:?}");
}

/// The lines, split where any reader could split them.
fn split(answer: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(answer).replace("\r\n", "\n");
    let text = text.strip_suffix('\n').expect("a line ends");
    text.split(|c: char| c.is_control() || "\u{2028}\u{2029}".contains(c)).map(str::to_owned).collect()
}

/// A key that `stats detail` counts.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let scraps = prop_oneof![
        3 => any::<u8>().prop_map(|byte| vec![byte]),
        2 => Just(b"\r\nEND\r\n".to_vec()),
        1 => Just(b"\n".to_vec()),
        1 => Just(b" ".to_vec()),
        1 => Just("\u{2028}".as_bytes().to_vec()),
        1 => Just("\u{85}".as_bytes().to_vec()),
        1 => Just(b"STAT a 1".to_vec()),
    ];
    (vec(scraps.clone(), 0..12), vec(scraps, 0..12))
        .prop_map(|(prefix, rest)| [prefix.concat(), vec![b':'], rest.concat()].concat())
}

/// The same cases each time, so that a failure repeats.
fn seeded() -> ProptestConfig {
    let rng_seed = RngSeed::Fixed(4);
    ProptestConfig { cases: 300, failure_persistence: None, rng_seed, ..ProptestConfig::default() }
}
