//! The transcripts of our documents, played against a real memcached: it agrees, or the fence says why it
//! differs.
//!
//! Skipped are transcripts with commands that memcached does not have, transcripts that advance the clock,
//! and transcripts that watch, because memcached's log thread sends these lines at any time. A memcached
//! older than 1.6.45 is not tried with transcripts marked as newer. Without a memcached the test prints
//! `skipped`.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::memcached::{Memcached, PATIENCE};
use crate::support::transcript::player::{self, Stage};
use crate::support::transcript::{Elsewhere, Event, Form, Transcript, transcripts};

/// The memcached that plays one transcript.
struct Real {
    memcached: Memcached,
    /// A command sent after each request, and the beginning of its answer, which marks the end of the reply.
    mark: (&'static str, &'static str),
    patience: Duration,
}

struct Connection {
    form: Form,
    is_closed: bool,
    stream: TcpStream,
}

impl Real {
    fn start(transcript: &Transcript) -> Real {
        let sends = |verb: &str| sent(transcript).any(|line| line.starts_with(verb));
        let machinery = if sends("lru") { "-o lru_crawler,lru_maintainer" } else { "" };
        let memcached = Memcached::start(&format!("{} {machinery}", transcript.flags));
        let memcached = memcached.expect("it has been started before");
        let mark = if sends("version") { ("mn", "MN") } else { ("version", "VERSION ") };
        // A memcached that differs may wait for more data, and take the mark for that.
        let patience = match transcript.elsewhere {
            Elsewhere::Differs(_) => IMPATIENCE,
            Elsewhere::Alike | Elsewhere::Newer => PATIENCE,
        };
        let mut real = Real { memcached, mark, patience };
        // A name in a transcript stands for a number above 1, and the first unique is 1.
        let mut first = real.connect(Form::Lines);
        real.talk(&mut first, b"set first 0 -1 0\r\n\r\n");
        real
    }
}

impl Stage for Real {
    type Connection = Connection;

    fn describe(&self) -> String {
        "by memcached".to_owned()
    }

    fn advance(&mut self, _span: Duration) {
        unreachable!("a transcript that advances the clock is not played")
    }

    fn connect(&mut self, form: Form) -> Connection {
        let stream = self.memcached.connect();
        stream.set_read_timeout(Some(self.patience)).expect("a timeout is legal");
        Connection { form, is_closed: false, stream }
    }

    fn talk(&mut self, connection: &mut Connection, bytes: &[u8]) -> Vec<u8> {
        if connection.form == Form::Packets {
            if bytes.is_empty() {
                return Vec::new();
            }
            let _ = connection.stream.write_all(&[bytes, &NOOP].concat());
            return connection.read_until(|received| {
                let start = received.len().checked_sub(NOOP.len())?;
                let is_mark = received[start..].starts_with(&[0x81, NOOP[1]])
                    && received[start + 12..16 + start] == NOOP[12..16];
                is_mark.then_some(start)
            });
        }
        // An unfinished line has no answer yet.
        let is_whole = bytes.ends_with(b"\n");
        let mark = if is_whole { format!("{}\r\n", self.mark.0) } else { String::new() };
        // A closed connection is noticed when reading.
        let _ = connection.stream.write_all(&[bytes, mark.as_bytes()].concat());
        if is_whole { connection.read_up_to(self.mark.1) } else { Vec::new() }
    }

    fn is_closed(&self, connection: &Connection) -> bool {
        connection.is_closed
    }

    fn hang_up(&mut self, _connection: Connection) {}
}

impl Connection {
    /// All that is received before a last line that begins with `mark`, or until the connection ends.
    fn read_up_to(&mut self, mark: &str) -> Vec<u8> {
        self.read_until(|received| {
            last_line(received).filter(|start| received[*start..].starts_with(mark.as_bytes()))
        })
    }

    /// All that is received before the start of the mark, or until the connection ends.
    fn read_until(&mut self, mark: impl Fn(&[u8]) -> Option<usize>) -> Vec<u8> {
        let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
        while !self.is_closed {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.is_closed = true,
                Ok(count) => received.extend(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => self.is_closed = true,
                Err(_) => break,
            }
            if let Some(start) = mark(&received) {
                received.truncate(start);
                break;
            }
        }
        received
    }
}

/// A packet whose answer marks the end of the others.
const NOOP: [u8; 24] =
    [0x80, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xfe, 0xfe, 0xfe, 0, 0, 0, 0, 0, 0, 0, 0];

/// The start of the last line, if that is complete.
fn last_line(received: &[u8]) -> Option<usize> {
    let before = received.strip_suffix(b"\r\n")?;
    Some(before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1))
}

fn sent(transcript: &Transcript) -> impl Iterator<Item = &str> {
    transcript.steps.iter().filter_map(|step| match &step.event {
        Event::Sent { text, .. } => Some(text.as_str()),
        Event::Advance(_) | Event::Closed { .. } | Event::HangUp { .. } | Event::Received { .. } => None,
    })
}

/// Whether a transcript can be played against memcached at all.
fn is_playable(transcript: &Transcript) -> bool {
    let is_ours = |line: &str| OURS.iter().any(|verb| line.starts_with(verb));
    let moves_clock = transcript.steps.iter().any(|step| matches!(step.event, Event::Advance(_)));
    // In memcached `-I` limits something else, and needs more flags.
    let has_our_flags = ["--", "-I"].iter().any(|flag| transcript.flags.contains(flag));
    !moves_clock && !has_our_flags && !sent(transcript).any(is_ours)
}

#[test]
fn memcached_answers_the_transcripts_alike() {
    let Some(memcached) = Memcached::start("") else {
        return println!("skipped: no memcached is installed");
    };
    let is_older = !memcached.is_1_6_45();
    let all = documents().into_iter().flat_map(|path| {
        let text = fs::read_to_string(&path).expect("a document is text");
        transcripts(&path.file_name().expect("a file has a name").to_string_lossy(), &text)
    });
    let is_skipped = |transcript: &Transcript| is_older && transcript.elsewhere == Elsewhere::Newer;
    let played = all.filter(|transcript| is_playable(transcript) && !is_skipped(transcript));
    let complaints: Vec<String> = played.filter_map(|transcript| complaint(&transcript)).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The error of a transcript, or of the remark behind its fence.
fn complaint(transcript: &Transcript) -> Option<String> {
    match (player::play(transcript, Real::start(transcript)), &transcript.elsewhere) {
        (Ok(()), Elsewhere::Differs(why)) => {
            Some(format!("{}:{}: memcached answers alike, though {why}", transcript.file, transcript.line))
        }
        (Err(why), Elsewhere::Alike | Elsewhere::Newer) => Some(why),
        (Ok(()), Elsewhere::Alike | Elsewhere::Newer) | (Err(_), Elsewhere::Differs(_)) => None,
    }
}

fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scripts = fs::read_dir(root.join("tests/scripts")).expect("the scripts are here");
    let mut paths: Vec<PathBuf> = scripts.map(|entry| entry.expect("it can be listed").path()).collect();
    paths.sort();
    paths.push(root.join("protocol.md"));
    paths
}

/// Commands that memcached does not have, and `watch`, whose lines come at any time.
const OURS: [&str; 9] = [
    "lease-",
    "metaget",
    "invalidate",
    "stats leases",
    "stats memory",
    "stats mrc",
    "stats policies",
    "stats ratio",
    "watch",
];
const IMPATIENCE: Duration = Duration::from_millis(100);
