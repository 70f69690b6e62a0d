//! A connection with a batch of requests in flight, and the replies received so far.
//!
//! It has no clock and never blocks: the worker passes in the start time of a batch, and calls when the
//! socket is ready.

use std::fmt::{self, Display};
use std::io::{self, Read, Write};

use super::replies::{Replies, Reply, SEEN_BYTES, Unexpected};
use super::server::Dialect;
use super::source::{Batch, Expected, Source};
use super::tally::{Outcome, Tally};

/// A connection over a nonblocking socket.
pub struct Connection<S> {
    /// Answered parts of the batch.
    answered: usize,
    batch: Batch,
    /// When the batch was sent, or was due.
    began: u64,
    /// Fills for the leases that the batch received.
    fills: Batch,
    replies: Replies,
    /// Received bytes of an incomplete reply.
    rest: Vec<u8>,
    stream: S,
    /// Written bytes of the batch.
    written: usize,
}

/// The reasons why a server cannot be measured.
#[derive(Debug)]
pub enum Fault {
    /// The server closed a connection.
    Closed,
    /// A system call failed.
    Io(io::Error),
    /// The server reset a connection on which it had sent nothing.
    Reset,
    /// The server sent nothing for this long.
    Silent { seconds: u64 },
    /// The server requires TLS.
    Tls,
    /// The server sent something that does not answer the request.
    Unexpected(String),
    /// The server refused to store this many of the preloaded values.
    Unstored { refused: u64, keys: usize },
}

impl<S: Read + Write> Connection<S> {
    pub fn new(stream: S, dialect: Dialect) -> Connection<S> {
        Connection {
            answered: 0,
            batch: Batch::default(),
            began: 0,
            fills: Batch::default(),
            replies: Replies::new(dialect),
            rest: Vec::new(),
            stream,
            written: 0,
        }
    }

    /// Sends the next batch.
    pub fn ask(&mut self, source: &mut Source, tasks: usize, began: u64) -> Result<(), Fault> {
        source.ask(&mut self.batch, tasks);
        self.begin(began)
    }

    /// Sends the fills for the granted leases.
    pub fn fill(&mut self, began: u64) -> Result<(), Fault> {
        std::mem::swap(&mut self.batch, &mut self.fills);
        self.fills.clear();
        self.begin(began)
    }

    fn begin(&mut self, began: u64) -> Result<(), Fault> {
        (self.answered, self.written, self.began) = (0, 0, began);
        self.push()
    }

    /// Writes as much of the batch as the socket accepts.
    pub fn push(&mut self) -> Result<(), Fault> {
        while self.written < self.batch.bytes.len() {
            match self.stream.write(&self.batch.bytes[self.written..]) {
                Ok(bytes) => self.written += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Fault::Io(error)),
            }
        }
        Ok(())
    }

    /// Reads what has arrived; returns true once the batch is answered.
    pub fn pull(&mut self, inbox: &mut [u8], source: &mut Source, tally: &mut Tally) -> Result<bool, Fault> {
        loop {
            let carried = self.rest.len();
            inbox[..carried].copy_from_slice(&self.rest);
            let read = match self.stream.read(&mut inbox[carried..]) {
                Ok(0) => return Err(Fault::Closed.of(&self.rest)),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Fault::of_read(error, tally.bytes_read > 0)),
            };
            tally.bytes_read += read as u64;
            let input = &inbox[..carried + read];
            let used = self.take(input, source, tally).map_err(|fault| fault.of(input))?;
            if used == 0 && is_tls(input) {
                return Err(Fault::Tls);
            }
            self.rest.clear();
            self.rest.extend_from_slice(&input[used..]);
            if self.is_answered() {
                return if self.rest.is_empty() { Ok(true) } else { Err(unsolicited(&self.rest)) };
            }
            // The socket is empty: a later arrival triggers a new event.
            if input.len() < inbox.len() {
                return Ok(false);
            }
        }
    }

    /// Parses replies; returns the number of bytes consumed.
    fn take(&mut self, input: &[u8], source: &mut Source, tally: &mut Tally) -> Result<usize, Fault> {
        let mut at = 0;
        while self.replies.skip(input, &mut at)? && self.answered < self.batch.expected.len() {
            if let Some(outcome) = self.hit(input, &mut at, source) {
                tally.count(outcome);
                continue;
            }
            let Some(reply) = self.replies.next(input, &mut at)? else { break };
            self.accept(reply, source, tally)?;
        }
        Ok(at)
    }

    /// Consumes a hit in one step, with the end of the get.
    fn hit(&mut self, input: &[u8], at: &mut usize, source: &Source) -> Option<Outcome> {
        let Expected::Key { key, at: text } = self.batch.expected[self.answered] else { return None };
        let text = &self.batch.bytes[text..text + source.key_bytes()];
        let value = self.replies.hit(input, at, text)?;
        self.answered += 1;
        if self.batch.expected[self.answered] == Expected::End && input[*at..].starts_with(b"END\r\n") {
            self.answered += 1;
            *at += b"END\r\n".len();
        }
        Some(checked(source, key, &value[..value.len().min(SEEN_BYTES)]))
    }

    /// Checks a reply against the request.
    fn accept(&mut self, reply: Reply, source: &mut Source, tally: &mut Tally) -> Result<(), Fault> {
        loop {
            let expected = self.batch.expected[self.answered];
            self.answered += 1;
            let outcome = match (expected, reply) {
                (Expected::Key { key, at }, Reply::Block { key: text, begin }) if self.is_key(at, text) => {
                    checked(source, key, begin)
                }
                (Expected::Key { .. }, Reply::Block { .. } | Reply::End) => {
                    tally.count(Outcome::Miss);
                    continue;
                }
                (Expected::End, Reply::End) => return Ok(()),
                (Expected::Array(keys), Reply::Array(count)) if keys == count => return Ok(()),
                (Expected::Item { key }, Reply::Block { begin, .. }) => checked(source, key, begin),
                (Expected::Item { .. }, Reply::Miss) => Outcome::Miss,
                (Expected::Lease { key, at }, Reply::Block { key: text, begin }) if self.is_key(at, text) => {
                    checked(source, key, begin)
                }
                (Expected::Lease { at, .. }, Reply::Lease { key: text, token: HOT })
                    if self.is_key(at, text) =>
                {
                    Outcome::Busy
                }
                (Expected::Lease { key, at }, Reply::Lease { key: text, token }) if self.is_key(at, text) => {
                    source.fill(&mut self.fills, key, token);
                    Outcome::Granted
                }
                (Expected::Set, Reply::Stored | Reply::Done) => Outcome::Stored,
                (Expected::Set, Reply::NotStored) => Outcome::NotStored,
                (Expected::Fill, Reply::Stored) => Outcome::Filled,
                (Expected::Fill, Reply::NotStored) => Outcome::RefusedFill,
                (Expected::Delete, Reply::Deleted | Reply::Done) => Outcome::Deleted,
                (Expected::Delete, Reply::NotFound) => Outcome::NotFound,
                (expected, Reply::Error(kind)) => {
                    self.skip_rest(expected);
                    kind
                }
                (expected, reply) => return Err(Fault::Unexpected(format!("{reply:?} to {expected:?}"))),
            };
            tally.count(outcome);
            return Ok(());
        }
    }

    /// An error answers the whole command, however many parts its reply would have.
    fn skip_rest(&mut self, expected: Expected) {
        let rest = &self.batch.expected[self.answered..];
        self.answered += match expected {
            Expected::Array(keys) => keys,
            Expected::Key { .. } | Expected::Lease { .. } => {
                1 + rest.iter().position(|expected| *expected == Expected::End).expect("a get ends")
            }
            Expected::Delete | Expected::End | Expected::Fill | Expected::Item { .. } | Expected::Set => 0,
        };
    }

    fn is_key(&self, at: usize, text: &[u8]) -> bool {
        let expected = &self.batch.bytes[at..];
        expected.starts_with(text) && matches!(expected[text.len()], b' ' | b'\r')
    }

    fn is_answered(&self) -> bool {
        self.answered == self.batch.expected.len() && !self.replies.is_in_block()
    }

    /// Whether there are granted leases to fill.
    pub fn has_fills(&self) -> bool {
        !self.fills.expected.is_empty()
    }

    /// When the batch was sent, or was due.
    pub fn began(&self) -> u64 {
        self.began
    }

    /// The batch sent last.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }
}

fn checked(source: &Source, key: u64, begin: &[u8]) -> Outcome {
    if source.value(key, begin.len()) == begin { Outcome::Hit } else { Outcome::WrongValue }
}

fn unsolicited(bytes: &[u8]) -> Fault {
    let shown = &bytes[..bytes.len().min(100)];
    Fault::Unexpected(format!("{} after all replies", shown.escape_ascii()))
}

impl Fault {
    /// The fault of a failed read, after the server has sent something or nothing.
    pub(super) fn of_read(error: io::Error, has_sent: bool) -> Fault {
        match error.kind() {
            io::ErrorKind::ConnectionReset if !has_sent => Fault::Reset,
            _ => Fault::Io(error),
        }
    }

    /// The fault of a server that has sent these bytes.
    pub(super) fn of(self, received: &[u8]) -> Fault {
        if is_tls(received) { Fault::Tls } else { self }
    }
}

/// Whether this is how a TLS server answers plain text.
pub fn is_tls(received: &[u8]) -> bool {
    received.starts_with(&[0x15, 3])
}

impl Display for Fault {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Fault::Closed => write!(to, "the server closed a connection"),
            Fault::Io(error) => write!(to, "{error}"),
            Fault::Reset => {
                write!(to, "the server closed a connection without an answer: if it requires TLS, ")?;
                write!(to, "add an address with notls: there")
            }
            Fault::Silent { seconds } => write!(to, "the server sent nothing for {seconds} s"),
            Fault::Tls => {
                write!(
                    to,
                    "the server requires TLS, which bench does not speak: add an address with notls: there"
                )
            }
            Fault::Unexpected(what) => write!(to, "unexpected reply: {what}"),
            Fault::Unstored { refused, keys } => {
                write!(
                    to,
                    "the server refused to store {refused} of {keys} values before the run (skip this with --no-preload)"
                )
            }
        }
    }
}

impl From<Unexpected> for Fault {
    fn from(Unexpected(line): Unexpected) -> Fault {
        Fault::Unexpected(line)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        Fault::Io(error)
    }
}

/// The token sent to a client that must wait for another's fill.
const HOT: u64 = 1;
