//! The operations of the cache beside storing: leases, remembered misses, counting; and a `get` from bytes to
//! bytes.
//!
//! `cargo bench --bench cache`. One thread, no socket, a manual clock, ten thousand keys unless stated
//! otherwise. For the engine alone, and for comparisons, see `engine`.

mod common;

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};

use self::common::{GET, META_GET, User, VALUE, Wire, names};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("cache");
    group.throughput(Throughput::Elements(1));
    remembered_misses(&mut group);
    changes(&mut group);
    leases(&mut group);
    deletes(&mut group);
    bytes_to_bytes(&mut group);
    group.finish();
    criterion.final_summary();
}

type Group<'c> = BenchmarkGroup<'c, WallTime>;

fn remembered_misses(group: &mut Group) {
    let mut user = User::empty();
    assert_eq!(user.get(), None);
    group.bench_function("get miss, remembered", |bencher| bencher.iter(|| black_box(user.get())));
}

fn changes(group: &mut Group) {
    let mut user = User::filled(b"1", KEYS);
    assert_eq!(user.incr(), Some(2));
    group.bench_function("incr", |bencher| bencher.iter(|| black_box(user.incr())));
    assert!(user.touch());
    group.bench_function("touch", |bencher| bencher.iter(|| black_box(user.touch())));
}

fn leases(group: &mut Group) {
    let mut user = User::filled(VALUE, KEYS);
    assert!(user.lease_cycle(VALUE));
    group.bench_function("lease cycle: delete, lease_get, lease_set", |bencher| {
        bencher.iter(|| black_box(user.lease_cycle(VALUE)));
    });
}

fn deletes(group: &mut Group) {
    let mut user = User::empty();
    assert!(!user.delete());
    group.bench_function("delete absent", |bencher| bencher.iter(|| black_box(user.delete())));
}

fn bytes_to_bytes(group: &mut Group) {
    let get = [b"VALUE ", &names(1)[0][..], b" 0 100\r\n", VALUE, b"\r\nEND\r\n"].concat();
    let reads = [
        ("get hit, from bytes to bytes", GET, &get[..]),
        ("mg hit, from bytes to bytes", META_GET, b"VA 100 f0 c"),
    ];
    for (name, line, reply) in reads {
        let mut wire = Wire::filled(VALUE, KEYS, line);
        assert!(wire.get() && wire.output.take().starts_with(reply));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                assert!(wire.get());
                wire.sent();
            });
        });
    }
}

const KEYS: usize = 10_000;
