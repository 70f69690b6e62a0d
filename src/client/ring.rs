//! Maps keys to servers like other clients do, so that a mixed fleet shares one cache.
//!
//! It ignores which servers are up. If the mapping changed with the network, two clients could disagree:
//! one would delete on one server what the other reads from another.

use md5::{Digest, Md5};

use super::config::{Server, Spread};
use super::wire::Key;

/// The mapping of keys to servers, which are identified by their index.
pub(super) enum Ring {
    /// Points on a circle of 32 bits, sorted.
    Ketama(Vec<(u32, usize)>),
    /// The servers' names, followed by a dash.
    Rendezvous(Vec<Vec<u8>>),
}

impl Ring {
    pub(super) fn new(spread: Spread, servers: &[Server]) -> Ring {
        match spread {
            Spread::Ketama => Ring::Ketama(points(servers)),
            Spread::Rendezvous => {
                Ring::Rendezvous(servers.iter().map(|server| format!("{server}-").into_bytes()).collect())
            }
        }
    }

    pub(super) fn server_of(&self, key: &Key) -> usize {
        match self {
            Ring::Ketama(points) => {
                let [hash, ..] = hashes(key.bytes());
                let after = points.partition_point(|(point, _)| *point < hash);
                points[after % points.len()].1
            }
            Ring::Rendezvous(names) => {
                let score = |name: &[u8]| murmur3(&[name, key.bytes()].concat());
                // On equal scores pymemcache takes the greater name.
                let best = names.iter().enumerate().max_by_key(|(_, name)| (score(name), *name));
                best.expect("a client has a server").0
            }
        }
    }
}

/// Computes the points like `update_continuum` of libmemcached, including single precision: a different
/// number of points moves keys.
fn points(servers: &[Server]) -> Vec<(u32, usize)> {
    let total: u32 = servers.iter().map(|server| server.weight).sum();
    let mut points = Vec::new();
    for (index, server) in servers.iter().enumerate() {
        let share = server.weight as f32 / total as f32;
        let wanted = share * POINTS_PER_SERVER / POINTS_PER_HASH * servers.len() as f32;
        let hashed = (f64::from(wanted) + 0.000_000_000_1) as f32;
        for nth in 0..hashed as u32 {
            let name = format!("{}-{nth}", server.ketama_name());
            points.extend(hashes(name.as_bytes()).map(|point| (point, index)));
        }
    }
    points.sort_unstable();
    points
}

/// The four numbers of an MD5 hash.
fn hashes(bytes: &[u8]) -> [u32; 4] {
    let digest: [u8; 16] = Md5::digest(bytes).into();
    let (words, _) = digest.as_chunks::<4>();
    [0, 1, 2, 3].map(|index| u32::from_le_bytes(words[index]))
}

/// MurmurHash3 for x86, 32 bits, seed 0 (Austin Appleby).
fn murmur3(bytes: &[u8]) -> u32 {
    let scramble = |word: u32| word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let (words, tail) = bytes.as_chunks::<4>();
    let mut hash = words.iter().fold(0, |hash: u32, word| {
        let hash = (hash ^ scramble(u32::from_le_bytes(*word))).rotate_left(13);
        hash.wrapping_mul(5).wrapping_add(0xe654_6b64)
    });
    hash ^= scramble(tail.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte)));
    hash ^= bytes.len() as u32;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

const POINTS_PER_SERVER: f32 = 160.0;
const POINTS_PER_HASH: f32 = 4.0;

#[cfg(test)]
mod tests {
    use super::*;

    /// The places of 44 keys on four real servers after pylibmc 1.6.3 with libmemcached 1.0.16 had stored
    /// them, with `behaviors={"ketama_weighted": True}`.
    #[test]
    fn ketama_agrees_with_libmemcached() {
        check(Spread::Ketama, [1; 4], "00233311032333000112203120100200210103120312");
        check(Spread::Ketama, [1, 2, 3, 1], "00232311322323000112231123220200210122112212");
    }

    /// The results of pymemcache 4.0.0: `RendezvousHash(nodes=…).get_node(key)`.
    #[test]
    fn rendezvous_agrees_with_pymemcache() {
        check(Spread::Rendezvous, [1; 4], "11030232330123332022021102303203221121301212");
    }

    #[test]
    fn a_new_server_moves_no_key_between_the_others() {
        for spread in [Spread::Ketama, Spread::Rendezvous] {
            let servers = ["a:1", "b:1", "c:1", "d:1"].map(|name| name.parse().expect("a server"));
            let (before, after) = (Ring::new(spread, &servers[..3]), Ring::new(spread, &servers));
            let moved = (0..1000).filter(|n| {
                let key = Key::new(format!("key:{n}")).expect("a legal key");
                let (old, new) = (before.server_of(&key), after.server_of(&key));
                assert!(new == old || new == 3, "{spread:?} moves key:{n} from {old} to {new}");
                new == 3
            });
            let moved = moved.count();
            assert!((150..350).contains(&moved), "{spread:?} moves {moved} of 1000, a quarter is fair");
        }
    }

    /// The first port is memcached's own, which ketama leaves out of the name.
    #[track_caller]
    fn check(spread: Spread, weights: [u32; 4], expected: &str) {
        let servers: Vec<Server> = [11211, 21213, 21214, 21215]
            .iter()
            .zip(weights)
            .map(|(port, weight)| {
                format!("127.0.0.1:{port}").parse::<Server>().expect("a server").weighing(weight)
            })
            .collect();
        let ring = Ring::new(spread, &servers);
        let names = (0..40).map(|n| format!("key:{n}"));
        let names = names.chain(["a".into(), "product:7".into(), "user:1:name".into(), "x".repeat(250)]);
        let found: String =
            names.map(|name| ring.server_of(&Key::new(name).expect("legal")).to_string()).collect();
        assert_eq!(found, expected);
    }
}
