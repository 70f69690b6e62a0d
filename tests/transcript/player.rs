//! Plays a transcript against the server between its two buffers, and says where the two part.
//!
//! Whatever a connection hears must be told before anything else happens: a reply too many is as wrong as one too few.

use std::collections::BTreeMap;

use clap::Parser;
use leasehold::server::Options;

use super::pattern::{Names, Pattern};
use super::{Event, Transcript};
use crate::support::{Connection, Wire};

/// Plays a transcript, everything that is sent being cut into pieces of `chunk` bytes.
///
/// # Errors
/// Where and how the server answers otherwise.
pub fn play(transcript: &Transcript, chunk: usize) -> Result<(), String> {
    let mut player = Player::new(&transcript.flags, chunk);
    let at = |line: usize, why| format!("{}:{line}: in pieces of {chunk} bytes\n{why}", transcript.file);
    let mut line = 0;
    for step in &transcript.steps {
        line = step.line;
        player.step(&step.event).map_err(|why| at(line, why))?;
    }
    player.send().and_then(|()| player.silence()).map_err(|why| at(line, why))
}

/// The sizes of pieces worth trying: all of them where little is sent at once, and a few that matter where much is.
pub fn chunks(transcript: &Transcript) -> Vec<usize> {
    let (mut longest, mut length) = (1, 0);
    for step in &transcript.steps {
        length = match &step.event {
            Event::Sent { text, .. } => length + Pattern::parse(text).length(),
            Event::Advance(_) | Event::Closed { .. } | Event::HangUp { .. } | Event::Heard { .. } => 0,
        };
        longest = longest.max(length);
    }
    match longest {
        0..=ALL_SIZES_MAX => (1..=longest).collect(),
        _ => vec![1, 2, 3, 5, 7, 1000, 16 * 1024, 16 * 1024 + 1, longest],
    }
}

struct Player {
    chunk: usize,
    connections: BTreeMap<String, Voice>,
    names: Names,
    /// Whether lines may be left out before the next one that is heard.
    skips: bool,
    wire: Wire,
}

/// One connection, and what has passed over it.
struct Voice {
    connection: Connection,
    heard: Vec<u8>,
    /// Lines that follow each other are sent together.
    unsent: Vec<u8>,
}

impl Player {
    fn new(flags: &str, chunk: usize) -> Self {
        let options = Options::try_parse_from(format!("leasehold {flags}").split_whitespace());
        let options = options.map_err(|error| error.to_string()).and_then(Options::checked);
        let options = options.expect("a transcript has legal flags");
        let wire = Wire::new(options.cache(), options.rules());
        Player { chunk, connections: BTreeMap::new(), names: Names::new(), skips: false, wire }
    }

    fn step(&mut self, event: &Event) -> Result<(), String> {
        if let Event::Sent { name, text } = event {
            return self.say(name, text);
        }
        self.send()?;
        match event {
            Event::Advance(span) => {
                self.silence()?;
                self.wire.clock.advance(*span);
            }
            Event::Closed { name } => {
                let (voice, wire) = self.voice(name);
                voice.listen(wire);
                if !voice.connection.is_closed() || !voice.heard.is_empty() {
                    return Err(voice.difference(name, "(closed)"));
                }
                self.hang_up(name);
            }
            Event::HangUp { name } => {
                self.silence()?;
                self.hang_up(name);
            }
            Event::Heard { text, .. } if text == "..." => self.skips = true,
            Event::Heard { name, text } => self.hear(name, text)?,
            Event::Sent { .. } => unreachable!("it was said above"),
        }
        Ok(())
    }

    /// Keeps a line back until something else than its connection's next line comes.
    fn say(&mut self, name: &str, text: &str) -> Result<(), String> {
        if self.connections.get(name).is_none_or(|voice| voice.unsent.is_empty()) {
            self.send()?;
            self.silence()?;
        }
        let bytes =
            Pattern::parse(text).bytes(&self.names).map_err(|name| format!("  what is {{{name}}}?"))?;
        self.voice(name).0.unsent.extend(bytes);
        Ok(())
    }

    fn send(&mut self) -> Result<(), String> {
        for (name, voice) in &mut self.connections {
            let bytes = std::mem::take(&mut voice.unsent);
            if !bytes.is_empty() && voice.connection.is_closed() {
                return Err(format!("  {name}> is closed"));
            }
            voice.heard.extend(voice.connection.talk_in_chunks(&self.wire, &bytes, self.chunk));
        }
        Ok(())
    }

    /// Nobody has heard anything that the transcript does not tell.
    fn silence(&mut self) -> Result<(), String> {
        for (name, voice) in &mut self.connections {
            voice.listen(&self.wire);
            if !voice.heard.is_empty() {
                return Err(voice.difference(name, "(nothing)"));
            }
        }
        Ok(())
    }

    fn hear(&mut self, name: &str, text: &str) -> Result<(), String> {
        let expected = Pattern::parse(text);
        let skips = std::mem::take(&mut self.skips);
        let mut names = std::mem::take(&mut self.names);
        let (voice, wire) = self.voice(name);
        voice.listen(wire);
        let mut rest = &voice.heard[..];
        let found = loop {
            let Some(end) = rest.windows(LINE_END.len()).position(|pair| pair == LINE_END) else {
                break None;
            };
            let (line, after) = (&rest[..end], &rest[end + LINE_END.len()..]);
            let is_it = expected.matches(line, &mut names);
            if is_it || !skips {
                break is_it.then_some(after.len());
            }
            rest = after;
        };
        let difference = voice.difference(name, text);
        let left = found.ok_or(difference)?;
        voice.heard.drain(..voice.heard.len() - left);
        self.names = names;
        Ok(())
    }

    fn hang_up(&mut self, name: &str) {
        if let Some(mut voice) = self.connections.remove(name) {
            voice.connection.close(&self.wire);
        }
    }

    fn voice(&mut self, name: &str) -> (&mut Voice, &Wire) {
        let voice = self.connections.entry(name.to_owned()).or_insert_with(|| Voice {
            connection: self.wire.connect(),
            heard: Vec::new(),
            unsent: Vec::new(),
        });
        (voice, &self.wire)
    }
}

impl Voice {
    fn listen(&mut self, wire: &Wire) {
        self.heard.extend(self.connection.listen(wire));
    }

    /// What was expected, and what came instead.
    fn difference(&self, name: &str, expected: &str) -> String {
        let mut text = format!("  expected {name}< {expected}");
        for line in String::from_utf8_lossy(&self.heard).split_inclusive("\r\n").take(SHOWN_LINES) {
            let shown: String = line.trim_end_matches("\r\n").chars().take(SHOWN_CHARS).collect();
            text += &format!("\n  received {name}< {}", shown.escape_debug());
        }
        if self.heard.is_empty() {
            text += "\n  received nothing";
        }
        if self.connection.is_closed() {
            text += &format!("\n  received {name}< (closed)");
        }
        text
    }
}

const LINE_END: &[u8] = b"\r\n";
const ALL_SIZES_MAX: usize = 300;
const SHOWN_LINES: usize = 5;
const SHOWN_CHARS: usize = 100;
