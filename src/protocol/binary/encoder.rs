//! Writes replies as memcached does.

use super::exchange::Exchange;
use super::opcode::Verb;
use crate::protocol::message::{BadPacket, Block, MetaReply, MetaStatus, MetaValue, Refusal, Reply, Status};
use crate::protocol::output::Output;
use crate::shown::word;

/// Writes one reply.
#[cold]
#[inline(never)]
pub(in crate::protocol) fn encode(output: &mut Output, exchange: &mut Exchange, reply: Reply<'_>) {
    match reply {
        Reply::Counted(number) => success(output, exchange, 0, &number.to_be_bytes()),
        Reply::Meta(_, reply) => changed(output, exchange, &reply),
        Reply::Prefix { prefix, gets, hits, sets, deletes } => {
            let uses = format!("get {gets} hit {hits} set {sets} del {deletes}");
            statistic(output, exchange, &format!("prefix:{}", word(prefix)), &uses);
        }
        Reply::Refused(refusal) => refused(output, exchange, refusal),
        Reply::Stat { name, value } => statistic(output, exchange, name, value),
        Reply::Status(status) => plain(output, exchange, status),
        Reply::Value { key, flags, unique, value } => {
            found(output, exchange, key, flags, unique.unwrap_or(0), value);
        }
        Reply::Version(version) => success(output, exchange, 0, version.as_bytes()),
        Reply::Events(_)
        | Reply::Failed(_)
        | Reply::Inspected(..)
        | Reply::Invalidated(_)
        | Reply::Leased { .. }
        | Reply::Listed(..)
        | Reply::Metadata { .. } => unreachable!("no packet asks for this: {reply:?}"),
    }
}

/// Replies to a quit.
pub(in crate::protocol) fn farewell(output: &mut Output, exchange: &Exchange) {
    succeeded(output, exchange, 0, b"");
}

/// A value, or for `touch` its flags.
fn found(output: &mut Output, exchange: &mut Exchange, key: &[u8], flags: u32, unique: u64, value: Block) {
    exchange.has_value = true;
    let verb = exchange.opcode.map(|opcode| opcode.verb);
    let key = if verb.is_some_and(Verb::shows_key) { key } else { b"" };
    let value = if verb == Some(Verb::Touch) { Block { bytes: b"", shared: None } } else { value };
    let extras = flags.to_be_bytes();
    let packet = Packet { unique, extras: &extras, key, value_bytes: value.bytes.len(), ..Packet::default() };
    packet.write(output, exchange);
    output.push_value(value);
}

/// The outcome of a command that changes a value.
fn changed(output: &mut Output, exchange: &Exchange, reply: &MetaReply) {
    let unique = reply.fields.unique.unwrap_or(0);
    match (reply.status, reply.value) {
        (MetaStatus::Done, MetaValue::Number(number)) => {
            succeeded(output, exchange, unique, &number.to_be_bytes());
        }
        (MetaStatus::Done, MetaValue::Bytes(_) | MetaValue::Hidden) => {
            succeeded(output, exchange, unique, b"");
        }
        (MetaStatus::Exists, _) => failure(output, exchange, Failure::Exists),
        (MetaStatus::Missed | MetaStatus::NotFound, _) => failure(output, exchange, Failure::NotFound),
        (MetaStatus::NotStored, _) => failure(output, exchange, not_stored(exchange)),
    }
}

/// The failure of a store whose condition is not met.
fn not_stored(exchange: &Exchange) -> Failure {
    match exchange.opcode.map(|opcode| opcode.verb) {
        Some(Verb::Add) => Failure::Exists,
        Some(Verb::Replace) => Failure::NotFound,
        _ => Failure::NotStored,
    }
}

fn refused(output: &mut Output, exchange: &Exchange, refusal: Refusal) {
    let Refusal::Packet(bad) = refusal else { return failure(output, exchange, Failure::Invalid) };
    match bad {
        BadPacket::Layout => failure(output, exchange, Failure::Invalid),
        BadPacket::Lengths | BadPacket::Opcode => failure(output, exchange, Failure::Unknown),
        BadPacket::Locked => failure(output, exchange, Failure::Auth),
        // A reply would have to repeat the header that is missing.
        BadPacket::Magic => {}
        BadPacket::Statistics => failure(output, exchange, Failure::NotFound),
    }
}

/// A reply without content, or the end of replies with content.
fn plain(output: &mut Output, exchange: &Exchange, status: Status) {
    let verb = exchange.opcode.map(|opcode| opcode.verb);
    match status {
        Status::End if verb == Some(Verb::Stat) => success(output, exchange, 0, b""),
        Status::End => missed(output, exchange),
        Status::Ok if verb == Some(Verb::SaslMechanisms) => success(output, exchange, 0, b"PLAIN"),
        Status::Ok if verb == Some(Verb::SaslAuth) => failure(output, exchange, Failure::AuthContinues),
        Status::Stored if verb.is_some_and(Verb::is_sasl) => success(output, exchange, 0, b"Authenticated"),
        Status::Deleted
        | Status::EndOfKeys
        | Status::Noop
        | Status::Ok
        | Status::Reset
        | Status::StaleStored
        | Status::Stored
        | Status::Touched => succeeded(output, exchange, 0, b""),
        Status::AuthFailure
        | Status::AuthTokenTooLong
        | Status::BadAuthToken
        | Status::CachedumpNotAllowed
        | Status::DetailNotAllowed
        | Status::FlushNotAllowed
        | Status::KeyDumpNotAllowed
        | Status::MetadumpNotAllowed
        | Status::ShutdownNotEnabled
        | Status::Unauthenticated
        | Status::WatchNotAllowed => failure(output, exchange, Failure::Auth),
        Status::BadPrefix
        | Status::BadShutdown
        | Status::MemlimitNotMegabytes
        | Status::MemlimitOutOfBounds
        | Status::MemlimitTooSmall => failure(output, exchange, Failure::Invalid),
        Status::Exists => failure(output, exchange, Failure::Exists),
        Status::NoRoom | Status::NoRoomToCount => failure(output, exchange, Failure::NoRoom),
        Status::NonNumeric => failure(output, exchange, Failure::NonNumeric),
        Status::NotFound => failure(output, exchange, Failure::NotFound),
        Status::NotStored => failure(output, exchange, Failure::NotStored),
        Status::TooLarge => failure(output, exchange, Failure::TooLarge),
        Status::TooManyConnections | Status::TooManyFromThere | Status::TooManyWatchers | Status::TooSlow => {
            failure(output, exchange, Failure::Temporary);
        }
        Status::Unknown => failure(output, exchange, Failure::Unknown),
    }
}

/// The end of a read, after its value if it has found one.
fn missed(output: &mut Output, exchange: &Exchange) {
    if exchange.has_value || exchange.is_quiet() {
        return;
    }
    if exchange.key.is_empty() {
        return failure(output, exchange, Failure::NotFound);
    }
    let (status, key) = (Failure::NotFound.status(), &exchange.key[..]);
    Packet { status, key, ..Packet::default() }.write(output, exchange);
}

/// One statistic. Without a name it would be the end of them.
fn statistic(output: &mut Output, exchange: &Exchange, name: &str, value: &str) {
    let (key, value_bytes) = (name.as_bytes(), value.len());
    Packet { key, value_bytes, ..Packet::default() }.write(output, exchange);
    output.push(value.as_bytes());
}

/// A success, which quiet commands do not report.
fn succeeded(output: &mut Output, exchange: &Exchange, unique: u64, value: &[u8]) {
    if !exchange.is_quiet() {
        success(output, exchange, unique, value);
    }
}

fn success(output: &mut Output, exchange: &Exchange, unique: u64, value: &[u8]) {
    Packet { unique, value_bytes: value.len(), ..Packet::default() }.write(output, exchange);
    output.push(value);
}

fn failure(output: &mut Output, exchange: &Exchange, failure: Failure) {
    let text = failure.text().as_bytes();
    Packet { status: failure.status(), value_bytes: text.len(), ..Packet::default() }.write(output, exchange);
    output.push(text);
}

/// The reasons for a reply other than success.
#[derive(Clone, Copy)]
enum Failure {
    Auth,
    AuthContinues,
    Exists,
    Invalid,
    NoRoom,
    NonNumeric,
    NotFound,
    NotStored,
    Temporary,
    TooLarge,
    Unknown,
}

impl Failure {
    fn status(self) -> u16 {
        match self {
            Failure::NotFound => 0x01,
            Failure::Exists => 0x02,
            Failure::TooLarge => 0x03,
            Failure::Invalid => 0x04,
            Failure::NotStored => 0x05,
            Failure::NonNumeric => 0x06,
            Failure::Auth => 0x20,
            Failure::AuthContinues => 0x21,
            Failure::Unknown => 0x81,
            Failure::NoRoom => 0x82,
            Failure::Temporary => 0x86,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Failure::Auth => "Auth failure.",
            Failure::AuthContinues => "",
            Failure::Exists => "Data exists for key.",
            Failure::Invalid => "Invalid arguments",
            Failure::NoRoom => "Out of memory",
            Failure::NonNumeric => "Non-numeric server-side value for incr or decr",
            Failure::NotFound => "Not found",
            Failure::NotStored => "Not stored.",
            Failure::Temporary => "Temporary failure",
            Failure::TooLarge => "Too large.",
            Failure::Unknown => "Unknown command",
        }
    }
}

/// A packet whose value follows.
#[derive(Clone, Copy, Default)]
struct Packet<'a> {
    status: u16,
    unique: u64,
    extras: &'a [u8],
    key: &'a [u8],
    value_bytes: usize,
}

impl Packet<'_> {
    /// Writes everything before the value.
    fn write(self, output: &mut Output, exchange: &Exchange) {
        let key_bytes = u16::try_from(self.key.len()).expect("keys and names are short").to_be_bytes();
        let body_bytes = self.extras.len() + self.key.len() + self.value_bytes;
        let body_bytes = u32::try_from(body_bytes).expect("values have at most a gigabyte");
        output.push(&[MAGIC, exchange.number, key_bytes[0], key_bytes[1], self.extras.len() as u8, RAW]);
        output.push(&self.status.to_be_bytes());
        output.push(&body_bytes.to_be_bytes());
        output.push(&exchange.opaque);
        output.push(&self.unique.to_be_bytes());
        output.push(self.extras);
        output.push(self.key);
    }
}

/// The first byte of a reply.
const MAGIC: u8 = 0x81;
/// The only type of data.
const RAW: u8 = 0;
