//! The state that all clients share: the address, the sizes of values, the database, and all that was wrong.

use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::dice::Dice;
use crate::shopper::Database;
use crate::wire::Wire;

/// The shared state.
pub struct World {
    pub address: SocketAddr,
    pub database: Database,
    /// Handovers that were begun, and those that have ended.
    pub begun: AtomicU64,
    pub ended: AtomicU64,
    pub is_over: AtomicBool,
    /// Replies that were as they should be.
    pub replies: AtomicU64,
    seed: u64,
    /// The longest values at present.
    pub value_bytes: AtomicUsize,
    wrong: Mutex<Vec<String>>,
}

/// A client's connection, opened again when it was closed.
pub struct Link<'a> {
    world: &'a World,
    wire: Option<Wire>,
    /// Handovers that had ended when it was opened.
    since: u64,
}

impl World {
    pub fn new(address: SocketAddr, seed: u64) -> World {
        World {
            address,
            database: Database::new(),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            replies: AtomicU64::new(0),
            seed,
            value_bytes: AtomicUsize::new(SIZES[0]),
            wrong: Mutex::new(Vec::new()),
        }
    }

    /// The random numbers of one client.
    pub fn dice(&self, client: u64) -> Dice {
        Dice::new(self.seed.wrapping_add(client))
    }

    /// The length of the next value.
    pub fn value_bytes(&self, dice: &mut Dice) -> usize {
        let most = self.value_bytes.load(Ordering::Relaxed);
        most - dice.below(most as u64 / 2) as usize
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Records that the server did something wrong, which ends everything.
    pub fn wrong(&self, what: String) {
        self.is_over.store(true, Ordering::Relaxed);
        self.wrong.lock().expect("no holder panics").push(what);
    }

    pub fn not_in_order(&self, key: &str, reply: &str) -> io::Result<()> {
        self.wrong(format!("the reply to a request for {key} is {reply}"));
        Ok(())
    }

    /// All that was wrong.
    pub fn wrongs(&self) -> Vec<String> {
        self.wrong.lock().expect("no holder panics").clone()
    }

    /// Records a lost connection: only a server that ends closes those of clients that behave well.
    fn lost(&self, since: u64, error: &io::Error) {
        let is_late = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
        if is_late || self.begun.load(Ordering::SeqCst) == since {
            self.wrong(format!("a connection was lost, and no server ended: {error}"));
        }
    }
}

impl<'a> Link<'a> {
    pub fn new(world: &'a World) -> Self {
        Link { world, wire: None, since: 0 }
    }

    /// Does something with the connection, which is opened if necessary, and dropped after an error.
    pub fn with(&mut self, act: impl FnOnce(&mut Wire) -> io::Result<()>) {
        let opened = self.wire.take().map_or_else(
            || {
                self.since = self.world.ended.load(Ordering::SeqCst);
                Wire::open(self.world.address)
            },
            Ok,
        );
        let acted = opened.and_then(|mut wire| act(&mut wire).map(|()| wire));
        match acted {
            Ok(wire) => self.wire = Some(wire),
            Err(error) => self.world.lost(self.since, &error),
        }
    }
}

/// The only function that sleeps; no verdict depends on it.
#[expect(clippy::disallowed_methods, reason = "servers run in real time")]
pub fn pause(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

/// The longest values, in turn: each size has another place in the server.
pub const SIZES: [usize; 6] = [20_000, 200, 100_000, 1_000, 600_000, 15_000];
