//! Messages of pgoutput, as PostgreSQL 15 sent them (`tests/pgoutput/`), and as nobody sends them.

use std::fs;
use std::path::Path;

use leasehold::events::source::postgres::pgoutput::{Cell, Malformed, Message, decode};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::pgoutput_laws::check;

fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pgoutput");
    let entries = fs::read_dir(folder).expect("it is here").map(|entry| entry.expect("it can be listed"));
    entries
        .map(|entry| {
            let bytes = fs::read(entry.path()).expect("it can be read");
            (entry.file_name().into_string().expect("it is text"), bytes)
        })
        .collect()
}

#[test]
fn recorded_messages_are_decoded() {
    let corpus = corpus();
    assert!(corpus.len() >= 12, "{} messages", corpus.len());
    for (name, bytes) in &corpus {
        check(bytes);
        let message = decode(bytes).unwrap_or_else(|malformed| panic!("{name}: {malformed}"));
        let expected = match message {
            Message::Begin { .. } => "begin",
            Message::Commit { .. } => "commit",
            Message::Delete { old, .. } if old.is_identity => "delete-key",
            Message::Delete { .. } => "delete-full",
            Message::Insert { .. } => "insert",
            Message::Logical { is_transactional: true, .. } => "message-transactional",
            Message::Logical { .. } => "message",
            Message::Origin => "origin",
            Message::Relation(_) => "relation",
            Message::Truncate(_) => "truncate",
            Message::Type => "type",
            Message::Update { old: Some(old), .. } if old.is_identity => "update-key",
            Message::Update { old: Some(_), .. } => "update-full",
            Message::Update { new, .. } if new.cells.contains(&Cell::Unchanged) => "update-unchanged",
            Message::Update { .. } => "update",
        };
        assert_eq!(name, expected);
    }
}

#[test]
fn a_recorded_row_has_its_values() {
    let corpus = corpus();
    let bytes = &corpus.iter().find(|(name, _)| name == "insert").expect("it is there").1;
    let Ok(Message::Insert { new, .. }) = decode(bytes) else { panic!("it is an insert") };
    assert_eq!(new.cells, [Cell::Text(b"7"), Cell::Text(b"Tea"), Cell::Text(b"79.50"), Cell::Null]);
}

#[test]
fn malformed_messages_are_refused_with_the_reason() {
    for (bytes, expected) in [
        (&b""[..], Malformed::TooShort),
        (b"?", Malformed::Unknown(b'?')),
        (b"B\0\0", Malformed::TooShort),
        (b"I\0\0\0\x01K\0\0", Malformed::Unknown(b'K')),
        (b"I\0\0\0\x01N\0\x01?", Malformed::Unknown(b'?')),
        // A length of 4 GiB, and 65,535 columns, of which none is there.
        (b"I\0\0\0\x01N\0\x01t\xff\xff\xff\xff", Malformed::TooShort),
        (b"I\0\0\0\x01N\xff\xff", Malformed::TooShort),
        (b"T\xff\xff\xff\xff\0", Malformed::TooShort),
        (b"T\0\0\0\0\0x", Malformed::TooLong),
        (b"O\0\0\0\0\0\0\0\0name", Malformed::TooShort),
    ] {
        assert_eq!(decode(bytes), Err(expected), "{bytes:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000, failure_persistence: None, rng_seed: RngSeed::Fixed(9), ..ProptestConfig::default()
    })]

    #[test]
    fn random_bytes_keep_the_laws(
        tag in prop::sample::select(b"BCDIMORTUY?".to_vec()),
        mut bytes in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        bytes.insert(0, tag);
        check(&bytes);
    }

    #[test]
    fn damaged_messages_keep_the_laws(
        which in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let corpus = corpus();
        let mut bytes = which.get(&corpus).1.clone();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        check(&bytes);
    }
}
