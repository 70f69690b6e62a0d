//! Plays a transcript on a stage, and says where the two part.
//!
//! Whatever a connection hears must be told before anything else happens: a reply too many is as wrong as one too few.

use std::collections::BTreeMap;
use std::time::Duration;

use super::pattern::{Names, Pattern};
use super::{Event, Transcript};

/// A server that a transcript is played against.
pub trait Stage {
    type Connection;

    /// How it is played here, for messages.
    fn describe(&self) -> String;
    fn advance(&mut self, span: Duration);
    fn connect(&mut self) -> Self::Connection;
    /// Sends bytes, if there are any, and returns all that is heard.
    fn talk(&mut self, connection: &mut Self::Connection, bytes: &[u8]) -> Vec<u8>;
    fn is_closed(&self, connection: &Self::Connection) -> bool;
    fn hang_up(&mut self, connection: Self::Connection);
}

/// Plays a transcript.
///
/// # Errors
/// Where and how the server answers otherwise.
pub fn play(transcript: &Transcript, stage: impl Stage) -> Result<(), String> {
    let how = stage.describe();
    let mut player = Player { stage, names: Names::new(), skips: false, voices: BTreeMap::new() };
    let at = |line: usize, why| format!("{}:{line}: {how}\n{why}", transcript.file);
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

struct Player<S: Stage> {
    names: Names,
    /// Whether lines may be left out before the next one that is heard.
    skips: bool,
    stage: S,
    voices: BTreeMap<String, Voice<S::Connection>>,
}

/// One connection, and what has passed over it.
struct Voice<C> {
    connection: C,
    heard: Vec<u8>,
    /// Lines that follow each other are sent together.
    unsent: Vec<u8>,
}

impl<S: Stage> Player<S> {
    fn step(&mut self, event: &Event) -> Result<(), String> {
        if let Event::Sent { name, text } = event {
            return self.say(name, text);
        }
        self.send()?;
        match event {
            Event::Advance(span) => {
                self.silence()?;
                self.stage.advance(*span);
            }
            Event::Closed { name } => {
                let (voice, stage) = self.voice(name);
                voice.listen(stage);
                if !stage.is_closed(&voice.connection) || !voice.heard.is_empty() {
                    return Err(voice.difference(stage, name, "(closed)"));
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
        if self.voices.get(name).is_none_or(|voice| voice.unsent.is_empty()) {
            self.send()?;
            self.silence()?;
        }
        let bytes =
            Pattern::parse(text).bytes(&self.names).map_err(|name| format!("  what is {{{name}}}?"))?;
        self.voice(name).0.unsent.extend(bytes);
        Ok(())
    }

    fn send(&mut self) -> Result<(), String> {
        for (name, voice) in &mut self.voices {
            let bytes = std::mem::take(&mut voice.unsent);
            if bytes.is_empty() {
                continue;
            }
            if self.stage.is_closed(&voice.connection) {
                return Err(format!("  {name}> is closed"));
            }
            voice.heard.extend(self.stage.talk(&mut voice.connection, &bytes));
        }
        Ok(())
    }

    /// Nobody has heard anything that the transcript does not tell.
    fn silence(&mut self) -> Result<(), String> {
        for (name, voice) in &mut self.voices {
            voice.listen(&mut self.stage);
            if !voice.heard.is_empty() {
                return Err(voice.difference(&self.stage, name, "(nothing)"));
            }
        }
        Ok(())
    }

    fn hear(&mut self, name: &str, text: &str) -> Result<(), String> {
        let expected = Pattern::parse(text);
        let skips = std::mem::take(&mut self.skips);
        let mut names = std::mem::take(&mut self.names);
        let (voice, stage) = self.voice(name);
        voice.listen(stage);
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
        let difference = voice.difference(stage, name, text);
        let left = found.ok_or(difference)?;
        voice.heard.drain(..voice.heard.len() - left);
        self.names = names;
        Ok(())
    }

    fn hang_up(&mut self, name: &str) {
        if let Some(voice) = self.voices.remove(name) {
            self.stage.hang_up(voice.connection);
        }
    }

    fn voice(&mut self, name: &str) -> (&mut Voice<S::Connection>, &mut S) {
        let stage = &mut self.stage;
        let voice = self.voices.entry(name.to_owned()).or_insert_with(|| Voice {
            connection: stage.connect(),
            heard: Vec::new(),
            unsent: Vec::new(),
        });
        (voice, stage)
    }
}

impl<C> Voice<C> {
    fn listen(&mut self, stage: &mut impl Stage<Connection = C>) {
        self.heard.extend(stage.talk(&mut self.connection, &[]));
    }

    /// What was expected, and what came instead.
    fn difference(&self, stage: &impl Stage<Connection = C>, name: &str, expected: &str) -> String {
        let mut text = format!("  expected {name}< {expected}");
        for line in String::from_utf8_lossy(&self.heard).split_inclusive("\r\n").take(SHOWN_LINES) {
            let shown: String = line.trim_end_matches("\r\n").chars().take(SHOWN_CHARS).collect();
            text += &format!("\n  received {name}< {}", shown.escape_debug());
        }
        if self.heard.is_empty() {
            text += "\n  received nothing";
        }
        if stage.is_closed(&self.connection) {
            text += &format!("\n  received {name}< (closed)");
        }
        text
    }
}

const LINE_END: &[u8] = b"\r\n";
const ALL_SIZES_MAX: usize = 300;
const SHOWN_LINES: usize = 5;
const SHOWN_CHARS: usize = 100;
