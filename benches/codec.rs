//! The codec: from bytes to a request, and from an outcome to bytes. No cache, no socket.
//!
//! `cargo bench --bench codec`; one verb with `cargo bench --bench codec -- decode/lease-set`.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use leasehold::protocol::{Block, Decoder, Output, Replies, Reply, Request, Space, Status};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    decode(&mut criterion);
    encode(&mut criterion);
    criterion.final_summary();
}

/// A line, perhaps with a block, and a check of the decoded request.
struct Wire {
    name: &'static str,
    bytes: Vec<u8>,
    is_right: fn(&Request) -> bool,
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(1));
    for wire in wires() {
        let mut decoder = Decoder::new(1 << 20);
        with_request(&mut decoder, &wire.bytes, |request| assert!((wire.is_right)(request), "{request:?}"));
        group.bench_function(wire.name, |bencher| {
            bencher.iter(|| with_request(&mut decoder, &wire.bytes, |request| _ = black_box(request)));
        });
    }
}

/// Feeds bytes as a socket would, and passes on the request in them.
fn with_request(decoder: &mut Decoder, mut bytes: &[u8], show: impl FnOnce(&Request)) {
    loop {
        let taken = put(&mut decoder.space(), bytes);
        bytes = &bytes[taken..];
        if let Some(decoded) = decoder.decode() {
            return show(&decoded.expect("it is well-formed"));
        }
    }
}

fn put(space: &mut Space, bytes: &[u8]) -> usize {
    let taken = bytes.len().min(space.remaining_mut());
    assert!(taken > 0, "a request is missing its end");
    space.put_slice(&bytes[..taken]);
    taken
}

fn wires() -> [Wire; 14] {
    let line = |name, line: String, is_right| Wire { name, bytes: (line + "\r\n").into_bytes(), is_right };
    [
        line("get", format!("get {KEY}"), |request| keys(request) == 1),
        line("gets", format!("gets {KEY}"), |request| keys(request) == 1),
        line("get_50", format!("get{}", format!(" {KEY}").repeat(50)), |request| keys(request) == 50),
        line("set_100", store("set", "", 100), |request| value_bytes(request) == 100),
        line("set_32k", store("set", "", LARGE), |request| value_bytes(request) == LARGE),
        line("cas", store("cas", " 123456789012", 100), |request| value_bytes(request) == 100),
        line("incr", format!("incr {KEY} 5"), |request| matches!(request, Request::Incr { delta: 5, .. })),
        line("delete", format!("delete {KEY}"), |request| matches!(request, Request::Delete { .. })),
        line("touch", format!("touch {KEY} 60"), |request| {
            matches!(request, Request::Touch { exptime: 60, .. })
        }),
        line(
            "mg",
            format!("mg {KEY} v f c"),
            |request| matches!(request, Request::MetaRead(meta) if meta.flags.has(b'v')),
        ),
        line(
            "ms_100",
            format!("ms {KEY} 100 T60\r\n{}", "v".repeat(100)),
            |request| matches!(request, Request::MetaSet(_, _, value) if value.len() == 100),
        ),
        line("lease-get", format!("lease-get {KEY}"), |request| keys(request) == 1),
        line("lease-set", lease_set(), |request| value_bytes(request) == 100),
        line("lease-wait", format!("lease-wait 500 {KEY}"), |request| {
            matches!(request, Request::LeaseGet { wait_ms: 500, .. }) && keys(request) == 1
        }),
    ]
}

fn store(verb: &str, unique: &str, value_bytes: usize) -> String {
    format!("{verb} {KEY} 0 0 {value_bytes}{unique}\r\n{}", "v".repeat(value_bytes))
}

fn lease_set() -> String {
    format!("lease-set {KEY} {TOKEN} 0 0 100\r\n{}", "v".repeat(100))
}

fn keys(request: &Request) -> usize {
    match request {
        Request::Get { keys, .. } | Request::LeaseGet { keys, .. } => keys.count(),
        _ => 0,
    }
}

fn value_bytes(request: &Request) -> usize {
    match request {
        Request::Cas(store, _) | Request::Set(store) => store.value.len(),
        Request::LeaseSet(fill) => fill.store.value.len(),
        _ => 0,
    }
}

/// Every different form of reply; commands with the same reply share a line.
fn encode(criterion: &mut Criterion) {
    let (small, large) = (Bytes::from(vec![b'v'; 100]), Bytes::from(vec![b'v'; LARGE]));
    let key = KEY.as_bytes();
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(1));
    let mut check = |name, expected: String, write: &dyn Fn(&mut Replies)| {
        let mut output = Output::default();
        write(&mut Replies::text(&mut output));
        assert_eq!(String::from_utf8_lossy(&output.take()), expected);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                write(black_box(&mut Replies::text(&mut output)));
                output.sent(output.len());
            });
        });
    };
    let value = |size, unique| format!("VALUE {KEY} 7 {size}{unique}\r\n{}\r\n", "v".repeat(size));
    check("get", value(100, "") + "END\r\n", &|replies| {
        replies.send(Reply::Value { key, flags: 7, unique: None, value: block(&small) });
        replies.status(Status::End);
    });
    check("gets", value(100, " 123456789012") + "END\r\n", &|replies| {
        replies.send(Reply::Value { key, flags: 7, unique: Some(123_456_789_012), value: block(&small) });
        replies.status(Status::End);
    });
    check("get_50", value(100, "").repeat(50) + "END\r\n", &|replies| {
        (0..50)
            .for_each(|_| replies.send(Reply::Value { key, flags: 7, unique: None, value: block(&small) }));
        replies.status(Status::End);
    });
    check("get_32k", value(LARGE, "") + "END\r\n", &|replies| {
        replies.send(Reply::Value { key, flags: 7, unique: None, value: block(&large) });
        replies.status(Status::End);
    });
    check("set, cas, lease-set", "STORED\r\n".to_owned(), &|replies| replies.status(Status::Stored));
    check("incr", "12345\r\n".to_owned(), &|replies| replies.send(Reply::Counted(12_345)));
    check("delete", "DELETED\r\n".to_owned(), &|replies| replies.status(Status::Deleted));
    check("touch", "TOUCHED\r\n".to_owned(), &|replies| replies.status(Status::Touched));
    check("lease-get, lease-wait", format!("LVALUE {KEY} {TOKEN} 0 0\r\n\r\nEND\r\n"), &|replies| {
        let nothing = Bytes::new();
        replies.send(Reply::Leased { key, token: TOKEN, flags: 0, value: block(&nothing) });
        replies.status(Status::End);
    });
}

fn block(value: &Bytes) -> Block<'_> {
    Block { bytes: value, shared: Some(value) }
}

/// 24 bytes.
const KEY: &str = "product:0000000123:price";
const LARGE: usize = 32 * 1024;
const TOKEN: u64 = 1 << 62 | 123_456_789_012;
