//! The log of the server as a process: a slow or stopped reader of the log never stops the server.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::http::ask;
use crate::support::served::{Client, Process, scratch};

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
        // Several lines may report them.
        let mut dropped = 0;
        while dropped <= 1_000 {
            let line = process.logged("log lines were dropped");
            let count = line.split_whitespace().find_map(|word| word.parse::<u64>().ok());
            dropped += count.expect("the line has a number");
        }
        process
    });
    while !reader.is_finished() {
        client.check("nonsense", &["ERROR"]);
    }
    let process = reader.join().expect("the reader ends");

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

fn log_of(flags: &str, environment: &[(&str, &str)]) -> String {
    let mut process = Process::start_with(&format!("-p -1 {flags}"), environment);
    let line = process.logged("listening on");
    let address = line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split([' ', '"']).next());
    let address = format!("127.0.0.1:{}", address.expect("the line has the port"));
    let mut client = Client::connect(address.parse().expect("an address"));
    client.check("nonsense", &["ERROR"]);
    process.signal(Signal::SIGTERM);
    let log = line + &process.rest_of_log();
    assert_eq!(process.exit_code(), 0);
    log
}

/// With `-vv` nearly all lines were those of a library that waits for sockets.
#[test]
fn verbose_logs_show_only_lines_of_this_program() {
    const OF_A_LIBRARY: &str = "registering event source";
    let log = log_of("-vv", &[]);
    assert!(log.contains("refusal=") && !log.contains(OF_A_LIBRARY), "{log}");
    let log = log_of("", &[("RUST_LOG", "leasehold=info,mio=trace")]);
    assert!(!log.contains("refusal=") && log.contains(OF_A_LIBRARY), "{log}");
    let log = log_of("-vv", &[("RUST_LOG", "loud=very")]);
    assert!(log.contains("refusal="), "{log}");
}

#[test]
fn an_invalid_filter_is_a_warning() {
    let mut process = Process::start_with("-p -1", &[("RUST_LOG", "loud=very")]);
    let line = process.logged("RUST_LOG is ignored");
    assert!(line.contains("WARN"), "{line}");
    process.address();
    process.signal(Signal::SIGTERM);
    assert_eq!(process.exit_code(), 0);
}

#[test]
fn a_log_in_json_has_an_object_in_each_line() {
    let log = log_of("-vv --log-format json", &[]);
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(lines.iter().all(|line| line["level"].is_string() && line["timestamp"].is_string()), "{log}");
    let start = lines.iter().find(|line| line["fixed_tables_mb"].is_u64()).expect("the line of the sizes");
    assert_eq!((&start["memory_mb"], &start["receive_limit_mb"]), (&Value::from(64), &Value::from(16)));
    assert!(lines.iter().any(|line| line["refusal"] == "Unknown"), "{log}");
}

/// An empty cache was a riddle: any client can invalidate everything, and only watchers saw which one did.
#[test]
fn invalidations_of_many_values_are_logged_with_their_origin() {
    let users = scratch("logging-users");
    std::fs::write(&users, "ann:secret\n").unwrap();
    let mut process = Process::start(&format!("-p -1 --admin 127.0.0.1:0 -Y {}", users.display()));
    let (address, admin) = (process.address(), process.admin());
    let mut client = Client::connect(address);
    let own = client.0.get_ref().local_addr().unwrap();
    client.check("set k 0 0 10\r\nann secret", &["STORED"]);
    client.check("invalidate key k", &["INVALIDATED 1"]);
    client.check("invalidate soft tag staff pupils staff", &["INVALIDATED 2"]);
    let line = process.logged("invalidated tags");
    let origin = format!("client=tcp:{own} user=\"ann\"");
    let what = "names=2 first=\"staff\" soft=true";
    assert!(line.contains(&origin) && line.contains(what), "{line}");
    client.check("invalidate prefix user:", &["INVALIDATED 1"]);
    let line = process.logged("invalidated prefixes");
    assert!(line.contains(&origin) && line.contains("first=\"user:\" soft=false"), "{line}");
    client.check("invalidate all", &["INVALIDATED 1"]);
    assert!(process.logged("invalidated everything").contains(&origin));
    client.check("flush_all noreply\r\nversion", &["VERSION 1.6.45"]);
    assert!(process.logged("invalidated everything, by flush_all").contains(&origin));

    let kind = "Content-Type: application/json\r\n";
    ask(admin, "POST", "/invalidate", kind, r#"{"tags": ["staff"]}"#).has(200);
    let line = process.logged("invalidated over HTTP");
    assert!(line.contains("client=127.0.0.1") && line.contains("tags=1 first=\"staff\""), "{line}");

    // The log has a limit, which the server keeps without them.
    for _ in 0..100 {
        client.check("flush_all", &["OK"]);
    }
    process.signal(Signal::SIGTERM);
    let log = process.rest_of_log();
    assert_eq!(log.matches("invalidated everything").count(), 6, "ten a minute: {log}");
    assert_eq!(process.exit_code(), 0);
    std::fs::remove_file(users).unwrap();
}
