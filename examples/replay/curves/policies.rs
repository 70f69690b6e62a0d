//! Policies of eviction in simulation, with the same bytes as the servers: GDSF and Belady.
//!
//! They show how far servers are from a policy whose bookkeeping costs nothing, and from one that knows the
//! future. An item costs its key, its value and `ITEM_BYTES`; there are no segments, classes or tables.

use std::collections::{BTreeSet, HashMap};

use crate::replayer::Tally;
use crate::trace::{Op, Request};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Policy {
    /// Greedy dual by frequency over size (Cherkasova, HPL-98-69, 1998): an item's priority is the floor at
    /// its last use plus uses / size. The least priority is evicted, and becomes the floor.
    Gdsf,
    /// Evicts what is read again last, or never (Belady, 1966). It ignores sizes, so GDSF may miss less.
    Belady,
}

/// A cache in simulation.
struct Simulation {
    bytes: u64,
    floor: f64,
    items: HashMap<u32, Item>,
    limit: u64,
    order: BTreeSet<Place>,
    policy: Policy,
    /// Counts requests; at equal worth the item that was used earlier is evicted first.
    turn: u64,
}

struct Item {
    bytes: u64,
    place: Place,
    uses: u32,
}

/// The place in the order of eviction: the worth, the turn of the last use, and the key.
type Place = (u64, u64, u32);

impl Policy {
    /// Plays the requests as the users of a look-aside cache with `limit` bytes would.
    pub fn play(self, requests: &[Request], limit: u64) -> Tally {
        let next_reads = if self == Policy::Belady { next_reads(requests) } else { Vec::new() };
        let mut cache = Simulation::new(self, limit);
        let mut tally = Tally::default();
        for (index, request) in requests.iter().enumerate() {
            let next_read = next_reads.get(index).copied().unwrap_or(NEVER);
            cache.turn += 1;
            match request.op {
                Op::Delete => drop(cache.remove(request.key)),
                Op::Get => {
                    tally.gets += 1;
                    tally.misses += u64::from(!cache.items.contains_key(&request.key));
                    cache.store(request, next_read);
                }
                Op::Set => cache.store(request, next_read),
            }
        }
        tally
    }
}

impl Simulation {
    fn new(policy: Policy, limit: u64) -> Self {
        Simulation {
            bytes: 0,
            floor: 0.0,
            items: HashMap::new(),
            limit,
            order: BTreeSet::new(),
            policy,
            turn: 0,
        }
    }

    /// A use of the item: a hit, a fill or an overwrite.
    fn store(&mut self, request: &Request, next_read: u64) {
        let uses = self.remove(request.key).map_or(0, |item| item.uses) + 1;
        let bytes = cost(request);
        if bytes > self.limit {
            return;
        }
        match self.policy {
            Policy::Gdsf => {
                self.evict_down_to(self.limit - bytes);
                let priority = self.floor + f64::from(uses) / bytes as f64;
                // The bits of positive numbers have the order of the numbers.
                self.insert(request.key, bytes, uses, priority.to_bits());
            }
            Policy::Belady => {
                self.insert(request.key, bytes, uses, NEVER - next_read);
                self.evict_down_to(self.limit);
            }
        }
    }

    fn insert(&mut self, key: u32, bytes: u64, uses: u32, worth: u64) {
        let place = (worth, self.turn, key);
        self.order.insert(place);
        self.items.insert(key, Item { bytes, place, uses });
        self.bytes += bytes;
    }

    fn remove(&mut self, key: u32) -> Option<Item> {
        let item = self.items.remove(&key)?;
        self.order.remove(&item.place);
        self.bytes -= item.bytes;
        Some(item)
    }

    fn evict_down_to(&mut self, limit: u64) {
        while self.bytes > limit {
            let &(worth, _, key) = self.order.first().expect("something has these bytes");
            self.floor = f64::from_bits(worth);
            self.remove(key);
        }
    }
}

/// The index of the next read of what each request leaves in the cache, unless a set or delete comes first.
fn next_reads(requests: &[Request]) -> Vec<u64> {
    let mut next = HashMap::new();
    let mut reads = vec![NEVER; requests.len()];
    for (index, request) in requests.iter().enumerate().rev() {
        reads[index] = next.get(&request.key).copied().unwrap_or(NEVER);
        let is_read = request.op == Op::Get;
        next.insert(request.key, if is_read { index as u64 } else { NEVER });
    }
    reads
}

fn cost(request: &Request) -> u64 {
    request.key_length() as u64 + u64::from(request.value_bytes) + ITEM_BYTES
}

const NEVER: u64 = u64::MAX;
/// Bytes of an item beyond its key and value, as in a log: a header of 29 bytes and 4 of an index.
const ITEM_BYTES: u64 = 29 + 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Expiry;

    /// A request for the key of the letter: a capital letter has a value of nine times the cost.
    fn request(op: Op, letter: char) -> Request {
        let cost = if letter.is_uppercase() { 9 * UNIT } else { UNIT };
        let value_bytes = (cost - ITEM_BYTES - KEY_BYTES) as u32;
        let key = u32::from(letter);
        Request { expiry: Expiry::Never, key, key_bytes: KEY_BYTES as u8, op, time: 0, value_bytes }
    }

    /// The misses of a sequence in which a letter is a get of it, `=a` a set, and `-a` a delete.
    fn misses(policy: Policy, units: u64, letters: &str) -> u64 {
        let (mut op, mut requests) = (Op::Get, Vec::new());
        for letter in letters.chars() {
            match letter {
                '=' => op = Op::Set,
                '-' => op = Op::Delete,
                ' ' => {}
                _ => requests.push(request(std::mem::replace(&mut op, Op::Get), letter)),
            }
        }
        policy.play(&requests, units * UNIT).misses
    }

    const KEY_BYTES: u64 = 10;
    const UNIT: u64 = 100;

    #[test]
    fn each_key_misses_once_if_all_fit() {
        for policy in [Policy::Gdsf, Policy::Belady] {
            assert_eq!(misses(policy, 3, "abcabccba"), 3);
            assert_eq!(misses(policy, 12, "AbcAbcAbc"), 3);
        }
    }

    #[test]
    fn belady_evicts_what_is_read_last() {
        // At c, the cache keeps a, which is read before b; LRU would miss all six.
        assert_eq!(misses(Policy::Belady, 2, "abcabc"), 4);
        assert_eq!(misses(Policy::Gdsf, 2, "abcabc"), 6);
        // Nothing is evicted for c, which is never read again.
        assert_eq!(misses(Policy::Belady, 2, "abcab"), 3);
    }

    #[test]
    fn belady_keeps_nothing_that_is_replaced_or_deleted_before_it_is_read() {
        assert_eq!(misses(Policy::Belady, 1, "ab=ab"), 2);
        assert_eq!(misses(Policy::Belady, 1, "ab-ab"), 2);
    }

    #[test]
    fn gdsf_keeps_what_was_used_more() {
        assert_eq!(misses(Policy::Gdsf, 2, "aaaaabcbca"), 5);
    }

    #[test]
    fn gdsf_keeps_small_items_before_large_ones() {
        // The large item was used twice, but costs as much as nine others.
        assert_eq!(misses(Policy::Gdsf, 10, "AA ab ab A"), 4);
    }

    #[test]
    fn gdsf_forgets_former_uses_as_the_floor_rises() {
        // Each new key raises the floor by one use, so that the four uses of a are worth less one day.
        assert_eq!(misses(Policy::Gdsf, 2, "aaaa bc a"), 3);
        assert_eq!(misses(Policy::Gdsf, 2, "aaaa bcdefghi a"), 10);
    }

    #[test]
    fn sets_are_uses_and_deletes_forget_them() {
        assert_eq!(misses(Policy::Gdsf, 2, "=a=a b c a"), 2);
        assert_eq!(misses(Policy::Gdsf, 2, "=a=a -a =a b c a"), 3);
        assert_eq!(misses(Policy::Gdsf, 2, "a-aa"), 2);
    }

    #[test]
    fn what_is_larger_than_the_cache_is_not_stored() {
        for policy in [Policy::Gdsf, Policy::Belady] {
            assert_eq!(misses(policy, 8, "aAaA"), 3);
        }
    }
}
