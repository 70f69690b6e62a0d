//! Transcripts: conversations in documents, parsed line by line.
//!
//! protocol.md explains the notation; [`Step`] is its type. `player.rs` plays transcripts.

mod packet;
mod pattern;
pub mod player;

use std::ops::Range;
use std::time::Duration;

/// One fenced transcript of a document.
pub struct Transcript {
    /// How a real memcached answers, as noted behind the fence.
    pub elsewhere: Elsewhere,
    /// The name of the document, for messages.
    pub file: String,
    pub form: Form,
    /// The number of its first line.
    pub line: usize,
    /// The flags of the server that it needs, as on the command line.
    pub flags: String,
    pub steps: Vec<Step>,
}

/// The meaning of the lines that are sent and received.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// Lines of the text protocol.
    Lines,
    /// Bytes of the binary protocol.
    Packets,
}

/// How a real memcached answers.
#[derive(Debug, Eq, PartialEq)]
pub enum Elsewhere {
    /// Exactly so.
    Alike,
    /// `differs: <why>`
    Differs(String),
    /// `newer`: exactly so from 1.6.45 on, differently in older versions.
    Newer,
}

/// One event, and its line in the document.
pub struct Step {
    pub line: usize,
    pub event: Event,
}

#[derive(Debug, Eq, PartialEq)]
pub enum Event {
    /// `+ 9s`: time passes.
    Advance(Duration),
    /// `name< (closed)`: the server closes the connection.
    Closed { name: String },
    /// `name> (hangs up)`: the client closes the connection.
    HangUp { name: String },
    /// `name< text`: a line that must be received; `...` stands for any number of lines.
    Received { name: String, text: String },
    /// `name> text`: a line that is sent.
    Sent { name: String, text: String },
}

/// All transcripts of a document.
///
/// # Panics
/// If a line is not in the notation, with file and line.
pub fn transcripts(file: &str, text: &str) -> Vec<Transcript> {
    let lines: Vec<&str> = text.lines().collect();
    blocks(&lines).into_iter().map(|block| transcript(file, &lines, block)).collect()
}

/// The line ranges inside the fences marked as transcripts of either form.
fn blocks(lines: &[&str]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut rest = 0..lines.len();
    while let Some(start) = rest.find(|line| form(lines[*line]).is_some()) {
        let end = rest.find(|line| lines[*line] == "```").expect("a fence that opens is closed");
        found.push(start + 1..end);
    }
    found
}

fn transcript(file: &str, lines: &[&str], block: Range<usize>) -> Transcript {
    let line = block.start;
    let (form, behind) = form(lines[line - 1]).expect("it begins with its fence");
    let elsewhere = match (behind, behind.strip_prefix(" differs: ")) {
        ("", _) => Elsewhere::Alike,
        (" newer", _) => Elsewhere::Newer,
        (_, Some(why)) => Elsewhere::Differs(why.to_owned()),
        (_, None) => panic!("{file}:{line}: what is `{behind}`?"),
    };
    let (file_name, flags, steps) = (file.to_owned(), String::new(), Vec::new());
    let mut transcript = Transcript { elsewhere, file: file_name, form, line, flags, steps };
    for index in block {
        let text = lines[index];
        if let Some(flags) = text.strip_prefix("$ leasehold ") {
            flags.clone_into(&mut transcript.flags);
        } else if !text.starts_with('#') && !text.is_empty() {
            let event = event(text).unwrap_or_else(|| panic!("{file}:{}: what is `{text}`?", index + 1));
            transcript.steps.push(Step { line: index + 1, event });
        }
    }
    transcript
}

/// The form that a fence opens, and the remark behind it.
fn form(fence: &str) -> Option<(Form, &str)> {
    let lines = fence.strip_prefix("```transcript").map(|behind| (Form::Lines, behind));
    lines.or_else(|| fence.strip_prefix("```packets").map(|behind| (Form::Packets, behind)))
}

fn event(line: &str) -> Option<Event> {
    if let Some(span) = line.strip_prefix("+ ") {
        return duration(span).map(Event::Advance);
    }
    let at = line.find(['<', '>'])?;
    let (name, rest) = line.split_at(at);
    if !name.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return None;
    }
    let (name, text) = (name.to_owned(), rest[1..].strip_prefix(' ').unwrap_or(&rest[1..]).to_owned());
    Some(match (&rest[..1], &*text) {
        (">", "(hangs up)") => Event::HangUp { name },
        (">", _) => Event::Sent { name, text },
        (_, "(closed)") => Event::Closed { name },
        _ => Event::Received { name, text },
    })
}

fn duration(text: &str) -> Option<Duration> {
    match text.strip_suffix("ms") {
        Some(millis) => millis.parse().ok().map(Duration::from_millis),
        None => text.strip_suffix('s')?.parse().ok().map(Duration::from_secs),
    }
}
