//! Clients that have keys of their own, and know what a read may find: the value that they stored last, or
//! none. They send many requests at once, and count on replies that are complete and in order.

use std::io;
use std::sync::atomic::Ordering;

use crate::dice::Dice;
use crate::value;
use crate::wire::{Reply, Wire};
use crate::world::{Link, World};

/// Such a client.
pub struct Owner<'a> {
    world: &'a World,
    dice: Dice,
    name: usize,
    /// By key: the versions that may be there. Without a lost connection, that is one at most.
    possible: Vec<Vec<u64>>,
    /// The last version and the last request.
    last: u64,
}

enum Act {
    Delete,
    Get,
    Set(u64),
}

impl<'a> Owner<'a> {
    pub fn new(world: &'a World, name: usize) -> Self {
        let dice = world.dice(name as u64);
        Owner { world, dice, name, possible: vec![Vec::new(); KEYS], last: 0 }
    }

    pub fn work(mut self) {
        let mut link = Link::new(self.world);
        while !self.world.is_over() {
            link.with(|wire| self.batch(wire));
        }
    }

    fn batch(&mut self, wire: &mut Wire) -> io::Result<()> {
        let (mut request, mut acts) = (Vec::new(), Vec::new());
        for _ in 0..=self.dice.below(BATCH_MAX) {
            self.last += 1;
            let (number, key) = self.pick();
            let act = match self.dice.below(10) {
                0 => Act::Delete,
                1..=4 => Act::Set(self.last),
                _ => Act::Get,
            };
            let line = match act {
                Act::Delete => format!("md {key} k O{}\r\n", self.last).into_bytes(),
                Act::Get => format!("mg {key} v k O{}\r\n", self.last).into_bytes(),
                Act::Set(version) => {
                    let value = value::make(&key, version, self.world.value_bytes(&mut self.dice));
                    let head = format!("ms {key} {} k O{}\r\n", value.len(), self.last).into_bytes();
                    [head, value, b"\r\n".to_vec()].concat()
                }
            };
            request.extend(line);
            acts.push((act, number, self.last));
        }
        let outcome = self.exchange(wire, &request, &acts);
        let answered = *outcome.as_ref().unwrap_or_else(|(answered, _)| answered);
        for (act, number, _) in &acts[answered..] {
            if let Act::Set(version) = act {
                // It may have been carried out.
                self.possible[*number].push(*version);
            }
        }
        outcome.map(|_| ()).map_err(|(_, error)| error)
    }

    /// Sends a batch and takes the replies; how many came in any case.
    fn exchange(
        &mut self,
        wire: &mut Wire,
        request: &[u8],
        acts: &[(Act, usize, u64)],
    ) -> Result<usize, (usize, io::Error)> {
        wire.send(request).map_err(|error| (0, error))?;
        for (answered, (act, number, opaque)) in acts.iter().enumerate() {
            let reply = wire.reply().map_err(|error| (answered, error))?;
            self.judge(act, *number, *opaque, &reply);
            self.world.replies.fetch_add(1, Ordering::Relaxed);
        }
        Ok(acts.len())
    }

    fn judge(&mut self, act: &Act, number: usize, opaque: u64, reply: &Reply) {
        let (world, key) = (self.world, self.key(number));
        let Reply { code, flags, value } = reply;
        let is_ours = *flags == [format!("k{key}"), format!("O{opaque}")];
        let possible = &mut self.possible[number];
        match (act, code.as_str()) {
            (Act::Get, "EN") => {}
            (Act::Get, "VA") if is_ours => match value::version(&key, value) {
                Some(version) if possible.contains(&version) => {}
                found => world.wrong(format!("{key} is {found:?}, not one of {possible:?}")),
            },
            (Act::Delete, "HD" | "NF") if is_ours => possible.clear(),
            (Act::Set(version), "HD") if is_ours => *possible = vec![*version],
            (Act::Set(version), "NS") if is_ours => possible.push(*version),
            // Memory is full of values that readers hold.
            (Act::Set(version), "SERVER_ERROR") => possible.push(*version),
            _ => world.wrong(format!("{key}, request {opaque}: the reply is {code} {flags:?}")),
        }
    }

    fn pick(&mut self) -> (usize, String) {
        let number = self.dice.below(KEYS as u64) as usize;
        (number, self.key(number))
    }

    fn key(&self, number: usize) -> String {
        format!("own:{}:{number}", self.name)
    }
}

const KEYS: usize = 100;
const BATCH_MAX: u64 = 24;
