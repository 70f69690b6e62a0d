//! Protection against strangers: public addresses, limits per client, and passwords that must not leak.

use std::net::TcpListener;

use crate::support::served::{Client, Process, eventually, scratch, start};
use nix::sys::signal::Signal;

#[test]
fn an_unprotected_public_address_is_logged_or_refused() {
    // The port is taken, so that the test never opens a public address.
    let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
    let public = format!("-l 0.0.0.0:{}", occupied.local_addr().unwrap().port());
    for (flags, code, says) in [("", 71, "WARN"), ("--require-secure", 64, "ERROR --require-secure")] {
        let mut process = Process::start(&format!("{public} {flags}"));
        let line = process.logged("clients that reach 0.0.0.0:");
        assert!(line.contains(says) && line.contains("-Z") && line.contains("-Y"), "{line}");
        assert_eq!(process.exit_code(), code, "{flags}");
    }
    let users = scratch("users-safe");
    std::fs::write(&users, "ann:secret\n").unwrap();
    let mut process = Process::start(&format!("{public} --require-secure -Y {}", users.display()));
    let log = process.rest_of_log();
    assert!(!log.contains("clients that reach") && log.contains("cannot listen"), "{log}");
    assert_eq!(process.exit_code(), 71);
    std::fs::remove_file(users).unwrap();

    let mut process = Process::start("-p -1 --require-secure");
    Client::connect(process.address()).check("version", &["VERSION 1.6.45"]);
    process.signal(Signal::SIGTERM);
    assert_eq!(process.exit_code(), 0);
}

#[test]
fn connections_from_one_address_are_limited() {
    let server = start("--conn-limit-per-client 2");
    let mut first = Client::connect(server.address());
    let mut second = Client::connect(server.address());
    first.check("get a", &["END"]);
    second.check("get a", &["END"]);
    let mut third = Client::connect(server.address());
    assert_eq!(third.line(), "ERROR Too many open connections from your address\r\n");
    third.is_closed();
    let rejected = ["rejected_connections", "rejected_connections_per_client"].map(|name| first.stat(name));
    assert_eq!(rejected, [1, 1]);
    first.check("stats reset", &["RESET"]);
    assert_eq!(first.stat("rejected_connections_per_client"), 0);

    drop(second);
    eventually("the second connection is closed", || first.stat("curr_connections") == 1);
    Client::connect(server.address()).check("get a", &["END"]);
    server.stop();
}

/// Neither logs nor statistics nor watchers show passwords, right or wrong.
#[test]
fn passwords_are_shown_nowhere() {
    let file = scratch("users-shown");
    std::fs::write(&file, "ann:opensesame\n").unwrap();
    let mut process = Process::start(&format!("-p -1 -vvv -A -Y {}", file.display()));
    let address = process.address();
    let mut client = Client::connect(address);
    client.check("set k 0 0 12\r\nann guesswork", &["CLIENT_ERROR bad data chunk"]);
    let mut client = Client::connect(address);
    client.check("set k 0 0 13\r\nann guesswork", &["CLIENT_ERROR authentication failure"]);
    client.check("set k 0 0 9\r\nguesswork", &["CLIENT_ERROR bad authentication token format"]);
    client.check("set k 0 0 14\r\nann opensesame", &["STORED"]);
    let mut watcher = Client::connect(address);
    watcher.check("set k 0 0 14\r\nann opensesame", &["STORED"]);
    watcher.check("watch fetchers mutations connevents", &["OK"]);
    let mut other = Client::connect(address);
    other.check("set k 0 0 14\r\nann opensesame", &["STORED"]);
    other.check("get k", &["END"]);
    let mut shown = String::new();
    while !shown.contains("key=k") {
        shown += &watcher.line();
    }
    for what in ["stats", "stats settings", "stats conns"] {
        client.send(format!("{what}\r\n").as_bytes());
        while !shown.ends_with("END\r\n") {
            shown += &client.line();
        }
        shown += "\n";
    }

    // The log must not quote a file of users that is invalid.
    std::fs::write(&file, "ann:opensesame\nguesswork\n").unwrap();
    process.signal(Signal::SIGHUP);
    shown += &process.logged("cannot read users");
    process.signal(Signal::SIGTERM);
    shown += &process.rest_of_log();
    assert!(shown.contains("auth_errors 1") && shown.contains("SIGTERM"), "{shown}");
    for secret in ["opensesame", "guesswork"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert_eq!(process.exit_code(), 0);
    std::fs::remove_file(file).unwrap();
}
