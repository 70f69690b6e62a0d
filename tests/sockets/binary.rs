//! The binary protocol over sockets: the choice of the protocol, and logins.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::support::packets::{Answer, Packet};
use crate::support::served::{Client, PATIENCE, scratch, start};

/// A client of the binary protocol.
struct Binary {
    received: Vec<u8>,
    stream: TcpStream,
}

impl Binary {
    fn connect(address: SocketAddr) -> Binary {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout is legal");
        Binary { received: Vec::new(), stream }
    }

    /// The next reply; `None` at the end of the connection.
    fn answer(&mut self) -> Option<Answer> {
        loop {
            if let Some((answer, rest)) = Answer::first(&self.received) {
                self.received = rest.to_vec();
                return Some(answer);
            }
            let mut buffer = [0; 64 * 1024];
            match self.stream.read(&mut buffer).expect("the server answers in time") {
                0 => return None,
                bytes => self.received.extend(&buffer[..bytes]),
            }
        }
    }

    #[track_caller]
    fn ask(&mut self, packet: &Packet) -> Answer {
        self.stream.write_all(&packet.bytes()).expect("the server takes it");
        self.answer().expect("a reply")
    }

    /// The status and the text of the reply.
    #[track_caller]
    fn status(&mut self, packet: &Packet) -> (u16, String) {
        let answer = self.ask(packet);
        (answer.status, String::from_utf8(answer.value).expect("text"))
    }
}

const GET: u8 = 0x00;
const SET: u8 = 0x01;
const NOOP: u8 = 0x0a;
const VERSION: u8 = 0x0b;
const GETKQ: u8 = 0x0d;
const STAT: u8 = 0x10;
const MECHANISMS: u8 = 0x20;
const AUTH: u8 = 0x21;
const STEP: u8 = 0x22;
const CONTINUES: u16 = 0x21;

#[test]
fn both_protocols_share_one_port_and_one_cache() {
    let server = start("-I 8m");
    let (mut binary, mut text) = (Binary::connect(server.address()), Client::connect(server.address()));
    let value: Vec<u8> = (0..3 << 20).map(|n| b'a' + (n % 23) as u8).collect();
    assert_eq!(binary.ask(&Packet::store(SET, "big", 9, 0, &value)).status, 0);
    let shown = String::from_utf8(value.clone()).expect("letters");
    text.check("get big", &[&format!("VALUE big 9 {}", value.len()), &shown, "END"]);
    assert!(binary.ask(&Packet::new(GET, "big")).value == value);
    text.check("set k 0 0 1\r\nv", &["STORED"]);
    let pipeline = [Packet::new(GETKQ, "none"), Packet::new(GETKQ, "k"), Packet::new(NOOP, "")];
    binary
        .stream
        .write_all(&pipeline.iter().flat_map(Packet::bytes).collect::<Vec<_>>())
        .expect("it is read");
    let answers = [binary.answer(), binary.answer()].map(|answer| answer.expect("a reply").line());
    assert_eq!(answers, ["0d 00 0 cas \\x00\\x00\\x00\\x00|k|v", "0a 00 0 - ||"]);
    assert_eq!(text.stat("binary_refused"), 0);
    server.stop();
}

/// A client that had sent several packets at once, and then one whose key was too long, stopped a worker
/// thread: the key went to the cache, to be prefetched, before its length was checked.
#[test]
fn a_key_that_is_too_long_ends_only_its_connection() {
    let server = start("");
    let long = Packet { key: vec![b'k'; 251], ..Packet::new(GET, "") };
    let mut client = Binary::connect(server.address());
    let pipeline = [Packet::new(NOOP, ""), Packet::new(NOOP, "")].map(|packet| packet.bytes()).concat();
    client.stream.write_all(&pipeline).expect("it is read");
    assert_eq!(
        [client.answer(), client.answer()].map(|answer| answer.map(|answer| answer.status)),
        [Some(0); 2]
    );
    client.stream.write_all(&[long.bytes(), Packet::new(GET, "k").bytes()].concat()).expect("it is read");
    assert_eq!(client.answer().map(|answer| answer.status), Some(4));
    let mut other = Binary::connect(server.address());
    assert_eq!(other.ask(&Packet::new(GET, "k")).status, 1);
    server.stop();
}

#[test]
fn the_option_chooses_the_protocols() {
    let settings = |binary: &mut Binary| {
        binary.stream.write_all(&Packet::new(STAT, "settings").bytes()).expect("it is read");
        let mut found = Vec::new();
        while let Some(answer) = binary.answer().filter(|answer| !answer.key.is_empty()) {
            found.push([answer.key, answer.value].map(|text| String::from_utf8(text).expect("text")));
        }
        found
    };
    for (flags, protocol) in [("-B auto", "auto-negotiate"), ("-B binary", "binary")] {
        let server = start(flags);
        let found = settings(&mut Binary::connect(server.address()));
        assert!(found.contains(&["binding_protocol".to_owned(), protocol.to_owned()]), "{flags}: {found:?}");
        server.stop();
    }
    let server = start("-B binary");
    let mut text = Client::connect(server.address());
    text.check("version", &["CLIENT_ERROR only the binary protocol is spoken here"]);
    text.0.get_ref().shutdown(std::net::Shutdown::Write).expect("it is open on our side");
    text.is_closed();
    server.stop();
}

#[test]
fn clients_log_in_by_sasl() {
    let users = scratch("binary-users");
    std::fs::write(&users, "ann:secret\nb c:two words\n").expect("it can be written");
    let server = start(&format!("-S -Y {}", users.display()));
    let plain = |value: &[u8]| Packet::new(AUTH, "PLAIN").with_value(value);
    let failure = (0x20, "Auth failure.".to_owned());
    let success = (0, "Authenticated".to_owned());

    let mut client = Binary::connect(server.address());
    assert_eq!(client.status(&Packet::new(VERSION, "")), (0, "1.6.45".to_owned()));
    assert_eq!(client.status(&Packet::new(MECHANISMS, "")), (0, "PLAIN".to_owned()));
    for malformed in [&b"ann"[..], b"ann secret", b"bob\0ann\0secret", &[b'x'; 16_385]] {
        assert_eq!(client.status(&plain(malformed)), failure);
    }
    assert_eq!(client.status(&Packet::new(AUTH, "CRAM-MD5").with_value(b"\0ann\0secret")), failure);
    assert_eq!(client.status(&Packet::new(STEP, "PLAIN").with_value(b"\0ann\0secret")), failure);
    assert_eq!(client.status(&plain(b"\0ann\0wrong")), failure);
    assert_eq!(client.status(&plain(b"ann\0ann\0secret")), success);
    assert_eq!(client.ask(&Packet::store(SET, "k", 0, 0, &[b'v'; 100_000])).status, 0);
    assert_eq!(client.ask(&Packet::new(GET, "k")).value.len(), 100_000);
    // A second login ends the first one.
    assert_eq!(client.status(&plain(b"\0b c\0two words")), success);
    assert_eq!(client.status(&plain(b"\0ann\0wrong")), failure);
    assert_eq!(client.status(&Packet::new(GET, "k")), failure);
    assert_eq!(client.answer(), None, "it is closed");

    let mut client = Binary::connect(server.address());
    assert_eq!(client.status(&plain(b"")), (CONTINUES, String::new()));
    assert_eq!(client.status(&Packet::new(STEP, "PLAIN").with_value(b"\0ann\0secret")), success);
    assert_eq!(client.ask(&Packet::new(GET, "k")).status, 0);

    for packet in [Packet::new(NOOP, ""), Packet::new(GET, "k"), Packet::new(0xff, "")] {
        let mut client = Binary::connect(server.address());
        assert_eq!(client.status(&packet), failure);
        assert_eq!(client.answer(), None, "it is closed");
    }
    let mut text = Client::connect(server.address());
    text.check("get k", &["CLIENT_ERROR unauthenticated"]);
    text.check("set k 0 0 10\r\nann secret", &["STORED"]);
    assert_eq!(text.stat("auth_errors"), 2);
    text.check("get none", &["END"]);
    server.stop();

    // Without -S, there is no login in the binary protocol, and so it is refused.
    let server = start(&format!("-Y {}", users.display()));
    let mut binary = Client::connect(server.address());
    binary.send(&Packet::new(VERSION, "").bytes());
    assert!(binary.line().starts_with("CLIENT_ERROR the binary protocol is not spoken here"));
    server.stop();
    std::fs::remove_file(users).expect("it was written");
}
