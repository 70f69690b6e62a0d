//! Where requests come from: drawn from the mix and encoded into one buffer, without allocations.

use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::SmallRng;

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
    keys: Keys,
    keys_per_get: usize,
    mix: Mix,
    random: SmallRng,
    sizes: Sizes,
    values: Values,
}

/// The text of keys, by their numbers: all of the same length.
struct Keys {
    /// The key 0.
    zero: Vec<u8>,
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

    fn begin(&mut self, verb: Verb) {
        self.requests[verb as usize] += 1;
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn put_number(&mut self, number: u64) {
        self.put(itoa::Buffer::new().format(number).as_bytes());
    }

    /// RESP's strings have their length before them.
    fn put_string(&mut self, bytes: &[u8]) {
        self.put(b"$");
        self.put_number(bytes.len() as u64);
        self.put(b"\r\n");
        self.put(bytes);
        self.put(b"\r\n");
    }
}

impl Source {
    /// The part of all requests that this thread sends.
    pub fn new(plan: &Plan, dialect: Dialect, values: Values, thread: usize) -> Source {
        Source {
            dialect,
            draw: plan.popularity.draw(plan.keys, plan.keys / plan.threads * thread),
            keys: Keys::new(plan.key_bytes),
            keys_per_get: plan.keys_per_get,
            mix: plan.mix.clone(),
            random: SmallRng::seed_from_u64(plan.seed.wrapping_add(thread as u64)),
            sizes: plan.value_bytes.clone(),
            values,
        }
    }

    /// Fills an empty batch.
    pub fn ask(&mut self, batch: &mut Batch, tasks: usize) {
        batch.clear();
        for _ in 0..tasks {
            let task = self.mix.draw(&mut self.random);
            match self.dialect {
                Dialect::Redis => self.ask_redis(batch, task),
                Dialect::Text => self.ask_text(batch, task),
            }
        }
    }

    /// Fills the lease on a key.
    pub fn fill(&mut self, batch: &mut Batch, key: u64, token: u64) {
        batch.begin(Verb::LeaseSet);
        batch.put(b"lease-set ");
        self.keys.put(key, batch);
        batch.put(b" ");
        batch.put_number(token);
        self.put_classic_value(batch, key);
        batch.asked.push(Asked::Fill);
    }

    pub fn key_bytes(&self) -> usize {
        self.keys.zero.len()
    }

    /// What a value of this key begins with.
    pub fn value(&self, key: u64, bytes: usize) -> &[u8] {
        self.values.of(key, bytes)
    }

    fn ask_text(&mut self, batch: &mut Batch, task: Task) {
        match task {
            Task::Cycle => {
                let key = self.draw.next(&mut self.random);
                self.delete(batch, key);
                self.lease(batch, key);
            }
            Task::Delete => {
                let key = self.draw.next(&mut self.random);
                self.delete(batch, key);
            }
            Task::Get => self.get(batch),
            Task::Lease => {
                let key = self.draw.next(&mut self.random);
                self.lease(batch, key);
            }
            Task::MetaDelete => {
                batch.begin(Verb::MetaDelete);
                self.put_drawn(batch, b"md ");
                batch.put(b"\r\n");
                batch.asked.push(Asked::Delete);
            }
            Task::MetaGet => {
                batch.begin(Verb::MetaGet);
                let key = self.put_drawn(batch, b"mg ");
                batch.put(b" v\r\n");
                batch.asked.push(Asked::Item { key });
            }
            Task::MetaSet => {
                batch.begin(Verb::MetaSet);
                let key = self.put_drawn(batch, b"ms ");
                batch.put(b" ");
                self.put_value(batch, key);
                batch.asked.push(Asked::Set);
            }
            Task::Set => {
                batch.begin(Verb::Set);
                let key = self.put_drawn(batch, b"set ");
                self.put_classic_value(batch, key);
                batch.asked.push(Asked::Set);
            }
        }
    }

    fn get(&mut self, batch: &mut Batch) {
        batch.begin(Verb::Get);
        batch.put(b"get");
        for _ in 0..self.keys_per_get {
            let at = batch.bytes.len() + 1;
            let key = self.put_drawn(batch, b" ");
            batch.asked.push(Asked::Key { key, at });
        }
        batch.put(b"\r\n");
        batch.asked.push(Asked::End);
    }

    fn delete(&mut self, batch: &mut Batch, key: u64) {
        batch.begin(Verb::Delete);
        batch.put(b"delete ");
        self.keys.put(key, batch);
        batch.put(b"\r\n");
        batch.asked.push(Asked::Delete);
    }

    fn lease(&mut self, batch: &mut Batch, key: u64) {
        batch.begin(Verb::LeaseGet);
        batch.put(b"lease-get ");
        let at = batch.bytes.len();
        self.keys.put(key, batch);
        batch.put(b"\r\n");
        batch.asked.extend([Asked::Lease { key, at }, Asked::End]);
    }

    #[inline]
    fn put_drawn(&mut self, batch: &mut Batch, before: &[u8]) -> u64 {
        let key = self.draw.next(&mut self.random);
        batch.put(before);
        self.keys.put(key, batch);
        key
    }

    /// Flags, expiry, length and value, as they stand in all classic stores.
    fn put_classic_value(&mut self, batch: &mut Batch, key: u64) {
        batch.put(b" 0 0 ");
        self.put_value(batch, key);
    }

    fn put_value(&mut self, batch: &mut Batch, key: u64) {
        let bytes = self.sizes.draw(&mut self.random);
        batch.put_number(bytes as u64);
        batch.put(b"\r\n");
        batch.put(self.values.of(key, bytes));
        batch.put(b"\r\n");
    }

    fn ask_redis(&mut self, batch: &mut Batch, task: Task) {
        match task {
            Task::Delete => {
                batch.begin(Verb::Delete);
                batch.put(b"*2\r\n$3\r\nDEL\r\n");
                self.put_drawn_string(batch);
                batch.asked.push(Asked::Delete);
            }
            Task::Get if self.keys_per_get == 1 => {
                batch.begin(Verb::Get);
                batch.put(b"*2\r\n$3\r\nGET\r\n");
                let key = self.put_drawn_string(batch);
                batch.asked.push(Asked::Item { key });
            }
            Task::Get => self.get_many(batch),
            Task::Set => {
                batch.begin(Verb::Set);
                batch.put(b"*3\r\n$3\r\nSET\r\n");
                let key = self.put_drawn_string(batch);
                let bytes = self.sizes.draw(&mut self.random);
                batch.put_string(self.values.of(key, bytes));
                batch.asked.push(Asked::Set);
            }
            Task::Cycle | Task::Lease | Task::MetaDelete | Task::MetaGet | Task::MetaSet => {
                unreachable!("Plan::check lets no such mix near Redis")
            }
        }
    }

    fn get_many(&mut self, batch: &mut Batch) {
        batch.begin(Verb::Get);
        batch.put(b"*");
        batch.put_number(self.keys_per_get as u64 + 1);
        batch.put(b"\r\n$4\r\nMGET\r\n");
        batch.asked.push(Asked::Array(self.keys_per_get));
        for _ in 0..self.keys_per_get {
            let key = self.put_drawn_string(batch);
            batch.asked.push(Asked::Item { key });
        }
    }

    fn put_drawn_string(&mut self, batch: &mut Batch) -> u64 {
        batch.put(b"$");
        batch.put_number(self.keys.zero.len() as u64);
        let key = self.put_drawn(batch, b"\r\n");
        batch.put(b"\r\n");
        key
    }
}

impl Keys {
    fn new(bytes: usize) -> Keys {
        let mut zero = vec![b'0'; bytes];
        if bytes >= PREFIX.len() + NUMBER_BYTES {
            zero[..PREFIX.len()].copy_from_slice(PREFIX);
        }
        Keys { zero }
    }

    fn put(&self, key: u64, batch: &mut Batch) {
        batch.put(&self.zero);
        let mut left = key;
        for digit in batch.bytes.iter_mut().rev() {
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                break;
            }
        }
    }
}

impl Values {
    /// For values of up to that length. They are printable, and the same in each run.
    pub fn new(bytes_max: usize) -> Values {
        let mut random = SmallRng::seed_from_u64(0);
        let mut letter = || b'!' + rand::RngExt::random_range(&mut random, 0..94);
        Values((0..bytes_max + OFFSETS).map(|_| letter()).collect())
    }

    fn of(&self, key: u64, bytes: usize) -> &[u8] {
        let offset = key as usize % OFFSETS;
        &self.0[offset..offset + bytes]
    }
}

const PREFIX: &[u8] = b"bench:";
/// Digits that a key with the prefix keeps.
const NUMBER_BYTES: usize = 10;
/// Keys of the same number modulo this have the same values.
const OFFSETS: usize = 4096;
