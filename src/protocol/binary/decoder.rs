//! The read buffer: bytes in, one packet at a time out.
//!
//! It works like the text protocol's: a request borrows from the buffer until the next one is decoded, and a
//! large value is received into pages of its own.

use std::iter;
use std::mem::take;

use bytes::BufMut;

use super::exchange::Exchange;
use super::header::{Access, HEADER_BYTES, Header, MAGIC};
use super::opcode::{Opcode, Verb};
use super::request::{self, Packet, Step};
use crate::limits::{KEY_BYTES_MAX, VALUE_APART_BYTES_MIN};
use crate::pages::Payload;
use crate::protocol::message::{BadPacket, Numbers, Refusal, Request, Upcoming};
use crate::protocol::space::{Arriving, Awaited, Space};

/// Splits a connection's bytes into requests.
#[derive(Debug)]
pub(in crate::protocol) struct Decoder {
    buffer: Vec<u8>,
    /// Consumed bytes of the buffer.
    done: usize,
    login: LoginState,
    /// The numbers of the last request's flags.
    numbers: Numbers,
    state: State,
    /// Remaining bytes that the last request borrows.
    used: usize,
    value_bytes_max: usize,
}

/// The progress of a connection's login.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::protocol) struct LoginState {
    access: Access,
    /// Whether a login has begun without a password, which the next step may bring.
    step: Step,
}

#[derive(Debug)]
enum State {
    Packet,
    /// A large value is being received.
    Receive(Box<Receive>),
    /// Holds the bytes before the large value while its request is executed.
    Received {
        head: Vec<u8>,
    },
    /// This many bytes of a refused packet are still to be skipped.
    Skip(usize),
}

/// A large value that is being received.
#[derive(Debug)]
struct Receive {
    /// The packet up to its value.
    head: Vec<u8>,
    opcode: Opcode,
    value: Arriving,
}

impl Decoder {
    /// A decoder that continues with these bytes. `has_login` says whether clients log in.
    pub(in crate::protocol) fn new(buffer: Vec<u8>, has_login: bool) -> Self {
        let access = if has_login { Access::Locked } else { Access::Free };
        Decoder {
            buffer,
            done: 0,
            login: LoginState { access, step: Step::Unexpected },
            numbers: Numbers::default(),
            state: State::Packet,
            used: 0,
            value_bytes_max: 0,
        }
    }

    /// Sets whether a login is required first.
    pub(in crate::protocol) fn expect_login(&mut self, is_expected: bool) {
        self.login.access = match (is_expected, self.login.access) {
            (true, _) => Access::Locked,
            (false, Access::Free) => Access::Free,
            (false, Access::Locked | Access::LoggedIn) => Access::LoggedIn,
        };
    }

    /// Changes the limit on values.
    pub(in crate::protocol) fn limit_values(&mut self, value_bytes_max: usize) {
        self.value_bytes_max = value_bytes_max;
    }

    /// The space for the next bytes.
    pub(in crate::protocol) fn space(&mut self) -> Space<'_> {
        self.release();
        match &mut self.state {
            State::Receive(block) => block.value.space(&mut self.buffer, &mut self.done),
            State::Packet | State::Received { .. } | State::Skip(_) => {
                self.buffer.drain(..take(&mut self.done));
                self.buffer.reserve(READ_BYTES);
                let free = self.buffer.capacity() - self.buffer.len();
                Space::Buffer((&mut self.buffer).limit(free))
            }
        }
    }

    /// The memory that the unfinished request needs before more of it can be received; 0 if the buffer that
    /// every connection has suffices.
    pub(in crate::protocol) fn room_needed(&self) -> usize {
        match &self.state {
            State::Receive(block) => block.value.whole(),
            State::Packet | State::Received { .. } | State::Skip(_) => 0,
        }
    }

    /// The part of a request that must arrive next.
    pub(in crate::protocol) fn awaited(&self) -> Awaited {
        match self.state {
            State::Packet | State::Received { .. } if self.buffer.len() - self.done < HEADER_BYTES => {
                Awaited::Line
            }
            State::Packet | State::Receive(_) | State::Received { .. } => Awaited::Block,
            State::Skip(_) => Awaited::Refused,
        }
    }

    /// Drops what it has decoded. If nothing is left, not even a part of a request, returns the state of the
    /// login: apart from that, the decoder is as new.
    pub(in crate::protocol) fn rest(&mut self) -> Option<LoginState> {
        self.release();
        if self.done < self.buffer.len() {
            return None;
        }
        self.done = 0;
        self.buffer.clear();
        matches!(self.state, State::Packet).then_some(self.login)
    }

    /// Continues in this state of the login.
    pub(in crate::protocol) fn resume(&mut self, login: LoginState) {
        self.login = login;
    }

    /// Frees the buffer if it is empty and longer than this.
    pub(in crate::protocol) fn trim(&mut self, bytes_max: usize) {
        if self.buffer.is_empty() && self.buffer.capacity() > bytes_max {
            self.buffer = Vec::new();
        }
    }

    /// The buffer, for the decoder of another protocol.
    pub(in crate::protocol) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// The next request or its refusal; `None` if more bytes are needed. The replies need `exchange`.
    ///
    /// After a fatal refusal the decoder must not be used any more.
    pub(in crate::protocol) fn decode(
        &mut self,
        exchange: &mut Exchange,
    ) -> Option<Result<Request<'_>, Refusal>> {
        self.release();
        self.skip();
        if matches!(self.state, State::Receive(_)) {
            return self.received();
        }
        let rest = &self.buffer[self.done..];
        if *rest.first()? != MAGIC {
            self.used = rest.len();
            return Some(Err(Refusal::Packet(BadPacket::Magic)));
        }
        let header = Header::parse(rest)?;
        exchange.begin(&header);
        let opcode = match header.checked(self.login.access) {
            Ok(opcode) => opcode,
            Err(bad) if bad.is_fatal() => {
                self.used = rest.len();
                return Some(Err(Refusal::Packet(bad)));
            }
            Err(bad) => {
                self.used = HEADER_BYTES;
                self.state = State::Skip(header.body_bytes);
                return Some(Err(Refusal::Packet(bad)));
            }
        };
        let (start, value_bytes) = (header.value_start(), header.value_bytes());
        let head = rest.get(..start)?;
        let (extras, key) = header.extras_and_key(head);
        if opcode.verb.shows_key() {
            exchange.key.extend_from_slice(key);
        }
        if value_bytes > value_bytes_max(opcode.verb, self.value_bytes_max) {
            self.used = start;
            self.state = State::Skip(value_bytes);
            return Some(Ok(request::too_large(opcode.verb, key)));
        }
        let Some(value) = rest.get(start..start + value_bytes) else {
            if value_bytes >= VALUE_APART_BYTES_MIN {
                let (head, value) = (head.to_vec(), Arriving::new(value_bytes));
                self.done += start;
                self.state = State::Receive(Box::new(Receive { head, opcode, value }));
            }
            return None;
        };
        self.used = start + value_bytes;
        let packet = Packet { verb: opcode.verb, unique: header.unique, extras, key, value: value.into() };
        Some(packet.request(&mut self.numbers, &mut self.login.step))
    }

    /// Previews of the buffered requests, for prefetching. They may be wrong for malformed requests.
    pub(in crate::protocol) fn upcoming(&self) -> impl Iterator<Item = Upcoming<'_>> {
        let is_packet = matches!(self.state, State::Packet);
        let mut rest = if is_packet { &self.buffer[self.done + self.used..] } else { &[] };
        iter::from_fn(move || {
            let header = Header::parse(rest)?;
            let key = rest.get(HEADER_BYTES + header.extras_bytes..header.value_start())?;
            rest = rest.get(HEADER_BYTES + header.body_bytes..).unwrap_or_default();
            let is_read = matches!(Opcode::of(header.number)?.verb, Verb::Get | Verb::GetKey);
            // The cache prefetches no other keys, and the connection closes at one of them.
            (1..=KEY_BYTES_MAX).contains(&key.len()).then_some(Upcoming { is_read, key })
        })
    }

    /// Whether the buffer holds an unfinished request.
    pub(in crate::protocol) fn is_midway(&self) -> bool {
        self.buffer.len() - self.done > self.used
            || !matches!(self.state, State::Packet | State::Received { .. })
    }

    /// Drops the bytes that the last request borrowed.
    fn release(&mut self) {
        self.done += take(&mut self.used);
        if matches!(self.state, State::Received { .. }) {
            self.state = State::Packet;
        }
    }

    fn skip(&mut self) {
        if let State::Skip(left) = &mut self.state {
            let here = (self.buffer.len() - self.done).min(*left);
            self.done += here;
            *left -= here;
            if *left == 0 {
                self.state = State::Packet;
            }
        }
    }

    fn received(&mut self) -> Option<Result<Request<'_>, Refusal>> {
        let State::Receive(block) = &mut self.state else { unreachable!("only called then") };
        let value = Payload::from(block.value.take_whole()?);
        let (head, opcode) = (take(&mut block.head), block.opcode);
        self.state = State::Received { head };
        let State::Received { head } = &self.state else { unreachable!("just set") };
        let header = Header::parse(head).expect("it was whole when it was kept");
        let (extras, key) = header.extras_and_key(head);
        let packet = Packet { verb: opcode.verb, unique: header.unique, extras, key, value };
        Some(packet.request(&mut self.numbers, &mut self.login.step))
    }
}

/// The longest value of a command.
fn value_bytes_max(verb: Verb, value_bytes_max: usize) -> usize {
    if verb.is_sasl() { value_bytes_max.min(LOGIN_BYTES_MAX) } else { value_bytes_max }
}

/// The most bytes of one read.
const READ_BYTES: usize = 16 * 1024;
/// The longest login. It is never received into pages.
const LOGIN_BYTES_MAX: usize = VALUE_APART_BYTES_MIN - 1;
