//! One run against one server: connect, start the threads, tell how far they are, add up.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::connection::Failure;
use super::options::Plan;
use super::server::Server;
use super::source::Values;
use super::tally::Tally;
use super::worker::{Run, Times, Worker, share};
use crate::clock::Clock;

/// What one run has shown.
pub struct Measured {
    /// From the end of the warm-up to the last answer.
    pub nanos: u64,
    pub tally: Tally,
}

/// How far a run is, told once a second.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Answered since the last time.
    pub requests: u64,
    /// Since the run began.
    pub seconds: u64,
}

/// Stores every key.
///
/// # Errors
/// As [`run`], and if the server refuses to store some.
pub fn preload(plan: &Plan, server: &Server, tell: &mut dyn FnMut(Progress)) -> Result<(), Failure> {
    match run(&plan.preload(), server, tell)?.tally.errors() {
        0 => Ok(()),
        refused => Err(Failure::Unstored { refused, keys: plan.keys }),
    }
}

/// Loads a server as the plan says.
///
/// # Errors
/// If it cannot be reached, or what it says is no answer.
pub fn run(plan: &Plan, server: &Server, tell: &mut dyn FnMut(Progress)) -> Result<Measured, Failure> {
    let address = server.resolve()?;
    let shares =
        (0..plan.threads).map(|thread| connect(address, share(plan.connections, plan.threads, thread)));
    let streams: Vec<Vec<TcpStream>> = shares.collect::<Result<_, _>>()?;
    let values = Values::new(plan.value_bytes.longest());
    let clock = Clock::system();
    let start = clock.nanos();
    let from = start + nanos(plan.warm_up());
    let end = if plan.requests.is_some() { u64::MAX } else { from + nanos(plan.duration) };
    let times = Times { start, from, end };
    let run = Run { clock, dialect: server.dialect, plan, progress: AtomicU64::new(0), times, values };
    let tally = work(&run, streams, tell)?;
    Ok(Measured { nanos: tally.last_nanos.saturating_sub(from), tally })
}

fn connect(address: SocketAddr, connections: usize) -> Result<Vec<TcpStream>, Failure> {
    let one = |_| {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    };
    (0..connections).map(one).collect()
}

fn work(run: &Run, streams: Vec<Vec<TcpStream>>, tell: &mut dyn FnMut(Progress)) -> Result<Tally, Failure> {
    thread::scope(|scope| {
        let (sender, done) = mpsc::channel();
        for (thread, streams) in streams.into_iter().enumerate() {
            let sender = sender.clone();
            scope.spawn(move || {
                let tally = Worker::new(run, thread, streams).map_err(Failure::Io).and_then(Worker::work);
                // Nobody listens any more if another thread has failed.
                let _ = sender.send(tally);
            });
        }
        let (mut sum, mut left) = (Tally::new(), run.plan.threads);
        let (mut told, mut seconds) = (0, 0);
        while left > 0 {
            match done.recv_timeout(SECOND) {
                Ok(tally) => {
                    sum.add(&tally?);
                    left -= 1;
                }
                Err(RecvTimeoutError::Timeout) => {
                    let requests = run.progress.load(Ordering::Relaxed);
                    seconds += 1;
                    tell(Progress { requests: requests - told, seconds });
                    told = requests;
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
