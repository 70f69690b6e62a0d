//! The requests of a trace, recorded or from `synthetic`.
//!
//! A key is a number here; `Request::write_key` gives its form on the wire. Values are not part of a trace:
//! their bytes follow from the key and the length, so that each value can be checked when it is read.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use ruzstd::decoding::StreamingDecoder;

use crate::random::Random;

#[derive(Clone, Copy)]
pub struct Request {
    pub expiry: Expiry,
    pub key: u32,
    pub key_bytes: u8,
    pub op: Op,
    /// Seconds since the trace began.
    pub time: u32,
    pub value_bytes: u32,
}

#[derive(Clone, Copy)]
pub enum Expiry {
    /// At a second since 1970.
    At(u32),
    Never,
    /// After this many seconds of the trace.
    Within(u32),
}

#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Op {
    Delete,
    /// If it misses, the same value is set.
    Get,
    Set,
}

impl Request {
    /// Writes the number, padded to the key's length. A key that is too short for its number becomes longer.
    pub fn write_key(&self, key: &mut Vec<u8>) {
        key.clear();
        key.extend_from_slice(itoa::Buffer::new().format(self.key).as_bytes());
        key.resize(key.len().max(self.key_bytes.into()), b'.');
    }

    /// The length of what `write_key` writes.
    pub fn key_length(&self) -> usize {
        itoa::Buffer::new().format(self.key).len().max(self.key_bytes.into())
    }

    /// Parses a line `time,key,key_size,value_size,op,ttl`; `None` if it is invalid.
    fn parse(line: &str, keys: &mut HashMap<String, u32>) -> Option<Request> {
        let mut fields = line.split(',');
        let time = fields.next()?.parse().ok()?;
        let token = fields.next()?;
        let next = u32::try_from(keys.len()).ok()?;
        let key = keys.get(token).copied().unwrap_or_else(|| *keys.entry(token.to_owned()).or_insert(next));
        let key_bytes = fields.next()?.parse().ok()?;
        let value_bytes = fields.next()?.parse().ok()?;
        let op = match fields.next()? {
            "d" => Op::Delete,
            "g" => Op::Get,
            "s" => Op::Set,
            _ => return None,
        };
        let expiry = match fields.next()?.parse().ok()? {
            0 => Expiry::Never,
            seconds => Expiry::Within(seconds),
        };
        Some(Request { expiry, key, key_bytes, op, time, value_bytes })
    }
}

/// The first `limit` requests of a file compressed with zstd.
pub fn load(path: &Path, limit: usize) -> io::Result<Vec<Request>> {
    let decoder = StreamingDecoder::new(BufReader::new(File::open(path)?)).map_err(io::Error::other)?;
    let mut keys = HashMap::new();
    let head_and_rows = BufReader::with_capacity(1 << 17, decoder).lines().enumerate();
    head_and_rows
        .skip(1)
        .take(limit)
        .map(|(index, line)| {
            Request::parse(&line?, &mut keys)
                .ok_or_else(|| io::Error::other(format!("{}:{}: invalid request", path.display(), index + 1)))
        })
        .collect()
}

/// The bytes of all values: random bytes, of which each value is a section.
pub struct Values(Vec<u8>);

impl Values {
    pub fn new() -> Self {
        let mut random = Random::new(0);
        Values((0..SECTIONS + VALUE_BYTES_MAX).map(|_| random.number() as u8).collect())
    }

    /// The section depends on the length, too, so that an old value of another length is detected.
    pub fn value(&self, key: u32, bytes: u32) -> &[u8] {
        let start = Random::new(u64::from(key) << 32 | u64::from(bytes)).number() as usize % SECTIONS;
        &self.0[start..start + bytes as usize]
    }
}

const SECTIONS: usize = 1 << 16;
/// Longer values do not occur in traces, and would panic.
const VALUE_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_parsed_into_requests() {
        let mut keys = HashMap::new();
        let request = Request::parse("7,zz,20,100,s,60", &mut keys).unwrap();
        assert!(matches!(request.expiry, Expiry::Within(60)) && request.op == Op::Set);
        assert_eq!((request.time, request.key, request.value_bytes), (7, 0, 100));
        let mut key = Vec::new();
        request.write_key(&mut key);
        assert_eq!(key, b"0...................");
        assert_eq!(request.key_length(), key.len());
        let longer = Request { key: 1_234, key_bytes: 2, ..request };
        longer.write_key(&mut key);
        assert_eq!((&key[..], longer.key_length()), (&b"1234"[..], 4));
        assert_eq!(Request::parse("8,b,20,100,g,0", &mut keys).unwrap().key, 1);
        assert_eq!(Request::parse("9,zz,20,100,d,0", &mut keys).unwrap().key, 0);
        for line in ["", "time,key,key_size,value_size,op,ttl", "1,a,20,100,x,0", "1,a,20,100,g"] {
            assert!(Request::parse(line, &mut keys).is_none(), "{line}");
        }
    }
}
