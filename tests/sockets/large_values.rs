//! Values of many megabytes over real sockets: held in memory once, until the last reader has received them.

#![cfg(target_os = "linux")]

use std::fs;
use std::io::{Read, Write};

use crate::support::served::{Client, Process};
use nix::sys::signal::Signal;

const FLAGS: &str = "-p -1 -t 1 -m 256 -I 128m";

/// The peak memory of the process so far, in MiB.
fn peak(server: &Process) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.child.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux reports the peak");
    let kibibytes: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kibibytes >> 10
}

fn store(client: &mut Client, key: &str) {
    client.send(format!("set {key} 0 0 {VALUE_BYTES}\r\n").as_bytes());
    (0..PIECES).for_each(|number| client.0.get_mut().write_all(&piece(number)).expect("the server takes it"));
    client.check("", &["STORED"]);
}

/// Reads the bytes of a value whose first line has been read, and the END.
fn read_value(client: &mut Client) {
    let mut received = vec![0; PIECE_BYTES];
    for number in 0..PIECES {
        client.0.read_exact(&mut received).expect("the server sends on");
        assert!(received == piece(number), "piece {number} differs");
    }
    assert_eq!([client.line(), client.line()], ["\r\n", "END\r\n"]);
}

fn charged(client: &mut Client) -> usize {
    client.stat_of("stats memory", "charged_bytes") as usize
}

fn stop(server: Process) {
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), 0);
}

/// One piece of the value. It differs from all other pieces and from itself shifted.
fn piece(number: usize) -> Vec<u8> {
    (0..PIECE_BYTES).map(|at| (at / 251 + at + number) as u8).collect()
}

#[test]
fn a_large_value_is_held_in_memory_once() {
    let mut server = Process::start(FLAGS);
    let mut client = Client::connect(server.address());
    let before = peak(&server);
    store(&mut client, "large");
    client.check("get large", &[&format!("VALUE large 0 {VALUE_BYTES}")]);
    read_value(&mut client);
    let taken = peak(&server) - before;
    assert!(taken < VALUE_BYTES / MIB * 5 / 4, "{taken} MiB for one value on its way in and out");
    stop(server);
}

#[test]
fn a_slow_reader_receives_the_whole_value_and_blocks_no_other() {
    let mut server = Process::start(FLAGS);
    let address = server.address();
    let (mut slow, mut other) = (Client::connect(address), Client::connect(address));
    store(&mut other, "large");
    slow.check("get large", &[&format!("VALUE large 0 {VALUE_BYTES}")]);
    // The value is larger than the socket buffers, so the server still holds the rest.
    other.check("delete large", &["DELETED"]);
    other.check("get large", &["END"]);
    other.check("set small 0 0 1\r\nx", &["STORED"]);
    other.check("get small", &["VALUE small 0 1", "x", "END"]);
    assert!(charged(&mut other) > VALUE_BYTES, "the slow client still reads it");
    read_value(&mut slow);
    slow.check("version", &["VERSION 1.6.45"]);
    assert!(charged(&mut other) < VALUE_BYTES, "its last reader is done");
    stop(server);
}

const MIB: usize = 1 << 20;
const PIECE_BYTES: usize = MIB;
const PIECES: usize = 96;
const VALUE_BYTES: usize = PIECES * PIECE_BYTES;
