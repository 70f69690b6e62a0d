//! Clients that do not behave well, except those that send a byte at a time: their replies must be right.

use std::io;

use crate::dice::Dice;
use crate::value;
use crate::wire::Wire;
use crate::world::{Link, SIZES, World, pause};

pub fn work(world: &World, name: u64) {
    let (mut dice, mut link) = (world.dice(name), Link::new(world));
    while !world.is_over() {
        match dice.below(4) {
            0 => link.with(|wire| drip(world, wire, &mut dice)),
            1 => ignored(half_sent(world, &mut dice)),
            2 => ignored(slow(world, &mut dice)),
            _ => ignored(killed(world, &mut dice)),
        }
    }
}

/// A server may close such connections at any time.
fn ignored(_outcome: io::Result<()>) {}

/// A store and a read, byte by byte.
fn drip(world: &World, wire: &mut Wire, dice: &mut Dice) -> io::Result<()> {
    let (key, version) = (format!("drip:{}", dice.below(1_000_000)), dice.below(1_000));
    let value = value::make(&key, version, 40);
    let head = format!("ms {key} {} k\r\n", value.len());
    let request = [head.as_bytes(), &value, format!("\r\nmg {key} v k\r\n").as_bytes()].concat();
    for byte in request {
        wire.send(&[byte])?;
    }
    let (stored, read) = (wire.reply()?, wire.reply()?);
    let is_known = match read.code.as_str() {
        "EN" => true,
        _ => read.code == "VA" && value::version(&key, &read.value) == Some(version),
    };
    if !matches!(stored.code.as_str(), "HD" | "NS" | "SERVER_ERROR") || !is_known {
        world.wrong(format!("{key}, sent byte by byte: {} and {}", stored.code, read.code));
    }
    Ok(())
}

/// Values of which only a part comes, on several connections at once.
fn half_sent(world: &World, dice: &mut Dice) -> io::Result<()> {
    let mut wires = Vec::new();
    for number in 0..=dice.below(CONNECTIONS_EACH - 1) {
        let mut wire = Wire::open(world.address)?;
        let value = value::make("half", 1, world.value_bytes(dice));
        let part = &value[..dice.below(value.len() as u64) as usize];
        wire.send(format!("set half:{number} 0 0 {}\r\n", value.len()).as_bytes())?;
        wire.send(part)?;
        wires.push(wire);
        pause(dice.below(30));
    }
    pause(dice.below(300));
    Ok(())
}

/// Asks for a large value many times, and reads little.
fn slow(world: &World, dice: &mut Dice) -> io::Result<()> {
    let key = format!("slow:{}", dice.below(20));
    let mut wires = Vec::new();
    for _ in 0..=dice.below(CONNECTIONS_EACH - 1) {
        let mut wire = Wire::open(world.address)?;
        let value = value::make(&key, 1, world.value_bytes(dice));
        wire.send(
            &[format!("set {key} 0 0 {} noreply\r\n", value.len()).as_bytes(), &value, b"\r\n"].concat(),
        )?;
        wire.send(format!("get {key}\r\n").repeat(50).as_bytes())?;
        wires.push(wire);
    }
    for _ in 0..dice.below(20) {
        let chosen = dice.below(wires.len() as u64) as usize;
        wires[chosen].sip(1 + dice.below(4_000) as usize)?;
        pause(dice.below(30));
    }
    Ok(())
}

/// Hangs up in the middle of everything.
fn killed(world: &World, dice: &mut Dice) -> io::Result<()> {
    let mut wire = Wire::open(world.address)?;
    for number in 0..dice.below(50) {
        let value = value::make("killed", 1, world.value_bytes(dice).min(20_000));
        let head = format!("set killed:{number} 0 0 {}\r\n", value.len());
        wire.send(&[head.as_bytes(), &value, b"\r\nget killed:1 killed:2\r\n"].concat())?;
    }
    wire.send(b"mg killed:1 v\r\nget kil")
}

/// Connections of one such client at most, besides the one that it keeps.
pub const CONNECTIONS_EACH: u64 = 6;
/// The longest value that they send.
pub const VALUE_BYTES_MAX: usize = {
    let (mut most, mut number) = (0, 0);
    while number < SIZES.len() {
        most = if SIZES[number] > most { SIZES[number] } else { most };
        number += 1;
    }
    most
};
