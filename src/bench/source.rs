//! Where requests come from: drawn from the mix and encoded into one buffer, without allocations.

use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::mix::{Mix, Task};
use super::options::Plan;
use super::popularity::Draw;
use super::server::Dialect;
use super::sizes::Sizes;
use super::tally::{Requests, Verb};

/// Requests that are sent at once, and what they should hear.
#[derive(Default)]
pub struct Batch {
    pub bytes: Vec<u8>,
    pub asked: Vec<Asked>,
    pub requests: Requests,
}

/// A reply, or a part of one, that is expected next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asked {
    /// The number of replies that follow, one for each key.
    Array(usize),
    Delete,
    /// What closes the reply to a get.
    End,
    Fill,
    /// A value, or that there is none.
    Item {
        key: u64,
    },
    /// A value under the key that stands there in the bytes of the batch, or silence.
    Key {
        key: u64,
        at: usize,
    },
    /// A value or a lease for the key that stands there.
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
    /// What each verb begins with.
    lines: [Line; Verb::ALL.len()],
    mix: Mix,
    /// A key among many of one get.
    next_key: Line,
    random: SmallRng,
    sizes: Sizes,
    values: Values,
}

/// Bytes with a key among them, whose number is written over that of the key 0.
struct Line {
    bytes: Vec<u8>,
    key_at: usize,
    key_end: usize,
}

/// Which value belongs to a key, at each length.
#[derive(Clone)]
pub struct Values(Arc<[u8]>);

impl Batch {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.asked.clear();
        self.requests = Requests::default();
    }

    /// Returns where the key stands.
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
    /// The part of all requests that this thread sends.
    pub fn new(plan: &Plan, dialect: Dialect, values: Values, thread: usize) -> Source {
        let zero = zero(plan.key_bytes);
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
                    batch.asked.push(Asked::Item { key });
                }
                Task::MetaSet => self.set(batch, Verb::MetaSet),
                Task::Set => self.set(batch, Verb::Set),
            }
        }
    }

    /// Fills the lease on a key.
    pub fn fill(&mut self, batch: &mut Batch, key: u64, token: u64) {
        self.begin(batch, Verb::LeaseSet, key);
        batch.put_number(token);
        batch.put(b" 0 0 ");
        self.put_value(batch, key);
        batch.asked.push(Asked::Fill);
    }

    pub fn key_bytes(&self) -> usize {
        self.key_bytes
    }

    /// What a value of this key begins with.
    pub fn value(&self, key: u64, bytes: usize) -> &[u8] {
        self.values.of(key, bytes)
    }

    fn cycle(&mut self, batch: &mut Batch) {
        let key = self.draw.next(&mut self.random);
        self.begin(batch, Verb::Delete, key);
        batch.asked.push(Asked::Delete);
        self.lease(batch, key);
    }

    fn delete(&mut self, batch: &mut Batch, verb: Verb) {
        self.begin_drawn(batch, verb);
        batch.asked.push(Asked::Delete);
    }

    fn get(&mut self, batch: &mut Batch) {
        let (key, at) = self.begin_drawn(batch, Verb::Get);
        match self.dialect {
            Dialect::Redis => batch.asked.push(Asked::Item { key }),
            Dialect::Text => batch.asked.extend([Asked::Key { key, at }, Asked::End]),
        }
    }

    fn get_many(&mut self, batch: &mut Batch) {
        batch.requests[Verb::Get as usize] += 1;
        match self.dialect {
            Dialect::Redis => {
                batch.put(b"*");
                batch.put_number(self.keys_per_get as u64 + 1);
                batch.put(b"\r\n$4\r\nMGET\r\n");
                batch.asked.push(Asked::Array(self.keys_per_get));
            }
            Dialect::Text => batch.put(b"get"),
        }
        for _ in 0..self.keys_per_get {
            let key = self.draw.next(&mut self.random);
            let at = batch.put_line(&self.next_key, key);
            batch.asked.push(match self.dialect {
                Dialect::Redis => Asked::Item { key },
                Dialect::Text => Asked::Key { key, at },
            });
        }
        if self.dialect == Dialect::Text {
            batch.put(b"\r\n");
            batch.asked.push(Asked::End);
        }
    }

    fn lease(&mut self, batch: &mut Batch, key: u64) {
        let at = self.begin(batch, Verb::LeaseGet, key);
        batch.asked.extend([Asked::Lease { key, at }, Asked::End]);
    }

    fn set(&mut self, batch: &mut Batch, verb: Verb) {
        let (key, _) = self.begin_drawn(batch, verb);
        self.put_value(batch, key);
        batch.asked.push(Asked::Set);
    }

    fn begin_drawn(&mut self, batch: &mut Batch, verb: Verb) -> (u64, usize) {
        let key = self.draw.next(&mut self.random);
        (key, self.begin(batch, verb, key))
    }

    fn begin(&self, batch: &mut Batch, verb: Verb, key: u64) -> usize {
        batch.requests[verb as usize] += 1;
        batch.put_line(&self.lines[verb as usize], key)
    }

    /// The length of a value, and the value.
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
fn zero(bytes: usize) -> String {
    let prefix = if bytes >= PREFIX.len() + NUMBER_BYTES { PREFIX } else { "" };
    format!("{prefix}{}", "0".repeat(bytes - prefix.len()))
}

/// What stands before and behind the key, up to the length of a value, or to the token that is filled.
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

/// As the other, around a string of RESP.
fn redis_words(verb: Verb) -> [&'static str; 2] {
    match verb {
        Verb::Delete => ["*2\r\n$3\r\nDEL\r\n", "\r\n"],
        Verb::Get => ["*2\r\n$3\r\nGET\r\n", "\r\n"],
        Verb::Set => ["*3\r\n$3\r\nSET\r\n", "\r\n$"],
        // Plan::check lets none of these near Redis.
        Verb::LeaseGet | Verb::LeaseSet | Verb::MetaDelete | Verb::MetaGet | Verb::MetaSet => ["", ""],
    }
}

impl Values {
    /// For values of up to that length. They are printable, and the same in each run.
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
/// Digits that a key with the prefix keeps.
const NUMBER_BYTES: usize = 10;
/// Keys of the same number modulo this have the same values.
const OFFSETS: usize = 4096;
