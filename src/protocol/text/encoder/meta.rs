//! Replies to the meta commands: a status of two letters, the requested fields in the order of the flags, and
//! perhaps a value.

use super::{LINE_END, block, digits, fact};
use crate::protocol::base64;
use crate::protocol::message::{
    Block, Inspected, Meta, MetaFields, MetaReply, MetaStatus, MetaValue, Part, Ttl,
};
use crate::protocol::output::Output;

/// Marks come last; most replies have none.
pub(super) fn reply(output: &mut Output, meta: &Meta, reply: &MetaReply) {
    let mut buffer = itoa::Buffer::new();
    let value = match reply.value {
        MetaValue::Bytes(value) => Some(value),
        MetaValue::Hidden => None,
        MetaValue::Number(number) => Some(Block { bytes: buffer.format(number).as_bytes(), shared: None }),
    };
    match (value, reply.status) {
        (Some(value), _) => fact(output, b"VA ", value.bytes.len() as u64),
        (None, MetaStatus::Done) => output.push(b"HD"),
        (None, MetaStatus::Exists) => output.push(b"EX"),
        (None, MetaStatus::Missed) => output.push(b"EN"),
        (None, MetaStatus::NotFound) => output.push(b"NF"),
        (None, MetaStatus::NotStored) => output.push(b"NS"),
    }
    fields(output, meta, &reply.fields);
    if reply.part.is_some() || reply.is_stale {
        marks(output, reply);
    }
    match value {
        None => output.push(LINE_END),
        Some(value) => block(output, value),
    }
}

/// In memcached's order: Z for a client without the lease, X for a stale copy, W for the holder of the lease.
fn marks(output: &mut Output, reply: &MetaReply) {
    if reply.part == Some(Part::Waits) {
        output.push(b" Z");
    }
    if reply.is_stale {
        output.push(b" X");
    }
    if reply.part == Some(Part::Loads) {
        output.push(b" W");
    }
}

/// Writes the fields that the flags request, in their order, as far as they are known.
fn fields(output: &mut Output, meta: &Meta, fields: &MetaFields) {
    let mut ttl = fields.ttl;
    for flag in meta.flags.each() {
        match flag[0] {
            b'O' => {
                output.push(b" ");
                output.push(flag);
            }
            b'T' => ttl = fields.new_ttl.or(ttl),
            b'c' => number(output, b" c", fields.unique),
            b'f' => number(output, b" f", fields.client_flags.map(u64::from)),
            b'h' => number(output, b" h", fields.is_fetched.map(u64::from)),
            b'k' => key_field(output, meta),
            b'l' => number(output, b" l", fields.unused_seconds.map(u64::from)),
            b's' => number(output, b" s", fields.value_bytes.map(|bytes| bytes as u64)),
            b't' => {
                if let Some(ttl) = ttl {
                    output.push(b" t");
                    seconds(output, ttl);
                }
            }
            _ => {}
        }
    }
}

fn number(output: &mut Output, letter: &[u8], number: Option<u64>) {
    if let Some(number) = number {
        fact(output, letter, number);
    }
}

/// The key as it was sent.
fn key_field(output: &mut Output, meta: &Meta) {
    output.push(b" k");
    key(output, meta);
    if meta.flags.has(b'b') {
        output.push(b" b");
    }
}

fn key(output: &mut Output, meta: &Meta) {
    if meta.flags.has(b'b') {
        base64::encode(&meta.key, |digits| output.push(digits));
    } else {
        output.push(&meta.key);
    }
}

/// A number of seconds; -1 for no expiry.
fn seconds(output: &mut Output, ttl: Ttl) {
    match ttl {
        Ttl::Never => output.push(b"-1"),
        Ttl::Seconds(seconds) => digits(output, seconds),
    }
}

/// `ME <key> exp=<s|-1> la=<s> cas=<unique> fetch=<yes|no> size=<bytes>`
pub(super) fn inspected(output: &mut Output, meta: &Meta, inspected: Inspected) {
    output.push(b"ME ");
    key(output, meta);
    output.push(b" exp=");
    seconds(output, inspected.ttl);
    fact(output, b" la=", inspected.unused_seconds.into());
    fact(output, b" cas=", inspected.unique);
    output.push(if inspected.is_fetched { b" fetch=yes" } else { b" fetch=no" });
    fact(output, b" size=", inspected.bytes);
    output.push(LINE_END);
}
