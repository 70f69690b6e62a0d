//! The load generator: its counts must agree with the statistics of the server.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::support::served::{Client, eventually, scratch, start};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// The result of a run.
struct Run {
    code: i32,
    errors: String,
    json: Value,
}

fn bench(server: impl ToString, flags: &str) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_leasehold"))
        .args(["bench", &server.to_string(), "--json", "-"])
        .args(flags.split_whitespace())
        .output()
        .expect("the binary starts");
    Run {
        code: output.status.code().expect("it ends by itself"),
        errors: String::from_utf8(output.stderr).expect("it is text"),
        json: serde_json::from_slice(&output.stdout).unwrap_or_default(),
    }
}

impl Run {
    fn round(&self) -> &Value {
        &self.json["servers"][0]["rounds"][0]
    }

    fn requests(&self, verb: &str) -> u64 {
        self.count("verbs", "verb", verb, "requests")
    }

    fn outcome(&self, outcome: &str) -> u64 {
        self.count("outcomes", "outcome", outcome, "count")
    }

    fn count(&self, list: &str, key: &str, name: &str, figure: &str) -> u64 {
        let entries = self.round()[list].as_array().expect("a list");
        entries
            .iter()
            .find(|entry| entry[key] == name)
            .map_or(0, |entry| entry[figure].as_u64().expect("a number"))
    }
}

#[test]
fn counts_agree_with_the_statistics_of_the_server() {
    let server = start("");
    let run = bench(server.address(), "-n 10000 -K 500 -c 7 -t 2 -P 16 -m get=6,set=3,delete=1 -s 1-3000");
    assert_eq!((run.code, &run.errors[..]), (0, ""));
    let mut client = Client::connect(server.address());
    let (gets, sets, deletes) = (run.requests("get"), run.requests("set"), run.requests("delete"));
    assert_eq!(gets + sets + deletes, 10_000);
    assert_eq!(client.stat("cmd_get"), gets);
    assert_eq!(client.stat("cmd_set"), 500 + sets, "each key was stored once before");
    assert_eq!(client.stat("get_hits"), run.outcome("hits"));
    assert_eq!(client.stat("get_misses"), run.outcome("misses"));
    assert_eq!(client.stat("delete_hits"), run.outcome("deleted"));
    assert_eq!(client.stat("delete_misses"), run.outcome("not found"));
    server.stop();
}

#[test]
fn a_multiget_counts_hits_and_misses_of_each_key() {
    let server = start("");
    let run = bench(server.address(), "-n 1000 -K 100 -c 3 -k 50 -m get -p sequential -s 0");
    assert_eq!((run.code, run.outcome("hits"), run.outcome("misses")), (0, 50_000, 0));
    Client::connect(server.address()).check("delete bench:000000000000000007", &["DELETED"]);
    let run = bench(server.address(), "-n 1000 -K 100 -c 3 -k 50 -m get -p sequential --no-preload");
    assert_eq!((run.code, run.outcome("hits"), run.outcome("misses")), (0, 49_500, 500));
    server.stop();
}

#[test]
fn keys_can_be_short() {
    let server = start("");
    let run = bench(server.address(), "-n 1000 -K 10 --key-bytes 1 -c 2 -P 5 -m get,set,lease");
    assert_eq!((run.code, run.outcome("misses")), (0, 0), "{}", run.errors);
    assert_eq!(Client::connect(server.address()).stat("curr_items"), 10);
    server.stop();
}

#[test]
fn granted_leases_are_filled() {
    let server = start("");
    let flags = "-n 1000 -K 1000 -c 5 -P 4 -m lease -p sequential --no-preload";
    let run = bench(server.address(), flags);
    let of = |run: &Run| ["leases granted", "filled", "hits"].map(|outcome| run.outcome(outcome));
    assert_eq!((run.code, of(&run)), (0, [1_000, 1_000, 0]));
    assert_eq!((run.requests("lease-get"), run.requests("lease-set")), (1_000, 1_000));
    let run = bench(server.address(), flags);
    assert_eq!((run.code, of(&run)), (0, [0, 0, 1_000]));
    let mut client = Client::connect(server.address());
    assert_eq!((client.stat("lease_granted"), client.stat("lease_filled")), (1_000, 1_000));

    let run = bench(server.address(), "-n 2000 -K 1 -c 8 -m lease=1,delete=1 --load-ms 1");
    let fills = run.outcome("filled") + run.outcome("fills refused");
    assert_eq!((run.code, run.outcome("leases granted")), (0, fills));
    server.stop();
}

#[test]
fn meta_commands_and_cycles_are_counted() {
    let server = start("--implicit-leases off");
    let run = bench(server.address(), "-n 3000 -K 50 -c 2 -P 8 -m mg=2,ms=1,md=1 -p zipf:0.99");
    assert_eq!(run.code, 0, "{}", run.errors);
    assert_eq!(run.requests("mg"), run.outcome("hits") + run.outcome("misses"));
    assert_eq!(run.requests("ms"), run.outcome("stored"));
    assert_eq!(run.requests("md"), run.outcome("deleted") + run.outcome("not found"));
    let run = bench(server.address(), "-n 100 -K 100 -c 1 -P 10 -m cycle -p sequential");
    assert_eq!((run.code, run.outcome("deleted"), run.outcome("filled")), (0, 100, 100));
    server.stop();
}

#[test]
fn an_open_loop_sends_all_requests() {
    let server = start("");
    let run = bench(server.address(), "-n 2000 -r 200000 -c 10 -P 2 -m get -K 10");
    assert_eq!((run.code, run.outcome("hits")), (0, 2_000));
    assert_eq!(run.round()["unsent_batches"], 0);
    server.stop();
}

#[test]
fn several_servers_can_be_compared() {
    let servers = [start(""), start("")];
    let [first, second] = [&servers[0], &servers[1]].map(|server| server.address());
    let output = Command::new(env!("CARGO_BIN_EXE_leasehold"))
        .args(["bench", "--compare", &format!("{first},{second}"), "--rounds", "2"])
        .args("-n 100 -K 10 -m get".split_whitespace())
        .output()
        .expect("the binary starts");
    let table = String::from_utf8(output.stdout).expect("it is text");
    assert!(table.contains(&format!("\n{first} ")) && table.contains(&format!("\n{second} ")), "{table}");
    for address in [first, second] {
        assert_eq!(Client::connect(address).stat("cmd_get"), 200, "two rounds each");
    }
    servers.into_iter().for_each(leasehold::server::Server::stop);
}

/// All completed rounds were lost if a server failed during a later one.
#[test]
fn completed_rounds_are_reported_if_a_server_fails() {
    let (server, failing) = (start(""), fake("END\r\n"));
    let flags =
        format!("--compare {},{failing} --rounds 3 -n 1 -c 1 -m get --no-preload --json -", server.address());
    let output = Command::new(env!("CARGO_BIN_EXE_leasehold"))
        .arg("bench")
        .args(flags.split_whitespace())
        .output()
        .expect("the binary starts");
    let report: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let rounds = |nth: usize| report["servers"][nth]["rounds"].as_array().expect("a list").len();
    assert_eq!((output.status.code(), rounds(0), rounds(1)), (Some(1), 2, 1));
    let failure = report["failure"].as_str().expect("a sentence");
    assert!(failure.starts_with(&format!("{failing}: ")), "{failure}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), format!("{failure}\n"));
    server.stop();
}

#[test]
fn wrong_answers_fail_the_run() {
    let server = start("-I 1k");
    let run = bench(server.address(), "-n 10 -K 10 -m set -s 5000 --no-preload");
    assert_eq!((run.code, run.outcome("server errors")), (1, 10));
    Client::connect(server.address()).check("set bench:000000000000000000 0 0 5\r\nwrong", &["STORED"]);
    let run = bench(server.address(), "-n 10 -K 1 -m get --no-preload");
    assert_eq!((run.code, run.outcome("wrong values")), (1, 10));
    assert!(run.errors.contains("10 wrong answers"), "{}", run.errors);
    // Otherwise every get would miss for no visible reason.
    let run = bench(server.address(), "-n 10 -K 7 -m get -s 5000");
    assert_eq!(run.code, 1);
    assert!(run.errors.contains("refused to store 7 of 7 values"), "{}", run.errors);
    server.stop();
}

#[test]
fn an_invalid_answer_ends_the_run() {
    for (reply, error) in [
        ("HELLO\r\n", "HELLO"),
        ("STORED\r\n", "Stored"),
        ("VALUE k 0 1\r\nv", "Block"),
        ("END\r\nEND\r\n", "END"),
    ] {
        let run = bench(fake(reply), "-n 1 -c 1 -m get --no-preload");
        assert_eq!(run.code, 1, "{reply}");
        assert!(run.errors.contains(error), "{}", run.errors);
    }
    let address = fake("");
    let run = bench(address, "-n 1 -c 1 -m get --no-preload");
    assert_eq!((run.code, run.errors), (1, format!("{address}: the server closed a connection\n")));
}

/// `leasehold bench 2>&1 | head` panicked.
#[test]
fn a_failure_that_cannot_be_printed_still_exits_with_1() {
    let full = || std::fs::File::create("/dev/full").expect("Linux has it");
    let status = Command::new(env!("CARGO_BIN_EXE_leasehold"))
        .args(["bench", &fake("").to_string()])
        .args("-n 1 -c 1 -m get --no-preload --progress".split_whitespace())
        .stdout(full())
        .stderr(full())
        .status()
        .expect("the binary starts");
    assert_eq!(status.code(), Some(1));
}

/// The first SIGINT ends the measurement.
#[test]
fn an_interrupted_run_reports_its_measurements() {
    let (server, json) = (start(""), scratch("cut-short.json"));
    let address = server.address();
    for flags in ["", "-r 100 -m lease=1,delete=1 --load-ms 5", "-n 1000000000"] {
        let mut client = Client::connect(address);
        client.check("stats reset", &["RESET"]);
        let bench = interruptible(address, &format!("-K 10 -w 0 --json {} {flags}", json.display()));
        // More than its fifty connections send at once, so some have been answered.
        eventually("it is at work", || client.stat("cmd_get") + client.stat("cmd_lease_get") > 60);
        interrupt(&bench);
        let output = bench.wait_with_output().expect("it is ours");
        let table = String::from_utf8(output.stdout).expect("it is text");
        assert_eq!(output.status.code(), Some(130), "{flags}: {table}");
        assert!(table.starts_with("Interrupted"), "{flags}: {table}");
        let report: Value =
            serde_json::from_slice(&std::fs::read(&json).expect("it is written")).expect("JSON");
        assert_eq!(report["cut_short"], true);
        assert!(report["servers"][0]["rounds"][0]["requests"].as_u64() > Some(0), "{flags}: {report}");
    }
    std::fs::remove_file(json).expect("it is there");
    server.stop();
}

/// It waited ten seconds for the pending answers, and then reported nothing, though people stop it when a
/// server stalls.
#[test]
fn an_interrupted_run_does_not_wait_for_a_stalled_server() {
    let (address, stalled) = stalling();
    let json = scratch("stalled.json");
    let bench = interruptible(address, &format!("-c 1 -m get -w 0 --no-preload --json {}", json.display()));
    let _stream = stalled.join().expect("it has answered once");
    interrupt(&bench);
    let output = bench.wait_with_output().expect("it is ours");
    assert_eq!(output.status.code(), Some(130));
    let report: Value = serde_json::from_slice(&std::fs::read(&json).expect("it is written")).expect("JSON");
    assert_eq!(report["servers"][0]["rounds"][0]["requests"], 1, "{report}");
    std::fs::remove_file(json).expect("it is there");
}

/// A server that answers one request and never the next. Its thread ends then, and returns the open
/// connection.
fn stalling() -> (SocketAddr, thread::JoinHandle<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = listener.local_addr().expect("it is bound");
    let stalled = thread::spawn(move || {
        let mut stream = BufReader::new(listener.accept().expect("the program connects").0);
        stream.read_line(&mut String::new()).expect("a request");
        stream.get_mut().write_all(b"END\r\n").expect("the program reads");
        stream.read_line(&mut String::new()).expect("another request");
        stream.into_inner()
    });
    (address, stalled)
}

/// A run that failed emptied the file of an earlier one, and a run that could not print panicked.
#[test]
fn a_failed_run_keeps_the_earlier_file_and_a_full_disk_is_an_error() {
    let (server, json) = (start(""), scratch("kept.json"));
    std::fs::write(&json, "of yesterday, and longer than nothing").expect("it can be written");
    let run = bench(fake(""), &format!("-n 1 -c 1 -m get --no-preload --json {}", json.display()));
    assert_eq!(run.code, 1);
    assert!(std::fs::read_to_string(&json).expect("it is there").starts_with("of yesterday"));
    let output = Command::new(env!("CARGO_BIN_EXE_leasehold"))
        .args(["bench", &server.address().to_string(), "-n", "1", "-K", "1", "-c", "1", "--json"])
        .arg(&json)
        .stdout(std::fs::File::create("/dev/full").expect("Linux has it"))
        .output()
        .expect("the binary starts");
    let errors = String::from_utf8(output.stderr).expect("it is text");
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("cannot write the standard output: No space left"), "{errors}");
    let report: Value = serde_json::from_slice(&std::fs::read(&json).expect("it is there")).expect("JSON");
    assert_eq!(report["cut_short"], false);
    std::fs::remove_file(json).expect("it is there");
    server.stop();
}

#[test]
fn a_second_signal_ends_the_program_at_once() {
    // It accepts one connection, and the others wait to be connected.
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let mut bench = interruptible(listener.local_addr().expect("it is bound"), "-c 1000 --no-preload");
    let _stream = listener.accept().expect("the program connects");
    let mut ended = None;
    eventually("it ends", || {
        interrupt(&bench);
        ended = bench.try_wait().expect("it is ours");
        ended.is_some()
    });
    assert_eq!(ended.and_then(|status| status.signal()), Some(Signal::SIGINT as i32));
}

/// Starts a run that lasts until it is interrupted.
fn interruptible(server: SocketAddr, flags: &str) -> Child {
    let duration = if flags.contains("-n ") { "" } else { "-d 3600" };
    Command::new(env!("CARGO_BIN_EXE_leasehold"))
        .args(["bench", &server.to_string()])
        .args(format!("{duration} {flags}").split_whitespace())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts")
}

fn interrupt(child: &Child) {
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).expect("it runs");
}

/// A server that answers one line with these bytes, and hangs up.
fn fake(reply: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the program connects");
        let mut reader = BufReader::new(stream.try_clone().expect("it can be cloned"));
        reader.read_line(&mut String::new()).expect("a line");
        stream.write_all(reply.as_bytes()).expect("the program reads");
    });
    address
}

#[test]
fn invalid_options_are_refused() {
    for (flags, why) in [
        ("-m lease redis://127.0.0.1:1", "does not support lease (-m): use get, set and delete"),
        ("-K 1000 --key-bytes 2", "--key-bytes 2 is too small: 1000 keys need at least 3 bytes"),
        ("-m fetch", "unknown request \"fetch\""),
        ("-c 0", "at least 1"),
        ("-c 2 -t 3", "2 connections (-c) are too few: 3 threads need at least 3"),
        ("-d x", "invalid"),
        ("-d 1 -n 1", "cannot be used with"),
        ("127.0.0.1:1", "127.0.0.1:1: Connection refused"),
        // Checked before anything is measured.
        ("--json /no/such/folder/file 127.0.0.1:1", "cannot write /no/such/folder/file: "),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_leasehold"))
            .arg("bench")
            .args(flags.split_whitespace())
            .output()
            .expect("the binary starts");
        let errors = String::from_utf8(output.stderr).expect("it is text");
        assert_eq!(output.status.code(), Some(1), "{flags}: {errors}");
        assert!(errors.contains(why), "{flags}: {errors}");
    }
}

#[test]
fn redis_can_be_measured() {
    let Some(redis) = Redis::start() else { return println!("skipped: there is no redis-server") };
    let server = format!("redis://127.0.0.1:{}", redis.port);
    let run = bench(&server, "-n 5000 -K 100 -c 5 -t 2 -P 16 -m get=6,set=3,delete=1 -s 1-3000");
    assert_eq!((run.code, &run.errors[..]), (0, ""));
    assert_eq!(run.requests("get"), run.outcome("hits") + run.outcome("misses"));
    assert_eq!(run.requests("set"), run.outcome("stored"));
    assert_eq!(run.requests("delete"), run.outcome("deleted") + run.outcome("not found"));
    let run = bench(&server, "-n 200 -K 100 -c 3 -k 50 -m get -p sequential");
    assert_eq!((run.code, run.outcome("hits")), (0, 10_000));
}

struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    /// `None` if it is not installed.
    fn start() -> Option<Redis> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let port = listener.local_addr().expect("it is bound").port();
        drop(listener);
        let flags = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"];
        let child =
            Command::new("redis-server").args(flags).arg(port.to_string()).stdout(Stdio::null()).spawn();
        let mut redis = Redis { child: child.ok()?, port };
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(redis.child.try_wait().is_ok_and(|ended| ended.is_none()), "redis-server ended at once");
            thread::yield_now();
        }
        Some(redis)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
