//! Keys and values: each value names its key and version, and every byte of it can be checked.

use std::io::Write;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::bench::sizes::Sizes;

/// The names of one run, which differ from those of all other runs.
pub struct Names {
    run: u64,
}

/// The identity of a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stamp {
    pub key: u64,
    pub version: u64,
    /// A different number for each load if values must never be equal, else 0.
    pub noise: u64,
}

impl Names {
    /// `run` distinguishes this run from all others.
    pub fn new(run: u64) -> Names {
        Names { run }
    }

    /// The text of a key. It has the prefix of its group.
    pub fn key(&self, key: u64) -> String {
        format!("{}{key}", self.prefix(group(key)))
    }

    /// The prefix shared by the keys of a group.
    pub fn prefix(&self, group: u64) -> String {
        format!("stale:{:x}:{group}:", self.run)
    }

    /// The tag shared by the values of a group.
    pub fn tag(&self, group: u64) -> String {
        format!("stale-{:x}-{group}", self.run)
    }
}

impl Stamp {
    /// The value's bytes. Equal stamps give equal bytes.
    pub fn encode(self, sizes: &Sizes) -> Vec<u8> {
        let Stamp { key, version, noise } = self;
        let mut random = SmallRng::seed_from_u64(key.wrapping_mul(GOLDEN) ^ version);
        let wanted = sizes.draw(&mut random);
        let mut bytes = Vec::with_capacity(wanted.max(HEAD_BYTES_MAX));
        write!(bytes, "{key} {version} {noise} {wanted} ").expect("memory takes all bytes");
        while bytes.len() < wanted {
            bytes.push(self.padding(bytes.len()));
        }
        bytes
    }

    /// Decodes a value; `None` if any byte differs from the stored ones.
    pub fn decode(bytes: &[u8]) -> Option<Stamp> {
        let head_bytes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b' ').nth(3)?.0 + 1;
        let (head, padding) = bytes.split_at(head_bytes);
        let numbers = std::str::from_utf8(head).ok()?.split_terminator(' ').map(|word| word.parse().ok());
        let [key, version, noise, wanted] = numbers.collect::<Option<Vec<u64>>>()?[..] else { return None };
        let stamp = Stamp { key, version, noise };
        let is_whole = bytes.len() == head_bytes.max(wanted as usize);
        let mut places = padding.iter().zip(head_bytes..);
        (is_whole && places.all(|(byte, at)| *byte == stamp.padding(at))).then_some(stamp)
    }

    fn padding(self, at: usize) -> u8 {
        let Stamp { key, version, noise } = self;
        b'a' + (key.wrapping_mul(7) ^ version.wrapping_mul(11) ^ noise ^ at as u64).wrapping_rem(26) as u8
    }
}

/// The group of a key: keys with one tag and one prefix. At most a thousand groups exist, which a server
/// can remember.
pub fn group(key: u64) -> u64 {
    key % GROUPS
}

/// The keys of a group among the first `keys`.
pub fn members(group: u64, keys: usize) -> impl Iterator<Item = u64> {
    (group..keys as u64).step_by(GROUPS as usize)
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
const GROUPS: u64 = 1_000;
const HEAD_BYTES_MAX: usize = 84;

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { key: 17, version: 3, noise: 0 };

    #[test]
    fn decoding_a_value_returns_its_stamp() {
        for sizes in ["0", "15", "100", "1-3000", "lognormal:200:1"] {
            let sizes: Sizes = sizes.parse().unwrap();
            for version in 0..50 {
                let stamp = Stamp { version, ..STAMP };
                let bytes = stamp.encode(&sizes);
                assert_eq!(Stamp::decode(&bytes), Some(stamp));
                assert_eq!(bytes, stamp.encode(&sizes), "the same version has the same bytes");
            }
        }
        assert_eq!(STAMP.encode(&Sizes::Fixed(100)).len(), 100);
    }

    #[test]
    fn every_changed_byte_is_detected() {
        let bytes = STAMP.encode(&Sizes::Fixed(60));
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            assert_ne!(Stamp::decode(&wrong), Some(STAMP), "{at}");
        }
        let longer = [&bytes[..], b"x"].concat();
        for wrong in [&b""[..], b"17 3 0", b"17 3 0 60 ", b"a b c d ", &bytes[..59], &longer] {
            assert_eq!(Stamp::decode(wrong), None, "{}", wrong.escape_ascii());
        }
    }

    #[test]
    fn groups_share_a_prefix_and_a_tag() {
        let names = Names::new(0xab);
        assert_eq!(names.key(2_007), "stale:ab:7:2007");
        assert!(names.key(7).starts_with(&names.prefix(7)) && names.key(2_007).starts_with(&names.prefix(7)));
        assert_eq!(members(7, 2_008).collect::<Vec<_>>(), [7, 1_007, 2_007]);
        assert_eq!(members(19, 20).collect::<Vec<_>>(), [19]);
        assert_eq!(names.tag(7), "stale-ab-7");
    }
}
