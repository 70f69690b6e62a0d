//! Plays every transcript in protocol.md, README.md, docs/operating.md and tests/scripts/, in chunks of every
//! size.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use leasehold::options::Options;
use leasehold::protocol::Protocols;

use crate::support::transcript::{Form, player, transcripts};
use crate::support::wire::{self, Connection, Wire};

/// The server between its two buffers, which receives all requests in chunks of this size.
struct Pieces {
    chunk: usize,
    wire: Wire,
}

impl Pieces {
    fn new(flags: &str, chunk: usize) -> Pieces {
        let options = Options::try_parse_from(format!("leasehold {flags}").split_whitespace());
        let options = options.map_err(|error| error.to_string()).and_then(Options::checked);
        let options = options.expect("a transcript has legal flags");
        Pieces { chunk, wire: Wire::new(options.cache(), options.rules()) }
    }
}

impl player::Stage for Pieces {
    type Connection = Connection;

    fn describe(&self) -> String {
        format!("in pieces of {} bytes", self.chunk)
    }

    fn advance(&mut self, span: Duration) {
        self.wire.clock.advance(span);
    }

    fn connect(&mut self, form: Form) -> Connection {
        match form {
            Form::Lines => self.wire.connect(),
            Form::Packets => self.wire.connect_with(Protocols::Any),
        }
    }

    fn talk(&mut self, connection: &mut Connection, bytes: &[u8]) -> Vec<u8> {
        match bytes {
            [] => connection.listen(&self.wire),
            _ => connection.talk_in_chunks(&self.wire, bytes, self.chunk),
        }
    }

    fn is_closed(&self, connection: &Connection) -> bool {
        connection.is_closed()
    }

    fn hang_up(&mut self, mut connection: Connection) {
        connection.close(&self.wire);
    }
}

#[test]
fn protocol_transcripts_are_answered_as_documented() {
    let played = check(&root("protocol.md"));
    assert!(played >= 20, "only {played} transcripts were found");
}

#[test]
fn the_binary_protocol_has_transcripts() {
    let text = fs::read_to_string(root("protocol.md")).expect("a document is text");
    let packets = transcripts("protocol.md", &text).into_iter().filter(|each| each.form == Form::Packets);
    assert!(packets.count() >= 4);
}

#[test]
fn readme_transcripts_are_answered_as_documented() {
    let played = check(&root("README.md"));
    assert!(played >= 2, "only {played} transcripts were found");
}

#[test]
fn operating_transcripts_are_answered_as_documented() {
    let played = check(&root("docs/operating.md"));
    assert!(played >= 8, "only {played} transcripts were found");
}

#[test]
fn policies_in_documents_are_valid() {
    for document in ["docs/operating.md", "protocol.md"] {
        let text = fs::read_to_string(root(document)).expect("a document is text");
        let policies: Vec<&str> =
            text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert!(!policies.is_empty(), "{document} shows none");
        for policy in policies {
            let name = format!("leasehold-{}-{}.toml", std::process::id(), policy.len());
            let path = std::env::temp_dir().join(name);
            fs::write(&path, policy).expect("it can be written");
            let options = Options::try_parse_from(["leasehold", "--config", path.to_str().expect("text")]);
            let read = options.map_err(|error| error.to_string()).and_then(Options::checked);
            fs::remove_file(&path).expect("it was written");
            assert!(read.is_ok(), "{document}: {policy}{read:?}");
        }
    }
}

#[test]
fn scripts_are_answered_as_written() {
    let entries = fs::read_dir(root("tests/scripts")).expect("the scripts are here");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("it can be listed").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "md"));
    paths.sort();
    for path in paths {
        assert!(check(&path) > 0, "{} has no transcript", path.display());
    }
}

#[test]
fn every_statistic_is_documented() {
    let wire = wire::Wire::new(leasehold::Config::default(), leasehold::command::Rules::default());
    let value = "v".repeat(64);
    let requests =
        format!("set k 0 0 64 noreply\r\n{value}\r\nstats\r\nstats memory\r\nstats mrc\r\nstats ratio\r\n");
    let stats = wire.connect().talk(&wire, requests.as_bytes());
    let document = fs::read_to_string(root("protocol.md")).expect("a document is text");
    for line in String::from_utf8(stats).expect("statistics are text").lines() {
        if let Some(name) = line.split(' ').nth(1) {
            assert!(document.contains(&format!("`{name}`")), "protocol.md does not explain {name}");
        }
    }
}

/// Plays all transcripts of a document; returns how many there are.
#[track_caller]
fn check(path: &Path) -> usize {
    let text = fs::read_to_string(path).expect("a document is text");
    let file = path.strip_prefix(root("")).expect("it is ours").display().to_string();
    let found = transcripts(&file, &text);
    let complaints: Vec<String> = found
        .iter()
        .filter_map(|transcript| {
            let mut chunks = player::chunks(transcript).into_iter();
            chunks.find_map(|chunk| player::play(transcript, Pieces::new(&transcript.flags, chunk)).err())
        })
        .collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
    found.len()
}

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Plays one transcript.
fn verdict(lines: &str) -> Result<(), String> {
    let found = transcripts("a.md", &format!("```transcript\n{lines}\n```\n"));
    player::play(&found[0], Pieces::new("", 3))
}

#[test]
fn a_correct_transcript_passes() {
    let lines = "# two of them\na> lease-get k\na< LVALUE k {one} 0 0\na<\na< END\nb> lease-get k\nb< LVALUE k 1 0 0\n\
                 b<\nb< END\n+ 10s\nb> lease-get k\nb< LVALUE k {two} 0 0\nb<\nb< END\na> lease-set k {one} 0 0 {1*1}\n\
                 a> {x*1}\na< STORED\na> quit\na< (closed)\nb> (hangs up)\nc> stats\nc< ...\nc< STAT cmd_set 0\nc< ...\n\
                 c< END";
    assert_eq!(verdict(lines), Ok(()));
}

#[test]
fn a_wrong_transcript_fails_with_file_and_line() {
    let cases = [
        ("> get k\n< END\n> get k\n< VALUE k 0 1", 5, "  expected < VALUE k 0 1\n  received < END"),
        ("> get k", 2, "  expected < (nothing)\n  received < END"),
        ("> get k\n+ 1s", 3, "  expected < (nothing)\n  received < END"),
        ("> get k\n< END\n< END", 4, "  expected < END\n  received nothing"),
        ("> get k\n< END\n< (closed)", 4, "  expected < (closed)\n  received nothing"),
        ("> quit\n< OK", 3, "  expected < OK\n  received nothing\n  received < (closed)"),
        ("> quit\n> get k\n< END", 4, "  expected < END\n  received nothing\n  received < (closed)"),
        ("> lease-set k {token} 0 0 1\n> v", 2, "  what is {token}?"),
        (
            "a> set k 0 0 1\na> v\na< STORED\nb> get k\nb< END",
            6,
            "  expected b< END\n  received b< VALUE k 0 1",
        ),
        ("> stats\n< ...\n< STAT nothing 0", 4, "  expected < STAT nothing 0\n  received < STAT pid"),
    ];
    for (lines, line, why) in cases {
        let error = verdict(lines).expect_err(lines);
        let expected = format!("a.md:{line}: in pieces of 3 bytes\n{why}");
        assert!(error.starts_with(&expected), "\n{error}\ninstead of\n{expected}");
    }
}

#[test]
fn packets_are_bytes_quoted_text_and_names() {
    let verdict = |lines: &str| {
        let found = transcripts("a.md", &format!("```packets\n{lines}\n```\n"));
        player::play(&found[0], Pieces::new("", 3))
    };
    let store = "> 80 01 0001 08 00 0000 0000000a 00000007 0000000000000000 00000005 00000000 \"k\" \"v\"\n\
                 < 81 01 0000 00 00 0000 00000000 00000007 {first}\n\
                 > 80 00 0001 00 00 0000 00000001 00000000 0000000000000000 \"k\"\n";
    let value = "< 81 00 0000 04 00 0000 00000005 00000000 {first} 00000005 \"v\"";
    assert_eq!(verdict(&format!("{store}{value}")), Ok(()));
    for wrong in
        ["", "< 81", "< 81 00 0000 04 00 0000 00000005 00000000 {other} 00000005 \"v\"", "< (closed)"]
    {
        let error = verdict(&format!("{store}{wrong}")).expect_err(wrong);
        assert!(error.contains("received < "), "{error}");
    }
    assert_eq!(verdict("text> \"version\" 0d0a\ntext< \"VERSION\" 20 \"1.6.45\" 0d0a"), Ok(()));
}

#[test]
fn a_name_stands_for_one_number_that_no_other_has() {
    let again =
        "a> lease-get k\na< LVALUE k {one} 0 0\na<\na< END\na> delete k\na< NOT_FOUND\na> lease-get k\n";
    assert!(verdict(&format!("{again}a< LVALUE k {{one}} 0 0\na<\na< END")).is_err(), "another token");
    assert_eq!(verdict(&format!("{again}a< LVALUE k {{two}} 0 0\na<\na< END")), Ok(()));
    let lost = "a> lease-get k\na< ...\na< END\nb> lease-get k\nb< LVALUE k {token} 0 0\nb<\nb< END";
    assert!(verdict(lost).is_err(), "1 is not a token");
    let unlike = "> lease-get j k\n< LVALUE j {one} 0 0\n<\n< LVALUE k {one} 0 0\n<\n< END";
    assert!(verdict(unlike).is_err(), "two keys have two tokens");
}

#[test]
#[should_panic(expected = "a.md:3: what is `gett k`?")]
fn a_line_outside_the_notation_panics() {
    let _ = verdict("# two\ngett k");
}
