//! Values of many megabytes over real sockets: held in memory once, until the last reader has received them.

#![cfg(target_os = "linux")]

use std::fs;
use std::io::{Read, Write};

use crate::support::served::{Client, Process, eventually};
use nix::sys::signal::Signal;

const FLAGS: &str = "-p -1 -t 1 -m 256 -I 128m";

/// The peak memory of the process so far, in MiB.
fn peak(server: &Process) -> usize {
    memory(server, "VmHWM:")
}

/// The memory of the process now, in MiB.
fn resident(server: &Process) -> usize {
    memory(server, "VmRSS:")
}

fn memory(server: &Process, kind: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.child.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(kind)).expect("Linux reports it");
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

/// Sends enough for the server to know how much is missing, and then as much as the system takes at once.
fn offer(client: &mut Client, bytes: &[u8]) {
    let stream = client.0.get_mut();
    let (enough, mut rest) = bytes.split_at(ENOUGH_BYTES);
    stream.write_all(enough).expect("the server reads so much");
    stream.set_nonblocking(true).expect("it is a socket");
    while let Ok(1..) = stream.write(rest).inspect(|sent| rest = &rest[*sent..]) {}
    stream.set_nonblocking(false).expect("it is a socket");
}

/// The bytes that the server has sent so far.
fn received(client: &mut Client) -> String {
    let mut bytes = [0; 100];
    client.0.get_mut().set_nonblocking(true).expect("it is a socket");
    let read = client.0.get_mut().read(&mut bytes).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..read]).into_owned()
}

/// A thousand connections that stopped in the middle of a value of 0.9 MB took 868 MB at `-m 64`, and two
/// hundred in the middle of a line of 1 MB took 344 MB.
#[test]
fn unfinished_large_requests_take_bounded_memory_and_block_no_small_ones() {
    let mut server = Process::start("-p -1 -t 2 -m 64");
    let address = server.address();
    let mut fast = Client::connect(address);
    fast.check("set small 0 0 1\r\nx", &["STORED"]);
    let before = resident(&server);
    let value = [b"set large 0 0 900000\r\n".to_vec(), vec![b'v'; 899_999]].concat();
    let line = [b"get".to_vec(), b" sixteen-letters".repeat(65_000)].concat();
    let mut unfinished = Vec::new();
    for request in [&value, &line].into_iter().cycle().take(300) {
        let mut client = Client::connect(address);
        offer(&mut client, request);
        unfinished.push(client);
    }
    // Sixteen or seventeen have room at a time. On a busy machine, many have had their time by now.
    eventually("the others wait", || fast.stat("receive_waits") >= 1);
    for _ in 0..100 {
        fast.check("get small", &["VALUE small 0 1", "x", "END"]);
    }
    assert!(fast.stat("receive_bytes") <= fast.stat("receive_limit"));
    assert_eq!(fast.stat("receive_limit"), 16 << 20);
    let taken = resident(&server) - before;
    assert!(taken < 60, "{taken} MiB for 300 unfinished requests");

    // The first of them were the first to have room. While others wait, they have it for a time only.
    unfinished.truncate(20);
    let mut patient = Client::connect(address);
    patient.send(&value);
    patient.check("v", &["STORED"]);
    assert!(fast.stat("receive_timeouts") >= 1);
    eventually("a slow client receives the reason", || {
        unfinished.retain_mut(|client| !received(client).contains("took too long while others waited"));
        unfinished.len() < 20
    });
    drop(unfinished);
    eventually("all room is free", || fast.stat("receive_bytes") == 0);
    stop(server);
}

/// More than the buffer that every connection has; the system takes as much for a server that reads no more.
const ENOUGH_BYTES: usize = 48 << 10;
const MIB: usize = 1 << 20;
const PIECE_BYTES: usize = MIB;
const PIECES: usize = 96;
const VALUE_BYTES: usize = PIECES * PIECE_BYTES;
