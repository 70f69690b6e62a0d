//! Random packets of the binary protocol to a real memcached and to leasehold: the answers must be equal,
//! apart from the numbers of the CAS uniques. Without a memcached the test prints `skipped`.
//!
//! Left out are packets for which they differ on purpose (docs/differences.md).

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use clap::Parser;
use leasehold::options::Options;
use leasehold::server::Server;

use crate::support::memcached::{Memcached, PATIENCE};
use crate::support::packets::{Answer, Packet};

const SEEDS: u64 = 24;
const PACKETS: usize = 400;
const NOOP: u8 = 0x0a;
const FLUSH: u8 = 0x08;
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

    /// The lines of the replies to a packet, of which [`Unique::Known`] is replaced by that of its key.
    fn answers(&mut self, packet: &Packet, unique: Unique) -> Vec<String> {
        let cas = match unique {
            Unique::Known => self.uniques.get(&packet.key).copied().unwrap_or(0),
            Unique::None => 0,
            Unique::Wrong(number) => number,
        };
        let sent = [packet.clone().with_cas(cas).bytes(), Packet::new(NOOP, "").with_opaque(LAST).bytes()];
        self.stream.write_all(&sent.concat()).expect("it is read");
        let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            match self.stream.read(&mut buffer).expect("it answers in time") {
                0 => return vec!["closed".to_owned()],
                bytes => received.extend(&buffer[..bytes]),
            }
            let Some(start) = received.len().checked_sub(24) else { continue };
            if received[start..].starts_with(&[0x81, NOOP]) && received[start + 12..].starts_with(&[0xff; 4])
            {
                received.truncate(start);
                break;
            }
        }
        let answers = Answer::all(&received);
        for answer in answers.iter().filter(|answer| answer.status == 0 && answer.cas != 0) {
            self.uniques.insert(packet.key.clone(), answer.cas);
        }
        answers.iter().map(Answer::line).collect()
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
            13 if self.below(4) == 0 => {
                let value = vec![b'v'; self.pick(&[20_000, 1_100_000])];
                Packet::store(self.pick(&[0x01, 0x11, 0x02]), key, 0, 0, &value)
            }
            _ => Packet::new(self.pick(&[0x00, 0x09, 0x0c, 0x0d]), key),
        }
    }
}

#[test]
fn memcached_answers_random_packets_alike() {
    let Some(mut memcached) = Memcached::start("") else {
        return println!("skipped: no memcached is installed");
    };
    // One connection does everything here, as only shared connections do.
    let options = Options::try_parse_from(["leasehold", "-p", "-1", "-t", "1", "--implicit-leases", "off"])
        .expect("legal flags");
    let server = Server::start(options).expect("the server starts");
    for seed in 0..SEEDS {
        let mut generator = Generator { seed };
        let own = TcpStream::connect(server.address()).expect("it listens");
        let (mut real, mut own) = (Client::new(memcached.connect()), Client::new(own));
        for client in [&mut real, &mut own] {
            client.answers(&Packet::new(FLUSH, ""), Unique::None);
        }
        for nth in 0..PACKETS {
            let packet = generator.packet().with_opaque(nth as u32);
            let wrong = generator.pick(&[12_345_678_901, (1 << 62) + 5, u64::MAX]);
            let unique = generator.pick(&[Unique::None, Unique::None, Unique::Known, Unique::Wrong(wrong)]);
            let (theirs, ours) = (real.answers(&packet, unique), own.answers(&packet, unique));
            assert_eq!(theirs, ours, "seed {seed}, packet {nth}: {unique:?} {packet:?}");
        }
    }
    server.stop();
}
