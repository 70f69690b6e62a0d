//! Failures of one connection, and whether trying again can help.

use std::fmt;
use std::io;

use crate::events::source::Broken;

/// The reason why a connection failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The connection itself.
    Io(io::Error),
    /// The server does not speak the protocol as documented.
    Protocol(String),
    /// The server answered with an error.
    Server(Answer),
    /// Something must be configured differently here.
    Unusable(String),
}

/// An error that the server reports.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// The SQLSTATE.
    pub(super) code: String,
    pub(super) detail: Option<String>,
    pub(super) hint: Option<String>,
    pub(super) message: String,
}

impl Failure {
    /// For the consumer: what was tried, and why it failed.
    pub(super) fn broken(&self, doing: &str) -> Broken {
        let why = format!("{doing}: {self}");
        let is_final = match self {
            Failure::Io(_) | Failure::Protocol(_) => false,
            Failure::Server(answer) => answer.needs_an_operator(),
            Failure::Unusable(_) => true,
        };
        if is_final { Broken::Misconfigured(why) } else { Broken::Transient(why) }
    }

    pub(super) fn has_code(&self, code: &str) -> bool {
        matches!(self, Failure::Server(answer) if answer.code == code)
    }
}

impl Answer {
    /// Reads the body of an ErrorResponse: fields of one letter and a text, each with a zero byte behind it.
    pub(super) fn parse(body: &[u8]) -> Answer {
        let mut answer = Answer::default();
        for field in body.split(|byte| *byte == 0) {
            let Some((kind, text)) = field.split_first() else { continue };
            let text = String::from_utf8_lossy(text).into_owned();
            match kind {
                b'C' => answer.code = text,
                b'D' => answer.detail = Some(text),
                b'H' => answer.hint = Some(text),
                b'M' => answer.message = text,
                _ => {}
            }
        }
        answer
    }

    /// Whether the login, the database, a privilege or a setting of the server is wrong.
    fn needs_an_operator(&self) -> bool {
        let code = self.code.as_str();
        code.starts_with("28") || matches!(code, "3D000" | "42501" | "42601" | "42602" | "53400" | "0A000")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Failure::Io(error) => error.fmt(f),
            Failure::Protocol(why) | Failure::Unusable(why) => f.write_str(why),
            Failure::Server(answer) => answer.fmt(f),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.code)?;
        self.detail.iter().try_for_each(|detail| write!(f, "; {detail}"))?;
        self.hint.iter().try_for_each(|hint| write!(f, "; {hint}"))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}
