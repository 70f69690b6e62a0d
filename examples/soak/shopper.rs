//! Clients of a database: they read rows through the cache with leases, and change rows, after which they
//! delete the values. A read may not return a version that was replaced before it began.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::dice::Dice;
use crate::value;
use crate::wire::Wire;
use crate::world::{Link, World};

/// The rows, by number.
pub struct Database(Vec<Row>);

struct Row {
    /// The committed version.
    version: Mutex<u64>,
    /// The newest version that was committed before a delete which has been answered.
    confirmed: AtomicU64,
}

impl Database {
    pub fn new() -> Database {
        let row = || Row { version: Mutex::new(0), confirmed: AtomicU64::new(0) };
        Database((0..ROWS).map(|_| row()).collect())
    }
}

impl Row {
    fn version(&self) -> u64 {
        *self.version.lock().expect("no holder panics")
    }

    fn change(&self) -> u64 {
        let mut version = self.version.lock().expect("no holder panics");
        *version += 1;
        *version
    }
}

pub fn work(world: &World, name: u64) {
    let (mut dice, mut link) = (world.dice(name), Link::new(world));
    while !world.is_over() {
        let number = dice.below(ROWS as u64) as usize;
        let (row, key) = (&world.database.0[number], format!("row:{number}"));
        if dice.below(4) > 0 {
            link.with(|wire| read(world, wire, row, &key, &mut dice));
            continue;
        }
        let version = row.change();
        // The delete is repeated until it is answered.
        let mut is_answered = false;
        while !is_answered && !world.is_over() {
            link.with(|wire| {
                wire.send(format!("delete {key}\r\n").as_bytes())?;
                let line = wire.line()?;
                is_answered = line == "DELETED" || line == "NOT_FOUND";
                if !is_answered {
                    world.wrong(format!("the reply to the delete of {key} is {line}"));
                }
                Ok(())
            });
        }
        if is_answered {
            row.confirmed.fetch_max(version, Ordering::SeqCst);
        }
    }
}

fn read(world: &World, wire: &mut Wire, row: &Row, key: &str, dice: &mut Dice) -> io::Result<()> {
    let least = row.confirmed.load(Ordering::SeqCst);
    wire.send(format!("lease-get {key}\r\n").as_bytes())?;
    let head = wire.line()?;
    let words: Vec<&str> = head.split(' ').collect();
    let (token, bytes) = match words[..] {
        ["VALUE", of, _, bytes] if of == key => (None, bytes),
        ["LVALUE", of, token, _, bytes] if of == key => (Some(token.to_owned()), bytes),
        _ => return world.not_in_order(key, &head),
    };
    let Ok(bytes) = bytes.parse() else { return world.not_in_order(key, &head) };
    let value = wire.block(bytes)?;
    if wire.line()? != "END" {
        return world.not_in_order(key, "no END");
    }
    world.replies.fetch_add(1, Ordering::Relaxed);
    let Some(token) = token else {
        match value::version(key, &value) {
            Some(version) if version >= least => {}
            found => world.wrong(format!("{key} is {found:?}, though version {least} was confirmed")),
        }
        return Ok(());
    };
    if token == BUSY {
        return Ok(());
    }
    let value = value::make(key, row.version(), world.value_bytes(dice));
    let head = format!("lease-set {key} {token} 0 0 {}\r\n", value.len());
    wire.send(&[head.as_bytes(), &value, b"\r\n"].concat())?;
    let line = wire.line()?;
    world.replies.fetch_add(1, Ordering::Relaxed);
    let is_known = line == "STORED" || line == "NOT_STORED" || line.starts_with("SERVER_ERROR ");
    if is_known { Ok(()) } else { world.not_in_order(key, &line) }
}

const ROWS: usize = 300;
/// The token that means that another client holds the lease.
const BUSY: &str = "1";
