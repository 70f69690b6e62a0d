//! Plays a transcript against a server, and reports the first difference.
//!
//! The transcript must list every reply before the next event: an extra reply is as wrong as a missing one.

use std::collections::BTreeMap;
use std::time::Duration;

use super::packet::{self, PacketPattern};
use super::pattern::{Names, Pattern};
use super::{Event, Form, Transcript};

/// A server that a transcript is played against.
pub trait Stage {
    type Connection;

    /// The kind of server, for messages.
    fn describe(&self) -> String;
    fn advance(&mut self, span: Duration);
    fn connect(&mut self, form: Form) -> Self::Connection;
    /// Sends bytes, if there are any, and returns all that is received.
    fn talk(&mut self, connection: &mut Self::Connection, bytes: &[u8]) -> Vec<u8>;
    fn is_closed(&self, connection: &Self::Connection) -> bool;
    fn hang_up(&mut self, connection: Self::Connection);
}

/// Plays a transcript.
///
/// # Errors
/// Where and how the server answers differently.
pub fn play(transcript: &Transcript, stage: impl Stage) -> Result<(), String> {
    let how = stage.describe();
    let form = transcript.form;
    let mut player = Player { form, stage, names: Names::new(), skips: false, peers: BTreeMap::new() };
    let at = |line: usize, why| format!("{}:{line}: {how}\n{why}", transcript.file);
    let mut line = 0;
    for step in &transcript.steps {
        line = step.line;
        player.step(&step.event).map_err(|why| at(line, why))?;
    }
    player.send().and_then(|()| player.silence()).map_err(|why| at(line, why))
}

/// The chunk sizes to play a transcript in: all for short requests, and a few that matter for long ones.
pub fn chunks(transcript: &Transcript) -> Vec<usize> {
    let (mut longest, mut length) = (1, 0);
    for step in &transcript.steps {
        length = match &step.event {
            Event::Sent { text, .. } => {
                length
                    + match transcript.form {
                        Form::Lines => Pattern::parse(text).length(),
                        Form::Packets => PacketPattern::parse(text).length(),
                    }
            }
            Event::Advance(_) | Event::Closed { .. } | Event::HangUp { .. } | Event::Received { .. } => 0,
        };
        longest = longest.max(length);
    }
    match longest {
        0..=ALL_SIZES_MAX => (1..=longest).collect(),
        _ => vec![1, 2, 3, 5, 7, 1000, 16 * 1024, 16 * 1024 + 1, longest],
    }
}

struct Player<S: Stage> {
    form: Form,
    names: Names,
    /// Whether lines may be skipped before the next expected one.
    skips: bool,
    stage: S,
    peers: BTreeMap<String, Peer<S::Connection>>,
}

/// One connection, with its received and unsent bytes.
struct Peer<C> {
    connection: C,
    received: Vec<u8>,
    /// Consecutive lines are sent together.
    unsent: Vec<u8>,
}

impl<S: Stage> Player<S> {
    fn step(&mut self, event: &Event) -> Result<(), String> {
        if let Event::Sent { name, text } = event {
            return self.queue(name, text);
        }
        self.send()?;
        match event {
            Event::Advance(span) => {
                self.silence()?;
                self.stage.advance(*span);
            }
            Event::Closed { name } => {
                let form = self.form;
                let (peer, stage) = self.peer(name);
                peer.listen(stage);
                if !stage.is_closed(&peer.connection) || !peer.received.is_empty() {
                    return Err(peer.difference(stage, form, name, "(closed)"));
                }
                self.hang_up(name);
            }
            Event::HangUp { name } => {
                self.silence()?;
                self.hang_up(name);
            }
            Event::Received { text, .. } if text == "..." => self.skips = true,
            Event::Received { name, text } => match self.form {
                Form::Lines => self.expect(name, text)?,
                Form::Packets => self.expect_packet(name, text)?,
            },
            Event::Sent { .. } => unreachable!("it is handled above"),
        }
        Ok(())
    }

    /// Queues a line until an event that is not its connection's next line.
    fn queue(&mut self, name: &str, text: &str) -> Result<(), String> {
        if self.peers.get(name).is_none_or(|peer| peer.unsent.is_empty()) {
            self.send()?;
            self.silence()?;
        }
        let bytes = match self.form {
            Form::Lines => Pattern::parse(text).bytes(&self.names),
            Form::Packets => PacketPattern::parse(text).bytes(&self.names),
        };
        let bytes = bytes.map_err(|name| format!("  what is {{{name}}}?"))?;
        self.peer(name).0.unsent.extend(bytes);
        Ok(())
    }

    fn send(&mut self) -> Result<(), String> {
        for (name, peer) in &mut self.peers {
            let bytes = std::mem::take(&mut peer.unsent);
            if bytes.is_empty() {
                continue;
            }
            if self.stage.is_closed(&peer.connection) {
                return Err(format!("  {name}> is closed"));
            }
            peer.received.extend(self.stage.talk(&mut peer.connection, &bytes));
        }
        Ok(())
    }

    /// Checks that no connection has received anything that the transcript does not list.
    fn silence(&mut self) -> Result<(), String> {
        for (name, peer) in &mut self.peers {
            peer.listen(&mut self.stage);
            if !peer.received.is_empty() {
                return Err(peer.difference(&self.stage, self.form, name, "(nothing)"));
            }
        }
        Ok(())
    }

    fn expect(&mut self, name: &str, text: &str) -> Result<(), String> {
        let expected = Pattern::parse(text);
        let skips = std::mem::take(&mut self.skips);
        let mut names = std::mem::take(&mut self.names);
        let (peer, stage) = self.peer(name);
        peer.listen(stage);
        let mut rest = &peer.received[..];
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
        let difference = peer.difference(stage, Form::Lines, name, text);
        let left = found.ok_or(difference)?;
        peer.received.drain(..peer.received.len() - left);
        self.names = names;
        Ok(())
    }

    /// Checks that these are the next received bytes.
    fn expect_packet(&mut self, name: &str, text: &str) -> Result<(), String> {
        let expected = PacketPattern::parse(text);
        let mut names = std::mem::take(&mut self.names);
        let (peer, stage) = self.peer(name);
        peer.listen(stage);
        if !expected.begins(&peer.received, &mut names) {
            return Err(peer.difference(stage, Form::Packets, name, text));
        }
        peer.received.drain(..expected.length());
        self.names = names;
        Ok(())
    }

    fn hang_up(&mut self, name: &str) {
        if let Some(peer) = self.peers.remove(name) {
            self.stage.hang_up(peer.connection);
        }
    }

    fn peer(&mut self, name: &str) -> (&mut Peer<S::Connection>, &mut S) {
        let (stage, form) = (&mut self.stage, self.form);
        let peer = self.peers.entry(name.to_owned()).or_insert_with(|| Peer {
            connection: stage.connect(form),
            received: Vec::new(),
            unsent: Vec::new(),
        });
        (peer, stage)
    }
}

impl<C> Peer<C> {
    fn listen(&mut self, stage: &mut impl Stage<Connection = C>) {
        self.received.extend(stage.talk(&mut self.connection, &[]));
    }

    /// A message with the expected line and the received ones.
    fn difference(
        &self,
        stage: &impl Stage<Connection = C>,
        form: Form,
        name: &str,
        expected: &str,
    ) -> String {
        let mut text = format!("  expected {name}< {expected}");
        let lines = if form == Form::Lines { &self.received[..] } else { &[] };
        if form == Form::Packets && !self.received.is_empty() {
            text += &format!("\n  received {name}< {}", packet::shown(&self.received));
        }
        for line in String::from_utf8_lossy(lines).split_inclusive("\r\n").take(SHOWN_LINES) {
            let shown: String = line.trim_end_matches("\r\n").chars().take(SHOWN_CHARS).collect();
            text += &format!("\n  received {name}< {}", shown.escape_debug());
        }
        if self.received.is_empty() {
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
