//! Values of many megabytes over real sockets: held once, and by whoever still reads them.

#![cfg(target_os = "linux")]

use std::fs;
use std::io::{Read, Write};

use crate::support::served::{Client, Process};
use nix::sys::signal::Signal;

const FLAGS: &str = "-p -1 -t 1 -m 256 -I 128m";

/// The most memory the process has had so far, in MiB.
fn peak(server: &Process) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.child.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak is told");
    let kibibytes: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kibibytes >> 10
}

fn store(client: &mut Client, key: &str) {
    client.send(format!("set {key} 0 0 {VALUE_BYTES}\r\n").as_bytes());
    (0..PIECES).for_each(|number| client.0.get_mut().write_all(&piece(number)).expect("the server takes it"));
    client.check("", &["STORED"]);
}

/// Hears the bytes of the value whose first line was heard, and the end.
fn hears_value(client: &mut Client) {
    let mut heard = vec![0; PIECE_BYTES];
    for number in 0..PIECES {
        client.0.read_exact(&mut heard).expect("the server sends on");
        assert!(heard == piece(number), "piece {number} is another");
    }
    assert_eq!([client.line(), client.line()], ["\r\n", "END\r\n"]);
}

fn charged(client: &mut Client) -> usize {
    client.stat_of("stats memory", "charged_bytes") as usize
}

fn ends(server: Process) {
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), 0);
}

/// Each differs from the others and from itself shifted.
fn piece(number: usize) -> Vec<u8> {
    (0..PIECE_BYTES).map(|at| (at / 251 + at + number) as u8).collect()
}

#[test]
fn a_value_is_held_once() {
    let mut server = Process::start(FLAGS);
    let mut client = Client::connect(server.address());
    let before = peak(&server);
    store(&mut client, "large");
    client.check("get large", &[&format!("VALUE large 0 {VALUE_BYTES}")]);
    hears_value(&mut client);
    let taken = peak(&server) - before;
    assert!(taken < VALUE_BYTES / MIB * 5 / 4, "{taken} MiB for one value on its way in and out");
    ends(server);
}

#[test]
fn who_reads_slowly_has_the_whole_value_and_holds_nobody_up() {
    let mut server = Process::start(FLAGS);
    let address = server.address();
    let (mut slow, mut other) = (Client::connect(address), Client::connect(address));
    store(&mut other, "large");
    slow.check("get large", &[&format!("VALUE large 0 {VALUE_BYTES}")]);
    // More than the system keeps for the two is still with the server.
    other.check("delete large", &["DELETED"]);
    other.check("get large", &["END"]);
    other.check("set small 0 0 1\r\nx", &["STORED"]);
    other.check("get small", &["VALUE small 0 1", "x", "END"]);
    assert!(charged(&mut other) > VALUE_BYTES, "somebody reads it yet");
    hears_value(&mut slow);
    slow.check("version", &["VERSION 1.6.45"]);
    assert!(charged(&mut other) < VALUE_BYTES, "nobody reads it any more");
    ends(server);
}

const MIB: usize = 1 << 20;
const PIECE_BYTES: usize = MIB;
const PIECES: usize = 96;
const VALUE_BYTES: usize = PIECES * PIECE_BYTES;
