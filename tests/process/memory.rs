//! Resident memory, in processes of their own: what `-m` says and the start prints, whatever the sizes of
//! the values are.

use nix::sys::signal::Signal;

use crate::support::served::{Client, Process, eventually};

/// Stores so many values of one size, in pieces of about 128 KiB.
fn store(client: &mut Client, count: usize, value_bytes: usize) {
    let value = "v".repeat(value_bytes);
    let numbers: Vec<usize> = (0..count).collect();
    for numbers in numbers.chunks(((128 << 10) / value_bytes).max(1)) {
        let sets =
            numbers.iter().map(|n| format!("set {value_bytes}:{n} 0 0 {value_bytes} noreply\r\n{value}\r\n"));
        client.send(sets.collect::<String>().as_bytes());
    }
    client.check("mn", &["MN"]);
}

/// Values of 20 kB and their successors used to be the allocator's: it kept the memory of those that were
/// evicted, and at `-m 64` 122 MiB were resident in the end, of which a lower limit returned nothing.
#[test]
fn memory_stays_within_the_limit_when_sizes_change() {
    let mut server = Process::start("-p -1 -m 64 -t 2");
    let address = server.address();
    let line = server.logged("fixed_tables_mb=");
    let word = line.split_whitespace().find_map(|word| word.strip_prefix("fixed_tables_mb="));
    let tables_mb: usize = word.and_then(|number| number.parse().ok()).expect("it is a number");
    let most = |memory_mb: usize| (memory_mb + tables_mb + SLACK_MB) << 20;

    let mut client = Client::connect(address);
    for (count, value_bytes) in
        [(4_000, 20_000), (400_000, 200), (1_000, 100_000), (80_000, 1_000), (500, 128 << 10)]
    {
        store(&mut client, count, value_bytes);
        let (resident, charged) = (server.resident_bytes(), client.stat_of("stats memory", "charged_bytes"));
        assert!(charged > 60 << 20, "{charged} bytes are charged after values of {value_bytes}");
        assert!(resident <= most(64), "{resident} bytes are resident after values of {value_bytes}");
    }
    client.check("cache_memlimit 8", &["OK"]);
    eventually("the limit is reached", || client.stat_of("stats memory", "charged_bytes") <= 8 << 20);
    let resident = server.resident_bytes();
    assert!(resident <= most(8), "{resident} bytes are resident at a limit of 8 MiB");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), 0);
}

/// A reader that has not taken a value keeps it charged, so that its memory is never beyond the limit.
#[test]
fn values_that_readers_hold_are_within_the_limit() {
    let mut server = Process::start("-p -1 -m 64 -t 2");
    let address = server.address();
    let mut client = Client::connect(address);
    store(&mut client, 100, 500_000);
    let mut readers: Vec<Client> = (0..100).map(|_| Client::connect(address)).collect();
    for (number, reader) in readers.iter_mut().enumerate() {
        reader.send(format!("get 500000:{number}\r\n").repeat(20).as_bytes());
    }
    store(&mut client, 200, 500_000);
    store(&mut client, 400_000, 200);
    let resident = server.resident_bytes();
    assert!(resident <= (64 + 16 + SLACK_MB) << 20, "{resident} bytes");
}

const SLACK_MB: usize = 16;
