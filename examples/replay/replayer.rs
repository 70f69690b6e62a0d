//! Replays requests against a server as the users of a look-aside cache would: a get that misses is followed
//! by a set.
//!
//! Requests are sent in batches with the same result as one at a time: the requests for one key keep their
//! order, and a second get of a key that has just missed counts as a hit, because it would have come after
//! the fill.
//!
//! With a speed, a trace is replayed faster than it was recorded, and the lifetimes of its items are divided
//! by the same factor, rounded up to a second. Without one it is replayed as fast as possible, and its items
//! do not expire.

use std::collections::{HashMap, HashSet};
use std::io;
use std::time::Duration;

use leasehold::Clock;

use crate::trace::{Expiry, Op, Request, Values};
use crate::wire::Connection;

pub struct Replayer<'a> {
    batch: Batch,
    clock: Clock,
    connection: Connection,
    /// Keys that missed in this batch.
    missed: HashSet<u32>,
    /// The key that is being written.
    key: Vec<u8>,
    requests_max: usize,
    speed: Option<u32>,
    tally: Tally,
    values: &'a Values,
    /// The number of further gets that are not counted, because they only fill the cache.
    warming: usize,
}

/// The counts of a replay.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    pub gets: u64,
    /// The largest delay of a batch behind the trace.
    pub late_ms: u64,
    pub misses: u64,
}

/// Requests that are sent together.
#[derive(Default)]
struct Batch {
    bytes: usize,
    /// Each key in it, and whether it is only read.
    keys: HashMap<u32, bool>,
    requests: Vec<Request>,
}

impl<'a> Replayer<'a> {
    pub fn new(connection: Connection, values: &'a Values) -> Self {
        Replayer {
            batch: Batch::default(),
            clock: Clock::system(),
            connection,
            missed: HashSet::new(),
            key: Vec::new(),
            requests_max: BATCH_REQUESTS_MAX,
            speed: None,
            tally: Tally::default(),
            values,
            warming: 0,
        }
    }

    /// Follows the trace's time, this many times faster.
    pub fn at_speed(self, speed: u32) -> Self {
        Replayer { speed: Some(speed), ..self }
    }

    /// Waits for the reply to each request before it sends the next one.
    pub fn one_by_one(self) -> Self {
        Replayer { requests_max: 1, ..self }
    }

    /// Does not count the first gets.
    pub fn warmed_by(self, gets: usize) -> Self {
        Replayer { warming: gets, ..self }
    }

    pub fn play(&mut self, requests: impl IntoIterator<Item = Request>) -> io::Result<Tally> {
        for request in requests {
            self.keep_pace(request.time)?;
            if !self.batch.has_room_for(&request, self.requests_max) {
                self.settle()?;
            }
            self.batch.push(request);
        }
        self.settle()?;
        Ok(self.tally)
    }

    /// Waits for the trace's second `time`; requests that are due are sent before.
    fn keep_pace(&mut self, time: u32) -> io::Result<()> {
        let Some(speed) = self.speed else { return Ok(()) };
        let (due, now) = (u64::from(time) * 1_000 / u64::from(speed), self.clock.now().millis);
        if now < due {
            self.settle()?;
            pause(due.saturating_sub(self.clock.now().millis));
        }
        self.tally.late_ms = self.tally.late_ms.max(now.saturating_sub(due));
        Ok(())
    }

    /// Sends the batch, then the fills of its misses.
    fn settle(&mut self) -> io::Result<()> {
        let mut batch = std::mem::take(&mut self.batch);
        for request in &batch.requests {
            request.write_key(&mut self.key);
            match request.op {
                Op::Delete => self.connection.ask_delete(&self.key),
                Op::Get => self.connection.ask_get(&self.key),
                Op::Set => self.ask_set(request),
            }
        }
        self.connection.send()?;
        self.missed.clear();
        for request in &batch.requests {
            match request.op {
                Op::Delete => self.connection.deleted()?,
                Op::Get => self.receive_value(request)?,
                Op::Set => self.connection.stored()?,
            }
        }
        self.connection.send()?;
        for _ in &self.missed {
            self.connection.stored()?;
        }
        batch.clear();
        self.batch = batch;
        Ok(())
    }

    /// Takes the reply to a get, and prepares the fill if it missed.
    fn receive_value(&mut self, request: &Request) -> io::Result<()> {
        let counts = u64::from(self.warming == 0);
        self.warming = self.warming.saturating_sub(1);
        self.tally.gets += counts;
        let value = self.values.value(request.key, request.value_bytes);
        match self.connection.value()? {
            Some(found) if found == value => {}
            Some(_) => return Err(io::Error::other("the server returned a wrong value")),
            None if self.missed.contains(&request.key) => {}
            None => {
                self.tally.misses += counts;
                self.missed.insert(request.key);
                request.write_key(&mut self.key);
                self.ask_set(request);
            }
        }
        Ok(())
    }

    fn ask_set(&mut self, request: &Request) {
        let expiry = match (request.expiry, self.speed) {
            (Expiry::Within(seconds), Some(speed)) => Expiry::Within(seconds.div_ceil(speed)),
            (Expiry::Within(_), None) => Expiry::Never,
            (Expiry::At(_) | Expiry::Never, _) => request.expiry,
        };
        let value = self.values.value(request.key, request.value_bytes);
        self.connection.ask_set(&self.key, value, expiry);
    }
}

impl Tally {
    pub fn miss_percent(self) -> f64 {
        100.0 * self.misses as f64 / self.gets.max(1) as f64
    }
}

impl Batch {
    /// Whether the request can be in this batch: a key that is changed can be in it only once.
    fn has_room_for(&self, request: &Request, requests_max: usize) -> bool {
        let is_full = self.requests.len() == requests_max || self.bytes > BATCH_BYTES_MAX;
        let fits_its_key = match self.keys.get(&request.key) {
            Some(is_only_read) => *is_only_read && request.op == Op::Get,
            None => true,
        };
        !is_full && fits_its_key
    }

    fn push(&mut self, request: Request) {
        self.keys.insert(request.key, request.op == Op::Get);
        self.bytes += request.value_bytes as usize;
        self.requests.push(request);
    }

    fn clear(&mut self) {
        self.bytes = 0;
        self.keys.clear();
        self.requests.clear();
    }
}

/// The only function that sleeps.
#[expect(clippy::disallowed_methods, reason = "servers run in real time")]
pub fn pause(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

const BATCH_REQUESTS_MAX: usize = 64;
/// Small enough that both sides never wait for each other's socket buffers.
const BATCH_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn request(key: u32, op: Op) -> Request {
        Request { expiry: Expiry::Never, key, key_bytes: 20, op, time: 0, value_bytes: 100 }
    }

    #[test]
    fn a_changed_key_is_in_a_batch_once() {
        for (first, second, may) in [
            (Op::Get, Op::Get, true),
            (Op::Get, Op::Set, false),
            (Op::Set, Op::Get, false),
            (Op::Delete, Op::Set, false),
        ] {
            let mut batch = Batch::default();
            batch.push(request(1, first));
            assert_eq!(batch.has_room_for(&request(1, second), BATCH_REQUESTS_MAX), may);
            assert!(batch.has_room_for(&request(2, second), BATCH_REQUESTS_MAX));
        }
    }

    #[test]
    fn batches_are_limited_by_count_and_by_bytes() {
        let mut many = Batch::default();
        (0..BATCH_REQUESTS_MAX as u32 - 1).for_each(|key| many.push(request(key, Op::Get)));
        assert!(many.has_room_for(&request(1_000, Op::Get), BATCH_REQUESTS_MAX));
        many.push(request(1_000, Op::Get));
        assert!(!many.has_room_for(&request(1_001, Op::Get), BATCH_REQUESTS_MAX));
        let mut large = Batch::default();
        large.push(Request { value_bytes: BATCH_BYTES_MAX as u32 + 1, ..request(1, Op::Set) });
        assert!(!large.has_room_for(&request(2, Op::Get), BATCH_REQUESTS_MAX));
    }
    #[test]
    fn one_by_one_there_is_one_request_in_a_batch() {
        let mut batch = Batch::default();
        assert!(batch.has_room_for(&request(1, Op::Get), 1));
        batch.push(request(1, Op::Get));
        assert!(!batch.has_room_for(&request(2, Op::Get), 1));
    }
}
