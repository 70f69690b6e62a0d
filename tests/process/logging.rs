//! The log of the server as a process: a slow or stopped reader of the log never stops the server.

use nix::sys::signal::Signal;

use crate::support::served::{Client, Process};

/// A supervisor stopped reading its pipe: every thread of the server that logged something then stood still,
/// and SIGTERM had no effect. With `-vv` any client could fill the pipe.
#[test]
fn an_unread_log_does_not_stop_the_server() {
    let mut process = Process::start("-p -1 -vv");
    let mut client = Client::connect(process.address());
    fill_log(&mut client);
    client.check("version", &["VERSION 1.6.45"]);

    // Once the pipe is read again, the log shows how many lines are missing.
    let reader = std::thread::spawn(move || {
        let dropped = process.logged("log lines were dropped");
        (process, dropped)
    });
    while !reader.is_finished() {
        client.check("nonsense", &["ERROR"]);
    }
    let (process, dropped) = reader.join().expect("the reader ends");
    let count = dropped.split_whitespace().find_map(|word| word.parse::<u64>().ok());
    assert!(count.is_some_and(|count| count > 1_000), "{dropped}");

    fill_log(&mut client);
    process.signal(Signal::SIGTERM);
    assert_eq!(process.exit_code(), 0);
}

/// Each refused line is logged with `-vv`: far more lines than the pipe and the queue hold.
fn fill_log(client: &mut Client) {
    for _ in 0..100 {
        client.send("nonsense\r\n".repeat(300).as_bytes());
        (0..300).for_each(|_| assert_eq!(client.line(), "ERROR\r\n"));
    }
}

/// The `-v` flags are the operator's decision: a client may lower the log level, but not raise it above them.
#[test]
fn a_client_cannot_raise_the_log_level_above_the_flags() {
    let mut process = Process::start("-p -1 -v");
    let mut client = Client::connect(process.address());
    client.check("verbosity 2", &["OK"]);
    assert_eq!(client.stat_of("stats settings", "verbosity"), 1);
    client.check("verbosity 0", &["OK"]);
    assert_eq!(client.stat_of("stats settings", "verbosity"), 0);
    client.check("verbosity 1", &["OK"]);
    assert_eq!(client.stat_of("stats settings", "verbosity"), 1);
}
