//! A thread with its connections, and the loop that drives them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::connection::{Connection, Fault};
use super::options::Plan;
use super::pace::Pace;
use super::server::Dialect;
use super::source::{Source, Values};
use super::tally::Tally;
use crate::clock::Clock;

/// The state that all threads of a run share.
pub struct Run<'a> {
    pub clock: Clock,
    pub dialect: Dialect,
    /// Whether the run was interrupted.
    pub is_cut_short: &'a AtomicBool,
    pub plan: &'a Plan,
    /// The number of answered requests.
    pub progress: AtomicU64,
    pub times: Times,
    pub values: Values,
}

impl Run<'_> {
    fn ends_early(&self) -> bool {
        self.is_cut_short.load(Ordering::Relaxed)
    }
}

/// Readings of the clock.
#[derive(Clone, Copy)]
pub struct Times {
    pub start: u64,
    /// Requests are measured from here on.
    pub from: u64,
    /// No request begins from here on.
    pub end: u64,
}

/// The part of a run that one thread executes.
pub struct Worker<'a> {
    connections: Vec<Connection<TcpStream>>,
    /// When the last bytes arrived.
    last_read: u64,
    inbox: Box<[u8]>,
    /// When their batches are due, in an open loop.
    paces: Option<Vec<Pace>>,
    poll: Poll,
    run: &'a Run<'a>,
    source: Source,
    tally: Tally,
    /// The number of requests that may still begin.
    tasks_left: usize,
    /// When to continue with connections that wait for no reply.
    timers: BinaryHeap<Reverse<(u64, usize)>>,
    /// The number of connections that wait for replies.
    waiting: usize,
    /// The tally of the warm-up, which is discarded.
    warm_up: Tally,
}

impl<'a> Worker<'a> {
    /// # Errors
    /// If the system lacks resources.
    pub fn new(run: &'a Run<'a>, thread: usize, streams: Vec<std::net::TcpStream>) -> io::Result<Worker<'a>> {
        let (plan, poll) = (run.plan, Poll::new()?);
        let paces = plan.rate.map(|rate| paces(plan, rate, run.times.start, streams.len()));
        let mut connections = Vec::new();
        for (index, stream) in streams.into_iter().enumerate() {
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
            connections.push(Connection::new(stream, run.dialect));
        }
        Ok(Worker {
            connections,
            last_read: run.times.start,
            inbox: vec![0; INBOX_BYTES].into_boxed_slice(),
            paces,
            poll,
            run,
            source: Source::new(plan, run.dialect, run.values.clone(), thread),
            tally: Tally::new(),
            tasks_left: plan.requests.map_or(usize::MAX, |all| share(all, plan.threads, thread)),
            timers: BinaryHeap::new(),
            waiting: 0,
            warm_up: Tally::new(),
        })
    }

    /// Runs to the end; returns the tally.
    ///
    /// # Errors
    /// If the server closes a connection, stops answering, or sends something that is not an answer.
    pub fn work(mut self) -> Result<Tally, Fault> {
        let mut events = Events::with_capacity(EVENTS);
        for index in 0..self.connections.len() {
            self.advance(index, self.run.clock.nanos())?;
        }
        let mut now = self.run.clock.nanos();
        // An interrupted run does not wait for requests in flight: the server may have stalled.
        while !self.run.ends_early() && (self.waiting > 0 || !self.timers.is_empty()) {
            match self.poll.poll(&mut events, Some(self.patience(now))) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                let Token(index) = event.token();
                if event.is_writable() {
                    self.connections[index].push()?;
                }
                if event.is_readable() {
                    self.pull(index)?;
                }
            }
            now = self.run.clock.nanos();
            self.check_silence(now, events.is_empty())?;
            while self.timers.peek().is_some_and(|Reverse((due, _))| *due <= now) {
                let Reverse((_, index)) = self.timers.pop().expect("it was peeked");
                self.advance(index, now)?;
            }
        }
        if self.run.ends_early() {
            self.tally.last_nanos = now;
        } else if self.run.plan.requests.is_none() {
            let end = self.run.times.end;
            self.tally.unsent = self.paces.iter().flatten().map(|pace| pace.untaken(end)).sum();
        }
        Ok(self.tally)
    }

    fn pull(&mut self, index: usize) -> Result<(), Fault> {
        let connection = &mut self.connections[index];
        let counts = connection.began() >= self.run.times.from;
        let tally = if counts { &mut self.tally } else { &mut self.warm_up };
        if !connection.pull(&mut self.inbox, &mut self.source, tally)? {
            return Ok(());
        }
        let (now, batch) = (self.run.clock.nanos(), connection.batch());
        tally.answered(&batch.requests, now - connection.began());
        tally.bytes_written += batch.bytes.len() as u64;
        tally.last_nanos = now;
        self.waiting -= 1;
        let requests: u32 = batch.requests.iter().sum();
        self.run.progress.fetch_add(requests.into(), Ordering::Relaxed);
        if self.run.plan.load_ms > 0 && connection.has_fills() {
            self.timers.push(Reverse((now + self.run.plan.load_ms * NANOS_PER_MS, index)));
            return Ok(());
        }
        self.advance(index, now)
    }

    /// Sends the next batch on a connection that waits for no reply, or sets a timer for it.
    fn advance(&mut self, index: usize, now: u64) -> Result<(), Fault> {
        let connection = &mut self.connections[index];
        if connection.has_fills() {
            self.waiting += 1;
            return connection.fill(now);
        }
        if now >= self.run.times.end || self.tasks_left == 0 || self.run.ends_early() {
            return Ok(());
        }
        let mut began = now;
        if let Some(paces) = &mut self.paces {
            match paces[index].take(now) {
                Ok(due) => began = due,
                Err(due) => {
                    if due < self.run.times.end {
                        self.timers.push(Reverse((due, index)));
                    }
                    return Ok(());
                }
            }
        }
        let tasks = self.run.plan.pipeline.min(self.tasks_left);
        self.tasks_left -= tasks;
        self.waiting += 1;
        connection.ask(&mut self.source, tasks, began)
    }

    /// How long to wait for replies.
    fn patience(&self, now: u64) -> Duration {
        if self.run.plan.spin {
            return Duration::ZERO;
        }
        let Some(Reverse((due, _))) = self.timers.peek() else { return PATIENCE };
        let left = Duration::from_nanos(due.saturating_sub(now)).min(PATIENCE);
        // The system wakes at whole milliseconds, up to two too late: the last ones are spent polling.
        if left < TIMER_GRAIN * 2 { Duration::ZERO } else { left - TIMER_GRAIN }
    }

    fn check_silence(&mut self, now: u64, is_silent: bool) -> Result<(), Fault> {
        if !is_silent || self.waiting == 0 {
            self.last_read = now;
        }
        let seconds = (now - self.last_read) / NANOS_PER_SECOND;
        if seconds < SILENCE_SECONDS_MAX { Ok(()) } else { Err(Fault::Silent { seconds }) }
    }
}

/// The schedules of a thread's connections, evenly staggered.
fn paces(plan: &Plan, rate: usize, start: u64, connections: usize) -> Vec<Pace> {
    let every = (plan.pipeline * plan.connections) as f64 / rate as f64 * NANOS_PER_SECOND as f64;
    let every = (every as u64).max(1);
    (0..connections)
        .map(|index| Pace::new(start + every * index as u64 / connections as u64, every))
        .collect()
}

/// The size of one of `parts` parts, which differ by at most one.
pub fn share(whole: usize, parts: usize, part: usize) -> usize {
    whole / parts + usize::from(part < whole % parts)
}

/// The size of a read for large values.
const INBOX_BYTES: usize = 256 * 1024;
const EVENTS: usize = 1024;
const NANOS_PER_MS: u64 = 1_000_000;
const NANOS_PER_SECOND: u64 = 1_000_000_000;
/// How often to check whether the run was interrupted.
const PATIENCE: Duration = Duration::from_secs(1);
const SILENCE_SECONDS_MAX: u64 = 10;
const TIMER_GRAIN: Duration = Duration::from_millis(1);
