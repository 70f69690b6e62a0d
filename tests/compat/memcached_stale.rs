//! Random meta commands that leave, read and replace stale values, to a real memcached and to leasehold: the
//! answers must be equal.
//!
//! Only commands are sent to which both show stale values: `mg`, `md`, and `ms` that sets. Two differences
//! are left out: leasehold shows a token to the client that wins a stale value, and no unique to one that
//! stores a stale value. Without a memcached the test prints `skipped`.

use std::net::TcpStream;

use clap::Parser;
use leasehold::options::Options;
use leasehold::server::Server;

use crate::memcached_agrees::{Client, Request};
use crate::support::memcached::Memcached;
use crate::support::random::Random;

/// A random request. Uniques are those that the client saw lately, by their age.
fn request(random: &mut Random, has_tombstones: bool) -> Request {
    let mut one_of = |words: &[&str]| words[random.below(words.len() as u64) as usize].to_owned();
    let key = one_of(&["key0", "key1", "key2"]);
    let time = one_of(&["", "", " T0", " T1000", " T2000000000"]);
    let unique = one_of(&["", " C{0}", " C{1}", " C{2}", " C{3}", " C0", " C1"]);
    let flags = one_of(&["", " F5", " q", " O7"]);
    let tombstone = if has_tombstones { one_of(&["", "", " x"]) } else { String::new() };
    let value = one_of(&["", "v", "value"]);
    let line =
        match &*one_of(&["get", "get", "get", "invalidate", "invalidate", "delete", "set", "set", "stale"]) {
            "get" => format!("mg {key} s v t f c"),
            "invalidate" => format!("md {key} I{tombstone}{time}{unique}{flags}"),
            "delete" => format!("md {key}{unique}"),
            "set" => format!("ms {key} {}{time}{unique}{flags} c", value.len()),
            _ => format!("ms {key} {} I{time}{unique}{flags}", value.len()),
        };
    let block = line.starts_with("ms").then_some(value);
    Request { line, block }
}

#[test]
fn memcached_treats_stale_values_alike() {
    let Some(mut memcached) = Memcached::start("") else {
        return println!("skipped: no memcached is installed");
    };
    let flags = ["leasehold", "-p", "-1", "-t", "1", "--implicit-leases", "off"];
    let server = Server::start(Options::try_parse_from(flags).expect("legal flags")).expect("it starts");
    let has_tombstones = memcached.is_1_6_45();
    let (mut stale, mut stored) = (0, 0);
    for seed in 0..SEEDS {
        let mut random = Random(seed + 1);
        let own = TcpStream::connect(server.address()).expect("it listens");
        let (mut real, mut own) = (Client::new(memcached.connect()), Client::new(own));
        let mut history = Vec::new();
        for key in ["key0", "key1", "key2"] {
            let request = Request { line: format!("md {key} q"), block: None };
            real.answer(&request);
            own.answer(&request);
        }
        for _ in 0..LINES {
            let request = request(&mut random, has_tombstones);
            let (theirs, ours) = (real.answer(&request), own.answer(&request));
            history.push(format!("{} {:?} -> {theirs:?}", request.line, request.block));
            let last = &history[history.len().saturating_sub(12)..];
            assert_eq!(theirs, ours, "seed {seed}:\n{}", last.join("\n"));
            stale += u32::from(theirs.contains(" X"));
            stored += u32::from(request.line.starts_with("ms") && theirs.starts_with("HD"));
        }
    }
    assert!(stale > 500 && stored > 500, "{stale} stale values, {stored} stores");
    server.stop();
}

const SEEDS: u64 = 16;
const LINES: usize = 600;
