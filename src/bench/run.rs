//! One run against one server: connect, start the threads, report progress, add up the results.

use std::fmt::{self, Display};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::connection::Fault;
use super::options::Plan;
use super::server::Server;
use super::source::Values;
use super::tally::Tally;
use super::worker::{Run, Times, Worker, share};
use crate::clock::Clock;

/// The results of one run.
pub struct Measured {
    /// From the end of the warm-up to the last answer.
    pub nanos: u64,
    pub tally: Tally,
}

/// The progress of a run, reported once a second.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Requests answered since the last report.
    pub requests: u64,
    /// Time since the start of the run.
    pub seconds: u64,
}

/// A server could not be measured.
#[derive(Debug)]
pub struct Failure {
    pub(super) fault: Fault,
    pub(super) server: Server,
}

impl Display for Failure {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        write!(to, "{}: {}", self.server, self.fault)
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> io::Error {
        io::Error::other(failure.to_string())
    }
}

/// Stores every key, unless it is interrupted.
///
/// # Errors
/// As [`run`], and if the server refuses to store some of them.
pub fn preload(
    plan: &Plan,
    server: &Server,
    is_cut_short: &AtomicBool,
    report: &mut dyn FnMut(Progress),
) -> Result<(), Failure> {
    match run(&plan.preload(), server, is_cut_short, report)?.tally.errors() {
        0 => Ok(()),
        refused => {
            let fault = Fault::Unstored { refused, keys: plan.keys };
            Err(Failure { fault, server: server.clone() })
        }
    }
}

/// Loads a server according to the plan. An interrupted run returns the results up to then.
///
/// # Errors
/// If the server cannot be reached, or sends something that is not an answer.
pub fn run(
    plan: &Plan,
    server: &Server,
    is_cut_short: &AtomicBool,
    report: &mut dyn FnMut(Progress),
) -> Result<Measured, Failure> {
    measured(plan, server, is_cut_short, report).map_err(|fault| Failure { fault, server: server.clone() })
}

fn measured(
    plan: &Plan,
    server: &Server,
    is_cut_short: &AtomicBool,
    report: &mut dyn FnMut(Progress),
) -> Result<Measured, Fault> {
    let addresses = server.addresses()?;
    let shares =
        (0..plan.threads).map(|thread| connect(&addresses, share(plan.connections, plan.threads, thread)));
    let streams: Vec<Vec<TcpStream>> = shares.collect::<Result<_, _>>()?;
    let values = Values::new(plan.value_bytes.longest());
    let clock = Clock::system();
    let start = clock.nanos();
    let from = start + nanos(plan.warm_up());
    let end = if plan.requests.is_some() { u64::MAX } else { from + nanos(plan.duration) };
    let times = Times { start, from, end };
    let progress = AtomicU64::new(0);
    let run = Run { clock, dialect: server.dialect, is_cut_short, plan, progress, times, values };
    let tally = work(&run, streams, report)?;
    Ok(Measured { nanos: tally.last_nanos.saturating_sub(from), tally })
}

/// Opens each connection to the first address that accepts it.
fn connect(addresses: &[SocketAddr], connections: usize) -> io::Result<Vec<TcpStream>> {
    let one = |_| {
        let stream = TcpStream::connect(addresses)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    };
    (0..connections).map(one).collect()
}

fn work(run: &Run, streams: Vec<Vec<TcpStream>>, report: &mut dyn FnMut(Progress)) -> Result<Tally, Fault> {
    thread::scope(|scope| {
        let (sender, done) = mpsc::channel();
        for (thread, streams) in streams.into_iter().enumerate() {
            let sender = sender.clone();
            scope.spawn(move || {
                let tally = Worker::new(run, thread, streams).map_err(Fault::Io).and_then(Worker::work);
                // The receiver was dropped if another thread has failed.
                let _ = sender.send(tally);
            });
        }
        let (mut sum, mut left) = (Tally::new(), run.plan.threads);
        let (mut reported, mut seconds) = (0, 0);
        while left > 0 {
            match done.recv_timeout(SECOND) {
                Ok(tally) => {
                    sum.add(&tally?);
                    left -= 1;
                }
                Err(RecvTimeoutError::Timeout) => {
                    let requests = run.progress.load(Ordering::Relaxed);
                    seconds += 1;
                    report(Progress { requests: requests - reported, seconds });
                    reported = requests;
                }
                Err(RecvTimeoutError::Disconnected) => unreachable!("this thread has a sender, too"),
            }
        }
        Ok(sum)
    })
}

fn nanos(span: Duration) -> u64 {
    span.as_nanos() as u64
}

const SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn every_address_of_a_name_is_tried() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for addresses in [&[closed, address][..], &[address, closed]] {
            let streams = connect(addresses, 2).unwrap();
            assert!(streams.iter().all(|stream| stream.peer_addr().unwrap() == address));
        }
        assert!(connect(&[closed], 1).is_err() && connect(&[], 1).is_err());
    }
}
