//! End to end over loopback: one connection to a server in this process, at several pipeline depths.
//!
//! `cargo bench --bench loopback`. One connection sends a batch, waits for all of its replies, and sends the next, so
//! depth 1 tells the round trip and depth 64 the work. For many connections and a peer to compare with, see `peers`.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::TcpStream;

use clap::Parser;
use criterion::{Criterion, Throughput};
use leasehold::server::{Options, Server};

fn main() {
    let options = Options::try_parse_from(["leasehold", "-p", "-1", "-t", "1"]).expect("these are options");
    let server = Server::start(options).expect("loopback has free ports");
    let mut criterion = Criterion::default().configure_from_args();
    for depth in [1, 16, 64] {
        let client = || Client::connect(&server, depth);
        set(&mut criterion, client());
        get(&mut criterion, client());
        lease_cycle(&mut criterion, client());
    }
    criterion.final_summary();
    server.stop();
}

/// One connection, and the keys it asks for at once.
struct Client {
    inbox: Vec<u8>,
    keys: Vec<String>,
    stream: TcpStream,
}

impl Client {
    fn connect(server: &Server, depth: usize) -> Self {
        let stream = TcpStream::connect(server.address()).expect("the server listens");
        stream.set_nodelay(true).expect("it is a TCP socket");
        let keys = (0..depth).map(|n| format!("bench:{n:018}")).collect();
        Client { inbox: Vec::new(), keys, stream }
    }

    fn exchange(&mut self, request: &[u8], reply_bytes: usize) -> &[u8] {
        self.stream.write_all(request).expect("the server reads");
        self.inbox.resize(reply_bytes, 0);
        self.stream.read_exact(&mut self.inbox).expect("the server answers");
        &self.inbox
    }

    /// One line for each key.
    fn each(&self, line: impl Fn(&str) -> String) -> Vec<u8> {
        self.keys.iter().flat_map(|key| line(key).into_bytes()).collect()
    }

    /// Deletes every key, leases it and fills it.
    fn lease_cycle(&mut self, begin: &[u8]) -> &[u8] {
        let granted = self.exchange(begin, self.keys.len() * GRANTED_BYTES).to_vec();
        let mut fills = Vec::new();
        for (key, granted) in self.keys.iter().zip(granted.chunks(GRANTED_BYTES)) {
            let token = &granted[TOKEN_AT..TOKEN_AT + TOKEN_BYTES];
            fills.extend(
                [b"lease-set ", key.as_bytes(), b" ", token, b" 0 0 100\r\n", VALUE, b"\r\n"].concat(),
            );
        }
        self.exchange(&fills, self.keys.len() * STORED.len())
    }
}

fn set(criterion: &mut Criterion, mut client: Client) {
    let request =
        client.each(|key| format!("set {key} 0 0 100\r\n{}\r\n", str::from_utf8(VALUE).expect("text")));
    let expected = client.each(|_| STORED.to_owned());
    assert_eq!(client.exchange(&request, expected.len()), expected);
    bench(criterion, "set", client.keys.len(), || _ = black_box(client.exchange(&request, expected.len())));
}

/// `set` has stored what is asked for.
fn get(criterion: &mut Criterion, mut client: Client) {
    let request = client.each(|key| format!("get {key}\r\n"));
    let value = str::from_utf8(VALUE).expect("text");
    let expected = client.each(|key| format!("VALUE {key} 0 100\r\n{value}\r\nEND\r\n"));
    assert_eq!(client.exchange(&request, expected.len()), expected);
    bench(criterion, "get hit", client.keys.len(), || {
        _ = black_box(client.exchange(&request, expected.len()))
    });
}

/// `set` has stored what is deleted first.
fn lease_cycle(criterion: &mut Criterion, mut client: Client) {
    let begin = client.each(|key| format!("delete {key}\r\nlease-get {key}\r\n"));
    let expected = client.each(|_| STORED.to_owned());
    assert_eq!(client.lease_cycle(&begin), expected);
    bench(criterion, "lease cycle", client.keys.len(), || _ = black_box(client.lease_cycle(&begin)));
}

fn bench(criterion: &mut Criterion, name: &str, depth: usize, mut act: impl FnMut()) {
    let mut group = criterion.benchmark_group("loopback");
    group.throughput(Throughput::Elements(depth as u64));
    group.bench_function(format!("{name}/{depth}"), |bencher| bencher.iter(&mut act));
}

const VALUE: &[u8] = &[b'v'; 100];
const STORED: &str = "STORED\r\n";
/// `DELETED`, then `LVALUE <24 bytes> <token> 0 0`, an empty line and `END`; a token always has 19 digits.
const GRANTED_BYTES: usize = TOKEN_AT + TOKEN_BYTES + " 0 0\r\n\r\nEND\r\n".len();
const TOKEN_AT: usize = "DELETED\r\n".len() + "LVALUE ".len() + 24 + 1;
const TOKEN_BYTES: usize = 19;
