//! Random packets of the binary protocol to a real memcached and to leasehold, alone and in pipelines, whole
//! and with wrong lengths: the answers must be equal, apart from the numbers of the CAS uniques. Without a
//! memcached the tests print `skipped`.
//!
//! All commands are compared, except for what differs on purpose (docs/differences.md): `verbosity`, the
//! statistics, and those bodies that memcached reads as further packets.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use clap::Parser;
use leasehold::options::Options;
use leasehold::server::Server;

use crate::support::memcached::{Memcached, PATIENCE};
use crate::support::packets::{Answer, Packet};

const SEEDS: u64 = 24;
const EXCHANGES: usize = 300;
const MALFORMED: usize = 4_000;
const NOOP: u8 = 0x0a;
const FLUSH: u8 = 0x08;
const STAT: u8 = 0x10;
const VERBOSITY: u8 = 0x1b;
const VERSION: u8 = 0x0b;
/// The opaque of the `noop` that ends an exchange.
const LAST: u32 = u32::MAX;

/// A connection, and the last unique of each key on it.
struct Client {
    stream: TcpStream,
    uniques: BTreeMap<Vec<u8>, u64>,
}

impl Client {
    fn new(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout is legal");
        Client { stream, uniques: BTreeMap::new() }
    }

    /// The lines of the replies to packets, in which [`Unique::Known`] is replaced by that of the key.
    fn answers(&mut self, packets: &[(Packet, Unique)]) -> Vec<String> {
        let of = |(packet, unique): &(Packet, Unique)| {
            let cas = match *unique {
                Unique::Known => self.uniques.get(&packet.key).copied().unwrap_or(0),
                Unique::None => 0,
                Unique::Wrong(number) => number,
            };
            packet.clone().with_cas(cas).bytes()
        };
        let mut sent: Vec<u8> = packets.iter().flat_map(of).collect();
        sent.extend(Packet::new(NOOP, "").with_opaque(LAST).bytes());
        let (answers, is_closed) = self.exchange(&sent);
        for answer in answers.iter().filter(|answer| answer.status == 0 && answer.cas != 0) {
            let (packet, _) =
                &packets.iter().find(|(packet, _)| packet.opaque == answer.opaque).expect("one");
            self.uniques.insert(packet.key.clone(), answer.cas);
        }
        let closed = is_closed.then(|| "closed".to_owned());
        answers.iter().map(Answer::line).chain(closed).collect()
    }

    /// The replies before that to the last `noop`, and whether the connection was closed instead of it.
    fn exchange(&mut self, sent: &[u8]) -> (Vec<Answer>, bool) {
        // A server that closes need not read everything.
        let _ = self.stream.write_all(sent);
        let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return (Answer::all(&received), true),
                Ok(bytes) => received.extend(&buffer[..bytes]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return (Answer::all(&received), true);
                }
                Err(error) => panic!("it answers in time: {error}"),
            }
            let Some(start) = received.len().checked_sub(24) else { continue };
            if received[start..].starts_with(&[0x81, NOOP]) && received[start + 12..].starts_with(&[0xff; 4])
            {
                received.truncate(start);
                return (Answer::all(&received), false);
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Unique {
    Known,
    None,
    Wrong(u64),
}

/// Random packets from a seed, over few keys, so that they meet each other's values.
struct Generator {
    seed: u64,
}

impl Generator {
    /// SplitMix64.
    fn below(&mut self, most: usize) -> usize {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.seed;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) as usize % most
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn packet(&mut self) -> Packet {
        let key = self.pick(&["a", "b", "c", "x y\0\n"]);
        let exptime = self.pick(&[0, 0, 0, 1000, 3_000_000_000]);
        match self.below(16) {
            0..5 => {
                let opcode = self.pick(&[0x01, 0x02, 0x03, 0x11, 0x12, 0x13]);
                let value: &[u8] = self.pick(&[b"", b"1", b"10", b"hello", b"18446744073709551615", b"99 "]);
                Packet::store(opcode, key, self.pick(&[0, 5, u32::MAX]), exptime, value)
            }
            5..8 => {
                let (delta, initial) = (self.pick(&[0, 1, 5, u64::MAX]), self.pick(&[0, 7, u64::MAX]));
                Packet::count(
                    self.pick(&[0x05, 0x06, 0x15, 0x16]),
                    key,
                    delta,
                    initial,
                    self.pick(&[0, 1000, u32::MAX]),
                )
            }
            8 | 9 => Packet::new(self.pick(&[0x0e, 0x0f, 0x19, 0x1a]), key)
                .with_value(self.pick(&[b"", b"1", b"x"])),
            10 | 11 => Packet::with_number(self.pick(&[0x1c, 0x1d, 0x1e, 0x23, 0x24]), key, exptime),
            12 => Packet::new(self.pick(&[0x04, 0x14]), key),
            13 if self.below(4) == 0 => Packet::new(self.pick(&[FLUSH, 0x18, 0x1f, 0x20, 0x25, 0xff]), ""),
            13 if self.below(4) == 0 => Packet::with_number(self.pick(&[FLUSH, 0x18]), "", 0),
            13 if self.below(3) == 0 => Packet::new(STAT, self.pick(&["reset", "nonsense", "detail off"])),
            13 if self.below(3) == 0 => Packet::new(NOOP, ""),
            // Without `-S` there is no login.
            13 if self.below(3) == 0 => {
                Packet::new(self.pick(&[0x21, 0x22]), "PLAIN").with_value(b"\0name\0password")
            }
            13 if self.below(4) == 0 => {
                let value = vec![b'v'; self.pick(&[20_000, 1_100_000])];
                Packet::store(self.pick(&[0x01, 0x11, 0x02]), key, 0, 0, &value)
            }
            _ => Packet::new(self.pick(&[0x00, 0x09, 0x0c, 0x0d]), key),
        }
    }

    /// Packets that are sent together, each with another opaque.
    fn pipeline(&mut self) -> Vec<(Packet, Unique)> {
        let length = self.pick(&[1, 1, 1, 2, 3, 8]);
        // While a reply of the same pipeline holds a number, memcached pads no number that becomes shorter.
        let left_out: fn(u8) -> bool = match self.below(2) {
            _ if length == 1 => |_| false,
            0 => |opcode| matches!(opcode, 0x05 | 0x06 | 0x15 | 0x16),
            _ => |opcode| matches!(opcode, 0x00 | 0x09 | 0x0c | 0x0d | 0x1c..=0x1e | 0x23 | 0x24),
        };
        let packet = |opaque: u32| {
            let packet = loop {
                let packet = self.packet().with_opaque(opaque);
                if !left_out(packet.opcode) {
                    break packet;
                }
            };
            let wrong = self.pick(&[12_345_678_901, (1 << 62) + 5, u64::MAX]);
            (packet, self.pick(&[Unique::None, Unique::None, Unique::Known, Unique::Wrong(wrong)]))
        };
        (0..length).map(packet).collect()
    }

    /// A packet whose parts may have wrong lengths, or whose header may promise other ones.
    fn malformed(&mut self) -> Vec<u8> {
        let extras = self.pick(&[0, 0, 1, 4, 8, 20, 21, 255]);
        let key = self.pick(&[0, 1, 1, 250, 251]);
        let value = self.pick(&[0, 0, 1, 5]);
        let mut opcode = self.below(0x28) as u8;
        // These bodies are longer than the command allows: memcached reads the rest as further packets. After
        // an unknown command it skips the extras and the key twice.
        let is_longer =
            value > 0 && matches!(opcode, 0x00 | 0x09 | 0x0c | 0x0d | STAT | 0x1c..=0x1e | 0x23 | 0x24);
        let is_skipped_twice = extras + key > 0 && matches!(opcode, 0x1b | 0x1f..=0x22 | 0x25..);
        // The statistics and the version are their own.
        if is_longer
            || is_skipped_twice
            || matches!(opcode, VERBOSITY | VERSION)
            || (opcode, key) == (STAT, 0)
        {
            opcode = self.pick(&[0x01, 0x04, 0x05, 0x07, FLUSH, NOOP, 0x0e]);
        }
        let packet = Packet {
            extras: vec![0; extras],
            key: vec![b'k'; key],
            value: vec![b'1'; value],
            ..Packet::new(opcode, "")
        };
        if self.below(4) > 0 || extras + key == 0 {
            return packet.bytes();
        }
        // The key and the extras do not fit into the body.
        let body = (extras + key).saturating_sub(1);
        [packet.header((key as u16, extras as u8, body as u32)), packet.bytes().split_off(24)].concat()
    }
}

/// As in memcached, nothing is fenced: one connection does everything here, as only shared connections do.
fn start() -> Server {
    let options = Options::try_parse_from(["leasehold", "-p", "-1", "-t", "1", "--implicit-leases", "off"]);
    Server::start(options.expect("legal flags")).expect("the server starts")
}

fn connect(address: SocketAddr) -> Client {
    Client::new(TcpStream::connect(address).expect("it listens"))
}

#[test]
fn memcached_answers_random_packets_alike() {
    let Some(mut memcached) = Memcached::start("") else {
        return println!("skipped: no memcached is installed");
    };
    let server = start();
    for seed in 0..SEEDS {
        let mut generator = Generator { seed };
        let (mut real, mut own) = (Client::new(memcached.connect()), connect(server.address()));
        for client in [&mut real, &mut own] {
            client.answers(&[(Packet::new(FLUSH, ""), Unique::None)]);
        }
        for nth in 0..EXCHANGES {
            let packets = generator.pipeline();
            let (theirs, ours) = (real.answers(&packets), own.answers(&packets));
            assert_eq!(theirs, ours, "seed {seed}, exchange {nth}: {packets:?}");
        }
    }
    server.stop();
}

/// Packets with wrong lengths, and those that end a connection: the answers, and whether it is closed.
#[test]
fn memcached_answers_malformed_packets_alike() {
    let Some(mut memcached) = Memcached::start("") else {
        return println!("skipped: no memcached is installed");
    };
    let (server, mut generator) = (start(), Generator { seed: 1 });
    let noop = Packet::new(NOOP, "").with_opaque(LAST).bytes();
    let mut closed = 0;
    let (mut real, mut own) = (Client::new(memcached.connect()), connect(server.address()));
    for nth in 0..MALFORMED {
        let sent = [generator.malformed(), noop.clone()].concat();
        let shown = |(answers, is_closed): (Vec<Answer>, bool)| {
            (answers.iter().map(Answer::line).collect::<Vec<_>>(), is_closed)
        };
        let (theirs, ours) = (shown(real.exchange(&sent)), shown(own.exchange(&sent)));
        assert_eq!(theirs, ours, "packet {nth}: {}", sent.escape_ascii());
        if theirs.1 {
            closed += 1;
            (real, own) = (Client::new(memcached.connect()), connect(server.address()));
        }
    }
    assert!((MALFORMED / 2..MALFORMED).contains(&closed), "{closed} of {MALFORMED}");
    // Both forms of `quit`.
    for (opcode, replies) in [(0x07, 1), (0x17, 0)] {
        let sent = Packet::new(opcode, "").with_opaque(5).bytes();
        for mut client in [Client::new(memcached.connect()), connect(server.address())] {
            let (answers, is_closed) = client.exchange(&sent);
            assert!(answers.len() == replies && is_closed, "{opcode:#x}");
        }
    }
    server.stop();
}

/// The version is compared with the memcached whose version leasehold claims to be.
#[test]
fn memcached_has_the_same_version() {
    let Some(mut memcached) = Memcached::start("").filter(Memcached::is_1_6_45) else {
        return println!("skipped: no memcached 1.6.45 is installed");
    };
    let server = start();
    let version = [(Packet::new(VERSION, "").with_opaque(3), Unique::None)];
    let (mut real, mut own) = (Client::new(memcached.connect()), connect(server.address()));
    assert_eq!(real.answers(&version), own.answers(&version));
    server.stop();
}
