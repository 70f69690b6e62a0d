//! Values of many megabytes over real sockets: held once, and by whoever still reads them.

#![cfg(all(feature = "server", target_os = "linux"))]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

/// The server as a process of its own, whose memory can be looked at.
struct Process {
    address: SocketAddr,
    child: Child,
    _log: BufReader<ChildStderr>,
}

struct Client(BufReader<TcpStream>);

impl Process {
    fn start() -> Process {
        let mut child = Command::new(env!("CARGO_BIN_EXE_leasehold"))
            .args(["-p", "-1", "-t", "1", "-m", "256", "-I", "128m"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut log = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert!(log.read_line(&mut line).expect("a log is text") > 0, "it never listened");
            if let Some(word) = line.split_whitespace().find(|word| word.starts_with("127.0.0.1:")) {
                break word.parse().expect("an address");
            }
        };
        Process { address, child, _log: log }
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout is legal");
        Client(BufReader::new(stream))
    }

    /// The most memory it has had so far, in MiB.
    fn peak(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak is told");
        let kibibytes: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kibibytes >> 10
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("it runs until here");
    }
}

impl Client {
    fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).expect("the server takes it");
    }

    #[track_caller]
    fn hears(&mut self, expected: &str) {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("the server answers in time");
        assert_eq!(line.trim_end(), expected);
    }

    fn store(&mut self, key: &str) {
        self.send(&format!("set {key} 0 0 {VALUE_BYTES}\r\n"));
        (0..PIECES)
            .for_each(|number| self.0.get_mut().write_all(&piece(number)).expect("the server takes it"));
        self.send("\r\n");
        self.hears("STORED");
    }

    /// Hears the value of a key that was asked for.
    fn hears_value(&mut self, key: &str) {
        self.hears(&format!("VALUE {key} 0 {VALUE_BYTES}"));
        let mut heard = vec![0; PIECE_BYTES];
        for number in 0..PIECES {
            self.0.read_exact(&mut heard).expect("the server sends on");
            assert!(heard == piece(number), "piece {number} of {key} is another");
        }
        self.hears("");
        self.hears("END");
    }

    fn charged(&mut self) -> usize {
        self.send("stats memory\r\n");
        let (mut line, mut charged) = (String::new(), None);
        while line != "END\r\n" {
            line.clear();
            self.0.read_line(&mut line).expect("the server answers in time");
            charged = charged.or(line.trim_end().strip_prefix("STAT charged_bytes ").map(str::to_owned));
        }
        charged.expect("it is told").parse().expect("a number")
    }
}

/// Each differs from the others and from itself shifted.
fn piece(number: usize) -> Vec<u8> {
    (0..PIECE_BYTES).map(|at| (at / 251 + at + number) as u8).collect()
}

#[test]
fn a_value_is_held_once() {
    let server = Process::start();
    let mut client = server.connect();
    let before = server.peak();
    client.store("large");
    client.send("get large\r\n");
    client.hears_value("large");
    let taken = server.peak() - before;
    assert!(taken < VALUE_BYTES / MIB * 5 / 4, "{taken} MiB for one value on its way in and out");
}

#[test]
fn who_reads_slowly_has_the_whole_value_and_holds_nobody_up() {
    let server = Process::start();
    let (mut slow, mut other) = (server.connect(), server.connect());
    other.store("large");
    slow.send("get large\r\n");
    slow.hears(&format!("VALUE large 0 {VALUE_BYTES}"));
    // More than the system keeps for the two is still with the server.
    other.send("delete large\r\nget large\r\nset small 0 0 1\r\nx\r\nget small\r\n");
    ["DELETED", "END", "STORED", "VALUE small 0 1", "x", "END"].iter().for_each(|line| other.hears(line));
    assert!(other.charged() > VALUE_BYTES, "somebody reads it yet");
    let mut heard = vec![0; PIECE_BYTES];
    for number in 0..PIECES {
        slow.0.read_exact(&mut heard).expect("the server sends on");
        assert!(heard == piece(number), "piece {number} is another");
    }
    slow.hears("");
    slow.hears("END");
    slow.send("version\r\n");
    slow.hears("VERSION 1.6.45");
    assert!(other.charged() < VALUE_BYTES, "nobody reads it any more");
}

/// Longer than anything here takes; a test that comes near it hangs.
const PATIENCE: Duration = Duration::from_secs(60);
const MIB: usize = 1 << 20;
const PIECE_BYTES: usize = MIB;
const PIECES: usize = 96;
const VALUE_BYTES: usize = PIECES * PIECE_BYTES;
