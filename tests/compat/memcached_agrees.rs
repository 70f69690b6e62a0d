//! Random command lines, valid and malformed, to a real memcached and to leasehold: the answers must be
//! equal.
//!
//! The installed memcached may be older than 1.6.45. [`difference`] lists where an older one differs, and
//! where leasehold differs on purpose. Without a memcached the test prints `skipped`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::memcached::{Memcached, PATIENCE};
use clap::Parser;
use leasehold::options::Options;
use leasehold::server::Server;

const SEEDS: u64 = 16;
const LINES: usize = 500;

/// A connection, and names for the uniques seen on it, because two servers number their values differently.
pub struct Client {
    stream: TcpStream,
    uniques: BTreeMap<u64, usize>,
}

impl Client {
    pub fn new(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout is legal");
        Client { stream, uniques: BTreeMap::new() }
    }

    /// The answer to a request: everything before the answer to the `version` that follows it.
    pub fn answer(&mut self, request: &Request) -> String {
        let mut bytes = self.with_unique(&request.line) + "\r\n";
        if let Some(block) = &request.block {
            bytes += &format!("{block}\r\n");
        }
        self.stream.write_all((bytes + "version\r\n").as_bytes()).expect("it is read");
        let mut received = String::new();
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer).expect("it answers in time") {
                0 => panic!("{} closed the connection", request.line),
                count => received += str::from_utf8(&buffer[..count]).expect("all of it is text"),
            }
            let last = received.strip_suffix("\r\n").and_then(|lines| lines.rsplit("\r\n").next());
            if last.is_some_and(|line| line.starts_with("VERSION ")) {
                break;
            }
        }
        let answer = received.rsplit_once("VERSION ").map_or("", |(before, _)| before).to_owned();
        self.named(&answer)
    }

    /// Replaces `{3}` in a line by the fourth newest unique of this server.
    fn with_unique(&self, line: &str) -> String {
        let Some((before, rest)) = line.split_once('{') else { return line.to_owned() };
        let (age, after) = rest.split_once('}').expect("an age ends");
        let age: usize = age.parse().expect("an age is a number");
        let name = self.uniques.len().checked_sub(age + 1);
        let known = self.uniques.iter().find(|(_, known)| Some(**known) == name);
        format!("{before}{}{after}", known.map_or(u64::MAX, |(unique, _)| *unique))
    }

    /// The answer with names in place of uniques.
    fn named(&mut self, received: &str) -> String {
        // In memcached a value made from another one, or created by `ma`, forgets that its key came in
        // base64.
        let received = received.replace(" kAAECAw== b", " k\0\u{1}\u{2}\u{3}");
        let mut named = String::new();
        for line in received.split_inclusive("\r\n") {
            match line.trim_end().split(' ').collect::<Vec<_>>()[..] {
                ["VALUE", key, flags, bytes, unique] => {
                    let next = self.uniques.len();
                    let unique = unique.parse().expect("a unique is a number");
                    let name = *self.uniques.entry(unique).or_insert(next);
                    named += &format!("VALUE {key} {flags} {bytes} {{{name}}}\r\n");
                }
                // In leasehold the unique of the client that has the lease is a token.
                ["HD" | "VA", .., "W"] => {
                    let words = line.split(' ').map(|word| match word.strip_prefix('c') {
                        Some(_) => "c{token}".to_owned(),
                        None => self.meta_named(word),
                    });
                    named += &words.collect::<Vec<String>>().join(" ");
                }
                ["HD" | "VA" | "EX" | "NF" | "NS", ..] => {
                    let words: Vec<String> = line.split(' ').map(|word| self.meta_named(word)).collect();
                    named += &words.join(" ");
                }
                _ => named += line,
            }
        }
        named
    }

    /// A word of a meta command's answer, with uniques replaced by names and remaining times by `t{time}`.
    fn meta_named(&mut self, word: &str) -> String {
        let text = word.trim_end();
        let (letter, number) = (text.get(..1), text.get(1..).and_then(|digits| digits.parse::<u64>().ok()));
        let name = match (letter, number) {
            (Some("c"), Some(unique)) if unique > 0 => {
                let next = self.uniques.len();
                format!("c{{{}}}", self.uniques.entry(unique).or_insert(next))
            }
            (Some("t"), Some(2..)) => "t{time}".to_owned(),
            _ => text.to_owned(),
        };
        name + &word[text.len()..]
    }
}

pub struct Request {
    pub line: String,
    /// The data block of a storing command.
    pub block: Option<String>,
}

/// Random requests from a seed: most of them valid, over few keys, so that they meet each other's values.
struct Generator {
    /// Whether the memcached knows all flags of 1.6.45.
    knows_all: bool,
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

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }

    fn request(&mut self) -> Request {
        let line = match self.below(32) {
            16.. => return self.meta(),
            0..6 => return self.store(),
            6..9 => format!("{} {} {}", self.pick(&["get", "gets"]), self.key(), self.key()),
            9 => format!("{} {} {}", self.pick(&["gat", "gats"]), self.pick(EXPTIMES), self.key()),
            10 | 11 => {
                let command = format!("{} {}", self.pick(&["incr", "decr"]), self.key());
                format!("{command} {}{}", self.word(), self.noreply())
            }
            12 => format!("touch {} {}{}", self.key(), self.pick(EXPTIMES), self.noreply()),
            13 => format!("delete {}{}", self.key(), self.noreply()),
            14 => format!("{}{}", self.pick(&["flush_all", "flush_all 0", "flush_all -1"]), self.noreply()),
            _ => self.pick(MALFORMED).to_owned(),
        };
        Request { line, block: None }
    }

    fn store(&mut self) -> Request {
        let verb = self.pick(&["set", "set", "add", "replace", "append", "prepend", "cas"]);
        // An old memcached reads the block of a refused line as lines, and hangs up if one of them is long.
        let is_large = self.below(8) == 0;
        let (key, block) = match self.below(6) {
            _ if is_large => ("key0".to_owned(), "x".repeat(self.below(40_000))),
            0 => (self.key(), String::new()),
            1 => (self.key(), "two\r\nlines".to_owned()),
            _ => (self.key(), self.pick(NUMBERS).to_owned()),
        };
        let (flags, exptime) = if is_large { ("7", "0") } else { (self.pick(FLAGS), self.exptime()) };
        let unique = if verb == "cas" { format!(" {{{}}}", self.below(4)) } else { String::new() };
        let line = format!("{verb} {key} {flags} {exptime} {}{unique}{}", block.len(), self.noreply());
        Request { line, block: Some(block) }
    }

    /// A meta command. Leases and stale copies differ in leasehold, so no `mg` asks for one and no `md`
    /// leaves one.
    fn meta(&mut self) -> Request {
        let (verb, own, newer) = META[self.below(META.len())];
        let newer = if self.knows_all { newer } else { "" };
        let (key, base64) = match self.below(8) {
            0 => ("AAECAw==".to_owned(), "b"),
            _ => (self.key(), ""),
        };
        let mut flags: Vec<String> = Vec::new();
        for flag in own.split(' ').chain(newer.split(' ')) {
            match flag {
                _ if flag != "MD" && self.below(3) > 0 => {}
                "C" => flags.push(format!("C{{{}}}", self.below(4))),
                "T" => flags.push(format!("T{}", self.pick(EXPTIMES))),
                "D" => flags.push(format!("D{}", self.word())),
                "t" if flags.iter().any(|flag| flag.starts_with('T')) => {}
                "O" => flags.push(format!("O{}", "o".repeat(self.below(32)))),
                // An emptied value keeps its unique in memcached, and gets a new one in leasehold.
                "x" => {
                    flags.extend(["x".to_owned(), format!("E{}", 5_000_000_000_u64 + self.below(8) as u64)])
                }
                "E" => flags.push(format!("E{}", 4_000_000_000_u64 + self.below(8) as u64)),
                other => flags.push(other.to_owned()),
            }
        }
        flags.push(base64.to_owned());
        let at = self.below(flags.len());
        flags.rotate_left(at);
        let flags = flags.join(" ");
        if verb != "ms" {
            return Request { line: format!("{verb} {key} {flags}"), block: None };
        }
        let block = self.pick(NUMBERS).to_owned();
        Request { line: format!("ms {key} {} {flags}", block.len()), block: Some(block) }
    }

    /// One of the numbers, as one word: an older memcached ignores a line with an extra word.
    fn word(&mut self) -> String {
        self.pick(NUMBERS).replace(' ', "")
    }

    fn key(&mut self) -> String {
        match self.below(40) {
            0 => "k".repeat(250),
            1 => "k".repeat(251),
            n => format!("key{}", n % 5),
        }
    }

    /// The exptime of a storage command: in other commands 1.6.45 refuses more than 31 bits.
    fn exptime(&mut self) -> &'static str {
        if self.below(10) == 0 { "4294967295" } else { self.pick(EXPTIMES) }
    }

    fn noreply(&mut self) -> &'static str {
        if self.below(8) == 0 { " noreply" } else { "" }
    }
}

/// Each meta command with the flags to try, and the flags that an older memcached may not know.
const META: &[(&str, &str, &str)] = &[
    ("mg", "T c f k q s t v O u P L", "C"),
    ("mg", "f v k", "C"),
    ("ms", "T c k q O F5", "s E I"),
    ("ms", "c k q O F5 C T", "s MS MR"),
    ("ms", "c k q O MA C", "s E N0"),
    ("ms", "c k q O MP", "s E N1000"),
    ("ms", "c k ME C", "S v v"),
    ("md", "k q O C", "x"),
    ("ma", "c t v k O D N0 J13", "q"),
    // In memcached a number that grows by a digit loses both.
    ("ma", "T v k MD t q D C", "E S"),
    ("ma", "v M- D", "Mx M"),
];
const NUMBERS: &[&str] = &[
    "1",
    "10",
    "007",
    "99",
    "99999",
    "18446744073709551615",
    "18446744073709551616",
    "-1",
    "x",
    "1.5",
    "5 6",
];
const FLAGS: &[&str] = &["0", "0", "0", "1", "65536", "4294967295", "-1", "x"];
/// Expired at once, or not while the test runs.
const EXPTIMES: &[&str] = &["0", "0", "0", "1000", "2592000", "2592001", "2000000000", "-1", "soon"];
/// None of them changes anything, so that two servers that differ in one agree on all later lines.
const MALFORMED: &[&str] = &[
    "",
    "x",
    "hello",
    "GET none",
    "get",
    "gets",
    "gat",
    "gat 0",
    "gat soon",
    "gat soon none",
    "get  none",
    "set none",
    "set none 0 0",
    "set none 0 0 -1",
    "set none 0 0 x",
    "cas none 0 0",
    "incr",
    "incr none",
    "decr none",
    "incr none 1 2 3",
    "touch",
    "touch none",
    "touch none soon noreply",
    "delete",
    "delete none 0",
    "delete none 0 noreply",
    "delete none 0 0",
    "delete none soon",
    "flush_all soon",
    "flush_all soon noreply",
    "verbosity",
    "verbosity 0",
    "verbosity 0 noreply",
    "verbosity x",
    "verbosity 0 1 2",
    "version1",
    "hello noreply",
    "incr none x noreply",
    "shutdown",
    "shutdown x",
    "shutdown now",
    "cache_memlimit",
    "cache_memlimit 7",
    "cache_memlimit -1",
    "cache_memlimit x",
    "cache_memlimit 64x",
    "cache_memlimit 64",
    "cache_memlimit 64 noreply",
    "cache_memlimit 1000000001",
    "stats nonsense",
    "mg",
    "ms none",
    "ms none x",
    "ms none -1",
    "md",
    "ma",
    "me",
    "me none",
    "mn",
    "mx none",
    "mg none - ",
    "mg Zm9 b",
    "mg ! b Tx",
    "mg ! Tx b",
    "mg ! b v v",
    "md ! b Cx",
    "mg none S",
    "mg none v v",
    "mg none Tx",
    "mg none Fx",
    "ma none Jx",
    "md none O12345678901234567890123456789012",
    "stats cachedump",
    "stats cachedump 1",
    "stats cachedump 1 x",
    "stats cachedump 64 1",
    "stats detail",
    "stats detail x",
    "stats detail off",
    "lru",
    "lru x",
    "lru mode x",
    "lru temp_ttl",
    "lru_crawler x",
    "lru_crawler metadump",
    "lru_crawler tocrawl x",
    "slabs",
    "slabs x",
    "slabs automove",
    "slabs reassign 1",
];

/// The reason why an answer may differ, if it may: an older memcached, a bug in memcached, or a choice of
/// leasehold.
fn difference(line: &str, theirs: &str, ours: &str, is_older: bool) -> Option<&'static str> {
    let is_silent = line.ends_with(" noreply");
    let is_error = ours.starts_with("CLIENT_ERROR ") || ours == "ERROR\r\n";
    let is_bad_line = ours == BAD_LINE;
    let only_errors = |answer: &str| answer.replace(BAD_LINE, "").replace("ERROR\r\n", "").is_empty();
    let table = [
        (
            is_bad_line && theirs == format!("{BAD_LINE}\r\n"),
            "theirs: the error for a long key in a get has an extra empty line",
        ),
        (line == "gat 0" && theirs == "END\r\n", "older: gat needs no key"),
        (line == "gat soon" && is_bad_line, "older: gat checks the time before the keys"),
        (is_bad_line && theirs == "ERROR\r\n", "older: a short line is ERROR"),
        (is_bad_line && only_errors(theirs), "older: the block of a refused line is read as lines"),
        (theirs == "ERROR\r\n" && line.split(' ').count() > 3, "older: extra words are ERROR"),
        (theirs.contains("Usage: delete <key>"), "older: the second argument of delete can only be 0"),
        (
            line.starts_with("shutdown") && theirs == "ERROR: shutdown not enabled\r\n",
            "older: not SERVER_ERROR",
        ),
        (line.starts_with("delete ") && is_bad_line, "ours: delete's second argument is a number of seconds"),
        (is_older && is_error && theirs.starts_with("CLIENT_ERROR "), "older: other error texts"),
        (is_bad_line && theirs == format!("{ours}\r\n"), "ours: an error is one line, also for get"),
        (is_silent && is_error && theirs.is_empty(), "ours: an invalid line is answered in spite of noreply"),
    ];
    table.into_iter().find(|(is_it, _)| *is_it).map(|(_, why)| why)
}

const BAD_LINE: &str = "CLIENT_ERROR bad command line format\r\n";

#[test]
fn memcached_answers_random_requests_alike() {
    let Some(mut memcached) = Memcached::start("") else {
        return println!("skipped: no memcached is installed");
    };
    // The test pipelines its requests, as only shared connections do.
    let options = Options::try_parse_from(["leasehold", "-p", "-1", "-t", "1", "--implicit-leases", "off"])
        .expect("legal flags");
    let server = Server::start(options).expect("the server starts");
    let knows_all = memcached.is_1_6_45();
    for seed in 0..SEEDS {
        let mut generator = Generator { knows_all, seed };
        let own = TcpStream::connect(server.address()).expect("it listens");
        let (mut real, mut own) = (Client::new(memcached.connect()), Client::new(own));
        for client in [&mut real, &mut own] {
            client.answer(&Request { line: "flush_all".to_owned(), block: None });
        }
        for nth in 0..LINES {
            let request = generator.request();
            let (theirs, ours) = (real.answer(&request), own.answer(&request));
            if theirs != ours && difference(&request.line, &theirs, &ours, !knows_all).is_none() {
                let Request { line, block } = request;
                panic!(
                    "seed {seed}, request {nth}: {line:?} {block:?}\n  theirs {theirs:?}\n  ours   {ours:?}"
                );
            }
        }
    }
    server.stop();
}
