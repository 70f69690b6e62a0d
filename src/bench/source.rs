//! The source of requests: it draws them from the mix and encodes them into one buffer, without
//! allocations.

use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::mix::{Mix, Task};
use super::options::Plan;
use super::popularity::Draw;
use super::server::Dialect;
use super::sizes::Sizes;
use super::tally::{Requests, Verb};

/// Requests that are sent together, and their expected replies.
#[derive(Default)]
pub struct Batch {
    pub bytes: Vec<u8>,
    pub expected: Vec<Expected>,
    pub requests: Requests,
}

/// The next expected reply, or a part of one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expected {
    /// The number of replies that follow, one for each key.
    Array(usize),
    Delete,
    /// The end of a reply to a get.
    End,
    Fill,
    /// A value or a miss.
    Item {
        key: u64,
    },
    /// A value under the key at this place in the batch, or no reply.
    Key {
        key: u64,
        at: usize,
    },
    /// A value or a lease for the key at this place.
    Lease {
        key: u64,
        at: usize,
    },
    Set,
}

/// Draws requests.
pub struct Source {
    dialect: Dialect,
    draw: Draw,
    key_bytes: usize,
    keys_per_get: usize,
    /// The beginning of each verb's line.
    lines: [Line; Verb::ALL.len()],
    mix: Mix,
    /// A further key of a get with several keys.
    next_key: Line,
    random: SmallRng,
    sizes: Sizes,
    values: Values,
}

/// Bytes that contain a key; its number is written over that of key 0.
struct Line {
    bytes: Vec<u8>,
    key_at: usize,
    key_end: usize,
}

/// The value of each key, for each length.
#[derive(Clone)]
pub struct Values(Arc<[u8]>);

impl Batch {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.expected.clear();
        self.requests = Requests::default();
    }

    /// Returns the position of the key.
    fn put_line(&mut self, line: &Line, key: u64) -> usize {
        let start = self.bytes.len();
        self.put(&line.bytes);
        let mut left = key;
        for digit in self.bytes[start..start + line.key_end].iter_mut().rev() {
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                break;
            }
        }
        start + line.key_at
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn put_number(&mut self, number: u64) {
        self.put(itoa::Buffer::new().format(number).as_bytes());
    }
}

impl Source {
    /// The source for this thread's share of the requests.
    pub fn new(plan: &Plan, dialect: Dialect, values: Values, thread: usize) -> Source {
        let zero = key_zero(plan.key_bytes);
        let line = |[before, after]: [&str; 2]| Line::new(dialect, before, &zero, after);
        Source {
            dialect,
            draw: plan.popularity.draw(plan.keys, plan.keys / plan.threads * thread),
            key_bytes: plan.key_bytes,
            keys_per_get: plan.keys_per_get,
            lines: Verb::ALL.map(|verb| match dialect {
                Dialect::Redis => line(redis_words(verb)),
                Dialect::Text => line(text_words(verb)),
            }),
            mix: plan.mix.clone(),
            next_key: match dialect {
                Dialect::Redis => line(["", "\r\n"]),
                Dialect::Text => line([" ", ""]),
            },
            random: SmallRng::seed_from_u64(plan.seed.wrapping_add(thread as u64)),
            sizes: plan.value_bytes.clone(),
            values,
        }
    }

    /// Fills an empty batch.
    pub fn ask(&mut self, batch: &mut Batch, tasks: usize) {
        batch.clear();
        for _ in 0..tasks {
            match self.mix.draw(&mut self.random) {
                Task::Cycle => self.cycle(batch),
                Task::Delete => self.delete(batch, Verb::Delete),
                Task::Get if self.keys_per_get > 1 => self.get_many(batch),
                Task::Get => self.get(batch),
                Task::Lease => {
                    let key = self.draw.next(&mut self.random);
                    self.lease(batch, key);
                }
                Task::MetaDelete => self.delete(batch, Verb::MetaDelete),
                Task::MetaGet => {
                    let (key, _) = self.begin_drawn(batch, Verb::MetaGet);
                    batch.expected.push(Expected::Item { key });
                }
                Task::MetaSet => self.set(batch, Verb::MetaSet),
                Task::Set => self.set(batch, Verb::Set),
            }
        }
    }

    /// Adds a fill of the lease on a key.
    pub fn fill(&mut self, batch: &mut Batch, key: u64, token: u64) {
        self.begin(batch, Verb::LeaseSet, key);
        batch.put_number(token);
        batch.put(b" 0 0 ");
        self.put_value(batch, key);
        batch.expected.push(Expected::Fill);
    }

    pub fn key_bytes(&self) -> usize {
        self.key_bytes
    }

    /// The first bytes of this key's value.
    pub fn value(&self, key: u64, bytes: usize) -> &[u8] {
        self.values.of(key, bytes)
    }

    fn cycle(&mut self, batch: &mut Batch) {
        let key = self.draw.next(&mut self.random);
        self.begin(batch, Verb::Delete, key);
        batch.expected.push(Expected::Delete);
        self.lease(batch, key);
    }

    fn delete(&mut self, batch: &mut Batch, verb: Verb) {
        self.begin_drawn(batch, verb);
        batch.expected.push(Expected::Delete);
    }

    fn get(&mut self, batch: &mut Batch) {
        let (key, at) = self.begin_drawn(batch, Verb::Get);
        match self.dialect {
            Dialect::Redis => batch.expected.push(Expected::Item { key }),
            Dialect::Text => batch.expected.extend([Expected::Key { key, at }, Expected::End]),
        }
    }

    fn get_many(&mut self, batch: &mut Batch) {
        batch.requests[Verb::Get as usize] += 1;
        match self.dialect {
            Dialect::Redis => {
                batch.put(b"*");
                batch.put_number(self.keys_per_get as u64 + 1);
                batch.put(b"\r\n$4\r\nMGET\r\n");
                batch.expected.push(Expected::Array(self.keys_per_get));
            }
            Dialect::Text => batch.put(b"get"),
        }
        for _ in 0..self.keys_per_get {
            let key = self.draw.next(&mut self.random);
            let at = batch.put_line(&self.next_key, key);
            batch.expected.push(match self.dialect {
                Dialect::Redis => Expected::Item { key },
                Dialect::Text => Expected::Key { key, at },
            });
        }
        if self.dialect == Dialect::Text {
            batch.put(b"\r\n");
            batch.expected.push(Expected::End);
        }
    }

    fn lease(&mut self, batch: &mut Batch, key: u64) {
        let at = self.begin(batch, Verb::LeaseGet, key);
        batch.expected.extend([Expected::Lease { key, at }, Expected::End]);
    }

    fn set(&mut self, batch: &mut Batch, verb: Verb) {
        let (key, _) = self.begin_drawn(batch, verb);
        self.put_value(batch, key);
        batch.expected.push(Expected::Set);
    }

    fn begin_drawn(&mut self, batch: &mut Batch, verb: Verb) -> (u64, usize) {
        let key = self.draw.next(&mut self.random);
        (key, self.begin(batch, verb, key))
    }

    fn begin(&self, batch: &mut Batch, verb: Verb, key: u64) -> usize {
        batch.requests[verb as usize] += 1;
        batch.put_line(&self.lines[verb as usize], key)
    }

    /// Writes the length of a value, and the value.
    fn put_value(&mut self, batch: &mut Batch, key: u64) {
        let bytes = self.sizes.draw(&mut self.random);
        batch.put_number(bytes as u64);
        batch.put(b"\r\n");
        batch.put(self.values.of(key, bytes));
        batch.put(b"\r\n");
    }
}

impl Line {
    fn new(dialect: Dialect, before: &str, zero: &str, after: &str) -> Line {
        let before = match dialect {
            Dialect::Redis => format!("{before}${}\r\n", zero.len()),
            Dialect::Text => before.to_owned(),
        };
        let key_at = before.len();
        Line { bytes: (before + zero + after).into(), key_at, key_end: key_at + zero.len() }
    }
}

/// The text of key 0; all keys have the same length.
fn key_zero(bytes: usize) -> String {
    let prefix = if bytes >= PREFIX.len() + NUMBER_BYTES { PREFIX } else { "" };
    format!("{prefix}{}", "0".repeat(bytes - prefix.len()))
}

/// The text before and after the key, up to the length of the value, or to the token of a fill.
fn text_words(verb: Verb) -> [&'static str; 2] {
    match verb {
        Verb::Delete => ["delete ", "\r\n"],
        Verb::Get => ["get ", "\r\n"],
        Verb::LeaseGet => ["lease-get ", "\r\n"],
        Verb::LeaseSet => ["lease-set ", " "],
        Verb::MetaDelete => ["md ", "\r\n"],
        Verb::MetaGet => ["mg ", " v\r\n"],
        Verb::MetaSet => ["ms ", " "],
        Verb::Set => ["set ", " 0 0 "],
    }
}

/// As [`text_words`], around a RESP string.
fn redis_words(verb: Verb) -> [&'static str; 2] {
    match verb {
        Verb::Delete => ["*2\r\n$3\r\nDEL\r\n", "\r\n"],
        Verb::Get => ["*2\r\n$3\r\nGET\r\n", "\r\n"],
        Verb::Set => ["*3\r\n$3\r\nSET\r\n", "\r\n$"],
        // `Plan::check` rejects these for Redis.
        Verb::LeaseGet | Verb::LeaseSet | Verb::MetaDelete | Verb::MetaGet | Verb::MetaSet => ["", ""],
    }
}

impl Values {
    /// Values up to this length. They are printable, and the same in each run.
    pub fn new(bytes_max: usize) -> Values {
        let mut random = SmallRng::seed_from_u64(0);
        let mut letter = || b'!' + random.random_range(0..94);
        Values((0..bytes_max + OFFSETS).map(|_| letter()).collect())
    }

    fn of(&self, key: u64, bytes: usize) -> &[u8] {
        let offset = key as usize % OFFSETS;
        &self.0[offset..offset + bytes]
    }
}

const PREFIX: &str = "bench:";
/// The number of digits of a key with a prefix.
const NUMBER_BYTES: usize = 10;
/// Keys with the same number modulo this have the same values.
const OFFSETS: usize = 4096;
