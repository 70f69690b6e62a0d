//! Writes replies as memcached does.

mod dump;
mod meta;
mod refusal;
mod status;

use crate::protocol::message::{Block, Reply};
use crate::protocol::output::Output;
use crate::shown::word;

/// Writes one reply.
///
/// A command names the reply that it sends, so that only one of these arms is left where it is inlined.
#[inline(always)]
pub(in crate::protocol) fn encode(output: &mut Output, reply: Reply<'_>) {
    match reply {
        Reply::Counted(number) => line(output, b"", number),
        Reply::Events(lines) => output.push(lines),
        Reply::Failed(why) => failed(output, why),
        Reply::Inspected(meta, inspected) => meta::inspected(output, meta, inspected),
        Reply::Invalidated(names) => line(output, b"INVALIDATED ", names),
        Reply::Leased { key, token, flags, value } => leased(output, key, token, flags, value),
        Reply::Listed(form, listed) => dump::listed(output, form, &listed),
        Reply::Meta(meta, reply) => meta::reply(output, meta, &reply),
        Reply::Metadata { key, age_seconds, exptime_unix } => {
            metadata(output, key, age_seconds, exptime_unix);
        }
        Reply::Prefix { prefix, gets, hits, sets, deletes } => {
            uses(output, prefix, [gets, hits, sets, deletes]);
        }
        Reply::Refused(refusal) => output.push(refusal::line(refusal)),
        Reply::Stat { name, value } => words(output, &["STAT ", name, " ", value]),
        Reply::Status(status) => output.push(status::line(status)),
        Reply::Value { key, flags, unique, value } => found(output, key, flags, unique, value),
        Reply::Version(version) => words(output, &["VERSION ", version]),
    }
}

/// `VALUE <key> <flags> <bytes> [<unique>]` and the data block.
fn found(output: &mut Output, key: &[u8], flags: u32, unique: Option<u64>, value: Block) {
    output.push(b"VALUE ");
    output.push(key);
    field(output, flags.into());
    field(output, value.bytes.len() as u64);
    if let Some(unique) = unique {
        field(output, unique);
    }
    block(output, value);
}

/// `LVALUE <key> <token> <flags> <bytes>` and the data block.
fn leased(output: &mut Output, key: &[u8], token: u64, flags: u32, value: Block) {
    output.push(b"LVALUE ");
    output.push(key);
    field(output, token);
    field(output, flags.into());
    field(output, value.bytes.len() as u64);
    block(output, value);
}

/// `META <key> age: <s>; exptime: <unix|0>; from: unknown; is_transient: 0`
fn metadata(output: &mut Output, key: &[u8], age_seconds: u32, exptime_unix: u64) {
    output.push(b"META ");
    output.push(key);
    fact(output, b" age: ", age_seconds.into());
    fact(output, b"; exptime: ", exptime_unix);
    output.push(b"; from: unknown; is_transient: 0\r\n");
}

/// `PREFIX <prefix> get <n> hit <n> set <n> del <n>`
fn uses(output: &mut Output, prefix: &[u8], uses: [u64; 4]) {
    output.push(b"PREFIX ");
    output.push(word(prefix).as_bytes());
    for (name, count) in [b" get ", b" hit ", b" set ", b" del "].into_iter().zip(uses) {
        fact(output, name, count);
    }
    output.push(LINE_END);
}

/// `SERVER_ERROR <why>`
fn failed(output: &mut Output, why: &str) {
    words(output, &["SERVER_ERROR ", &why.escape_debug().to_string()]);
}

/// A line of these parts.
fn words(output: &mut Output, parts: &[&str]) {
    parts.iter().for_each(|part| output.push(part.as_bytes()));
    output.push(LINE_END);
}

/// `<name><number>`, and the end of the line.
fn line(output: &mut Output, name: &[u8], number: u64) {
    fact(output, name, number);
    output.push(LINE_END);
}

/// `<name><number>`
fn fact(output: &mut Output, name: &[u8], number: u64) {
    output.push(name);
    digits(output, number);
}

/// A space and a number.
#[inline]
fn field(output: &mut Output, number: u64) {
    // Client flags are mostly 0.
    if let digit @ 0..10 = number {
        return output.push(&[b' ', b'0' + digit as u8]);
    }
    fact(output, b" ", number);
}

fn digits(output: &mut Output, number: u64) {
    output.push(itoa::Buffer::new().format(number).as_bytes());
}

/// A line end, a data block and its line end.
#[inline]
fn block(output: &mut Output, value: Block) {
    output.push(LINE_END);
    output.push_value(value);
    output.push(LINE_END);
}

const LINE_END: &[u8] = b"\r\n";
