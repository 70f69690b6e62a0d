//! The number of instructions of each operation, which does not depend on the load of the machine.
//!
//! `cargo bench --bench instructions` runs itself under valgrind's callgrind, each operation twice with
//! different counts, and divides the difference, which excludes the preparation. `-- --test` runs each a few
//! times without valgrind. Keys have 24 bytes, values 100; reads do not copy the value, except those from
//! bytes to bytes.

mod common;

use std::env;
use std::process::Command;

use self::common::{GET, META_GET, NOOP, Pipelines, User, VALUE, Wire, getkq};

/// An operation: its name, and a function that repeats it.
struct Operation {
    name: &'static str,
    run: fn(usize),
}

const OPERATIONS: [Operation; 12] = [
    Operation { name: "hit", run: hit },
    Operation { name: "hit, if it depends on a source", run: dependent_hit },
    Operation { name: "miss, remembered", run: miss },
    Operation { name: "set, overwriting in place", run: set_in_place },
    Operation { name: "set, overwriting and moving", run: set_moving },
    Operation { name: "set, inserting with eviction", run: set_with_eviction },
    Operation { name: "delete hit", run: delete },
    Operation { name: "lease cycle: delete, lease_get, lease_set", run: lease_cycle },
    Operation { name: "get hit, from bytes to bytes", run: |count| bytes_to_bytes(GET, count) },
    Operation { name: "mg hit, from bytes to bytes", run: |count| bytes_to_bytes(META_GET, count) },
    Operation {
        name: "one of 16 mg hits at once, with their keys",
        run: |count| pipelines(meta_get, b"", count),
    },
    Operation {
        name: "one of 16 getkq hits at once, and a noop",
        run: |count| pipelines(getkq, &NOOP, count),
    },
];

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &arguments[..] {
        [flag, name, count] if flag == RUN => {
            let operation = OPERATIONS.iter().find(|operation| operation.name == name);
            (operation.expect("it is in the table").run)(count.parse().expect("a count"));
        }
        flags => all(flags.iter().any(|flag| flag == "--test")),
    }
}

fn all(is_test: bool) {
    for Operation { name, run } in &OPERATIONS {
        if is_test {
            run(FEW / 10);
            println!("{name}: ok");
        } else if let Some((few, more)) = counted(name, FEW).zip(counted(name, MORE)) {
            println!("{name:<44}{:>7}", (more - few) / (MORE - FEW) as u64);
        } else {
            return println!("skipped: valgrind is not available");
        }
    }
}

/// The instructions of this program when it repeats one operation.
fn counted(name: &str, count: usize) -> Option<u64> {
    let program = env::current_exe().expect("the system knows it");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([RUN, name, &count.to_string()])
        .output()
        .ok()?;
    let log = String::from_utf8_lossy(&output.stderr);
    let collected = log.lines().find_map(|line| line.split_once("Collected : "));
    collected?.1.trim().parse().ok()
}

fn hit(count: usize) {
    let mut user = User::filled(VALUE, KEYS);
    (0..count).for_each(|_| assert_eq!(user.get(), Some(VALUE.len())));
}

fn dependent_hit(count: usize) {
    let mut user = User::dependent(VALUE, KEYS);
    (0..count).for_each(|_| assert_eq!(user.get(), Some(VALUE.len())));
}

fn miss(count: usize) {
    let mut user = User::empty();
    (0..count).for_each(|_| assert_eq!(user.get(), None));
}

fn set_in_place(count: usize) {
    let mut user = User::filled(VALUE, KEYS);
    (0..count).for_each(|_| assert!(user.set(VALUE)));
}

/// Each value is longer than the previous one under its key.
fn set_moving(count: usize) {
    let mut user = User::filled(VALUE, KEYS);
    let long = [b'v'; 200];
    (0..count).for_each(|n| assert!(user.set(&long[..VALUE.len() + 8 + n / KEYS * 8])));
}

fn set_with_eviction(count: usize) {
    let mut user = User::full(VALUE);
    (0..count).for_each(|_| assert!(user.set(VALUE)));
}

fn delete(count: usize) {
    let mut user = User::filled(VALUE, MORE);
    (0..count).for_each(|_| assert!(user.delete()));
}

fn lease_cycle(count: usize) {
    let mut user = User::filled(VALUE, KEYS);
    (0..count).for_each(|_| assert!(user.lease_cycle(VALUE)));
}

fn bytes_to_bytes(line: [&str; 2], count: usize) {
    let mut wire = Wire::filled(VALUE, KEYS, line);
    for _ in 0..count {
        assert!(wire.get() && wire.output.len() > VALUE.len());
        wire.sent();
    }
}

/// Reads with the same answer in both protocols: key, flags, unique and value.
fn pipelines(request: impl Fn(&[u8]) -> Vec<u8>, end: &[u8], count: usize) {
    let mut pipelines = Pipelines::filled(VALUE, KEYS, AT_ONCE, request, end);
    for _ in 0..count / AT_ONCE {
        assert!(pipelines.play() > AT_ONCE * VALUE.len());
    }
}

fn meta_get(key: &[u8]) -> Vec<u8> {
    [b"mg ", key, b" v f c k q\r\n"].concat()
}

/// The flag with which the program calls itself, followed by a name and a count.
const RUN: &str = "--run";
const KEYS: usize = 10_000;
/// A divisor of all counts.
const AT_ONCE: usize = 16;
const FEW: usize = 20_000;
const MORE: usize = 40_000;
